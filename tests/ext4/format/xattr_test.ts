import fc from "fast-check";
import { assert, assertEquals, assertThrows } from "@std/assert";
import { byteStringFromBytes } from "../../../lib/bytes/byte_string.ts";
import { viewOf } from "../../../lib/ext4/format/fields.ts";
import {
  compareDiskXattrs,
  type DecodedXattr,
  decodeInodeXattrs,
  decodeXattrBlock,
  type DiskXattr,
  encodeInodeXattrs,
  encodeXattrBlock,
  inodeXattrsSizeBytes,
  joinXattrName,
  sealXattrBlock,
  splitXattrName,
  verifyXattrBlock,
  verifyXattrValueInode,
  XATTR_BLOCK_AT,
  xattrBlockHash,
  xattrBlockUsedBytes,
  xattrEntryHash,
  xattrValueHash,
} from "../../../lib/ext4/format/xattr.ts";
import { type FixtureImage, fixtures } from "./fixture_image.ts";

/** Fetches the values that are in inodes, checks them, and gives what an encoder takes. */
function whole(image: FixtureImage, xattrs: readonly DecodedXattr[]): DiskXattr[] {
  return xattrs.map((xattr) => {
    if (xattr.valueInode === undefined) return xattr;
    const used = image.usedInodes().find(({ number }) => number === xattr.valueInode);
    assert(used !== undefined);
    const value = image.fileBytes(used);
    const valueHash = xattrValueHash(image.anySeed, value);
    assertEquals(value.length, xattr.valueSizeBytes);
    // Such an inode keeps the hash in place of its access time.
    assertEquals(used.inode.atime.seconds >>> 0, valueHash);
    verifyXattrValueInode(xattr, valueHash, "attribute");
    return { ...xattr, value, valueHash };
  });
}

/** Sets the offsets of empty values to 0, as the kernel has them; e2fsprogs points to where a value would be. */
function withoutEmptyOffsets(area: Uint8Array, entriesStart: number): Uint8Array {
  const changed = area.slice();
  const view = viewOf(changed);
  for (let at = entriesStart; view.getUint32(at, true) !== 0;) {
    if (view.getUint32(at + 8, true) === 0) view.setUint16(at + 2, 0, true);
    at += (16 + view.getUint8(at) + 3) & ~3;
  }
  return changed;
}

Deno.test("attributes in inodes come back byte for byte", () => {
  let count = 0;
  let valueInodeCount = 0;
  for (const image of fixtures()) {
    for (const { number, inode } of image.usedInodes()) {
      const area = inode.xattrArea;
      const xattrs = whole(image, decodeInodeXattrs(area, `${image.name} inode ${number}`));
      if (xattrs.length === 0) {
        // At most the magic number is left where all attributes were taken away.
        assert(area.subarray(4).every((byte) => byte === 0));
        continue;
      }
      const isKernel = image.name === "kernel";
      const expected = isKernel ? area : withoutEmptyOffsets(area, 4);
      assertEquals(encodeInodeXattrs(xattrs, area.length), expected, `${image.name} ${number}`);
      count += xattrs.length;
      valueInodeCount += xattrs.filter(({ valueInode }) => valueInode !== undefined).length;
    }
  }
  assert(count >= 20 && valueInodeCount >= 1, `${count} attributes, ${valueInodeCount} in inodes`);
});

Deno.test("xattr blocks come back byte for byte, hashes and checksum included", () => {
  let sharedCount = 0;
  let hashedCount = 0;
  for (const image of fixtures()) {
    const numbers = image.usedInodes().map(({ inode }) => inode.xattrBlock);
    for (const blockNumber of new Set(numbers.filter((number) => number !== 0))) {
      const bytes = image.block(blockNumber);
      const what = `${image.name} block ${blockNumber}`;
      const { referenceCount, hash, xattrs } = decodeXattrBlock(bytes, what);
      assertEquals(referenceCount, numbers.filter((number) => number === blockNumber).length);
      const encoded = encodeXattrBlock(whole(image, xattrs), {
        blockSizeBytes: image.blockSizeBytes,
        referenceCount,
      });
      // libext2fs leaves the block's hash 0: "never share this one".
      if (hash === 0) viewOf(encoded).setUint32(XATTR_BLOCK_AT.hash, 0, true);
      else hashedCount++;
      if (referenceCount > 1) sharedCount++;
      if (image.seed !== undefined) {
        verifyXattrBlock(bytes, { blockNumber, seed: image.seed, what });
        sealXattrBlock(encoded, { blockNumber, seed: image.seed });
      }
      assertEquals(encoded, bytes.slice(), what);
    }
  }
  assert(sharedCount >= 1 && hashedCount >= 3, `${sharedCount} shared, ${hashedCount} hashed`);
});

Deno.test("compareDiskXattrs orders by index, then length, then bytes", () => {
  const value = new Uint8Array(0);
  const names: [number, string][] = [[1, "\xff"], [1, "aa"], [1, "ab"], [2, ""], [6, "a"]];
  const xattrs = names.map(([nameIndex, suffix]) => ({ nameIndex, suffix, value }));
  assertEquals([...xattrs].reverse().sort(compareDiskXattrs), xattrs);
  assertEquals(compareDiskXattrs(xattrs[0]!, { ...xattrs[0]! }), 0);
});

