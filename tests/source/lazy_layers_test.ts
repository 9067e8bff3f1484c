/**
 * Layers that can also be read piece by piece, as eStargz and zstd:chunked make them: to a reader of the whole they are
 * compressed tars like all others.
 */
import { assertEquals } from "@std/assert";
import { Buffer } from "node:buffer";
import { gzipSync } from "node:zlib";
import { HAS_ZSTD, skippableFrame, zstdOf } from "../io/compressed_samples.ts";
import { notRun } from "../oracle/notice.ts";
import { buildTarEntry, joinBytes } from "../tar/build.ts";
import { writeOciLayout } from "./build_layout.ts";
import { storeBytes, testOptions, WAYS, withDirectory, withLoaded } from "./helpers.ts";

const FILES = [
  { path: ".prefetch.landmark", data: "\x0f" },
  { path: "d/" },
  { path: "d/big", data: new Uint8Array(300_000).map((_, i) => i >> 6) },
  { path: "d/small", data: "1" },
];
const TOC = { path: "stargz.index.json", data: '{"version":1,"entries":[]}' };

/** The empty gzip member that ends an eStargz layer: its extra field says where the table of contents is. */
function stargzFooter(tocOffset: number): Uint8Array {
  const text = `${tocOffset.toString(16).padStart(16, "0")}STARGZ`;
  return Uint8Array.from([
    ...[0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 0xff],
    ...[26, 0, 0x53, 0x47, 22, 0],
    ...Buffer.from(text),
    ...[1, 0, 0, 0xff, 0xff],
    ...new Uint8Array(8),
  ]);
}

/** A tar in pieces, as both kinds compress it: headers and content apart. */
function tarPieces(files: readonly Parameters<typeof buildTarEntry>[0][]): Uint8Array[] {
  const pieces = files.map((file) => buildTarEntry(file)).flatMap((entry) => [
    entry.subarray(0, 512),
    entry.subarray(512),
  ]);
  return [...pieces.filter(({ length }) => length > 0), new Uint8Array(1024)];
}

async function assertRead(
  pieces: readonly Uint8Array[],
  stored: Uint8Array,
  compress: "gzip" | "zstd",
  paths: readonly string[],
): Promise<void> {
  const tar = joinBytes(pieces);
  for (const [, way] of WAYS) {
    await withDirectory(async (directory) => {
      writeOciLayout(directory, { layers: [tar], compress, changeStored: () => stored });
      const options = testOptions(way);
      await withLoaded(`oci:${directory}`, options, ([layer]) => {
        assertEquals(layer!.entries.map(({ path }) => path), paths);
        assertEquals(storeBytes(layer!), new Uint8Array(tar));
      });
      assertEquals(options.warnings.list(), []);
    });
  }
}

Deno.test("an eStargz layer is a gzip layer of many members, and its markers are files like all others", async () => {
  const pieces = tarPieces([...FILES, TOC]);
  const members = pieces.map((piece) => gzipSync(piece));
  const stored = joinBytes([...members, stargzFooter(joinBytes(members.slice(0, -2)).length)]);
  assertEquals(stored.length - joinBytes(members).length, 51);
  await assertRead(pieces, stored, "gzip", [...FILES, TOC].map(({ path }) => path));
});

Deno.test("a zstd:chunked layer is a zstd layer of many frames, and its table of contents is passed over", async () => {
  if (!HAS_ZSTD) {
    return notRun("zstd:chunked layers", "this runtime's node:zlib does not know zstd");
  }
  const pieces = tarPieces(FILES);
  const stored = joinBytes([...pieces.map(zstdOf), skippableFrame(900), skippableFrame(64)]);
  await assertRead(pieces, stored, "zstd", FILES.map(({ path }) => path));
});
