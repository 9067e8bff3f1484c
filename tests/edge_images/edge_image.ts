/**
 * What an edge image is: a small image that hits one rule, with the tree it must give.
 *
 * @module
 */
import type { SimpleEntry } from "../tar/build.ts";

/** One name of an expected tree. The kind is told as in SimpleEntry: by the path's last slash, or by a link. */
export interface ExpectedNode {
  /** Without a leading slash; `/` is the root, which may be left out when it is not what the case is about. */
  readonly path: string;
  readonly kind?: "characterDevice" | "blockDevice" | "fifo";
  /** Of a file; default empty. */
  readonly data?: string;
  /** Target of a symlink. */
  readonly link?: string;
  /** Compared where they are given. */
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly mtime?: number | readonly [seconds: number, nanoseconds: number];
  readonly xattrs?: Readonly<Record<string, string>>;
  readonly major?: number;
  readonly minor?: number;
  /** Another name of the same file, which comes earlier in the list and says the rest. */
  readonly sameAs?: string;
}

interface EdgeCase {
  /** What the case is about: a file name. */
  readonly name: string;
  /** The layers' entries, the lowest layer first. */
  readonly layers: readonly (readonly SimpleEntry[])[];
  /** Kinds of warnings and how often; none where it is left out. */
  readonly warnings?: Readonly<Record<string, number>>;
  /** False: the layers are plain root file system tars, in which `.wh.` has no meaning. */
  readonly whiteouts?: false;
  /** Why `umoci unpack` (0.4.7) gives another tree, or none. */
  readonly umociDiffers?: string;
  /** Why the layered images, stacked by overlayfs, show another tree. */
  readonly stackDiffers?: string;
}

/** An image that gives a tree. */
export interface AcceptedEdgeImage extends EdgeCase {
  /** Every name there is. */
  readonly expected: readonly ExpectedNode[];
}

/** An image that is refused. */
export interface RefusedEdgeImage extends EdgeCase {
  /** What the error's message must hold. */
  readonly refused: string;
}

/** One edge image. */
export type EdgeImage = AcceptedEdgeImage | RefusedEdgeImage;
