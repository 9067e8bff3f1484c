import { assert, assertEquals, assertRejects } from "@std/assert";
import { execFileSync, spawn } from "node:child_process";
import { mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { blessMerged } from "../../lib/bless/merged.ts";
import { InputError, InterruptedError, UsageError } from "../../lib/errors.ts";
import { fileStream } from "../../lib/ext4/read/directory.ts";
import { openExt4Image } from "../../lib/ext4/read/image.ts";
import { digestOf } from "../../lib/bytes/digest.ts";
import { MemorySink } from "../../lib/io/streams.ts";
import { loadLayers, openImage, openTar } from "../../lib/source/source.ts";
import { Warnings } from "../../lib/warnings.ts";
import { gzipOf, SAMPLE_XZ } from "../io/compressed_samples.ts";
import { notRun } from "../oracle/notice.ts";
import { buildTar } from "../tar/build.ts";
import { layoutEntries } from "./build_archives.ts";
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

Deno.test("openImage opens every kind of source as what it is", async () => {
  await withDirectory(async (directory) => {
    writeOciLayout(join(directory, "layout"), { layers: [sampleTar()] });
    writeFileSync(join(directory, "root.tar"), sampleTar());
    writeFileSync(join(directory, "archive.tar"), buildTar(layoutEntries()));
    const kinds: readonly [string, string][] = [
      [`oci:${directory}/layout`, "oci"],
      [`oci:${directory}/layout:latest`, "oci"],
      [`oci-archive:${directory}/archive.tar`, "oci-archive"],
      [`docker-archive:${directory}/archive.tar`, "docker-archive"],
      [`tar:${directory}/root.tar`, "tar"],
      [`tar:${directory}/archive.tar`, "tar"],
      [`rootfs:${directory}`, "rootfs"],
      [`${directory}/layout`, "oci"],
      [`${directory}/root.tar`, "tar"],
      [`${directory}/archive.tar`, "oci-archive"],
      [directory, "rootfs"],
    ];
    for (const [source, kind] of kinds) {
      const image = await openImage(source, testOptions());
      assertEquals([image.source, image.kind], [source, kind]);
      image.close();
    }
  });
});

Deno.test("openImage refuses what cannot be meant before it looks at anything", async () => {
  await assertRejects(() => openImage("", testOptions()), UsageError);
  await assertRejects(() => openImage("oic:/x", testOptions()), UsageError, "not a kind");
  const signal = AbortSignal.abort();
  await assertRejects(() => openImage("/nowhere", testOptions({ signal })), InterruptedError);
});

Deno.test("openImage warns of --platform for what turns out to be a tree, unless it was named as one", async () => {
  await withDirectory(async (directory) => {
    mkdirSync(join(directory, "root"));
    const tar = join(directory, "root.tar");
    writeFileSync(tar, sampleTar());
    for (const source of [tar, join(directory, "root"), "-"]) {
      const stdin = (async function* () {
        await Promise.resolve();
        yield sampleTar();
      })();
      const options = testOptions({ platform: "linux/arm64", stdin });
      (await openImage(source, options)).close();
      assertEquals(options.warnings.list().map(({ kind }) => kind), ["platformUnknown"], source);
      const strict = testOptions({ platform: "linux/arm64", warnings: new Warnings(true), stdin });
      await assertRejects(() => openImage(source, strict), InputError);
    }
    assertEquals(openFilesBelow(directory), []);
    const options = testOptions({ platform: "linux/arm64" });
    (await openImage(`tar:${tar}`, options)).close();
    assertEquals(options.warnings.list(), []);
    const wrong = testOptions({ platform: "arm64" });
    await assertRejects(() => openImage(tar, wrong), UsageError, "OS/ARCH");
  });
});

Deno.test("a stream that is too long, or given up, is told as that and not as a fault of reading", async () => {
  async function* endless() {
    for (;;) {
      await Promise.resolve();
      yield new Uint8Array(1 << 16);
    }
  }
  const limits = { unpackedBytes: 1 << 20 };
  const error = await assertRejects(() => openImage("-", { stdin: endless(), limits }), InputError);
  assertEquals(error.code, "limitExceeded");
  const abort = new AbortController();
  async function* abortingStream() {
    yield* [await Promise.resolve(new Uint8Array(1))];
    abort.abort(new Error("enough"));
    yield new Uint8Array(1);
  }
  const { signal } = abort;
  const aborted = await assertRejects(
    () => openImage("-", { stdin: abortingStream(), signal }),
    InterruptedError,
  );
  assertEquals(aborted.cause, signal.reason);
});

/**
 * Bare paths, pipes and standard input: what a source is, told by its content.
 *
 * @module
 */

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

const BIG = new Uint8Array(700_001).map((_, i) => i % 253);
const TAR = buildTar([
  { path: "dir/" },
  { path: "dir/small", data: "hello\n" },
  { path: "empty", data: "" },
  { path: "big", data: BIG },
]);

async function bytesOf(stream: ReadableStream<Uint8Array<ArrayBuffer>>): Promise<Uint8Array> {
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

Deno.test("openTar gives entries with their bytes, from a file, memory or a stream", async () => {
  await withDirectory(async (directory) => {
    writeFileSync(join(directory, "plain.tar"), TAR);
    writeFileSync(join(directory, "packed.tar.gz"), gzipSync(TAR));
    const sources = [
      join(directory, "plain.tar"),
      join(directory, "packed.tar.gz"),
      TAR,
      new Blob([new Uint8Array(gzipSync(TAR))]).stream(),
    ];
    for (const source of sources) {
      using tar = await openTar(source);
      assertEquals(tar.entries.map(({ path }) => path), ["dir/", "dir/small", "empty", "big"]);
      const [folder, small, empty, big] = tar.entries;
      assertEquals(new TextDecoder().decode(tar.bytes(small!)), "hello\n");
      assertEquals(await bytesOf(tar.stream(big!)), BIG);
      for (const none of [folder, empty]) {
        assertEquals([tar.bytes(none!).length, (await bytesOf(tar.stream(none!))).length], [0, 0]);
      }
    }
    assertEquals(openFilesBelow(directory), []);
  });
});

Deno.test("openTar refuses what is none", async () => {
  const error = await assertRejects(() => openTar(new TextEncoder().encode("no tar")), InputError);
  assertEquals(error.code, "wrongKind");
  const missing = await assertRejects(() => openTar("/nowhere.tar"), InputError);
  assertEquals(missing.code, "notFound");
  const sink = new MemorySink();
  await blessMerged({ source: `oci:fixtures/oci-tiny`, sink });
  const image = await assertRejects(() => openTar(sink.bytes), InputError);
  assertEquals([image.code, image.message], [
    "wrongKind",
    "the given bytes: are ext4: wanted a tar",
  ]);
});

Deno.test("openImage takes bytes as a source, and what it opens can be disposed of", async () => {
  const sink = new MemorySink();
  await withDirectory(async (directory) => {
    writeFileSync(join(directory, "plain.tar"), TAR);
    await blessMerged({ source: `tar:${join(directory, "plain.tar")}`, sink });
    for (const source of [TAR, new Blob([sink.bytes]).stream()]) {
      using image = await openImage(source, { tmpdir: directory });
      using layers = await loadLayers(image, { tmpdir: directory });
      const names = layers[0]!.entries.map(({ path }) => path.replace(/^\.?\//, ""));
      assertEquals(names.includes("dir/small"), true);
    }
    assertEquals(openFilesBelow(directory), []);
  });
  using image = openExt4Image(sink.bytes);
  assertEquals(await bytesOf(fileStream(image, "/big")), BIG);
  const missing = await assertRejects(
    () => Promise.resolve().then(() => fileStream(image, "/none")),
    InputError,
  );
  assertEquals(missing.code, "notFound");
  await assertRejects(() => Promise.resolve().then(() => fileStream(image, "/dir")), InputError);
});
