/** Chunks cut by content, images put together again, and stores kept in order. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import fc from "fast-check";
import { spawnSync } from "node:child_process";
import {
  closeSync,
  existsSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { chunkPath } from "../../lib/chunk/chunk.ts";
import {
  type ChunkIndex,
  chunksOf,
  decodeChunkIndex,
  encodeChunkIndex,
} from "../../lib/chunk/chunk_index.ts";
import { ChunkSink, createCutter, type Cutter } from "../../lib/chunk/chunk_sink.ts";
import { DirectoryStore } from "../../lib/chunk/directory_store.ts";
import { fastCdcParameters } from "../../lib/chunk/fastcdc.ts";
import { pruneStore, verifyStore } from "../../lib/chunk/store.ts";
import { PARTIAL_ENDING, restoreFile } from "../../lib/chunk/restore.ts";
import { GRACE_MS_DEFAULT, kernelPlace, lockStore } from "../../lib/chunk/store_lock.ts";
import { InputError, IoError } from "../../lib/errors.ts";
import { mustRun } from "../oracle/command.ts";
import { kernelOrNotice } from "../oracle/kernel.ts";
import { notRun } from "../oracle/notice.ts";
import { noise, store, uploaderOf, withDirectory } from "./helpers.ts";
import { mustRunBeside, programOrNotice } from "./programs.ts";

const PARAMETERS = fastCdcParameters(8192, 2048, 32768);
const BY_CONTENT = { chunker: PARAMETERS, chunkBytes: PARAMETERS.maxBytes };

/** Data, holes of several lengths, zeros within blocks, and an end that is not one of a block. */
function holey(): Uint8Array {
  const file = new Uint8Array(700_001);
  file.set(noise(150_000, 1), 0);
  file.set(noise(60_000, 2), 200_704);
  file.set(noise(100, 3), 400_000);
  file.set(noise(90_001, 4), 610_000);
  return file;
}

/** Where chunks begin and end, and whether they are zeros. */
function pieces(bytes: Uint8Array, writes: (cutter: Cutter) => void) {
  const found: [start: number, end: number, isZero: boolean][] = [];
  let end = 0;
  const cutter = createCutter(BY_CONTENT, (piece) => {
    const start = end;
    const isZero = !(piece instanceof Uint8Array);
    end += isZero ? piece.zeroBytes : piece.length;
    if (!isZero) assertEquals(piece, bytes.subarray(start, end));
    found.push([start, end, isZero]);
  });
  writes(cutter);
  cutter.finish(bytes.length);
  assertEquals(end, bytes.length);
  return found;
}

Deno.test("a cutter by content cuts at the edges of holes, and alike however a file is written", () => {
  const file = holey();
  const whole = pieces(file, (cutter) => cutter.write(file, 0));
  const isZeroBlock = (block: number) =>
    file.subarray(block * 4096, (block + 1) * 4096).every((byte) => byte === 0);
  for (const [start, end, isZero] of whole) {
    for (let block = Math.floor(start / 4096); block * 4096 < end; block++) {
      assertEquals(isZeroBlock(block), isZero, `block ${block} of ${start} to ${end}`);
    }
  }
  const cuts = fc.array(fc.nat(file.length), { maxLength: 30 });
  fc.assert(
    fc.property(cuts, fc.boolean(), (points, skipsZeros) => {
      const ends = [...new Set([...points, file.length])].sort((a, b) => a - b);
      const again = pieces(file, (cutter) => {
        let start = 0;
        for (const end of ends) {
          const part = file.subarray(start, end);
          if (!skipsZeros || part.some((byte) => byte !== 0)) cutter.write(part, start);
          start = end;
        }
      });
      assertEquals(again, whole);
    }),
    { numRuns: 60 },
  );
});

Deno.test("an index of chunks of many sizes is read back, and its ends are checked", async () => {
  await withDirectory(async (directory) => {
    const sink = await store(holey(), uploaderOf(new DirectoryStore(directory)), BY_CONTENT);
    const bytes = encodeChunkIndex(sink.index);
    assertEquals(decodeChunkIndex(bytes, "x"), sink.index);
    assertEquals(sink.index.cut!.ends.at(-1), 700_001);
    const wrong = bytes.slice();
    new DataView(wrong.buffer).setUint32(64 + 40, 0, true);
    const refused = await assertRejects(
      () => Promise.resolve().then(() => decodeChunkIndex(wrong, "x")),
      InputError,
      "end of chunk 1",
    );
    assert(refused.message.startsWith("x: offset 104"));
  });
});

