/** What becomes of an output when the file system fails it. */
import {
  assert,
  assertEquals,
  assertRejects,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import { fstatSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { InterruptedError, IoError } from "../../lib/errors.ts";
import { createFileSink, NODE_FILE_OPERATIONS } from "../../lib/io/file_sink.ts";
import { notRun } from "../oracle/notice.ts";
import { faultyFiles, inDirectory, MIB, systemError, writeOddPieces } from "./sink_samples.ts";

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
  const files = faultyFiles({
    openExclusive: (path) => (count("openExclusive"), NODE_FILE_OPERATIONS.openExclusive(path)),
    write: (fd, bytes, at) => (count("write"), NODE_FILE_OPERATIONS.write(fd, bytes, at)),
    truncate: (fd, size) => (count("truncate"), NODE_FILE_OPERATIONS.truncate(fd, size)),
    sync: async (fd) => (count("sync"), await NODE_FILE_OPERATIONS.sync(fd)),
    close: (fd) => (NODE_FILE_OPERATIONS.close(fd), count("close")),
    link: () => {
      throw systemError("EPERM");
    },
    rename: (from, to) => (count("publish"), NODE_FILE_OPERATIONS.rename(from, to)),
  });
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

Deno.test("createFileSink keeps the descriptor of a dropped part open while a write is on its way", async () => {
  await inDirectory(async (directory) => {
    const controller = new AbortController();
    const begun = Promise.withResolvers<number>();
    const goOn = Promise.withResolvers<void>();
    const files = faultyFiles({
      writeBehind: async (descriptor, bytes, position) => {
        begun.resolve(descriptor);
        await goOn.promise;
        return NODE_FILE_OPERATIONS.write(descriptor, bytes, position);
      },
    });
    const sink = createFileSink(join(directory, "image"), { files, signal: controller.signal });
    const written = sink.write(new Uint8Array(3 * MIB).fill(1), 0);
    const descriptor = await begun.promise;
    controller.abort();
    assertEquals(readdirSync(directory), []);
    assertEquals(fstatSync(descriptor).nlink, 0);
    goOn.resolve();
    await assertRejects(async () => await written, InterruptedError);
    assertThrows(() => fstatSync(descriptor));
  });
});

Deno.test("createFileSink begins to sync a large file early, and tells of its failure in the end", async () => {
  await inDirectory(async (directory) => {
    const path = join(directory, "image");
    for (const failAt of [Infinity, 1, 2]) {
      let [calls, atOnce] = [0, 0];
      const files = faultyFiles({
        writeBehind: (_, bytes) => Promise.resolve(bytes.length),
        sync: async () => {
          calls++;
          assertEquals(++atOnce, 1);
          await new Promise((resolve) => setTimeout(resolve, 1));
          atOnce--;
          if (calls === failAt) throw systemError("EIO");
        },
      });
      const sink = createFileSink(path, { files });
      for (let at = 0; at < 100 * MIB; at += MIB) await sink.write(new Uint8Array(MIB), at);
      if (failAt === Infinity) {
        await sink.finish(100 * MIB);
        assertEquals(calls, 2);
        assertEquals(readdirSync(directory), ["image"]);
        rmSync(path);
      } else {
        await assertRejects(
          async () => await sink.finish(100 * MIB),
          IoError,
          "cannot be flushed to the disk",
        );
        assertEquals(readdirSync(directory), []);
      }
    }
  });
});
