/** Several real processes at one store, signals in the middle of the work, and a disk that is full. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { chunkPath, decompressChunk } from "../../lib/chunk/chunk.ts";
import { decodeChunkIndex } from "../../lib/chunk/chunk_index.ts";
import { kernelPlace } from "../../lib/chunk/store_lock.ts";
import { MAIN, programWords, RunningProgram } from "../cli/program.ts";
import { runCommand } from "../oracle/command.ts";
import { unmount } from "../oracle/kernel.ts";
import { isRoot } from "../oracle/libc_user.ts";
import { notRun } from "../oracle/notice.ts";
import { type FakeS3Options, TEST_KEYS, TEST_REGION, withFakeS3 } from "./fake_s3.ts";
import { CHUNK_BYTES, idAt, noise, withDirectory } from "./helpers.ts";

const SOURCE = `oci:${fileURLToPath(new URL("../../fixtures/oci-tiny", import.meta.url))}`;
const KEYS = [
  `AWS_ACCESS_KEY_ID=${TEST_KEYS.accessKeyId}`,
  `AWS_SECRET_ACCESS_KEY=${TEST_KEYS.secretAccessKey}`,
  `AWS_REGION=${TEST_REGION}`,
];

function start(...words: string[]): RunningProgram {
  return new RunningProgram("env", [...KEYS, ...programWords(MAIN), ...words]);
}

/** The same, with an input that goes on until the test ends it. */
function startWithInput(...words: string[]): RunningProgram {
  const command = [...KEYS, ...programWords(MAIN), ...words];
  return new RunningProgram("env", command, { stdin: "pipe" });
}

