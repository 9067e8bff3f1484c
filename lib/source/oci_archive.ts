/**
 * `oci-archive:FILE[:REF]`: an OCI image layout in a tar.
 *
 * @module
 */
import { type Archive, ArchiveBlobs } from "./archive.ts";
import { type LayoutFiles, openLayout } from "./layout.ts";
import type { OpenedImage, SourceOptions } from "./types.ts";

/** Opens the layout in an archive. The image closes the archive; when opening fails, the caller does. */
export async function openOciArchive(
  source: string,
  archive: Archive,
  reference: string | undefined,
  options: SourceOptions,
): Promise<OpenedImage> {
  const origin = { source, kind: "oci-archive" as const };
  return await openLayout(new ArchiveBlobs(archive), archiveFiles(archive), reference, {
    origin,
    options,
  });
}

/** The small files of a layout in an archive. */
export function archiveFiles(archive: Archive): LayoutFiles {
  return (file, limitBytes, limitName) => archive.readSmall(file, limitBytes, limitName);
}
