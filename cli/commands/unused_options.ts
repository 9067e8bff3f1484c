/**
 * Options of sources that none of the sources on the command line has a use for.
 *
 * @module
 */
import { existsSync } from "node:fs";
import { UsageError } from "../../lib/errors.ts";
import { parseSourceName, type SourceName } from "../../lib/source/source_name.ts";
import type { ParsedArguments } from "../parsed_arguments.ts";

type WrittenKind = SourceName["kind"];

/** Trees: what is written otherwise may turn out to be an image that states its platform. */
const KINDS_WITHOUT_PLATFORM: ReadonlySet<WrittenKind> = new Set(["tar", "rootfs", "ext4"]);

/**
 * Refuses `--platform` for trees that were named as such, and `--plain-http`, `--authfile` and `--blob-cache` without a registry: whoever
 * gives them believes that they do something.
 *
 * @throws {UsageError} when a source cannot be meant, too
 */
export function refuseUnusedOptions(args: ParsedArguments, sources: readonly string[]): void {
  const kinds = sources.map((source) => parseSourceName(source, existsSync).kind);
  if (
    args.value("platform") !== undefined && kinds.every((kind) => KINDS_WITHOUT_PLATFORM.has(kind))
  ) {
    throw new UsageError("--platform", "says nothing about a tree, which is for no platform", {
      hint: "leave it out",
    });
  }
  if (kinds.includes("docker")) return;
  const name = args.flag("plain-http")
    ? "plain-http"
    : ["authfile", "blob-cache"].find((option) => args.value(option) !== undefined);
  if (name === undefined) return;
  throw new UsageError(`--${name}`, "says nothing about a source that is in no registry", {
    hint: "leave it out; an image in a registry is written docker://HOST/NAME",
  });
}
