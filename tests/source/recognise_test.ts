/**
 * Bare paths, pipes and standard input: what a source is, told by its content.
 *
 * @module
 */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { execFileSync, spawn } from "node:child_process";
import { mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { digestOf } from "../../lib/io/digest.ts";
import { InputError, InterruptedError } from "../../lib/errors.ts";
import { openImage } from "../../lib/source/source.ts";
import { gzipOf, SAMPLE_XZ } from "../io/compressed_samples.ts";
import { notRun } from "../oracle/notice.ts";
import { buildTar } from "../tar/build.ts";
import { writeOciLayout } from "./build_layout.ts";
import {
  openAndLoad,
  openFilesBelow,
  sampleTar,
  storeBytes,
  testOptions,
  withDirectory,
  withLoaded,
} from "./helpers.ts";

Deno.test("a bare tar is a tree, compressed or not, the same as with tar: before it", async () => {
  await withDirectory(async (directory) => {
    const path = join(directory, "root");
    const tar = sampleTar();
    for (const stored of [tar, gzipOf(tar)]) {
      writeFileSync(path, stored);
      const seen: unknown[] = [];
      for (const source of [path, `tar:${path}`]) {
        await withLoaded(source, testOptions(), ([layer], image) => {
          assertEquals(image.kind, "tar");
          assertEquals(storeBytes(layer!), tar);
          const { digest, diffId, sizeBytes, uncompressedBytes, whiteouts, entries } = layer!;
          assertEquals(digest, digestOf(stored));
          seen.push({ digest, diffId, sizeBytes, uncompressedBytes, whiteouts, entries });
        });
        assertEquals(openFilesBelow(directory), []);
      }
      assertEquals(seen[0], seen[1]);
    }
  });
});

Deno.test("a compressed tree that was recognised is let go of with its image", async () => {
  await withDirectory(async (directory) => {
    const path = join(directory, "root");
    const scratch = join(directory, "scratch");
    mkdirSync(scratch);
    writeFileSync(path, gzipOf(sampleTar()));
    const image = await openImage(path, testOptions({ tmpdir: scratch }));
    assertEquals(readdirSync(scratch), []);
    image.close();
    image.close();
    assertEquals(openFilesBelow(directory), []);
  });
});

Deno.test("a recognised tree's warnings count, and are errors under strict", async () => {
  await withDirectory(async (directory) => {
    const path = join(directory, "root");
    writeFileSync(path, gzipOf(sampleTar().subarray(0, -1024)));
    const options = testOptions();
    await openAndLoad(path, options);
    assertEquals(options.warnings.list().map(({ kind, count }) => [kind, count]), [
      ["missingEndMarker", 1],
    ]);
  });
});

Deno.test("a tree with a manifest.json of its own is still a tree", async () => {
  await withDirectory(async (directory) => {
    const path = join(directory, "root.tar");
    for (const data of ["{}", "[]", "no json", '[{"name":"x"}]']) {
      for (const store of [(tar: Uint8Array) => tar, gzipOf]) {
        writeFileSync(path, store(buildTar([{ path: "manifest.json", data }])));
        await withLoaded(path, testOptions(), (_, image) => assertEquals(image.kind, "tar"));
      }
    }
  });
});

Deno.test("a bare directory is a layout, what skopeo wrote, or a tree", async () => {
  await withDirectory(async (directory) => {
    const layout = join(directory, "layout");
    mkdirSync(layout);
    writeOciLayout(layout, { layers: [sampleTar()] });
    const image = await openImage(layout, testOptions());
    assertEquals(image.kind, "oci");
    image.close();
    const tree = await openImage(directory, testOptions());
    assertEquals(tree.kind, "rootfs");
    tree.close();
  });
});

Deno.test("openImage refuses files that are nothing it knows", async () => {
  await withDirectory(async (directory) => {
    const path = join(directory, "file");
    const refuses = async (bytes: Uint8Array, message: string) => {
      writeFileSync(path, bytes);
      await assertRejects(() => openAndLoad(path, testOptions()), InputError, message);
      assertEquals(openFilesBelow(directory), []);
    };
    await refuses(new Uint8Array(0), "is empty: wanted a tar or an image");
    await refuses(new Uint8Array(5000).fill(7), "is not recognised");
    await refuses(SAMPLE_XZ, "is a text file: wanted a tar");
    await refuses(gzipOf(new Uint8Array(600).fill(1)), "is not recognised");
    await refuses(gzipOf(sampleTar()).subarray(0, 200), "ends too early");
    const ext4 = new Uint8Array(8192);
    ext4.set([0x53, 0xef], 1024 + 0x38);
    await refuses(ext4, "superblock");
    await assertRejects(() => openImage(`${path}-none`, testOptions()), InputError, "not exist");
    await assertRejects(() => openImage(`ext4:${path}`, testOptions()), InputError, "superblock");
  });
});

/** Bytes as a stream of small pieces. */
async function* pieces(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += 700) {
    await Promise.resolve();
    yield bytes.subarray(at, at + 700);
  }
}

Deno.test("- reads a tar or an archive from standard input", async () => {
  const tar = sampleTar();
  for (const stored of [tar, gzipOf(tar)]) {
    await withLoaded("-", testOptions({ stdin: pieces(stored) }), ([layer], image) => {
      assertEquals(image.kind, "tar");
      assertEquals(storeBytes(layer!), tar);
    });
  }
  const none = testOptions({ stdin: pieces(new Uint8Array(0)) });
  await assertRejects(() => openImage("-", none), InputError, "standard input: is empty");
});

Deno.test("- stops when it is told to, and leaves nothing in tmpdir", async () => {
  await withDirectory(async (directory) => {
    const abort = new AbortController();
    const endless = async function* () {
      for (let i = 0;; i++) {
        await Promise.resolve();
        if (i === 5) abort.abort();
        yield new Uint8Array(100_000);
      }
    };
    const options = testOptions({ stdin: endless(), signal: abort.signal, tmpdir: directory });
    await assertRejects(() => openImage("-", options), InterruptedError);
    assertEquals(readdirSync(directory), []);
    assertEquals(openFilesBelow(directory), []);
  });
});

Deno.test("- stops when it is told to while nothing comes, and leaves nothing in tmpdir", async () => {
  await withDirectory(async (directory) => {
    const abort = new AbortController();
    const reason = new InterruptedError("interrupted", "by the test");
    const stalled = async function* () {
      yield new Uint8Array(100_000);
      abort.abort(reason);
      await new Promise<never>(() => {});
    };
    const options = testOptions({ stdin: stalled(), signal: abort.signal, tmpdir: directory });
    assertEquals(await assertRejects(() => openImage("-", options)), reason);
    assertEquals(openFilesBelow(directory), []);
  });
});

Deno.test("a named pipe is read to its end", async () => {
  await withDirectory(async (directory) => {
    const fifo = join(directory, "fifo");
    const file = join(directory, "file");
    try {
      execFileSync("mkfifo", [fifo]);
    } catch {
      return notRun("named pipes", "mkfifo is missing");
    }
    const tar = sampleTar();
    writeFileSync(file, tar);
    for (const source of [fifo, `tar:${fifo}`]) {
      const writer = spawn("sh", ["-c", `cat "$0" > "$1"`, file, fifo]);
      const ended = new Promise((resolve) => writer.on("close", resolve));
      await withLoaded(source, testOptions(), ([layer]) => assertEquals(storeBytes(layer!), tar));
      assert(await ended === 0);
    }
  });
});
