/**
 * Builds layouts of several images for tests, and opens them.
 *
 * @module
 */
import { assert, assertStringIncludes } from "@std/assert";
import { BlessfsError } from "../../lib/errors.ts";
import { openImage, type SourceOptions } from "../../lib/source/source.ts";
import { type Blobs, buildImage, type JsonDescriptor, writeLayoutFiles } from "./build_layout.ts";
import { sampleTar, testOptions, withDirectory } from "./helpers.ts";

/** The media type of manifests. */
export const MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json";

/** An image whose only layer tells it from others; its descriptor without and with the platform. */
export function image(
  blobs: Blobs,
  seed: number,
  architecture = "amd64",
  variant?: string,
): { readonly plain: JsonDescriptor; readonly described: JsonDescriptor } {
  const platform = { os: "linux", architecture, ...(variant ? { variant } : {}) };
  const { manifest } = buildImage(blobs, { layers: [sampleTar(seed)], platform });
  return { plain: manifest, described: { ...manifest, platform } };
}

/** What opening a layout of these entries gives: the manifest's digest, or the error. */
export async function open(
  build: (blobs: Blobs) => readonly JsonDescriptor[],
  reference: string | undefined,
  options: Partial<SourceOptions> = {},
): Promise<string | BlessfsError> {
  return await withDirectory(async (directory) => {
    const blobs: Blobs = new Map();
    writeLayoutFiles(directory, blobs, { schemaVersion: 2, manifests: build(blobs) });
    writeLayoutFiles(directory, blobs, { schemaVersion: 2, manifests: build(blobs) });
    try {
      const source = `oci:${directory}${reference === undefined ? "" : `:${reference}`}`;
      const opened = await openImage(source, testOptions(options));
      opened.close();
      return opened.manifestDigest!;
    } catch (error) {
      if (error instanceof BlessfsError) return error;
      throw error;
    }
  });
}

/** Wants an error with these words in message and hint. */
export function isRefused(found: string | BlessfsError, message: string, hint = ""): void {
  assert(found instanceof BlessfsError, `it was accepted: ${found}`);
  assertStringIncludes(found.message, message);
  const remedies = found.remedies.map(({ option, value }) => `${option}=${value}`);
  assertStringIncludes([found.hint, ...remedies].join(" "), hint);
}
