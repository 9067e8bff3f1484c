/**
 * Which image a source stands for now. A server runs this in a process of its own.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { existsSync } from "node:fs";
import { openImage, type SourceOptions } from "../../lib/source/source.ts";
import { parseSourceName } from "../../lib/source/source_name.ts";

/** What a source stands for. */
export interface ResolvedSource {
  /** `sha256:HEX` of the manifest; null where there is none. */
  readonly manifestDigest: string | null;
  /** What stands for the content in place of a manifest: the digest of a file. Null for a directory tree, which has none. */
  readonly contentDigest: string | null;
  readonly kind: string;
  readonly config: unknown;
  /** From the bottom up. */
  readonly layers: readonly {
    readonly digest: string | null;
    readonly diffId: string | null;
    readonly sizeBytes: number | null;
  }[];
}

/** Opens a source, reads its manifest and config, and closes it. */
export async function resolveSource(
  source: string,
  options: SourceOptions,
): Promise<ResolvedSource> {
  const image = await openImage(source, options);
  try {
    const { manifestDigest = null, kind, config = null } = image;
    const layers = image.layers.map(({ digest = null, diffId = null, sizeBytes = null }) => ({
      digest,
      diffId,
      sizeBytes,
    }));
    const contentDigest = manifestDigest === null ? await digestOfFile(source) : null;
    return { manifestDigest, contentDigest, kind, config, layers };
  } finally {
    image.close();
  }
}

/** The digest of the file that a source is; null when it is a directory. */
async function digestOfFile(source: string): Promise<string | null> {
  const name = parseSourceName(source, existsSync);
  if (name.kind !== "tar" && name.kind !== "ext4" && name.kind !== "path") return null;
  const hash = createHash("sha256");
  try {
    for await (const piece of createReadStream(name.path)) hash.update(piece as Uint8Array);
  } catch (error) {
    if ((error as { code?: string }).code === "EISDIR") return null;
    throw error;
  }
  return `sha256:${hash.digest("hex")}`;
}
