/**
 * Layers that were made to be read lazily: eStargz and zstd:chunked. Both are ordinary compressed tars with more behind
 * them. Here the tar is what counts, and the tables of contents are not believed.
 */
import { assertEquals } from "@std/assert";
import { gzipOf, HAS_ZSTD, skippableFrame, zstdOf } from "../io/compressed_samples.ts";
import { notRun } from "../oracle/notice.ts";
import { buildTar, buildTarEntry, joinBytes } from "../tar/build.ts";
import { type ImageSpec, writeOciLayout } from "./build_layout.ts";
import { noise, storeBytes, testOptions, WAYS, withDirectory, withLoaded } from "./helpers.ts";

const FILES = [
  { path: "usr/" },
  { path: "usr/big", data: noise(300_000) },
  { path: ".prefetch.landmark", data: "\x0f" },
  { path: "usr/small", data: "small\n" },
];
const TOC = JSON.stringify({ version: 1, entries: [{ name: "etc/passwd", type: "reg", size: 7 }] });

/** eStargz: a gzip member for each entry, the table as the last one, and a footer that tells where it is. */
function estargz(): { tar: Uint8Array; stored: Uint8Array } {
  const entries = [...FILES, { path: "stargz.index.json", data: TOC }];
  const tar = buildTar(entries);
  const parts = entries.map(buildTarEntry);
  const end = tar.subarray(parts.reduce((sum, part) => sum + part.length, 0));
  const members = parts.slice(0, -1).map(gzipOf);
  const tocOffset = members.reduce((sum, member) => sum + member.length, 0);
  const toc = gzipOf(joinBytes([parts.at(-1)!, end]));
  return { tar, stored: joinBytes([...members, toc, estargzFooter(tocOffset)]) };
}

/** An empty gzip member whose extra field says `OFFSETSTARGZ`. */
function estargzFooter(tocOffset: number): Uint8Array {
  const text = new TextEncoder().encode(`${tocOffset.toString(16).padStart(16, "0")}STARGZ`);
  const header = [0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 255, 26, 0, 0x53, 0x47, text.length, 0];
  const emptyBlock = [1, 0, 0, 255, 255];
  return new Uint8Array([...header, ...text, ...emptyBlock, 0, 0, 0, 0, 0, 0, 0, 0]);
}

/** zstd:chunked: a frame for each entry, then the table and a footer in frames that are skipped. */
function zstdChunked(): { tar: Uint8Array; stored: Uint8Array } {
  const tar = buildTar(FILES);
  const parts = FILES.map(buildTarEntry);
  const end = tar.subarray(parts.reduce((sum, part) => sum + part.length, 0));
  const frames = [...parts, end].map(zstdOf);
  return { tar, stored: joinBytes([...frames, skippableFrame(500), skippableFrame(64)]) };
}

async function readsAsTar(
  { tar, stored }: { tar: Uint8Array; stored: Uint8Array },
  compress: ImageSpec["compress"] & string,
  annotations: Record<string, string>,
): Promise<void> {
  for (const [way, more] of WAYS) {
    await withDirectory(async (directory) => {
      writeOciLayout(directory, {
        layers: [tar],
        compress,
        changeStored: () => stored,
        changeManifest: (manifest) => {
          manifest.layers[0]!.annotations = annotations;
          return manifest;
        },
      });
      const options = testOptions(more);
      await withLoaded(`oci:${directory}`, options, ([layer]) => {
        assertEquals(storeBytes(layer!), tar, way);
        assertEquals(options.warnings.list(), []);
      });
    });
  }
}

Deno.test("loadLayers reads eStargz as the tar that it is, with its table and landmark", async () => {
  const digest = `sha256:${"0".repeat(64)}`;
  await readsAsTar(estargz(), "gzip", { "containerd.io/snapshot/stargz/toc.digest": digest });
});

Deno.test("loadLayers reads zstd:chunked as the tar that it is, whatever its table says", async () => {
  if (!HAS_ZSTD) return notRun("zstd:chunked", "this runtime's node:zlib does not know zstd");
  await readsAsTar(zstdChunked(), "zstd", {
    "io.containers.zstd-chunked.manifest-checksum": `sha256:${"0".repeat(64)}`,
    "io.containers.zstd-chunked.manifest-position": "0:500:1000:1",
  });
});
