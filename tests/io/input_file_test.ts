import { assert, assertEquals, assertThrows } from "@std/assert";
import { closeSync, readSync, symlinkSync, writeFileSync } from "node:fs";
import { InputError, IoError } from "../../lib/errors.ts";
import { missingInput, openFault, openInputFile } from "../../lib/io/random_reader.ts";
import { mustRun, withTemporaryDirectory } from "../oracle/command.ts";
import { withLoopDevice } from "../oracle/loop_device.ts";

const WANTED = { what: "a tar", directoryHint: "write rootfs:DIR", pipeHint: "write -" };

Deno.test("openInputFile opens a regular file, through links too", () => {
  withTemporaryDirectory((scratch) => {
    writeFileSync(`${scratch}/file`, "0123456789");
    symlinkSync("file", `${scratch}/link`);
    const { descriptor, sizeBytes } = openInputFile(`${scratch}/link`, WANTED);
    const bytes = new Uint8Array(4);
    assertEquals([sizeBytes, readSync(descriptor, bytes, 0, 4, 8)], [10, 2]);
    closeSync(descriptor);
  });
});

Deno.test("openInputFile finds out how large a block device is", () => {
  withTemporaryDirectory((scratch) => {
    for (const sectors of [1, 5, 2048, 9999]) {
      writeFileSync(`${scratch}/file`, new Uint8Array(512 * sectors).fill(7));
      const ran = withLoopDevice(`${scratch}/file`, "reading a block device", (device) => {
        const { descriptor, sizeBytes } = openInputFile(device, WANTED);
        closeSync(descriptor);
        assertEquals(sizeBytes, 512 * sectors);
      });
      if (!ran) return;
    }
  });
});

Deno.test("openInputFile refuses what has no positions, and waits for nobody", () => {
  withTemporaryDirectory((scratch) => {
    const fifo = `${scratch}/fifo`;
    mustRun("mkfifo", [fifo]);
    const hintOf = (path: string, why: string) =>
      assertThrows(() => openInputFile(path, WANTED), InputError, `${path}: ${why}`).hint;
    assertEquals(hintOf(fifo, "is a pipe: wanted a tar"), WANTED.pipeHint);
    assertEquals(hintOf(scratch, "is a directory: wanted a tar"), WANTED.directoryHint);
    assertEquals(hintOf("/dev/zero", "is neither a regular file nor a block device"), undefined);
  });
});

Deno.test("openInputFile tells what is not there from what cannot be opened", () => {
  withTemporaryDirectory((scratch) => {
    writeFileSync(`${scratch}/file`, "");
    symlinkSync("nowhere", `${scratch}/dangling`);
    symlinkSync("loop", `${scratch}/loop`);
    for (const name of ["none", "none/below", "file/below", "dangling"]) {
      const path = `${scratch}/${name}`;
      const why = `${path}: does not exist: wanted a tar`;
      assertThrows(() => openInputFile(path, WANTED), InputError, why);
    }
    const loop = `${scratch}/loop`;
    assertThrows(() => openInputFile(loop, WANTED), IoError, `${loop}: cannot be opened: too many`);
  });
});

Deno.test("openFault and missingInput make names safe to print", () => {
  const cause = Object.assign(new Error("ENOENT"), { code: "ENOENT" });
  assertEquals(openFault("a\x1b", "a tar", cause).message, missingInput("a\x1b", "a tar").message);
  assertEquals(missingInput("a\x1b", "a tar").data, { path: "a\\x1b" });
  assert(openFault("a", "a tar", new Error("odd")) instanceof IoError);
});
