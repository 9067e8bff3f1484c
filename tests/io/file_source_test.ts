import { assertEquals, assertRejects } from "@std/assert";
import { Buffer } from "node:buffer";
import { spawnSync } from "node:child_process";
import {
  closeSync,
  mkdirSync,
  openSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { ChunkSink } from "../../lib/chunk/chunk_sink.ts";
import type { ImageSink } from "../../lib/io/sink.ts";
import { readFileInto, readStreamInto } from "../../lib/io/streams.ts";
import { InputError, InterruptedError } from "../../lib/errors.ts";
import { NO_PROGRESS } from "../../lib/progress.ts";
import {
  CHUNK_BYTES,
  idAt,
  MemoryStore,
  noise,
  uploaderOf,
  withDirectory,
} from "../chunk/helpers.ts";

const OPTIONS = { progress: NO_PROGRESS };

function newSink(): ChunkSink {
  return new ChunkSink(uploaderOf(new MemoryStore()), {
    chunkBytes: CHUNK_BYTES,
    digest: "sha512-256",
  });
}

Deno.test("readFileInto gives a file to a sink, of any size around its pieces", async () => {
  await withDirectory(async (directory) => {
    const path = join(directory, "image");
    for (const size of [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3 << 20]) {
      const bytes = noise(size);
      writeFileSync(path, bytes);
      const sink = newSink();
      assertEquals(await readFileInto(path, sink, OPTIONS), size);
      const whole = newSink();
      await whole.write(bytes, 0);
      await whole.finish(size);
      assertEquals(sink.index, whole.index);
    }
  });
});

Deno.test("readFileInto reads holes as zeros", async () => {
  await withDirectory(async (directory) => {
    const path = join(directory, "image");
    writeFileSync(path, noise(10));
    truncateSync(path, 200 * CHUNK_BYTES + 3);
    const sink = newSink();
    await readFileInto(path, sink, OPTIONS);
    assertEquals([sink.counts.chunks, sink.counts.zeroChunks], [201, 199]);
    assertEquals(idAt(sink.index, 1), idAt(sink.index, 199));
  });
});

Deno.test("readFileInto asks for the holes of the file that the system finds", async () => {
  await withDirectory(async (directory) => {
    const sizeBytes = 300 << 20;
    const put = (path: string, position: number) => {
      writeFileSync(join(directory, path), "");
      truncateSync(join(directory, path), sizeBytes);
      const descriptor = openSync(join(directory, path), "r+");
      writeSync(descriptor, noise(10), 0, 10, position);
      closeSync(descriptor);
    };
    mkdirSync(join(directory, "a/b"), { recursive: true });
    symlinkSync("a/b", join(directory, "link"));
    put("a/image", 200 << 20);
    put("image", 100 << 20);
    let found = -1;
    const sink: ImageSink = {
      write(bytes, offset) {
        const at = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).indexOf(noise(10));
        if (at >= 0) found = offset + at;
      },
      finish: () => {},
      abort: () => {},
    };
    assertEquals(await readFileInto(`${directory}/link/../image`, sink, OPTIONS), sizeBytes);
    assertEquals(found, 200 << 20);
  });
});

Deno.test("readFileInto refuses what has no bytes of its own", async () => {
  await withDirectory(async (directory) => {
    const pipe = join(directory, "pipe");
    assertEquals(spawnSync("mkfifo", [pipe]).status, 0);
    const cases: [path: string, why: string, hint: string | undefined][] = [
      [directory, "is a directory: wanted", undefined],
      ["/dev/null", "is neither a regular file nor a block device", undefined],
      [pipe, "is a pipe: wanted", "a stream is read with `-`"],
      [join(directory, "missing"), "does not exist: wanted", undefined],
    ];
    for (const [path, why, hint] of cases) {
      const error = await assertRejects(
        () => readFileInto(path, newSink(), OPTIONS),
        InputError,
        why,
      );
      assertEquals(error.hint, hint);
    }
  });
});

Deno.test("readFileInto finds that a file became shorter or longer", async () => {
  for (const other of [1 << 20, 90 << 20]) {
    await withDirectory(async (directory) => {
      const path = join(directory, "image");
      writeFileSync(path, "");
      truncateSync(path, 40 << 20);
      const task = { advance: () => truncateSync(path, other), end: () => {} };
      const progress = { begin: () => task };
      await assertRejects(
        () => readFileInto(path, newSink(), { progress }),
        InputError,
        "changed while it was read: it had 41943040 bytes",
      );
    });
  }
});

Deno.test("readStreamInto takes pieces of any size, and stops when it is told to", async () => {
  async function* pieces() {
    for (let n = 0; n < 300; n++) {
      yield noise(n * 7, n + 1);
      await Promise.resolve();
    }
  }
  const sink = newSink();
  assertEquals(await readStreamInto(pieces(), sink, OPTIONS), 7 * 300 * 299 / 2);
  const controller = new AbortController();
  const { signal } = controller;
  async function* stopped() {
    yield noise(5);
    controller.abort();
    yield noise(5);
    await Promise.resolve();
  }
  const read = readStreamInto(stopped(), newSink(), { ...OPTIONS, signal });
  await assertRejects(() => read, InterruptedError);
});
