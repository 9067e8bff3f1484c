import { assertEquals } from "@std/assert";
import {
  COMMENT_BYTES_MAX,
  firstLayerComment,
  firstLayerOfComment,
  uuidComment,
  uuidOfComment,
} from "../../lib/tar/comments.ts";
import { TarIndexer } from "../../lib/tar/indexer.ts";
import type { TarEntry } from "../../lib/tar/entry.ts";
import { encodeTarEntry } from "../../lib/tar/writer.ts";

const UUID = "12345678-9abc-8def-8123-456789abcdef";

const ENTRY: Omit<TarEntry, "headerOffset"> = {
  kind: "symlink",
  path: "name",
  linkTarget: "target",
  mode: 0o777,
  uid: 0,
  gid: 0,
  mtimeSeconds: 0,
  mtimeNanoseconds: 0,
  deviceMajor: 0,
  deviceMinor: 0,
  xattrs: [],
  payload: undefined,
};

function indexed(...parts: Uint8Array[]): { entries: TarEntry[]; comment: string | undefined } {
  const entries: TarEntry[] = [];
  const indexer = new TarIndexer({
    name: "tar",
    emit: (entry) => entries.push(entry),
    warn: (kind) => {
      throw new Error(kind);
    },
  });
  for (const part of parts) indexer.push(part);
  indexer.push(new Uint8Array(1024));
  indexer.end();
  return { entries, comment: indexer.firstComment };
}

Deno.test("uuidOfComment and firstLayerOfComment read what was written, and nothing else", () => {
  assertEquals(uuidOfComment(uuidComment(UUID)), UUID);
  assertEquals(firstLayerOfComment(firstLayerComment(999_999)), 999_999);
  const others = [
    undefined,
    "",
    UUID,
    `blessfs uuid ${UUID.toUpperCase()}`,
    `${uuidComment(UUID)}\n`,
    "blessfs uuid 12345678-9abc-8def-8123-456789abcde",
    "blessfs first-layer 0",
    "blessfs first-layer 01",
    "blessfs first-layer 1000000",
    "blessfs first-layer -1",
  ];
  for (const comment of others) {
    assertEquals([uuidOfComment(comment), firstLayerOfComment(comment)], [undefined, undefined]);
  }
});

Deno.test("TarIndexer gives comments of the tar and of entries", () => {
  const first = encodeTarEntry({ ...ENTRY, path: "./" }, uuidComment(UUID)).head;
  const second = encodeTarEntry({ ...ENTRY, firstLayer: 3 }, undefined).head;
  const third = encodeTarEntry({ ...ENTRY, path: "other" }).head;
  const { entries, comment } = indexed(first, second, third);
  assertEquals(comment, uuidComment(UUID));
  assertEquals(entries.map(({ path, firstLayer }) => [path, firstLayer]), [
    ["./", undefined],
    ["name", 3],
    ["other", undefined],
  ]);
  assertEquals("firstLayer" in entries[2]!, false);
});

Deno.test("TarIndexer passes over comments that are long, and on later entries", () => {
  const commented = (comment: string | undefined) => encodeTarEntry(ENTRY, comment).head;
  assertEquals(indexed(commented("x".repeat(COMMENT_BYTES_MAX))).comment?.length, 256);
  assertEquals(indexed(commented("x".repeat(COMMENT_BYTES_MAX + 1))).comment, undefined);
  assertEquals(indexed(commented(undefined), commented("two")).comment, undefined);
  assertEquals(indexed(encodeTarEntry({ ...ENTRY, firstLayer: 0 }).head).comment, undefined);
});
