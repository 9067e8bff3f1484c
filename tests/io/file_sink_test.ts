import {
  assert,
  assertEquals,
  assertMatch,
  assertRejects,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { execFileSync } from "node:child_process";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { BlessfsError, InterruptedError, IoError } from "../../lib/errors.ts";
import type { FileOperations } from "../../lib/io/file_operations.ts";
import { NODE_FILE_OPERATIONS } from "../../lib/io/file_operations.ts";
import { createFileSink } from "../../lib/io/file_sink.ts";
import { checkOutput } from "../../lib/io/output_path.ts";
import type { ImageSink } from "../../lib/io/sink.ts";
import { notRun } from "../oracle/notice.ts";

const MIB = 1 << 20;

async function inDirectory(work: (directory: string) => void | Promise<void>): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), "blessfs-sink-"));
  try {
    await work(directory);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

function pattern(length: number, seed: number): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let i = 0; i < length; i++) bytes[i] = (i * 31 + seed * 17 + (i >> 8)) & 0xff;
  return bytes;
}

/** Writes pieces of odd sizes with gaps between them; returns what a reader must find. */
async function writeOddPieces(sink: ImageSink): Promise<Uint8Array> {
  const expected = new Uint8Array(5 * MIB + 4096);
  const pieces: [offset: number, length: number][] = [
    [0, 1],
    [1, 4095],
    [4096, 2 * MIB + 3],
    [2 * MIB + 8192, 100],
    [3 * MIB - 1, MIB],
    [4 * MIB - 1, 0],
    [5 * MIB, 7],
  ];
  for (const [offset, length] of pieces) {
    const bytes = pattern(length, offset);
    expected.set(bytes, offset);
    await sink.write(bytes, offset);
    bytes.fill(0xee);
  }
  return expected;
}

function faultyFiles(overrides: Partial<FileOperations>): FileOperations {
  return { ...NODE_FILE_OPERATIONS, ...overrides };
}

function systemError(code: string): Error {
  return Object.assign(new Error(`${code}: made by a test`), { code });
}

Deno.test("createFileSink writes pieces at their offsets, leaves gaps as zeros and renames at the end", async () => {
  await inDirectory(async (directory) => {
    const path = join(directory, "image");
    const sink = createFileSink(path);
    const expected = await writeOddPieces(sink);
    assertEquals(existsSync(path), false);
    assertMatch(readdirSync(directory).join(), /^image\.part-\d+-\d+$/);
    await sink.finish(expected.length);
    assertEquals(readdirSync(directory), ["image"]);
    assertEquals(readFileSync(path).equals(expected), true);
  });
});

Deno.test("createFileSink creates nothing before the first write", async () => {
  await inDirectory((directory) => {
    const sink = createFileSink(join(directory, "image"));
    assertEquals(readdirSync(directory), []);
    sink.abort();
    assertEquals(readdirSync(directory), []);
  });
});

Deno.test("createFileSink makes an image without any write, and holes take no space", async () => {
  await inDirectory(async (directory) => {
    const path = join(directory, "image");
    const sink = createFileSink(path);
    await sink.finish(64 * MIB);
    assertEquals(statSync(path).size, 64 * MIB);
    assert(statSync(path).blocks * 512 < MIB, `${statSync(path).blocks} blocks for a hole`);
  });
});

Deno.test("createFileSink goes on after short writes", async () => {
  await inDirectory(async (directory) => {
    const path = join(directory, "image");
    const files = faultyFiles({
      write: (descriptor, bytes, position) =>
        NODE_FILE_OPERATIONS.write(
          descriptor,
          bytes.subarray(0, Math.min(bytes.length, 4093)),
          position,
        ),
    });
    const sink = createFileSink(path, { files });
    const expected = await writeOddPieces(sink);
    await sink.finish(expected.length);
    assertEquals(readFileSync(path).equals(expected), true);
  });
});

Deno.test("createFileSink treats a write of nothing as a failure, not as a reason to try forever", async () => {
  await inDirectory(async (directory) => {
    const sink = createFileSink(join(directory, "image"), {
      files: faultyFiles({ write: () => 0 }),
    });
    await sink.write(new Uint8Array(10), 0);
    await assertRejects(
      async () => await sink.finish(10),
      IoError,
      "offset 0: nothing was written",
    );
    assertEquals(readdirSync(directory), []);
  });
});

Deno.test("createFileSink leaves no file behind whichever operation fails", async () => {
  const names = ["openExclusive", "write", "truncate", "sync", "close", "publish"] as const;
  for (const code of ["ENOSPC", "EIO", "EFBIG", "EDQUOT"]) {
    for (const name of names) {
      for (let failing = 1;; failing++) {
        if (!await failsAt(name, failing, code)) {
          assert(failing > 1, `${name} was never called`);
          break;
        }
      }
    }
  }
});

