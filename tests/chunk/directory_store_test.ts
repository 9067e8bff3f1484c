import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { spawnSync } from "node:child_process";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { basename, join } from "node:path";
import process from "node:process";
import { InputError, InterruptedError, IoError, UsageError } from "../../lib/errors.ts";
import { chunkId, chunkPath, compressChunk, STORED_BYTES_MAX } from "../../lib/chunk/chunk.ts";
import { DirectoryStore } from "../../lib/chunk/directory_store.ts";
import { type FileOperations, NODE_FILE_OPERATIONS } from "../../lib/io/file_sink.ts";
import { asUser, isRoot } from "../oracle/libc_user.ts";
import { noise, store, uploaderOf, withDirectory } from "./helpers.ts";

/** The user nobody, and the group nogroup. */
const NOBODY = 65534;
const CONTENT = noise(4096);
const STORED = compressChunk(CONTENT, 1);
const ID = chunkId(CONTENT, "sha512-256");

function failure(code: string): Error {
  return Object.assign(new Error(code), { code });
}

function faulty(more: Partial<FileOperations>): FileOperations {
  return { ...NODE_FILE_OPERATIONS, ...more };
}

/** Every file below a directory. */
function namesBelow(directory: string): string[] {
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile()).map(({ name }) => name).sort();
}

Deno.test("DirectoryStore keeps a chunk where casync looks for it", async () => {
  await withDirectory(async (directory) => {
    const chunks = new DirectoryStore(join(directory, "store"));
    await chunks.open();
    assertEquals(chunks.has(ID, 4096), false);
    assertEquals(existsSync(join(directory, "store")), false);
    assertEquals(await chunks.put(ID, STORED), "added");
    assertEquals([chunks.has(ID, 4096), await chunks.put(ID, STORED)], [true, "present"]);
    await chunks.settle();
    assertEquals(readFileSync(join(directory, "store", chunkPath(ID))), await chunks.get(ID));
    assertEquals(namesBelow(directory), [`${ID}.cacnk`]);
  });
});

Deno.test("DirectoryStore is where the kernel says, also behind a link", async () => {
  await withDirectory(async (directory) => {
    mkdirSync(join(directory, "a/b"), { recursive: true });
    symlinkSync("a/b", join(directory, "link"));
    const chunks = new DirectoryStore(`${directory}/link/../store`);
    await chunks.open();
    await chunks.put(ID, STORED);
    assertEquals(readdirSync(join(directory, "a/store")), [ID.slice(0, 4)]);
  });
});

Deno.test("DirectoryStore never replaces a chunk, nor shows half of one", async () => {
  await withDirectory(async (directory) => {
    const path = join(directory, chunkPath(ID));
    mkdirSync(join(path, ".."));
    writeFileSync(path, "older");
    assertEquals(await new DirectoryStore(directory).put(ID, STORED), "present");
    assertEquals(readFileSync(path, "utf8"), "older");
    // Whatever is written is looked at while it is: the name is not there yet.
    const other = chunkId(noise(10), "sha256");
    const seen: boolean[] = [];
    const look = () => void seen.push(existsSync(join(directory, chunkPath(other))));
    const files = faulty({
      write(descriptor, bytes, position) {
        look();
        const count = NODE_FILE_OPERATIONS.write(descriptor, bytes.subarray(0, 100), position);
        look();
        return count;
      },
      async sync(descriptor) {
        look();
        await NODE_FILE_OPERATIONS.sync(descriptor);
        look();
      },
    });
    assertEquals(await new DirectoryStore(directory, { files }).put(other, STORED), "added");
    assert(seen.length > 10 && seen.every((isSeen) => !isSeen));
    assertEquals(
      readFileSync(join(directory, chunkPath(other))),
      readFileSync(join(directory, chunkPath(other))),
    );
    assertEquals(
      new Uint8Array(readFileSync(join(directory, chunkPath(other)))),
      Uint8Array.from(STORED),
    );
  });
});

