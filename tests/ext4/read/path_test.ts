import { assertEquals, assertThrows } from "@std/assert";
import { InputError } from "../../../lib/errors.ts";
import { findInode } from "../../../lib/ext4/read/directory.ts";
import { isRoot } from "../../oracle/libc_user.ts";
import { notRun } from "../../oracle/notice.ts";
import { mustRun, withTemporaryDirectory } from "../../oracle/command.ts";
import { openFixture, openStrictly } from "./read_image.ts";
import { memoryReader } from "../../../lib/io/random_reader.ts";

Deno.test("findInode finds names however the path is written", () => {
  const image = openFixture("csum-4k");
  for (
    const path of [
      "/directory/small",
      "directory/small",
      "//directory/./small",
      "/../directory/../directory/small",
    ]
  ) {
    assertEquals(findInode(image, path, { followsLast: true }).path, "/directory/small");
  }
  assertEquals(findInode(image, "", { followsLast: true }), {
    inode: image.inode(2),
    path: "",
  });
});

Deno.test("findInode says which name is not there, and what is not a directory", () => {
  const image = openFixture("csum-4k");
  const cases = [
    ["/directory/none/x", "/directory/none/x: /directory/none does not exist"],
    ["/empty/x", "/empty/x: /empty is not a directory"],
    ["/a\x1b[2J", "/a\\x1b[2J: does not exist"],
    ["/short", "/short: /target does not exist"],
  ] as const;
  for (const [path, message] of cases) {
    assertThrows(() => findInode(image, path, { followsLast: true }), InputError, message);
  }
  assertEquals(findInode(image, "/short", { followsLast: false }).inode.kind, "symlink");
});

Deno.test("findInode takes a slash at the end for a directory", () => {
  const image = openFixture("csum-4k");
  for (const path of ["/directory/", "/directory/.", "/directory/./"]) {
    assertEquals(findInode(image, path, { followsLast: false }).path, "/directory");
  }
  for (const path of ["/empty/", "/empty/.", "/empty//"]) {
    assertThrows(
      () => findInode(image, path, { followsLast: false }),
      InputError,
      `${path}: /empty is not a directory`,
    );
  }
  // As the kernel has it, the symlink is followed then.
  assertThrows(
    () => findInode(image, "/short/", { followsLast: false }),
    InputError,
    "/short/: /target does not exist",
  );
});

Deno.test("findInode follows symlinks inside the image, and not for ever", () => {
  if (!isRoot()) return notRun("symlinks in paths of images", "making them through tar needs root");
  withTemporaryDirectory((scratch) => {
    const source = `${scratch}/source`;
    Deno.mkdirSync(`${source}/usr/bin`, { recursive: true });
    Deno.writeTextFileSync(`${source}/usr/bin/env`, "x");
    Deno.symlinkSync("usr/bin", `${source}/bin`);
    Deno.symlinkSync("/../bin/env", `${source}/usr/absolute`);
    Deno.symlinkSync("../usr", `${source}/usr/up`);
    Deno.symlinkSync("round/round", `${source}/round`);
    mustRun("mke2fs", ["-q", "-t", "ext4", "-d", source, `${scratch}/image`, "4M"]);
    const image = openStrictly(memoryReader(Deno.readFileSync(`${scratch}/image`)));
    for (
      const path of ["/bin/env", "/usr/absolute", "/usr/up/up/up/bin/env", "/usr/up/../bin/env"]
    ) {
      assertEquals(findInode(image, path, { followsLast: true }).path, "/usr/bin/env");
    }
    assertThrows(
      () => findInode(image, "/round", { followsLast: true }),
      InputError,
      "/round: it leads over more than 40 symlinks",
    );
  });
});
