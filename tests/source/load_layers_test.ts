import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { execFileSync } from "node:child_process";
import { mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { digestOf, EMPTY_SHA256 } from "../../lib/io/digest.ts";
import { InputError, InterruptedError, IoError } from "../../lib/errors.ts";
import { closeLayers, loadLayers, openImage } from "../../lib/source/source.ts";
import type { OpenedImage, SourceOptions } from "../../lib/source/source.ts";
import { Warnings } from "../../lib/warnings.ts";
import { notRun } from "../oracle/notice.ts";
import { buildTar } from "../tar/build.ts";
import {
  compressLayer,
  type JsonDescriptor,
  type Manifest,
  writeOciLayout,
} from "./build_layout.ts";
import {
  ALWAYS_WORKER,
  openAndLoad,
  openFilesBelow,
  sampleTar,
  storeBytes,
  testOptions,
  withDirectory,
  withLoaded,
} from "./helpers.ts";

/** Bytes that gzip cannot shrink. */
function noise(lengthBytes: number): Uint8Array {
  const bytes = new Uint8Array(lengthBytes);
  let state = 1;
  for (let i = 0; i < lengthBytes; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    bytes[i] = state >>> 24;
  }
  return bytes;
}

const WAYS: readonly [string, Partial<SourceOptions>][] = [
  ["in workers", ALWAYS_WORKER],
  ["in place", {}],
];

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
      await load({ entries: 8 });
      await assertRejects(() => load({ entries: 7 }), InputError, "more than 7 entries");
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

/** An image of one layer that comes as a stream. */
function streamed(
  tar: Uint8Array,
  open: () => AsyncIterable<Uint8Array>,
  sizeBytes: number | undefined,
): OpenedImage {
  const digest = digestOf(tar);
  const layer = {
    name: "streamed",
    digest,
    diffId: digest,
    mediaType: undefined,
    sizeBytes,
    whiteouts: true,
    stored: { kind: "stream" as const, open },
  };
  return {
    source: "stream",
    kind: "docker",
    manifestDigest: undefined,
    configDigest: undefined,
    config: undefined,
    platform: undefined,
    layers: [layer],
    close: () => {},
  };
}

for (const [where, more] of WAYS) {
  Deno.test(`loadLayers reads a stream in pieces of any size ${where}`, async () => {
    const tar = buildTar([{ path: "big", data: noise(5_000_000) }]);
    for (const pieceBytes of [999, 1 << 20, 3_000_000, tar.length]) {
      const open = async function* () {
        for (let at = 0; at < tar.length; at += pieceBytes) {
          await Promise.resolve();
          yield tar.slice(at, at + pieceBytes);
        }
      };
      const options = testOptions({ inlineLayerBytes: 1 << 30, ...more });
      const layers = await loadLayers(streamed(tar, open, tar.length), options);
      assertEquals(digestOf(storeBytes(layers[0]!)), digestOf(tar));
      closeLayers(layers);
    }
  });

  Deno.test(`loadLayers passes on the error of a stream, and lets go of it ${where}`, async () => {
    const tar = buildTar([{ path: "big", data: noise(5_000_000) }]);
    const options = testOptions({ inlineLayerBytes: 1 << 30, ...more });
    const broken = async function* () {
      await Promise.resolve();
      yield tar.slice(0, 2_000_000);
      throw new IoError("registry", "closed the connection");
    };
    const load = () => loadLayers(streamed(tar, broken, tar.length), options);
    await assertRejects(load, IoError, "registry: closed the connection");
    let released = false;
    const endless = async function* () {
      try {
        for (;;) {
          await Promise.resolve();
          yield new Uint8Array(1 << 20);
        }
      } finally {
        released = true;
      }
    };
    const tooLong = () => loadLayers(streamed(tar, endless, tar.length), options);
    await assertRejects(tooLong, InputError, "is longer than");
    for (let tick = 0; tick < 100 && !released; tick++) {
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    assert(released, "the stream was not let go of");
  });
}

Deno.test("loadLayers calls a full tmpdir one and names --tmpdir", async () => {
  await withDirectory(async (directory) => {
    const scratch = join(directory, "scratch");
    mkdirSync(scratch);
    try {
      execFileSync("mount", ["-t", "tmpfs", "-o", "size=1m", "tmpfs", scratch], {
        stdio: "ignore",
      });
    } catch {
      return notRun("a full temporary directory", "it takes root to mount a small tmpfs");
    }
    try {
      const layout = join(directory, "layout");
      writeOciLayout(layout, { layers: [buildTar([{ path: "big", data: noise(5_000_000) }])] });
      for (const [, more] of WAYS) {
        const options = testOptions({ inlineLayerBytes: 1 << 30, ...more, tmpdir: scratch });
        const error = await assertRejects(() => openAndLoad(`oci:${layout}`, options), IoError);
        assertStringIncludes(
          error.message,
          `${scratch}: inflated data cannot be written: no space`,
        );
        assertStringIncludes((error as IoError).hint ?? "", "--tmpdir");
        assertEquals(readdirSync(scratch), []);
      }
    } finally {
      execFileSync("umount", [scratch]);
    }
  });
});