Deno.test("DirectoryStore brings a chunk to the disk before it has its name, and names before the end", async () => {
  await withDirectory(async (directory) => {
    const calls: string[] = [];
    const files = faulty({
      sync: (descriptor) => (calls.push("sync"), NODE_FILE_OPERATIONS.sync(descriptor)),
      link: (from, to) => (calls.push("link"), NODE_FILE_OPERATIONS.link(from, to)),
      syncDirectory: (path) => {
        calls.push(`names ${path.slice(directory.length)}`);
        NODE_FILE_OPERATIONS.syncDirectory(path);
      },
    });
    for (const [store, above] of [["", []], ["/new", ["names "]]] as const) {
      calls.length = 0;
      const chunks = new DirectoryStore(directory + store, { files });
      await chunks.put(ID, STORED);
      await chunks.settle();
      await chunks.settle();
      const own = [`names ${store}`, `names ${store}/${ID.slice(0, 4)}`];
      assertEquals(calls, ["sync", "link", ...above, ...own]);
    }
  });
});

Deno.test("DirectoryStore leaves nothing behind when a step fails", async () => {
  const faults: [Partial<FileOperations>, string][] = [
    [{
      openExclusive: () => {
        throw failure("EACCES");
      },
    }, "permission denied"],
    [{
      write: () => {
        throw failure("ENOSPC");
      },
    }, "no space left on the device"],
    [{ write: () => 0 }, "nothing was written"],
    [{ sync: () => Promise.reject(failure("EIO")) }, "input/output error"],
    [{
      link: () => {
        throw failure("EPERM");
      },
      rename: () => {
        throw failure("EROFS");
      },
    }, "read-only"],
  ];
  for (const [fault, reason] of faults) {
    await withDirectory(async (directory) => {
      const chunks = new DirectoryStore(directory, { files: faulty(fault) });
      await assertRejects(() => chunks.put(ID, STORED), IoError, reason);
      assertEquals(namesBelow(directory), []);
    });
  }
});

Deno.test("DirectoryStore goes without links where there are none", async () => {
  await withDirectory(async (directory) => {
    const files = faulty({
      link: () => {
        throw failure("EPERM");
      },
    });
    const chunks = new DirectoryStore(directory, { files });
    assertEquals(await chunks.put(ID, STORED), "added");
    assertEquals(await chunks.put(ID, STORED), "present");
    assertEquals(namesBelow(directory), [`${ID}.cacnk`]);
  });
});

Deno.test("DirectoryStore removes what is half-written at once when it is told to stop", async () => {
  await withDirectory(async (directory) => {
    const controller = new AbortController();
    let names: string[] = [];
    const files = faulty({
      async sync(descriptor) {
        names = namesBelow(directory);
        controller.abort();
        assertEquals(namesBelow(directory), []);
        await NODE_FILE_OPERATIONS.sync(descriptor);
      },
    });
    const chunks = new DirectoryStore(directory, { files, signal: controller.signal });
    await assertRejects(() => chunks.put(ID, STORED), InterruptedError);
    assertEquals([names.length, namesBelow(directory)], [1, []]);
  });
});

/** What the name of a part begins with: the place where the number of its process, which follows, means that process. */
async function partStart(): Promise<string> {
  return await withDirectory(async (directory) => {
    let names: string[] = [];
    const files = faulty({
      sync: (descriptor) => {
        names = namesBelow(directory);
        return NODE_FILE_OPERATIONS.sync(descriptor);
      },
    });
    await new DirectoryStore(directory, { files }).put(ID, STORED);
    return names[0]!.slice(0, names[0]!.lastIndexOf(`-${process.pid}-`));
  });
}

Deno.test("DirectoryStore steps over what a crash of the same process number left", async () => {
  const start = await partStart();
  await withDirectory(async (directory) => {
    const folder = join(directory, ID.slice(0, 4));
    mkdirSync(folder);
    for (let n = 1; n < 200; n++) writeFileSync(join(folder, `${start}-${process.pid}-${n}`), "");
    assertEquals(await new DirectoryStore(directory).put(ID, STORED), "added");
  });
});

