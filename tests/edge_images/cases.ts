/**
 * All edge images: what the reference table of layer rules lists, and more. They are entries, so that a test can put
 * them into a tree, and another write them as an OCI layout (buildTar of tests/tar/build.ts) for other tools.
 *
 * @module
 */
import type { EdgeImage } from "./edge_image.ts";
import { LINK_CASES } from "./link_cases.ts";
import { PATH_CASES } from "./path_cases.ts";
import { TYPE_CASES } from "./type_cases.ts";
import { WHITEOUT_CASES } from "./whiteout_cases.ts";

/** Every edge image; no name comes twice. */
export const EDGE_IMAGES: readonly EdgeImage[] = [
  ...WHITEOUT_CASES,
  ...LINK_CASES,
  ...PATH_CASES,
  ...TYPE_CASES,
];