const nameBytes = fc.uint8Array({ minLength: 1, maxLength: 255 })
  .map((bytes) => byteStringFromBytes(bytes.map((byte) => byte || 1)));
const plainXattr: fc.Arbitrary<DiskXattr> = fc.record({
  nameIndex: fc.constantFrom(1, 4, 6, 7),
  suffix: nameBytes,
  value: fc.uint8Array({ maxLength: 300 }),
});
const inodeXattr: fc.Arbitrary<DiskXattr> = fc.record({
  nameIndex: fc.constant(1),
  suffix: nameBytes,
  value: fc.uint8Array({ maxLength: 300 }),
  valueInode: fc.integer({ min: 12, max: 0xffffffff }),
  valueHash: fc.integer({ min: 0, max: 0xffffffff }),
});
const xattrList = fc.uniqueArray(fc.oneof(plainXattr, inodeXattr), {
  minLength: 1,
  maxLength: 12,
  selector: ({ nameIndex, suffix }) => `${nameIndex}.${suffix}`,
});

/** What decoding gives for an encoded attribute. */
function decodedOf(xattr: DiskXattr, entryHash: number): DecodedXattr {
  const { valueHash: _, ...rest } = xattr;
  const isHere = xattr.valueInode === undefined;
  const value = isHere ? xattr.value : new Uint8Array(0);
  const hashedValue = new Uint8Array(isHere ? (value.length + 3) & ~3 : 0);
  hashedValue.set(value);
  return { ...rest, value, hashedValue, valueSizeBytes: xattr.value.length, entryHash };
}

Deno.test("attributes in inodes survive a round trip in just the room they say they need", () => {
  fc.assert(fc.property(xattrList, fc.nat(20), (xattrs, slack) => {
    const needed = inodeXattrsSizeBytes(xattrs);
    const area = encodeInodeXattrs(xattrs, needed + 4 * slack);
    const expected = xattrs.map((xattr) =>
      decodedOf(xattr, xattr.valueInode === undefined ? 0 : xattrEntryHash(xattr))
    );
    assertEquals(decodeInodeXattrs(area, "inode"), expected);
    assertThrows(() => encodeInodeXattrs(xattrs, needed - 4), Error, "Invariant");
  }));
});

Deno.test("xattr blocks survive a round trip and are sorted, whatever the order given", () => {
  fc.assert(fc.property(xattrList, fc.nat(), fc.maxSafeNat(), (xattrs, seed, blockNumber) => {
    const blockSizeBytes = 16384;
    const block = encodeXattrBlock(xattrs, { blockSizeBytes, referenceCount: 1024 });
    const reversed = [...xattrs].reverse();
    assertEquals(encodeXattrBlock(reversed, { blockSizeBytes, referenceCount: 1024 }), block);
    sealXattrBlock(block, { blockNumber, seed });
    verifyXattrBlock(block, { blockNumber, seed, what: "block" });
    const sorted = [...xattrs].sort(compareDiskXattrs);
    const decoded = decodeXattrBlock(block, "block");
    assertEquals(decoded.xattrs, sorted.map((xattr) => decodedOf(xattr, xattrEntryHash(xattr))));
    assertEquals(decoded.referenceCount, 1024);
  }));
});

Deno.test("a block can be filled to its last byte", () => {
  const xattr = { nameIndex: 1, suffix: "abcd", value: new Uint8Array(1024 - 32 - 20 - 4) };
  assertEquals(xattrBlockUsedBytes([xattr]), 1024);
  const block = encodeXattrBlock([xattr], { blockSizeBytes: 1024, referenceCount: 1 });
  assertEquals(decodeXattrBlock(block, "block").xattrs[0]?.value, xattr.value);
  const more = { ...xattr, value: new Uint8Array(xattr.value.length + 1) };
  const options = { blockSizeBytes: 1024, referenceCount: 1 };
  assertThrows(() => encodeXattrBlock([more], options), Error, "Invariant");
  assertThrows(() => encodeXattrBlock([], options), Error, "Invariant");
  assertThrows(
    () => encodeXattrBlock([xattr], { ...options, referenceCount: 0 }),
    Error,
    "Invariant",
  );
  assertThrows(() => encodeXattrBlock([xattr], { ...options, referenceCount: 1025 }), Error, "Inv");
});

Deno.test("the widest name index and the longest suffix fit, and no more", () => {
  const widest = { nameIndex: 255, suffix: "s".repeat(255), value: new Uint8Array(0) };
  const area = encodeInodeXattrs([widest], 284);
  assertEquals(decodeInodeXattrs(area, "inode").map(({ suffix }) => suffix), [widest.suffix]);
  const refused: DiskXattr[] = [
    { ...widest, nameIndex: 256 },
    { ...widest, nameIndex: 0 },
    { ...widest, suffix: "s".repeat(256) },
    { ...widest, valueInode: 0, valueHash: 1 },
  ];
  for (const xattr of refused) {
    assertThrows(() => encodeInodeXattrs([xattr], 1024), Error, "Invariant");
  }
});