Deno.test("DirectoryStore removes the parts of killed processes of its host, and no others", async () => {
  const start = await partStart();
  await withDirectory(async (directory) => {
    const folder = join(directory, ID.slice(0, 4));
    mkdirSync(folder);
    const ended = spawnSync("true").pid!;
    const [left, ...kept] = [
      `${start}-${ended}-1`,
      `${start}-${process.ppid}-1`,
      `.tmp-cacnk-elsewhere.4026531836-${ended}-1`,
      `.tmp-cacnk-${ended}-1`,
      ".tmp-cacnk123456",
    ];
    for (const name of [left!, ...kept]) writeFileSync(join(folder, name), "part");
    assertEquals(await new DirectoryStore(directory).put(ID, STORED), "added");
    assertEquals(namesBelow(directory), [...kept, basename(chunkPath(ID))].sort());
  });
});

Deno.test("DirectoryStore refuses what can be no store, or no chunk", async () => {
  await withDirectory(async (directory) => {
    writeFileSync(join(directory, "file"), "");
    assertThrows(() => new DirectoryStore(""), UsageError, "the name is empty");
    await assertRejects(
      () => new DirectoryStore(join(directory, "file")).open(),
      UsageError,
      "is not a directory",
    );
    const missing = new DirectoryStore(join(directory, "a", "b"));
    await assertRejects(() => missing.open(), IoError, "does not exist");
    const chunks = new DirectoryStore(directory);
    const path = join(directory, chunkPath(ID));
    mkdirSync(join(path, ".."));
    writeFileSync(path, "");
    assertThrows(() => chunks.has(ID, 4096), InputError, "is empty: wanted a chunk");
    const other = chunkId(noise(10), "sha256");
    mkdirSync(join(directory, chunkPath(other)), { recursive: true });
    assertThrows(() => chunks.has(other, 4096), InputError, "is not a file");
    writeFileSync(path, new Uint8Array(8));
    assertThrows(() => chunks.has(ID, 4096), InputError, "has 8 bytes: wanted a chunk");
    writeFileSync(path, new Uint8Array(4096 + 2048));
    assertThrows(() => chunks.has(ID, 4096), InputError, "has 6144 bytes: wanted a chunk");
    writeFileSync(path, new Uint8Array(STORED_BYTES_MAX + 1));
    await assertRejects(() => chunks.get(ID), InputError, "a chunk has at most");
    rmSync(path);
    for (const target of ["/nowhere/at/all", basename(path)]) {
      symlinkSync(target, path);
      assertThrows(() => chunks.has(ID, 4096), InputError, "is a link to nothing: wanted a chunk");
      rmSync(path);
    }
    symlinkSync("/nowhere/at/all", join(directory, "dangling"));
    await assertRejects(
      () => new DirectoryStore(join(directory, "dangling")).put(ID, STORED),
      IoError,
    );
  });
});

Deno.test("DirectoryStore says which directory it may not write to", async () => {
  await withDirectory(async (directory) => {
    const folder = join(directory, ID.slice(0, 4));
    mkdirSync(folder);
    for (const closed of [directory, folder]) {
      chmodSync(directory, 0o755);
      chmodSync(closed, 0o555);
      const chunks = new DirectoryStore(directory);
      const id = closed === folder ? ID : chunkId(noise(10), "sha256");
      // The first steps of a put are done when it returns its promise, and with the rights of that moment.
      const put = () => chunks.put(id, STORED);
      const outcome = isRoot() ? asUser(NOBODY, NOBODY, put) : put();
      const error = await assertRejects(() => outcome, IoError, "permission denied");
      assert(error.message.startsWith(join(directory, id.slice(0, 4))), error.message);
      assertEquals(namesBelow(directory), []);
    }
    chmodSync(folder, 0o755);
  });
});

Deno.test("DirectoryStore takes the same file from many at once, each chunk from one of them", async () => {
  await withDirectory(async (directory) => {
    const file = noise(120 * 4096);
    const sinks = await Promise.all(
      [1, 2, 3].map(() =>
        store(file, uploaderOf(new DirectoryStore(directory)), { chunkBytes: 4096 })
      ),
    );
    const sum = (key: "newChunks" | "reusedChunks") =>
      sinks.reduce((total, { counts }) => total + counts[key], 0);
    assertEquals([sum("newChunks"), sum("reusedChunks")], [120, 240]);
    assertEquals(namesBelow(directory).length, 120);
  });
});