Deno.test("casync and desync extract what every chunker wrote, bit for bit", async () => {
  const programs = (["casync", "desync"] as const).filter((name) =>
    programOrNotice(name, "chunks cut by content, extracted")
  );
  await withDirectory(async (directory) => {
    const at = (name: string) => join(directory, name);
    for (const more of [BY_CONTENT, { chunkBytes: 65536 }]) {
      for (const file of [holey(), new Uint8Array(100_000), noise(1), new Uint8Array(0)]) {
        const sink = await store(file, uploaderOf(new DirectoryStore(at("store"))), more);
        writeFileSync(at("x.caibx"), encodeChunkIndex(sink.index));
        for (const program of programs) {
          const from = program === "casync"
            ? [`--store=${at("store")}`, at("x.caibx")]
            : ["-s", at("store"), at("x.caibx")];
          await mustRunBeside(program, ["extract", ...from, at("copy")]);
          assert(readFileSync(at("copy")).equals(file), `${program}, ${file.length} bytes`);
          rmSync(at("copy"));
        }
      }
    }
  });
});

async function stored(directory: string, file: Uint8Array, more = {}): Promise<ChunkIndex> {
  return (await store(file, uploaderOf(new DirectoryStore(join(directory, "store"))), more)).index;
}

Deno.test("restoreFile gives back every file, with its holes, from stores and from seeds", async () => {
  await withDirectory(async (directory) => {
    const at = (name: string) => join(directory, name);
    const chunks = new DirectoryStore(at("store"));
    for (const more of [BY_CONTENT, { chunkBytes: 4096 }]) {
      const file = holey();
      const index = await stored(directory, file, more);
      const counts = await restoreFile(index, at("plain"), { store: chunks });
      assert(readFileSync(at("plain")).equals(file));
      assert(statSync(at("plain")).blocks * 512 < 400_000, "holes are holes");
      assertEquals(counts.fetchedBytes + counts.zeroBytes, file.length);
      // An older file with most of the same chunks.
      const older = file.slice();
      older.set(noise(1000, 9), 5000);
      writeFileSync(at("older"), older);
      const seeded = await restoreFile(index, at("seeded"), {
        store: chunks,
        seeds: [at("older")],
      });
      assert(readFileSync(at("seeded")).equals(file));
      assert(seeded.seedBytes > 5 * seeded.fetchedBytes, JSON.stringify(seeded));
      for (const name of ["plain", "seeded", "older"]) rmSync(at(name));
    }
  });
});

Deno.test("restoreFile goes on where it stopped, and believes nothing that it finds there", async () => {
  await withDirectory(async (directory) => {
    const at = (name: string) => join(directory, name);
    const chunks = new DirectoryStore(at("store"));
    const file = holey();
    const index = await stored(directory, file, { chunkBytes: 4096 });
    const [first] = [...chunksOf(index)];
    const lost = join(at("store"), chunkPath(first!.id));
    const kept = readFileSync(lost);
    rmSync(lost);
    const options = { store: chunks, concurrency: 1 };
    await assertRejects(() => restoreFile(index, at("out"), options), InputError, "is missing");
    assertEquals([existsSync(at("out")), existsSync(at(`out${PARTIAL_ENDING}`))], [false, true]);
    // What is there is half right, and holes have something in them.
    const half = file.slice();
    half.set(noise(4096, 8), 8192);
    half.set(noise(4096, 8), 300_000);
    writeFileSync(at(`out${PARTIAL_ENDING}`), half);
    writeFileSync(lost, kept);
    const counts = await restoreFile(index, at("out"), options);
    assert(readFileSync(at("out")).equals(file));
    assert(counts.keptBytes > 300_000 && counts.fetchedBytes <= 16384, JSON.stringify(counts));
    await assertRejects(() => restoreFile(index, at("out"), options), IoError, "already exists");
  });
});