/** One image with the `failing`-th call of one operation failing; whether that call came. */
async function failsAt(name: string, failing: number, code: string): Promise<boolean> {
  let calls = 0;
  let failed = false;
  function count(operation: string): void {
    if (operation !== name || ++calls !== failing) return;
    failed = true;
    throw systemError(code);
  }
  const files: FileOperations = {
    ...NODE_FILE_OPERATIONS,
    openExclusive: (path) => (count("openExclusive"), NODE_FILE_OPERATIONS.openExclusive(path)),
    write: (fd, bytes, at) => (count("write"), NODE_FILE_OPERATIONS.write(fd, bytes, at)),
    truncate: (fd, size) => (count("truncate"), NODE_FILE_OPERATIONS.truncate(fd, size)),
    sync: async (fd) => (count("sync"), await NODE_FILE_OPERATIONS.sync(fd)),
    close: (fd) => (NODE_FILE_OPERATIONS.close(fd), count("close")),
    link: () => {
      throw systemError("EPERM");
    },
    rename: (from, to) => (count("publish"), NODE_FILE_OPERATIONS.rename(from, to)),
  };
  await inDirectory(async (directory) => {
    const path = join(directory, "image");
    const sink = createFileSink(path, { files });
    try {
      const expected = await writeOddPieces(sink);
      await sink.finish(expected.length);
    } catch (error) {
      assert(failed && error instanceof IoError, `${name} ${failing}: ${error}`);
      assertStringIncludes(error.message, path);
      assertEquals(error.data["code"], code);
      assertEquals(readdirSync(directory), [], `${name} ${failing}`);
      sink.abort();
      return;
    }
    assertEquals(failed, false);
    assertEquals(readdirSync(directory), ["image"]);
  });
  return failed;
}

Deno.test("createFileSink names the offset and a remedy when the disk is full", async () => {
  await inDirectory(async (directory) => {
    const files = faultyFiles({
      write(descriptor, bytes, position) {
        if (position >= MIB) throw systemError("ENOSPC");
        return NODE_FILE_OPERATIONS.write(descriptor, bytes, position);
      },
    });
    const sink = createFileSink(join(directory, "image"), { files });
    const error = await assertRejects(async () => {
      await sink.write(new Uint8Array(3 * MIB).fill(1), 0);
    }, IoError);
    assertStringIncludes(
      error.message,
      "cannot write 1048576 bytes at offset 1048576: no space left",
    );
    assertStringIncludes(error.hint ?? "", "free some space");
    assertEquals(readdirSync(directory), []);
  });
});

Deno.test("createFileSink on a real full file system leaves nothing", async () => {
  await inDirectory(async (directory) => {
    try {
      execFileSync("mount", ["-t", "tmpfs", "-o", "size=2m", "none", directory], {
        stdio: "ignore",
      });
    } catch {
      notRun("a real full disk", "mounting a tmpfs needs root");
      return;
    }
    try {
      const sink = createFileSink(join(directory, "image"));
      await assertRejects(
        async () => await sink.write(new Uint8Array(4 * MIB).fill(1), 0),
        IoError,
        "no space left on the device",
      );
      assertEquals(readdirSync(directory), []);
    } finally {
      execFileSync("umount", [directory]);
    }
  });
});

Deno.test("createFileSink refuses an existing file without force, and replaces it whole with it", async () => {
  await inDirectory(async (directory) => {
    const path = join(directory, "image");
    writeFileSync(path, "old");
    const error = assertThrows(() => createFileSink(path), IoError, "already exists");
    assertStringIncludes(error.hint ?? "", "--force");
    const sink = createFileSink(path, { force: true });
    await sink.write(new TextEncoder().encode("new image"), 0);
    assertEquals(readFileSync(path, "utf8"), "old");
    await sink.finish(9);
    assertEquals(readFileSync(path, "utf8"), "new image");
    assertEquals(readdirSync(directory), ["image"]);
  });
});

Deno.test("createFileSink does not replace a file that came in between", async () => {
  for (
    const files of [
      NODE_FILE_OPERATIONS,
      faultyFiles({
        link: () => {
          throw systemError("EOPNOTSUPP");
        },
      }),
    ]
  ) {
    await inDirectory(async (directory) => {
      const path = join(directory, "image");
      const sink = createFileSink(path, { files });
      await sink.write(Uint8Array.of(1), 0);
      writeFileSync(path, "somebody else's");
      await assertRejects(async () => await sink.finish(1), IoError, "already exists");
      assertEquals(readdirSync(directory), ["image"]);
      assertEquals(readFileSync(path, "utf8"), "somebody else's");
    });
  }
});

