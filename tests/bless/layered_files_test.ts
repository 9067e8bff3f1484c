import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { existsSync, mkdirSync, readdirSync, symlinkSync, writeFileSync } from "node:fs";
import {
  checkDirectory,
  makeDirectory,
  pathIn,
  readFileWhole,
  removeIfEmpty,
  writeFileWhole,
} from "../../lib/bless/layered_files.ts";
import { statIfThere } from "../../lib/io/paths.ts";
import { InterruptedError, IoError, UsageError } from "../../lib/errors.ts";
import { withDirectory } from "../source/helpers.ts";

Deno.test("checkDirectory tells a directory that is there from one to be made, and refuses the rest", async () => {
  await withDirectory((directory) => {
    writeFileSync(`${directory}/file`, "");
    assertEquals(checkDirectory(directory), false);
    assertEquals(checkDirectory(`${directory}/new`), true);
    assertEquals(checkDirectory(`${directory}/new/`), true);
    assertThrows(() => checkDirectory(""), UsageError, "the name is empty");
    assertThrows(() => checkDirectory(`${directory}/file`), UsageError, "is no directory");
    assertThrows(() => checkDirectory(`${directory}/a/b`), IoError, "does not exist");
    assertThrows(() => checkDirectory(`${directory}/file/b`), IoError);
  });
});

Deno.test("pathIn and checkDirectory leave what .. is behind a link to the kernel", async () => {
  await withDirectory(async (directory) => {
    mkdirSync(`${directory}/a/b/c`, { recursive: true });
    symlinkSync("a/b", `${directory}/link`);
    const path = `${directory}/link/../new`;
    assertEquals(checkDirectory(path), true);
    assertEquals(makeDirectory(path), true);
    await writeFileWhole(pathIn(path, "x"), Uint8Array.of(1), undefined);
    assertEquals(readdirSync(`${directory}/a/new`), ["x"]);
    assertEquals(checkDirectory(`${directory}/link/c/../../new`), false);
  });
  assertEquals([pathIn("a", "b"), pathIn("a/", "b"), pathIn("/", "b")], ["a/b", "a/b", "/b"]);
});

Deno.test("removeIfEmpty leaves a directory that holds something", async () => {
  await withDirectory((directory) => {
    const path = `${directory}/new`;
    assertEquals(makeDirectory(path), true);
    assertEquals(makeDirectory(path), false);
    writeFileSync(`${directory}/taken`, "");
    assertThrows(() => makeDirectory(`${directory}/taken`), IoError, "cannot be created");
    writeFileSync(`${path}/file`, "");
    removeIfEmpty(path);
    assertEquals(existsSync(path), true);
    makeDirectory(`${path}/inner`);
    removeIfEmpty(`${path}/inner`);
    assertEquals(readdirSync(path), ["file"]);
  });
});

Deno.test("writeFileWhole replaces a file, and leaves nothing when it fails", async () => {
  await withDirectory(async (directory) => {
    const path = `${directory}/file`;
    await writeFileWhole(path, Uint8Array.of(1, 2), undefined);
    await writeFileWhole(path, Uint8Array.of(3), undefined);
    assertEquals([...readFileWhole(path)], [3]);
    await assertRejects(
      () => writeFileWhole(path, Uint8Array.of(4), AbortSignal.abort()),
      InterruptedError,
    );
    assertEquals([...readFileWhole(path)], [3]);
    mkdirSync(`${directory}/directory`);
    await assertRejects(async () => {
      await writeFileWhole(`${directory}/directory`, Uint8Array.of(4), undefined);
    }, UsageError);
    assertEquals(readdirSync(directory).sort(), ["directory", "file"]);
  });
});

Deno.test("statIfThere and readFileWhole tell nothing from what cannot be read", async () => {
  await withDirectory((directory) => {
    assertEquals(statIfThere(`${directory}/none`), undefined);
    assertEquals(statIfThere(directory)?.isDirectory(), true);
    assertThrows(() => readFileWhole(`${directory}/none`), IoError, "cannot be read");
    assertThrows(() => readFileWhole(directory), IoError, "cannot be read");
  });
});
