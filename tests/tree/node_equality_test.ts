import { assertEquals } from "@std/assert";
import { memoryReader } from "../../lib/io/random_reader.ts";
import type { FileNode } from "../../lib/model/node.ts";
import { equalAttributes, equalContent } from "../../lib/tree/node_equality.ts";
import { dir, file, special, symlink } from "../oracle/tree_builder.ts";

Deno.test("equalAttributes compares every field", () => {
  const same = () => file("x", { xattrs: { "user.a": "b" } });
  assertEquals(equalAttributes(same(), same()), true);
  const others = [
    file("x", { mode: 1 }),
    file("x", { uid: 1 }),
    file("x", { gid: 1 }),
    file("x", { mtime: 1 }),
    file("x", { mtime: [1_600_000_000, 1] }),
    file("x", { xattrs: { "user.b": "b" } }),
    dir(),
  ];
  for (const other of others) assertEquals(equalAttributes(same(), other), false);
});

Deno.test("equalContent reads bytes where checksums cannot tell", async () => {
  const one = file("hello");
  const { payload } = one;
  const forged: FileNode = {
    ...one,
    payload: { ...payload, store: memoryReader(new TextEncoder().encode("hallo")) },
  };
  assertEquals(await equalContent(one, file("hello")), true);
  assertEquals(await equalContent(one, forged), false);
  assertEquals(await equalContent(one, file("hello!")), false);
  assertEquals(await equalContent(symlink("a"), symlink("b")), false);
  assertEquals(await equalContent(special("fifo"), special("fifo")), true);
  assertEquals(await equalContent(special("fifo"), symlink("a")), false);
  assertEquals(await equalContent(dir(), dir({ a: one })), true);
  assertEquals(await equalContent(dir(), one), false);
});