Deno.test("createFileSink works where the file system has no hard links", async () => {
  await inDirectory(async (directory) => {
    const path = join(directory, "image");
    const sink = createFileSink(path, {
      files: faultyFiles({
        link: () => {
          throw systemError("EPERM");
        },
      }),
    });
    await sink.write(Uint8Array.of(7), 0);
    await sink.finish(2);
    assertEquals([...readFileSync(path)], [7, 0]);
    assertEquals(readdirSync(directory), ["image"]);
  });
});

Deno.test("createFileSink passes over a stale part of another run and never touches it", async () => {
  await inDirectory(async (directory) => {
    const path = join(directory, "image");
    const taken: string[] = [];
    const files = faultyFiles({
      openExclusive(partPath) {
        if (taken.length < 3) {
          writeFileSync(partPath, "stale");
          taken.push(partPath);
        }
        return NODE_FILE_OPERATIONS.openExclusive(partPath);
      },
    });
    const sink = createFileSink(path, { files });
    await sink.write(Uint8Array.of(1), 0);
    await sink.finish(1);
    assertEquals(taken.map((name) => readFileSync(name, "utf8")), ["stale", "stale", "stale"]);
    assertEquals(readdirSync(directory).length, 4);
  });
});

Deno.test("createFileSink removes the part at once when its signal is aborted", async () => {
  await inDirectory(async (directory) => {
    const controller = new AbortController();
    const sink = createFileSink(join(directory, "image"), { signal: controller.signal });
    await sink.write(new Uint8Array(2 * MIB), 0);
    assertEquals(readdirSync(directory).length, 1);
    controller.abort();
    assertEquals(readdirSync(directory), []);
    assertThrows(() => sink.write(new Uint8Array(1), 2 * MIB), InterruptedError);
    await assertRejects(async () => await sink.finish(2 * MIB), InterruptedError);
  });
});

Deno.test("createFileSink publishes nothing when it is aborted while fsync runs", async () => {
  await inDirectory(async (directory) => {
    const controller = new AbortController();
    const files = faultyFiles({
      async sync(descriptor) {
        await NODE_FILE_OPERATIONS.sync(descriptor);
        controller.abort();
      },
    });
    const sink = createFileSink(join(directory, "image"), { files, signal: controller.signal });
    await sink.write(new Uint8Array(10), 0);
    await assertRejects(async () => await sink.finish(10), InterruptedError);
    assertEquals(readdirSync(directory), []);
  });
});

Deno.test("createFileSink keeps a finished image when it is aborted afterwards", async () => {
  await inDirectory(async (directory) => {
    const controller = new AbortController();
    const sink = createFileSink(join(directory, "image"), { signal: controller.signal });
    await sink.finish(10);
    controller.abort();
    sink.abort();
    assertEquals(readdirSync(directory), ["image"]);
  });
});

Deno.test("createFileSink treats a write that goes back as a fault of the caller and leaves nothing", async () => {
  await inDirectory(async (directory) => {
    const sink = createFileSink(join(directory, "image"));
    await sink.write(new Uint8Array(10), 0);
    const error = assertThrows(() => sink.write(new Uint8Array(1), 9));
    assert(!(error instanceof BlessfsError));
    assertEquals(readdirSync(directory), []);
  });
});

Deno.test("createFileSink takes a name of 255 bytes", async () => {
  await inDirectory(async (directory) => {
    const name = "\u00e4".repeat(127) + "x";
    const sink = createFileSink(join(directory, name));
    await sink.write(Uint8Array.of(1), 0);
    await sink.finish(1);
    assertEquals(readdirSync(directory), [name]);
  });
});

Deno.test("createFileSink through a symbolic link replaces the file it names and keeps the link", async () => {
  await inDirectory(async (directory) => {
    mkdirSync(join(directory, "store"));
    writeFileSync(join(directory, "store/image"), "old");
    symlinkSync("store/image", join(directory, "link"));
    assertThrows(() => createFileSink(join(directory, "link")), IoError, "already exists");
    const sink = createFileSink(join(directory, "link"), { force: true });
    await sink.write(Uint8Array.of(1), 0);
    await sink.finish(1);
    assert(lstatSync(join(directory, "link")).isSymbolicLink());
    assertEquals([...readFileSync(join(directory, "store/image"))], [1]);
    assertEquals(readdirSync(join(directory, "store")), ["image"]);
    symlinkSync("nothing", join(directory, "dangling"));
    assertThrows(
      () => checkOutput(join(directory, "dangling")),
      IoError,
      "symbolic link to nothing",
    );
  });
});

Deno.test("createFileSink shows control characters of a name escaped", async () => {
  await inDirectory((directory) => {
    const path = join(directory, "a\x1b[2Jb");
    writeFileSync(path, "");
    assertThrows(() => createFileSink(path), IoError, "a\\x1b[2Jb");
  });
});
