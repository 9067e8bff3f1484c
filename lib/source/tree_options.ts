/**
 * How layers become a tree, by the options of their source.
 *
 * @module
 */
import type { BuildTreeOptions } from "../tree/build.ts";
import { ownerMapper } from "../tree/owners.ts";
import type { SourceOptions } from "./types.ts";

/** The options of building trees. */
export function treeOptions(options: SourceOptions): BuildTreeOptions {
  const { warnings, timestamp = 0, treeLimits } = options;
  return {
    warnings,
    defaultTime: { seconds: timestamp, nanoseconds: 0 },
    defaultOwner: ownerMapper(options)?.implied,
    ...treeLimits === undefined ? {} : { limits: treeLimits },
  };
}
