import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { Buffer } from "node:buffer";
import type { TarEntry } from "../../lib/tar/entry.ts";
import { TarIndexer } from "../../lib/tar/indexer.ts";
import { buildTarEntry, joinBytes } from "./build.ts";
import { longName, paxHeader, rawEntry, rawHeader } from "./raw.ts";
import { readTar } from "./read.ts";

/** A tar with everything in it that takes more than one step to read. */
function variedTar(): Uint8Array {
  const data = new Uint8Array(30000);
  for (let i = 0; i < data.length; i++) data[i] = i >> 12 === 3 ? 0 : i * 7;
  const part = new Uint8Array(2000).fill(3);
  const octal = (value: number) => value.toString(8).padStart(11, "0") + "\0";
  const oldMap = [[0, 5], [10, 5], [20, 5], [5000, 5], [9000, 5]];
  const texts = oldMap.map(([offset, length]) => octal(offset!) + octal(length!));
  return joinBytes([
    buildTarEntry({ path: "dir/" }),
    buildTarEntry({ path: "plain", data }),
    buildTarEntry({
      path: "pax\xff",
      data: data.subarray(0, 4096),
      mtime: [-1, 5],
      xattrs: { "user.long": "v".repeat(5000) },
    }),
    buildTarEntry({
      path: "sparse",
      data: { sizeBytes: 50000, parts: [[5000, part], [9000, part], [48001, part.subarray(1)]] },
    }),
    longName("L", "long/".repeat(150) + "name"),
    longName("K", "target/".repeat(100)),
    rawHeader({ flag: "2" }),
    rawHeader({
      flag: "S",
      format: "gnu",
      name: "old",
      size: 25,
      patches: [[386, texts.slice(0, 4).join("")], [482, "\x01"], [483, octal(9005)]],
    }),
    joinBytes([new TextEncoder().encode(texts[4]!), new Uint8Array(512 - 24)]),
    joinBytes([new TextEncoder().encode("0123456789abcdefghijklmno"), new Uint8Array(512 - 25)]),
    paxHeader([["comment", "c"]], { flag: "g" }),
    rawEntry({ flag: "D", name: "dump/", format: "gnu" }, "Yfile\0".repeat(200)),
    rawEntry({ flag: "V", name: "label" }, "xyz"),
    buildTarEntry({ path: "last", data: "end" }),
    new Uint8Array(1024),
    new Uint8Array(9000).fill(1),
  ]);
}

Deno.test("TarIndexer gives the same entries however the tar is cut into chunks", () => {
  const tar = variedTar();
  const whole = readTar(tar);
  assertEquals(whole.entries.length, 8);
  assertEquals(whole.trailingSizeBytes, 9000);
  for (
    const chunkSizes of [[1], [511], [512], [513], [4095], [4096], [4097], [1, 512, 7], [100000]]
  ) {
    assertEquals(readTar(tar, { chunkSizes }), whole, `chunks of ${chunkSizes}`);
  }
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 1, max: 6000 }), { minLength: 1, maxLength: 20 }),
      (chunkSizes) => assertEquals(readTar(tar, { chunkSizes }), whole),
    ),
    { numRuns: 100 },
  );
});

Deno.test("TarIndexer keeps nothing of a chunk, be it a Buffer or a Uint8Array", () => {
  const tar = variedTar();
  const entries: TarEntry[] = [];
  const indexer = new TarIndexer({
    name: "test.tar",
    emit: (entry) => entries.push(entry),
    warn: () => {},
  });
  const chunk = Buffer.from(tar);
  indexer.push(chunk);
  chunk.fill(0);
  indexer.end();
  assertEquals(entries, readTar(tar).entries);
});

Deno.test("TarIndexer takes empty chunks, and chunks that lie anywhere in a larger buffer", () => {
  const tar = variedTar();
  const whole = readTar(tar);
  for (const shift of [1, 2, 3, 4, 6]) {
    const larger = new Uint8Array(tar.length + 8);
    larger.set(tar, shift);
    const view = larger.subarray(shift, shift + tar.length);
    assertEquals(readTar(view), whole);
  }
  assert(readTar(joinBytes([new Uint8Array(0), tar])).entries.length === whole.entries.length);
});
