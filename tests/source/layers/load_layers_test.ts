import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { Buffer } from "node:buffer";
import { mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { InputError, InterruptedError } from "../../../lib/errors.ts";
import { digestOf } from "../../../lib/bytes/digest.ts";
import { INFLATES_IN_PLACE } from "../../../lib/io/inflate.ts";
import { loadLayers, openImage, type SourceOptions } from "../../../lib/source/source.ts";
import { Warnings } from "../../../lib/warnings.ts";
import { HAS_ZSTD, skippableFrame, zstdOf } from "../../io/compressed_samples.ts";
import { notRun } from "../../oracle/notice.ts";
import { buildTar, buildTarEntry, joinBytes } from "../../tar/build.ts";
import {
  compressLayer,
  type JsonDescriptor,
  type Manifest,
  writeOciLayout,
} from "../build_layout.ts";
import {
  noise,
  openAndLoad,
  openFilesBelow,
  sampleTar,
  storeBytes,
  testOptions,
  WAYS,
  withDirectory,
  withLoaded,
} from "../helpers.ts";

Deno.test("loadLayers starts no thread for one layer, unless inflating it here would hold up all else", async () => {
  await withDirectory(async (directory) => {
    const tar = buildTar([{ path: "big", data: noise(600_000) }]);
    const gzip = gzipSync(tar);
    // A thread cannot start.
    const options = testOptions({ workerUrl: "data:text/javascript,throw new Error('no thread')" });
    for (const [name, bytes] of [["plain", tar], ["gzip", gzip]] as const) {
      const path = join(directory, name);
      writeFileSync(path, bytes);
      const load = () => withLoaded(`tar:${path}`, options, ([layer]) => void storeBytes(layer!));
      if (name === "gzip" && INFLATES_IN_PLACE) await assertRejects(load, Error, "no thread");
      else await load();
    }
  });
});

const EMPTY_SHA256 = digestOf(new Uint8Array(0));

for (const [where, more] of WAYS) {
  Deno.test(`loadLayers loads a repeated layer once ${where}`, async () => {
    await withDirectory(async (directory) => {
      const tar = sampleTar();
      writeOciLayout(directory, { layers: [tar, sampleTar(2), tar] });
      const begun: string[] = [];
      const progress = {
        begin: (name: string) => {
          begun.push(name);
          return { advance: () => {}, end: () => {} };
        },
      };
      await withLoaded(`oci:${directory}`, testOptions({ ...more, progress }), (layers) => {
        assertEquals(begun.length, 2);
        assertEquals(layers.length, 3);
        assert(layers[0]!.entries === layers[2]!.entries);
        assert(layers[0]!.name !== layers[2]!.name);
        layers[0]!.store.close();
        assertEquals(storeBytes(layers[2]!), tar);
      });
    });
  });

  Deno.test(`loadLayers reports the lowest bad layer, whatever comes first ${where}`, async () => {
    await withDirectory(async (directory) => {
      const big = buildTar([{ path: "big", data: noise(3_000_000) }]);
      const wrong = (manifest: Manifest) => manifest;
      writeOciLayout(directory, {
        layers: [big, sampleTar(2), sampleTar(3)],
        changeManifest: wrong,
        changeConfig: (config) => {
          config.rootfs.diff_ids = [1, 2, 3].map((n) => digestOf(sampleTar(n + 10)));
          return config;
        },
      });
      for (const jobs of [1, 2, 3]) {
        const load = () => openAndLoad(`oci:${directory}`, testOptions({ ...more, jobs }));
        await assertRejects(load, InputError, "layer 1 of 3");
      }
    });
  });

  Deno.test(`loadLayers counts warnings of layers in their order ${where}`, async () => {
    await withDirectory(async (directory) => {
      // Without end markers.
      const layers = [1, 2].map((n) => sampleTar(n).subarray(0, -1024));
      writeOciLayout(directory, { layers });
      const options = testOptions(more);
      await openAndLoad(`oci:${directory}`, options);
      const [warning] = options.warnings.list();
      assertEquals(warning!.kind, "missingEndMarker");
      assertEquals(warning!.count, 2);
      assertStringIncludes(warning!.message, "layer 1 of 2");
      const strict = testOptions({ ...more, warnings: new Warnings(true) });
      await assertRejects(
        () => openAndLoad(`oci:${directory}`, strict),
        InputError,
        "layer 1 of 2",
      );
    });
  });

  Deno.test(`loadLayers keeps to the limits of what layers inflate to ${where}`, async () => {
    await withDirectory(async (directory) => {
      const tars = [sampleTar(1), sampleTar(2)];
      const total = tars[0]!.length + tars[1]!.length;
      writeOciLayout(directory, { layers: tars });
      const load = (limits: SourceOptions["limits"]) =>
        openAndLoad(`oci:${directory}`, testOptions({ ...more, limits: limits! }));
      await load({ unpackedBytes: total });
      await assertRejects(() => load({ unpackedBytes: total - 1 }), InputError, "inflates to more");
      await load({ imageEntries: 8 });
      await assertRejects(() => load({ imageEntries: 7 }), InputError, "more than 7 entries");
      await load({ layers: 2 });
      await assertRejects(() => load({ layers: 1 }), InputError, "at most 1 are read");
    });
  });

  Deno.test(`loadLayers stops at a layer that inflates out of all proportion ${where}`, async () => {
    await withDirectory(async (directory) => {
      const zeros = buildTar([{ path: "zeros", data: new Uint8Array(4_000_000) }]);
      writeOciLayout(directory, { layers: [zeros] });
      const load = (limits: SourceOptions["limits"]) =>
        openAndLoad(`oci:${directory}`, testOptions({ ...more, limits: limits! }));
      await load({ unpackedRatio: 100, unpackedRatioFloorBytes: zeros.length });
      const low = { unpackedRatio: 100, unpackedRatioFloorBytes: zeros.length - 1 };
      await assertRejects(() => load(low), InputError, "more than 100 times");
      await load({ ...low, unpackedRatio: 1032 });
    });
  });

  Deno.test(`loadLayers leaves nothing open and nothing in tmpdir ${where}`, async () => {
    await withDirectory(async (directory) => {
      const layout = join(directory, "layout");
      const scratch = join(directory, "scratch");
      mkdirSync(scratch);
      writeOciLayout(layout, { layers: [sampleTar(1), sampleTar(2)], compress: ["gzip", "none"] });
      const options = testOptions({ ...more, tmpdir: scratch });
      for (let round = 0; round < 3; round++) {
        await withLoaded(`oci:${layout}`, options, () => assertEquals(readdirSync(scratch), []));
      }
      assertEquals(openFilesBelow(directory), []);
    });
  });

  Deno.test(`loadLayers takes an empty blob for an empty layer if the config agrees ${where}`, async () => {
    await withDirectory(async (directory) => {
      const empty = new Uint8Array(0);
      for (const compress of ["none", "gzip"] as const) {
        writeOciLayout(directory, { layers: [empty, sampleTar()], compress });
        await withLoaded(`oci:${directory}`, testOptions(more), (layers) => {
          assertEquals(layers[0]!.diffId, EMPTY_SHA256);
          assertEquals(layers[0]!.entries, []);
          assertEquals(layers[0]!.store.sizeBytes, 0);
        });
        writeOciLayout(directory, {
          layers: [sampleTar()],
          compress: "none",
          changeStored: () => compressLayer(empty, compress),
        });
        const load = () => openAndLoad(`oci:${directory}`, testOptions(more));
        await assertRejects(load, InputError, `its diff id is ${EMPTY_SHA256}: wanted `);
      }
    });
  });
}

Deno.test("loadLayers warns of a layer whose type states another compression", async () => {
  await withDirectory(async (directory) => {
    writeOciLayout(directory, {
      layers: [sampleTar(1), sampleTar(2)],
      compress: ["gzip", "none"],
      changeManifest: (manifest) => {
        const [a, b] = manifest.layers as [JsonDescriptor, JsonDescriptor];
        [a.mediaType, b.mediaType] = [b.mediaType, a.mediaType];
        return manifest;
      },
    });
    const options = testOptions();
    await openAndLoad(`oci:${directory}`, options);
    assertEquals(options.warnings.list().map(({ kind, count }) => [kind, count]), [
      ["mediaTypeMismatch", 2],
    ]);
  });
});

Deno.test("loadLayers reads layers whose digests are sha512", async () => {
  await withDirectory(async (directory) => {
    const tar = sampleTar();
    const stored = compressLayer(tar, "gzip");
    const digest = digestOf(stored, "sha512");
    const diffId = digestOf(tar, "sha512");
    writeOciLayout(directory, {
      layers: [tar],
      changeManifest: (manifest) => {
        manifest.layers[0]!.digest = digest;
        return manifest;
      },
      changeConfig: (config) => ({ ...config, rootfs: { type: "layers", diff_ids: [diffId] } }),
    });
    mkdirSync(join(directory, "blobs/sha512"));
    writeFileSync(join(directory, "blobs", digest.replace(":", "/")), stored);
    await withLoaded(`oci:${directory}`, testOptions(), ([layer]) => {
      assertEquals(layer!.digest, digest);
      assertEquals(layer!.diffId, diffId);
    });
  });
});

Deno.test("loadLayers refuses one blob under two diff ids", async () => {
  await withDirectory(async (directory) => {
    const tar = sampleTar();
    writeOciLayout(directory, {
      layers: [tar, tar],
      changeConfig: (config) => {
        config.rootfs.diff_ids[1] = EMPTY_SHA256;
        return config;
      },
    });
    const load = () => openAndLoad(`oci:${directory}`, testOptions());
    await assertRejects(load, InputError, `wanted ${EMPTY_SHA256}`);
  });
});

Deno.test("loadLayers stops at once when it is told to, at any moment", async () => {
  await withDirectory(async (directory) => {
    const layout = join(directory, "layout");
    const scratch = join(directory, "scratch");
    mkdirSync(scratch);
    const tars = [1, 2, 3].map((n) => buildTar([{ path: `f${n}`, data: noise(6_000_000 + n) }]));
    writeOciLayout(layout, { layers: tars });
    for (let stopAfter = 0; stopAfter < 12; stopAfter++) {
      const abort = new AbortController();
      let advances = 0;
      const progress = {
        begin: () => ({
          advance: () => {
            if (++advances > stopAfter) abort.abort();
          },
          end: () => {},
        }),
      };
      const options = testOptions({ progress, signal: abort.signal, tmpdir: scratch });
      await assertRejects(() => openAndLoad(`oci:${layout}`, options), InterruptedError);
      assertEquals(readdirSync(scratch), []);
    }
    assertEquals(openFilesBelow(directory), []);
  });
});

Deno.test("openImage and loadLayers do not begin once the signal is aborted", async () => {
  await withDirectory(async (directory) => {
    writeOciLayout(directory, { layers: [sampleTar()] });
    const signal = AbortSignal.abort();
    const open = () => openImage(`oci:${directory}`, testOptions({ signal }));
    await assertRejects(open, InterruptedError);
    const image = await openImage(`oci:${directory}`, testOptions());
    await assertRejects(() => loadLayers(image, testOptions({ signal })), InterruptedError);
    image.close();
  });
});

/**
 * Layers that can also be read piece by piece, as eStargz and zstd:chunked make them: to a reader of the whole they are
 * compressed tars like all others.
 */

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