Deno.test("restoreFile writes a block device in place, zeros too, and nothing behind the file", async () => {
  if (!kernelOrNotice("restoring onto a block device")) return;
  await withDirectory(async (directory) => {
    const at = (name: string) => join(directory, name);
    const chunks = new DirectoryStore(at("store"));
    const file = holey();
    const before = noise(1 << 20, 7);
    for (const more of [BY_CONTENT, { chunkBytes: 4096 }]) {
      const index = await stored(directory, file, more);
      writeFileSync(at("disk"), before);
      const device = mustRun("losetup", ["--find", "--show", at("disk")]).trim();
      try {
        const counts = await restoreFile(index, device, { store: chunks });
        assertEquals([counts.keptBytes, counts.zeroBytes + counts.fetchedBytes], [0, file.length]);
        const whole = readFileSync(device);
        assert(whole.subarray(0, file.length).equals(file));
        assert(whole.subarray(file.length).equals(before.subarray(file.length)));
        // What is damaged there is mended, and only that is fetched.
        const descriptor = openSync(device, "r+");
        writeSync(descriptor, noise(5000, 8), 0, 5000, 100_000);
        writeSync(descriptor, noise(5000, 8), 0, 5000, 500_000);
        closeSync(descriptor);
        const again = await restoreFile(index, device, { store: chunks });
        assert(again.fetchedBytes > 0 && again.fetchedBytes < 80_000, JSON.stringify(again));
        assert(readFileSync(device).subarray(0, file.length).equals(file));
      } finally {
        mustRun("losetup", ["--detach", device]);
      }
      assert(readFileSync(at("disk")).subarray(0, file.length).equals(file));
    }
    const index = await stored(directory, noise(2 << 20), { chunkBytes: 4096 });
    const device = mustRun("losetup", ["--find", "--show", at("disk")]).trim();
    try {
      await assertRejects(
        () => restoreFile(index, device, { store: chunks }),
        InputError,
        "has 1048576 bytes: the image needs 2097152",
      );
      assert(readFileSync(device).subarray(0, file.length).equals(file));
    } finally {
      mustRun("losetup", ["--detach", device]);
    }
  });
});

Deno.test("restoreFile and verifyStore find damaged chunks", async () => {
  await withDirectory(async (directory) => {
    const chunks = new DirectoryStore(join(directory, "store"));
    const index = await stored(directory, noise(20_000), { chunkBytes: 4096 });
    assertEquals((await verifyStore(chunks)).damaged, []);
    const [first, second] = [...chunksOf(index)];
    const path = (id: string) => join(directory, "store", chunkPath(id));
    writeFileSync(path(first!.id), readFileSync(path(second!.id)));
    const found = await verifyStore(chunks);
    assertEquals([found.chunks, found.damaged.map(({ path }) => path)], [5, [
      chunkPath(first!.id),
    ]]);
    await assertRejects(
      () => restoreFile(index, join(directory, "out"), { store: chunks }),
      InputError,
      "is damaged",
    );
  });
});

Deno.test("pruneStore keeps what indexes name and what is young, and removes the rest", async () => {
  await withDirectory(async (directory) => {
    const chunks = new DirectoryStore(join(directory, "store"));
    const kept = await stored(directory, noise(40_000, 1), { chunkBytes: 4096 });
    const gone = await stored(directory, noise(40_000, 2), { chunkBytes: 4096 });
    const graceMs = GRACE_MS_DEFAULT;
    const young = await pruneStore(chunks, { indexes: [kept], graceMs });
    assertEquals([young.keptChunks, young.youngChunks, young.removedChunks], [10, 10, 0]);
    const old = new Date("2020-01-01");
    const pathOf = (id: string) => join(directory, "store", chunkPath(id));
    for (const { id } of [...chunksOf(kept), ...chunksOf(gone)]) utimesSync(pathOf(id), old, old);
    const leftover = join(directory, "store", "0000", ".tmp-cacnk-1");
    await stored(directory, noise(1), { chunkBytes: 4096 });
    writeFileSync(join(directory, "store", "README"), "not a chunk");
    const { path } = { path: join(pathOf([...chunksOf(kept)][0]!.id), "..", ".tmp-cacnk-1") };
    writeFileSync(path, "x");
    utimesSync(path, old, old);
    assert(!existsSync(leftover));
    const asked = await pruneStore(chunks, { indexes: [kept], graceMs, dryRun: true });
    assertEquals([asked.removedChunks, asked.leftovers, asked.youngChunks], [10, 1, 1]);
    const { removedChunks, leftovers, missingChunks } = await pruneStore(chunks, {
      indexes: [kept],
      graceMs,
    });
    assertEquals([removedChunks, leftovers, missingChunks], [10, 1, 0]);
    for (const { id } of chunksOf(kept)) assert(existsSync(pathOf(id)));
    for (const { id } of chunksOf(gone)) assert(!existsSync(pathOf(id)));
    assert(existsSync(join(directory, "store", "README")) && !existsSync(path));
    assertEquals((await pruneStore(chunks, { indexes: [gone], graceMs: 0 })).missingChunks, 10);
    await assertRejects(() => pruneStore(chunks, { indexes: [], graceMs }), InputError, "no index");
  });
});

