/**
 * What is measured: the layers of a given image as gzip, zstd and plain layouts, trees of many files, and large images.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { closeSync, mkdirSync, openSync, readFileSync, writeFileSync, writeSync } from "node:fs";
import { NO_PROGRESS } from "../lib/progress.ts";
import { openImage } from "../lib/source/source.ts";
import { bareEntry } from "../lib/tar/entry.ts";
import { TAR_BLOCK_SIZE_BYTES } from "../lib/tar/header.ts";
import { encodeTarEntry, END_OF_ARCHIVE_SIZE_BYTES } from "../lib/tar/writer.ts";
import { Warnings } from "../lib/warnings.ts";
import { quoted, run, shell } from "./command.ts";

const MIB = 1 << 20;

/** The files of the layers of `oci:DIR[:REF]`, bottom to top. */
export async function layerFiles(source: string): Promise<string[]> {
  const directory = /^oci:([^:]+)/.exec(source)?.[1];
  if (directory === undefined) throw new TypeError(`wanted oci:DIR[:REF], found ${source}`);
  const image = await openImage(source, { progress: NO_PROGRESS, warnings: new Warnings() });
  const paths = image.layers.map(({ digest }) => `${directory}/blobs/${digest!.replace(":", "/")}`);
  image.close();
  return paths;
}

/** Inflates gzip layers to `DIRECTORY/N.tar`. */
export function plainLayers(layers: readonly string[], directory: string): string[] {
  mkdirSync(directory, { recursive: true });
  return layers.map((layer, i) => {
    const path = `${directory}/${i}.tar`;
    run(shell(`gzip -dc < ${quoted(layer)} > ${quoted(path)}`), directory);
    return path;
  });
}

/** Compresses tars to `DIRECTORY/N.tar.SUFFIX` with a shell command that reads stdin and writes stdout. */
export function compressed(tars: readonly string[], command: string, directory: string): string[] {
  mkdirSync(directory, { recursive: true });
  return tars.map((tar, i) => {
    const path = `${directory}/${i}`;
    run(shell(`${command} < ${quoted(tar)} > ${quoted(path)}`), directory);
    return path;
  });
}

/** Writes an image layout around layers that lie in files. */
export function layoutOf(
  directory: string,
  layers: readonly { readonly blob: string; readonly tar: string; readonly mediaType: string }[],
): void {
  mkdirSync(`${directory}/blobs/sha256`, { recursive: true });
  const put = (bytes: Uint8Array, mediaType: string) => {
    const hex = createHash("sha256").update(bytes).digest("hex");
    writeFileSync(`${directory}/blobs/sha256/${hex}`, bytes);
    return { mediaType, digest: `sha256:${hex}`, size: bytes.length };
  };
  const json = (value: unknown) => new TextEncoder().encode(JSON.stringify(value));
  const descriptors = layers.map(({ blob, mediaType }) => put(readFileSync(blob), mediaType));
  const diffIds = layers.map(({ tar }) =>
    `sha256:${createHash("sha256").update(readFileSync(tar)).digest("hex")}`
  );
  const config = put(
    json({ architecture: "amd64", os: "linux", rootfs: { type: "layers", diff_ids: diffIds } }),
    "application/vnd.oci.image.config.v1+json",
  );
  const mediaType = "application/vnd.oci.image.manifest.v1+json";
  const manifest = put(
    json({ schemaVersion: 2, mediaType, config, layers: descriptors }),
    mediaType,
  );
  writeFileSync(`${directory}/index.json`, json({ schemaVersion: 2, manifests: [manifest] }));
  writeFileSync(`${directory}/oci-layout`, json({ imageLayoutVersion: "1.0.0" }));
}

/** Makes `fileCount` small files, `perDirectory` in a directory. */
export function makeFiles(root: string, fileCount: number, perDirectory: number): void {
  for (let i = 0; i < fileCount; i++) {
    const directory = `${root}/d${Math.floor(i / perDirectory)}`;
    if (i % perDirectory === 0) mkdirSync(directory, { recursive: true });
    writeFileSync(`${directory}/file-${i}`, `content of file ${i}\n`);
  }
}

/** Writes a plain tar of small files, 100 in a directory. */
export function writeManyTar(path: string, fileCount: number): void {
  const descriptor = openSync(path, "w");
  const content = new Uint8Array(TAR_BLOCK_SIZE_BYTES);
  for (let i = 0; i < fileCount; i++) {
    new TextEncoder().encodeInto(`content of file ${i}`, content);
    writeSync(descriptor, fileHead(`d${Math.floor(i / 100)}/file-${i}`, content.length));
    writeSync(descriptor, content);
  }
  writeSync(descriptor, new Uint8Array(END_OF_ARCHIVE_SIZE_BYTES));
  closeSync(descriptor);
}

/**
 * Writes a plain tar of `fileCount` files, about `sizeBytes` in all; every byte from a seeded generator.
 *
 * @param firstFile the number in the name and the bytes of the first
 */
export function writeLargeTar(
  path: string,
  sizeBytes: number,
  fileCount: number,
  firstFile = 0,
): void {
  const descriptor = openSync(path, "w");
  const fileBytes = Math.floor(sizeBytes / fileCount / TAR_BLOCK_SIZE_BYTES) * TAR_BLOCK_SIZE_BYTES;
  const words = new Uint32Array(MIB / 4);
  let state = 0x2545f491;
  for (let file = firstFile; file < firstFile + fileCount; file++) {
    writeSync(descriptor, fileHead(`file-${file}`, fileBytes));
    for (let at = 0; at < fileBytes; at += MIB) {
      for (let word = 0; word < words.length; word++) {
        state ^= state << 13;
        state ^= state >>> 17;
        state ^= state << 5;
        words[word] = word % 2 === 0 ? file : state;
      }
      writeSync(descriptor, new Uint8Array(words.buffer, 0, Math.min(MIB, fileBytes - at)));
    }
  }
  writeSync(descriptor, new Uint8Array(END_OF_ARCHIVE_SIZE_BYTES));
  closeSync(descriptor);
}

function fileHead(path: string, sizeBytes: number): Uint8Array {
  const segments = [{ fileOffset: 0, lengthBytes: sizeBytes, storeOffset: 0 }];
  return encodeTarEntry({
    ...bareEntry("file", path),
    mode: 0o644,
    payload: { sizeBytes, segments, dataRuns: [], contentHash: 0 },
  }).head;
}