Deno.test("sizes are those of the format", () => {
  const sizeOf = (suffix: string, valueBytes: number, valueInode?: number) =>
    inodeXattrsSizeBytes([{
      nameIndex: 1,
      suffix,
      value: new Uint8Array(valueBytes),
      valueInode,
    }]) -
    inodeXattrsSizeBytes([]);
  assertEquals(sizeOf("", 0), 16);
  assertEquals(sizeOf("abcde", 0), 24);
  assertEquals(sizeOf("", 5), 16 + 8);
  assertEquals(sizeOf("", 5, 12), 16);
  assertEquals(encodeInodeXattrs([], 96), new Uint8Array(0));
});

Deno.test("splitXattrName and joinXattrName know ext4's prefixes", () => {
  const table: [string, number, string][] = [
    ["user.a", 1, "a"],
    ["user.system.posix_acl_access", 1, "system.posix_acl_access"],
    ["system.posix_acl_access", 2, ""],
    ["system.posix_acl_default", 3, ""],
    ["trusted.overlay.opaque", 4, "overlay.opaque"],
    ["security.capability", 6, "capability"],
    ["system.data", 7, "data"],
    ["system.posix_acl_access2", 7, "posix_acl_access2"],
    ["system.richacl", 8, ""],
    ["user.\xff", 1, "\xff"],
  ];
  for (const [name, nameIndex, suffix] of table) {
    assertEquals(splitXattrName(name), { nameIndex, suffix });
    assertEquals(joinXattrName(nameIndex, suffix), name);
  }
  for (const name of ["user.", "user", "", "btrfs.compression", "USER.a", "security."]) {
    assertEquals(splitXattrName(name), undefined);
  }
  assertEquals(joinXattrName(0, "a"), undefined);
  assertEquals(joinXattrName(5, "a"), undefined);
  assertEquals(joinXattrName(1, ""), undefined);
  assertEquals(joinXattrName(2, "a"), undefined);
});

Deno.test("a name that splits joins to itself again", () => {
  const prefix = fc.constantFrom(
    "user.",
    "trusted.",
    "security.",
    "system.",
    "system.posix_acl_access",
    "",
  );
  const rest = fc.uint8Array({ maxLength: 20 }).map((bytes) => byteStringFromBytes(bytes));
  fc.assert(fc.property(prefix, rest, (start, end) => {
    const split = splitXattrName(start + end);
    if (split !== undefined) {
      assertEquals(joinXattrName(split.nameIndex, split.suffix), start + end);
    }
  }));
});

const NOTHING = new Uint8Array(0);

Deno.test("xattrEntryHash rotates by 5 for a character and by 16 for a word", () => {
  // By hand from fs/ext4/xattr.c: "ab" is 0x61 rotated by 5, xor 0x62.
  assertEquals(xattrEntryHash({ suffix: "", value: NOTHING }), 0);
  assertEquals(xattrEntryHash({ suffix: "a", value: NOTHING }), 0x61);
  assertEquals(xattrEntryHash({ suffix: "ab", value: NOTHING }), 0xc42);
  assertEquals(xattrEntryHash({ suffix: "ab", value: Uint8Array.of(1) }), 0x0c420001);
  const value = Uint8Array.of(1, 0, 0, 0x80, 2);
  // The first word turns 0x0c42 into 0x8c420001, the second, padded, that into 0x00018c40.
  assertEquals(xattrEntryHash({ suffix: "ab", value }), 0x00018c40);
});

Deno.test("xattrEntryHash takes the value's hash for a value in an inode", () => {
  const xattr = { suffix: "ab", value: Uint8Array.of(9), valueInode: 12, valueHash: 0xf0000001 };
  assertEquals(xattrEntryHash(xattr), 0xfc420001);
  const { valueHash: _, ...without } = xattr;
  assertThrows(() => xattrEntryHash(without), Error, "Invariant");
});

Deno.test("xattrEntryHash has a signed spelling for characters over 0x7f", () => {
  assertEquals(xattrEntryHash({ suffix: "\x80", value: NOTHING }), 0x80);
  assertEquals(xattrEntryHash({ suffix: "\x80", value: NOTHING }, true), 0xffffff80);
  const plain = { suffix: "abc", value: NOTHING };
  assertEquals(xattrEntryHash(plain), xattrEntryHash(plain, true));
});

Deno.test("xattrBlockHash folds the entries, and is 0 when one of them is", () => {
  assertEquals(xattrBlockHash([]), 0);
  assertEquals(xattrBlockHash([0x12345678]), 0x12345678);
  assertEquals(xattrBlockHash([0x12345678, 1]), 0x56781235);
  assertEquals(xattrBlockHash([0x12345678, 0, 1]), 0);
});

Deno.test("xattrValueHash is CRC-32C from the file system's seed", () => {
  const value = new TextEncoder().encode("123456789");
  assertEquals(xattrValueHash(0xffffffff, value), 0x1cf96d7c);
});
