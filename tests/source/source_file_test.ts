import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { InputError, IoError } from "../../lib/errors.ts";
import {
  openSourceFile,
  readSmallFile,
  readSmallPart,
  spoolStream,
} from "../../lib/source/source_file.ts";
import { testOptions, withDirectory } from "./helpers.ts";

Deno.test("openSourceFile opens files, through links too, and says what else it found", async () => {
  await withDirectory(async (directory) => {
    const file = join(directory, "file");
    writeFileSync(file, "12345");
    symlinkSync(file, join(directory, "link"));
    for (const path of [file, join(directory, "link")]) {
      const opened = await openSourceFile(path, "a tar", testOptions());
      assertEquals(opened.sizeBytes, 5);
      assertEquals([...readSmallPart(opened, 1, 3, 3)], [0x32, 0x33, 0x34]);
      assertThrows(() => readSmallPart(opened, 0, 4, 3), InputError, "at most 3 are read");
      opened.file.release();
    }
    const open = (path: string) => () => openSourceFile(path, "a tar", testOptions());
    await assertRejects(open(join(directory, "none")), InputError, "does not exist: wanted a tar");
    await assertRejects(open(directory), InputError, "is a directory: wanted a tar");
    await assertRejects(
      open("/dev/null"),
      InputError,
      "is neither a regular file nor a block device: wanted a tar",
    );
  });
});

Deno.test("readSmallFile reads files up to its limit, and nothing but files", async () => {
  await withDirectory((directory) => {
    const file = join(directory, "file");
    writeFileSync(file, "12345");
    assertEquals(readSmallFile(file, 5).length, 5);
    assertThrows(() => readSmallFile(file, 4), InputError, "is 5 bytes long: at most 4");
    mkdirSync(join(directory, "d"));
    assertThrows(() => readSmallFile(join(directory, "d"), 4), InputError, "not a regular file");
    assertThrows(() => readSmallFile(join(directory, "x"), 4), InputError, "not a regular file");
  });
});

Deno.test("spoolStream keeps a stream, and names it when it fails", async () => {
  const good = async function* () {
    await Promise.resolve();
    yield new Uint8Array([1, 2]);
    yield new Uint8Array([3]);
  };
  const spooled = await spoolStream("input", good(), testOptions());
  assertEquals([...readSmallPart(spooled, 0, spooled.sizeBytes, 10)], [1, 2, 3]);
  spooled.file.release();
  const bad = async function* () {
    await Promise.resolve();
    yield new Uint8Array(1);
    throw Object.assign(new Error("read EIO"), { code: "EIO" });
  };
  const failing = () => spoolStream("input", bad(), testOptions());
  await assertRejects(failing, IoError, "input: cannot be read: read EIO");
});

Deno.test("spoolStream gives up a stream that goes on and on, and lets go of it", async () => {
  let isClosed = false;
  const endless = async function* () {
    try {
      for (;;) {
        await Promise.resolve();
        yield new Uint8Array(100);
      }
    } finally {
      isClosed = true;
    }
  };
  const limits = { unpackedBytes: 1000 };
  const error = await assertRejects(
    () => spoolStream("input", endless(), testOptions({ limits })),
    InputError,
    "input: is longer than 1000 bytes",
  );
  assertEquals([error.data["limit"], isClosed], ["unpackedBytes", true]);
  const exact = async function* () {
    await Promise.resolve();
    yield new Uint8Array(1000);
  };
  (await spoolStream("input", exact(), testOptions({ limits }))).file.release();
});
