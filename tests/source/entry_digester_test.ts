import { assertEquals, assertNotEquals, assertRejects } from "@std/assert";
import { InterruptedError } from "../../lib/errors.ts";
import { EntryDigester } from "../../lib/source/entry_digester.ts";
import { treeItems } from "../../lib/tree/entries.ts";
import { Warnings } from "../../lib/warnings.ts";
import { file, treeOf } from "../oracle/tree_builder.ts";
import type { TreeNode } from "../../lib/model/node.ts";

const TIB = 2 ** 40;

async function digestOf(
  children: Readonly<Record<string, TreeNode>>,
  signal?: AbortSignal,
): Promise<string> {
  const digester = new EntryDigester(signal);
  for (const item of treeItems(treeOf(children), new Warnings())) await digester.add(item);
  return digester.digest();
}

Deno.test("EntryDigester gives equal trees one digest, and others others", async () => {
  const linked = file("linked");
  const base = { a: linked, b: linked, c: file("c", { xattrs: { "user.x": "1" } }) };
  const digest = await digestOf(base);
  assertEquals(await digestOf(base), digest);
  const others = [
    { ...base, b: file("linked") },
    { ...base, c: file("d", { xattrs: { "user.x": "1" } }) },
    { ...base, c: file("c", { xattrs: { "user.x": "2" } }) },
    { ...base, c: file("c", { xattrs: { "user.x": "1" }, uid: 1 }) },
    { ...base, d: file() },
    // The same bytes in another place, and behind another length.
    { ...base, c: file({ sizeBytes: 8193, parts: [[4096, Uint8Array.of(0x63)]] }) },
    { ...base, c: file({ sizeBytes: 8194, parts: [[4096, Uint8Array.of(0x63)]] }) },
    { ...base, c: file({ sizeBytes: 8193, parts: [[0, Uint8Array.of(0x63)]] }) },
  ];
  const digests = await Promise.all(others.map((children) => digestOf(children)));
  assertEquals(new Set([digest, ...digests]).size, 9);
});

Deno.test("EntryDigester reads data and no holes, whoever made them", async () => {
  const bytes = new Uint8Array(8192).fill(1);
  const stored = file({ sizeBytes: 9 * TIB, parts: [[4 * TIB, bytes]] });
  let readBytes = 0;
  const { payload } = stored;
  const readAt = (target: Uint8Array, position: number) => {
    readBytes += target.length;
    return payload.store.readAt(target, position);
  };
  const counted = { ...payload.store, readAt };
  const sparse = { ...stored, payload: { ...payload, store: counted } };
  const digest = await digestOf({ sparse });
  assertEquals(readBytes, bytes.length);
  assertNotEquals(await digestOf({ sparse: file({ sizeBytes: 9 * TIB, parts: [] }) }), digest);
  const zeros = file(new Uint8Array(10_000));
  const hole = file({ sizeBytes: 10_000, parts: [] });
  assertEquals(await digestOf({ zeros }), await digestOf({ zeros: hole }));
});

Deno.test("EntryDigester reads files of several pieces, and stops for a signal", async () => {
  const large = (seed: number) => file({ sizeBytes: (40 << 20) + 5, noise: "all", seed });
  assertNotEquals(await digestOf({ large: large(1) }), await digestOf({ large: large(2) }));
  await assertRejects(() => digestOf({ large: large(1) }, AbortSignal.abort()), InterruptedError);
});
