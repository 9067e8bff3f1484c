import { assertEquals, assertStrictEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { EMPTY_PAYLOAD_INDEX } from "../../lib/model/node.ts";
import {
  packEntries,
  type TarEntry,
  type TarEntryKind,
  unpackEntries,
} from "../../lib/tar/entry.ts";

const text = fc.string({ unit: fc.nat({ max: 255 }).map((code) => String.fromCharCode(code)) });
const count = fc.nat({ max: Number.MAX_SAFE_INTEGER });
const run = fc.record({ startBlock: fc.nat({ max: 3 }), blockCount: fc.integer({ min: 1 }) });
const payload = fc.oneof(
  fc.constant(EMPTY_PAYLOAD_INDEX),
  fc.record({
    sizeBytes: fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }),
    segments: fc.array(fc.record({ fileOffset: count, storeOffset: count, lengthBytes: count })),
    dataRuns: fc.array(run),
    contentHash: fc.nat({ max: 0xffffffff }),
  }),
);
const kinds: readonly TarEntryKind[] = [
  "file",
  "directory",
  "symlink",
  "hardlink",
  "characterDevice",
  "blockDevice",
  "fifo",
];
const anyEntry: fc.Arbitrary<TarEntry> = fc.record({
  kind: fc.constantFrom(...kinds),
  path: text,
  linkTarget: text,
  mode: count,
  uid: count,
  gid: count,
  mtimeSeconds: fc.maxSafeInteger(),
  mtimeNanoseconds: count,
  deviceMajor: count,
  deviceMinor: count,
  xattrs: fc.array(fc.record({ name: text, value: fc.uint8Array() })),
  payload: fc.option(payload, { nil: undefined }),
  headerOffset: count,
  firstLayer: count,
}, {
  requiredKeys: [
    "kind",
    "path",
    "linkTarget",
    "mode",
    "uid",
    "gid",
    "mtimeSeconds",
    "mtimeNanoseconds",
    "deviceMajor",
    "deviceMinor",
    "xattrs",
    "payload",
    "headerOffset",
  ],
});

Deno.test("unpackEntries gives the entries that packEntries was given", () => {
  fc.assert(fc.property(fc.array(anyEntry), (entries) => {
    assertEquals(unpackEntries(packEntries(entries)), entries);
  }));
});

Deno.test("unpackEntries gives entries that hold no more memory than they must", () => {
  const value = new Uint8Array(1000).subarray(1, 3);
  const entry = {
    path: "p",
    linkTarget: "",
    mode: 0,
    uid: 0,
    gid: 0,
    mtimeSeconds: 0,
    mtimeNanoseconds: 0,
    deviceMajor: 0,
    deviceMinor: 0,
    headerOffset: 0,
  };
  const segments = [{ fileOffset: 0, storeOffset: 512, lengthBytes: 5000 }];
  const dataRuns = [{ startBlock: 0, blockCount: 2 }];
  const full = { sizeBytes: 5000, segments, dataRuns, contentHash: 1 };
  const [first, second, third] = unpackEntries(packEntries([
    { ...entry, kind: "file", xattrs: [{ name: "user.x", value }], payload: full },
    { ...entry, kind: "file", xattrs: [], payload: full },
    { ...entry, kind: "directory", xattrs: [], payload: undefined },
  ]));
  assertEquals(first!.xattrs[0]!.value.buffer.byteLength, 2);
  assertStrictEquals(second!.xattrs, third!.xattrs);
  assertStrictEquals(first!.payload!.dataRuns, second!.payload!.dataRuns);
});

Deno.test("unpackEntries refuses what holds more or less than its entries", () => {
  const buffer = packEntries([]);
  new Float64Array(buffer)[1] = 2;
  assertThrows(() => unpackEntries(buffer), Error, "Invariant");
});