Deno.test("a store is not pruned while somebody writes to it, and writers wait for who prunes", async () => {
  await withDirectory(async (directory) => {
    const chunks = new DirectoryStore(directory);
    const options = { graceMs: GRACE_MS_DEFAULT, pauseMs: 5 };
    const writer = await lockStore(chunks, "write", options);
    const other = await lockStore(chunks, "write", options);
    await assertRejects(() => lockStore(chunks, "prune", options), IoError, "is being written to");
    await Promise.all([writer.release(), other.release()]);
    const pruner = await lockStore(chunks, "prune", options);
    await assertRejects(() => lockStore(chunks, "prune", options), IoError, "is being pruned");
    let isWaiting = true;
    const waits = Promise.withResolvers<string>();
    const waiting = lockStore(chunks, "write", { ...options, onWait: waits.resolve })
      .then((lock) => (isWaiting = false, lock));
    assert((await waits.promise).startsWith(".blessfs/prune-"));
    assertEquals(isWaiting, true);
    await pruner.release();
    await (await waiting).release();
    // A mark that a crash left is no longer in the way when it is old.
    const sink = new ChunkSink(uploaderOf(chunks), { chunkBytes: 4096, digest: "sha256" });
    await sink.write(noise(10), 0);
    await sink.finish(10);
    const marks: string[] = [];
    for await (const { path } of chunks.list(".blessfs")) marks.push(path);
    assertEquals(marks.length, 1);
    const old = new Date("2020-01-01");
    utimesSync(join(directory, marks[0]!), old, old);
    await (await lockStore(chunks, "prune", options)).release();
  });
});

Deno.test("a mark of a process that was killed is taken away by the next, and one of elsewhere is not", async () => {
  if (kernelPlace().endsWith(".")) return notRun("marks of killed processes", "this is not Linux");
  await withDirectory(async (directory) => {
    const chunks = new DirectoryStore(directory);
    const options = { graceMs: GRACE_MS_DEFAULT, pauseMs: 5 };
    const { pid } = spawnSync("true");
    for (const use of ["prune", "write"]) {
      const left = `.blessfs/${use}-${kernelPlace()}-${pid}-1`;
      await chunks.mark(left);
      const waits: string[] = [];
      const onWait = (path: string) => waits.push(path);
      await (await lockStore(chunks, "write", { ...options, onWait })).release();
      assertEquals([waits, existsSync(join(directory, left))], [[], false]);
      await chunks.mark(left);
      await (await lockStore(chunks, "prune", options)).release();
    }
    for (const [place, number] of [[kernelPlace(), process.pid], ["other.1.ab", pid]]) {
      const theirs = `.blessfs/prune-${place}-${number}-1`;
      await chunks.mark(theirs);
      await assertRejects(() => lockStore(chunks, "prune", options), IoError, "is being pruned");
      const waits: string[] = [];
      const waiting = lockStore(chunks, "write", {
        ...options,
        // It is gone when the writer looks again.
        onWait: (path) => {
          waits.push(path);
          rmSync(join(directory, path));
        },
      });
      await (await waiting).release();
      assertEquals(waits, [theirs]);
    }
  });
});
