import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { execFileSync } from "node:child_process";
import { mkdirSync, readdirSync, writeSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { InputError, IoError } from "../../lib/errors.ts";
import { digestOf } from "../../lib/io/digest.ts";
import { closeLayers, loadLayers, type OpenedImage } from "../../lib/source/source.ts";
import type { StoredBytes } from "../../lib/source/types.ts";
import { programWords } from "../cli/program.ts";
import { notRun } from "../oracle/notice.ts";
import { buildTar } from "../tar/build.ts";
import { writeOciLayout } from "./build_layout.ts";
import { noise, openAndLoad, storeBytes, testOptions, WAYS, withDirectory } from "./helpers.ts";

/** An image of one layer that comes as a stream. */
function streamed(
  tar: Uint8Array,
  open: () => AsyncIterable<Uint8Array>,
  sizeBytes: number | undefined,
): OpenedImage {
  return imageOf(tar, { kind: "stream", open }, sizeBytes);
}

function imageOf(
  tar: Uint8Array,
  stored: StoredBytes,
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
    stored,
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

/** An image of one layer that somebody else writes to a file, half of it a little later. */
function written(tar: Uint8Array, failure?: Error): OpenedImage {
  const writeTo = async (descriptor: number) => {
    const half = tar.length >> 1;
    writeSync(descriptor, tar.subarray(0, half));
    await new Promise((resolve) => setTimeout(resolve, 20));
    if (failure) throw failure;
    writeSync(descriptor, tar.subarray(half));
  };
  return imageOf(tar, { kind: "output", writeTo }, undefined);
}

Deno.test("loadLayers reads what is still being written", async () => {
  const tar = buildTar([{ path: "big", data: noise(3_000_000) }, { path: "small", data: "x" }]);
  const layers = await loadLayers(written(tar), testOptions());
  const [layer] = layers;
  assertEquals(layer!.entries.map(({ path }) => path), ["big", "small"]);
  assertEquals(digestOf(storeBytes(layer!)), digestOf(tar));
  closeLayers(layers);
});

Deno.test("loadLayers says why something was not written to its end", async () => {
  const tar = buildTar([{ path: "big", data: noise(3_000_000) }]);
  const options = testOptions({ verifyDiffIds: false });
  const failed = written(tar, new IoError("tar", "was stopped"));
  await assertRejects(() => loadLayers(failed, options), IoError, "tar: was stopped");
  const compressed = written(new Uint8Array(gzipSync(tar)));
  const load = () => loadLayers(compressed, options);
  await assertRejects(load, InputError, "is compressed with gzip: wanted a tar");
});

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

Deno.test("loadLayers does with one spool where a process may not open many files", async () => {
  await withDirectory((directory) => {
    const tar = buildTar([{ path: "big", data: noise(100_000) }]);
    const { diffIds } = writeOciLayout(directory, { layers: [tar] });
    const program = fileURLToPath(new URL("./parted_program.ts", import.meta.url));
    const words = [...programWords(program), directory].join(" ");
    // Too few for the parts, and too few for the worker to open them, too.
    for (const limit of [60, 110]) {
      const said = execFileSync("bash", ["-c", `ulimit -n ${limit}; exec ${words}`]);
      assertEquals(`${said}`, `${diffIds[0]}\n`);
    }
  });
});