/** The files of a store, by path. */
function storedFiles(store: string): string[] {
  if (!existsSync(store)) return [];
  return readdirSync(store, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map(({ parentPath, name }) => join(parentPath, name));
}

/** Puts a file together from what is stored under the ids of its index. */
function assembled(indexPath: string, read: (path: string) => Uint8Array): Uint8Array {
  const index = decodeChunkIndex(new Uint8Array(readFileSync(indexPath)), indexPath);
  const whole = new Uint8Array(index.sizeBytes);
  for (let i = 0; i * CHUNK_BYTES < index.sizeBytes; i++) {
    whole.set(decompressChunk(read(chunkPath(idAt(index, i))), CHUNK_BYTES)!, i * CHUNK_BYTES);
  }
  return whole;
}

/** Two related images, each twice, and a blessed one, all at once. Returns what each reported. */
async function storeAtOnce(directory: string, store: string) {
  const at = (name: string) => join(directory, name);
  const first = noise(40 * CHUNK_BYTES + 5);
  const second = first.slice();
  for (const chunk of [3, 17, 30]) second[chunk * CHUNK_BYTES + 9]! ^= 1;
  writeFileSync(at("first"), first);
  writeFileSync(at("second"), second);
  const names = ["first", "second", "first", "second"];
  const running = names.map((name, i) =>
    start("chunk", at(name), "--create-store", "--store", store, "-o", at(`${i}.caibx`), "--json")
  );
  running.push(
    start(
      "bless",
      SOURCE,
      "-o",
      "none",
      "--create-store",
      "--store",
      store,
      "--index",
      at("4.caibx"),
      "--json",
    ),
  );
  const ended = await Promise.all(running.map(({ ended }) => ended));
  for (const { code, stderr } of ended) assertEquals([code, stderr], [0, ""]);
  const reports = ended.map(({ stdout }) => JSON.parse(stdout)).map((report) =>
    report.chunkStore ?? report
  );
  const sum = (key: string) => reports.reduce((total, report) => total + report[key], 0);
  const check = (read: (path: string) => Uint8Array) => {
    for (const [i, name] of names.entries()) {
      assert(readFileSync(at(name)).equals(assembled(at(`${i}.caibx`), read)), name);
    }
    assembled(at("4.caibx"), read);
  };
  return { sum, check };
}

Deno.test("processes at one directory at once lose nothing and double nothing", async () => {
  await withDirectory(async (directory) => {
    const store = join(directory, "store");
    const { sum, check } = await storeAtOnce(directory, store);
    const files = storedFiles(store);
    assert(files.every((path) => path.endsWith(".cacnk")), "parts are left");
    assertEquals(sum("newChunks"), files.length);
    assertEquals(sum("sentBytes"), files.reduce((total, path) => total + statSync(path).size, 0));
    check((path) => new Uint8Array(readFileSync(join(store, path))));
  });
});

Deno.test("processes at one bucket at once lose nothing and double nothing", async () => {
  for (const conditions of ["kept", "ignored"] as const) {
    await withFakeS3({ conditions }, async (server) => {
      await withDirectory(async (directory) => {
        const { sum, check } = await storeAtOnce(directory, server.store());
        if (conditions === "kept") assertEquals(sum("newChunks"), server.objects.size);
        assertEquals(server.faults, []);
        check((path) => server.objects.get(`chunks/${path}`)!);
      });
    });
  }
});

Deno.test("SIGINT in the middle leaves whole chunks, no index, and a store that the next try goes on with", async () => {
  await withDirectory(async (directory) => {
    const at = (name: string) => join(directory, name);
    const image = noise(300 * CHUNK_BYTES);
    writeFileSync(at("image"), image);
    const words = ["--create-store", "--store", at("store"), "-o", at("x.caibx")];
    // Half of the image, and then nothing: the program is in the middle, however fast it is.
    const program = startWithInput("chunk", "-", ...words, "--zstd-level", "19");
    program.child.stdin!.write(image.subarray(0, image.length / 2));
    while (storedFiles(at("store")).length < 3) await sleep(5);
    program.signal("SIGINT");
    const { code, stderr } = await program.ended;
    assertEquals(code, 130, stderr);
    assertEquals(readdirSync(directory).sort(), ["image", "store"]);
    const files = storedFiles(at("store"));
    assert(files.length <= 150, `${files.length} chunks of half an image`);
    for (const path of files) {
      assert(path.endsWith(".cacnk"), path);
      const stored = new Uint8Array(readFileSync(path));
      assertEquals(decompressChunk(stored, CHUNK_BYTES)?.length, CHUNK_BYTES);
    }
    const more = ["--zstd-level", "1", "--json", "--verify-store"];
    const next = await start("chunk", at("image"), ...words, ...more).ended;
    const report = JSON.parse(next.stdout);
    assertEquals([report.reusedChunks, report.newChunks], [files.length, 300 - files.length]);
  });
});

Deno.test("SIGTERM ends a run whose server has gone silent, with neither image nor index", async () => {
  const misbehave: FakeS3Options["misbehave"] = ({ method }) =>
    method === "PUT" ? { silent: true } : undefined;
  await withFakeS3({ misbehave }, async (server) => {
    await withDirectory(async (directory) => {
      const at = (name: string) => join(directory, name);
      const words = ["--store", server.store(), "--index", at("x.caibx")];
      const program = start("bless", SOURCE, "-o", at("image"), ...words);
      while (server.count("PUT") === 0) await sleep(5);
      program.signal("SIGTERM");
      const { code, stderr } = await program.ended;
      assertEquals(code, 143, stderr);
      assertEquals(readdirSync(directory), []);
    });
  });
});

Deno.test("a full disk is told, and leaves neither parts nor an index", async () => {
  if (!isRoot()) return notRun("a store on a full disk", "mounting needs root");
  await withDirectory(async (directory) => {
    const at = (name: string) => join(directory, name);
    mkdirSync(at("disk"));
    const mounted = runCommand("mount", ["-t", "tmpfs", "-o", "size=1m", "none", at("disk")]);
    if (mounted.status !== 0) return notRun("a store on a full disk", mounted.stderr.trim());
    try {
      writeFileSync(at("image"), noise(20 * CHUNK_BYTES));
      const words = ["--create-store", "--store", at("disk/store"), "-o", at("x.caibx")];
      const { code, stderr } = await start("chunk", at("image"), ...words).ended;
      assertEquals(code, 4);
      assertStringIncludes(stderr, "no space left on the device");
      assertEquals(readdirSync(directory).sort(), ["disk", "image"]);
      const files = storedFiles(at("disk/store"));
      assert(files.length > 0 && files.every((path) => path.endsWith(".cacnk")));
      for (const path of files) {
        const stored = new Uint8Array(readFileSync(path));
        assertEquals(decompressChunk(stored, CHUNK_BYTES)?.length, CHUNK_BYTES);
      }
    } finally {
      unmount(at("disk"));
    }
  });
});

Deno.test("a writer waits for one who prunes, says so, and goes on when that one is gone", async () => {
  if (kernelPlace().endsWith(".")) return notRun("marks of killed processes", "this is not Linux");
  await withDirectory(async (directory) => {
    const at = (name: string) => join(directory, name);
    writeFileSync(at("image"), noise(3 * CHUNK_BYTES));
    const pruner = new RunningProgram("sleep", ["1000"]);
    const mark = `.blessfs/prune-${kernelPlace()}-${pruner.child.pid}-1`;
    mkdirSync(at("store/.blessfs"), { recursive: true });
    writeFileSync(at(`store/${mark}`), "");
    const writer = start("chunk", at("image"), "--store", at("store"), "-o", at("x.caibx"));
    await writer.until(`store is being pruned (${mark}): waiting`);
    assertEquals(existsSync(at("x.caibx")), false);
    pruner.signal("SIGKILL");
    await pruner.ended;
    const { code, stderr } = await writer.ended;
    assertEquals(code, 0, stderr);
    assertEquals(storedFiles(at("store")).length, 3);
  });
});
