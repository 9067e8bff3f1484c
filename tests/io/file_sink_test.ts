import { assert, assertEquals, assertMatch, assertRejects, assertThrows } from "@std/assert";
import {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { BlessfsError, InterruptedError, IoError } from "../../lib/errors.ts";
import { createFileSink, NODE_FILE_OPERATIONS } from "../../lib/io/file_sink.ts";
import { checkOutput } from "../../lib/io/paths.ts";
import { isRoot } from "../oracle/libc_user.ts";
import { faultyFiles, inDirectory, MIB, systemError, writeOddPieces } from "./sink_samples.ts";

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

Deno.test("createFileSink refuses an existing file without force, and replaces it whole with it", async () => {
  await inDirectory(async (directory) => {
    const path = join(directory, "image");
    writeFileSync(path, "old");
    const error = assertThrows(() => createFileSink(path), IoError, "already exists");
    assertEquals(error.remedies[0]?.option, "force");
    const sink = createFileSink(path, { force: true });
    await sink.write(new TextEncoder().encode("new image"), 0);
    assertEquals(readFileSync(path, "utf8"), "old");
    await sink.finish(9);
    assertEquals(readFileSync(path, "utf8"), "new image");
    assertEquals(readdirSync(directory), ["image"]);
  });
});

Deno.test("createFileSink gives a file that replaces another one its mode and owner", async () => {
  await inDirectory(async (directory) => {
    const path = join(directory, "image");
    for (const mode of [0o600, 0o640, 0o4755, 0o444]) {
      writeFileSync(path, "old");
      if (isRoot()) chownSync(path, 1234, 5678);
      chmodSync(path, mode);
      const { uid, gid } = statSync(path);
      const sink = createFileSink(path, { force: true });
      await sink.write(Uint8Array.of(1), 0);
      const [part] = readdirSync(directory).filter((name) => name !== "image");
      // Nobody may read the part who may not read what it replaces.
      assertEquals(statSync(join(directory, part!)).mode & 0o777 & ~mode, 0);
      await sink.finish(1);
      const found = statSync(path);
      assertEquals([found.mode & 0o7777, found.uid, found.gid], [mode, uid, gid]);
      rmSync(path, { force: true });
    }
    const fresh = createFileSink(path, { mode: 0o600 });
    await fresh.finish(1);
    assertEquals(statSync(path).mode & 0o777, 0o600);
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
