/**
 * What a switch does to files, behind an interface so that faults can be put between.
 *
 * @module
 */
import { openSync } from "node:fs";
import { type FileOperations, NODE_FILE_OPERATIONS } from "../../io/file_sink.ts";

/** Calls on the image and on the journal beside it. Every call throws the runtime's own error. */
export interface ImageFiles extends FileOperations {
  /** Opens a file that is there for reading and writing. */
  openForUpdate(path: string): number;
}

/** The file system of this machine. */
export const NODE_IMAGE_FILES: ImageFiles = {
  ...NODE_FILE_OPERATIONS,
  openForUpdate: (path) => openSync(path, "r+"),
};
