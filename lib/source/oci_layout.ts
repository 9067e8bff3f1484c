/**
 * `oci:DIR[:REF]`: an OCI image layout in a directory. OCI image specification, image-layout.md.
 *
 * @module
 */
import { join } from "node:path";
import { InputError } from "../errors.ts";
import { missingInput } from "../io/input_file.ts";
import { BlobFiles } from "./blob_files.ts";
import { displayText } from "./json.ts";
import { type LayoutFiles, openLayout } from "./layout.ts";
import { readSmallFile, statIfThere } from "./source_file.ts";
import type { OpenedImage, SourceOptions } from "./types.ts";

/** Opens a layout in a directory. */
export async function openOciDirectory(
  source: string,
  directory: string,
  reference: string | undefined,
  options: SourceOptions,
): Promise<OpenedImage> {
  const name = displayText(directory);
  const stats = statIfThere(directory);
  if (!stats) throw missingInput(directory, "an OCI image layout");
  if (!stats.isDirectory()) {
    throw new InputError(name, "is no directory: wanted an OCI image layout", {
      hint: "a layout in a tar is written oci-archive:FILE",
    });
  }
  const origin = { source, kind: "oci" as const };
  return await openLayout(layoutBlobs(directory), directoryFiles(directory), reference, {
    origin,
    options,
  });
}

/** Reads the small files of a directory by their names; undefined when one is not there. */
export function directoryFiles(
  directory: string,
): LayoutFiles {
  return (file, limitBytes, limitName) => {
    const path = join(directory, file);
    return statIfThere(path) && readSmallFile(path, limitBytes, limitName);
  };
}

/** Blobs in `blobs/ALGORITHM/HEX`. */
function layoutBlobs(directory: string): BlobFiles {
  return new BlobFiles(directory, ({ algorithm, hex }) => join("blobs", algorithm, hex));
}
