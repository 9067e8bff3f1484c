import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { InputError } from "../../../lib/errors.ts";
import { viewOf } from "../../../lib/ext4/format/fields.ts";
import {
  decodeInodeXattrs,
  decodeXattrBlock,
  type DiskXattr,
  encodeInodeXattrs,
  encodeXattrBlock,
  sealXattrBlock,
  verifyXattrBlock,
  verifyXattrValueInode,
  XATTR_BLOCK_AT,
  xattrBlockHash,
  xattrEntryHash,
} from "../../../lib/ext4/format/xattr.ts";

const XATTRS: readonly DiskXattr[] = [
  { nameIndex: 1, suffix: "aaaa", value: Uint8Array.of(1, 2, 3, 4, 5) },
  { nameIndex: 1, suffix: "bbbb", value: Uint8Array.of(6, 7, 8) },
];
/** Where the two entries are, from the first of them. */
const SECOND_ENTRY = 20;

type Damages = readonly [string, (view: DataView<ArrayBufferLike>) => void][];

function check(good: Uint8Array, damages: Damages, decode: (bytes: Uint8Array) => unknown): void {
  decode(good);
  for (const [message, damage] of damages) {
    const bytes = good.slice();
    damage(viewOf(bytes));
    const error = assertThrows(() => decode(bytes), InputError, message);
    assert(error.message.startsWith("thing 5: "));
  }
}

Deno.test("decodeInodeXattrs refuses damaged areas", () => {
  const at = 4;
  check(encodeInodeXattrs(XATTRS, 96), [
    ["magic number of its attributes is 0xea020001", (view) => view.setUint8(0, 1)],
    ["has no end", (view) => view.setUint8(at, 255)],
    ["impossible attribute 0:aaaa", (view) => view.setUint8(at + 1, 0)],
    ["impossible attribute 1:a\\x00aa", (view) => view.setUint8(at + 17, 0)],
    ["has 65537 bytes, over 65536", (view) => view.setUint32(at + 8, 65537, true)],
    ["not within 48 to 96", (view) => view.setUint32(at + 8, 9, true)],
    ["not within 48 to 96", (view) => view.setUint16(at + 2, 40, true)],
    ["not within 48 to 96", (view) => view.setUint16(at + 2, 0xffff, true)],
    ["overlap at 88", (view) => view.setUint16(at + SECOND_ENTRY + 2, 84, true)],
    ["it has the attribute 1:aaaa twice", (view) => {
      view.setUint32(at + SECOND_ENTRY + 16, 0x61616161, true);
    }],
    ["the hash of attribute 1:aaaa is 0x7", (view) => view.setUint32(at + 12, 7, true)],
  ], (bytes) => decodeInodeXattrs(bytes, "thing 5"));
});

Deno.test("decodeXattrBlock refuses damaged blocks", () => {
  const at = 32;
  check(encodeXattrBlock(XATTRS, { blockSizeBytes: 1024, referenceCount: 2 }), [
    ["magic number", (view) => view.setUint32(XATTR_BLOCK_AT.magic, 0xea010000, true)],
    ["it says it is 2 blocks", (view) => view.setUint32(XATTR_BLOCK_AT.blockCount, 2, true)],
    ["0 owners", (view) => view.setUint32(XATTR_BLOCK_AT.referenceCount, 0, true)],
    ["1025 owners", (view) => view.setUint32(XATTR_BLOCK_AT.referenceCount, 1025, true)],
    ["its hash is 0x1", (view) => view.setUint32(XATTR_BLOCK_AT.hash, 1, true)],
    ["the hash of attribute 1:aaaa", (view) => view.setUint32(at + 12, 0, true)],
    ["1:bbbb is not in the kernel's order", (view) => view.setUint8(at + 1, 2)],
    ["not within", (view) => view.setUint16(at + 2, 1022, true)],
  ], (bytes) => decodeXattrBlock(bytes, "thing 5"));
});

Deno.test("decodeXattrBlock takes a hash of 0 and signed entry hashes, as old writers left them", () => {
  const xattr = { nameIndex: 1, suffix: "\xe9", value: Uint8Array.of(1) };
  const block = encodeXattrBlock([xattr], { blockSizeBytes: 1024, referenceCount: 1 });
  const view = viewOf(block);
  const signed = xattrEntryHash(xattr, true);
  view.setUint32(32 + 12, signed, true);
  view.setUint32(XATTR_BLOCK_AT.hash, xattrBlockHash([signed]), true);
  assertEquals(decodeXattrBlock(block, "block").xattrs[0]?.entryHash, signed);
  view.setUint32(XATTR_BLOCK_AT.hash, 0, true);
  assertEquals(decodeXattrBlock(block, "block").hash, 0);
});

Deno.test("verifyXattrBlock refuses a changed block and a moved one", () => {
  const block = encodeXattrBlock(XATTRS, { blockSizeBytes: 1024, referenceCount: 1 });
  const options = { blockNumber: 2 ** 40, seed: 3, what: "block 5" };
  sealXattrBlock(block, options);
  verifyXattrBlock(block, options);
  const moved = { ...options, blockNumber: 2 ** 40 + 2 ** 33 };
  assertThrows(() => verifyXattrBlock(block, moved), InputError, "block 5: its checksum");
  block[1023] = 99;
  assertThrows(() => verifyXattrBlock(block, options), InputError, "block 5: its checksum");
});

Deno.test("verifyXattrValueInode compares the entry's hash with the value's", () => {
  const xattr = { ...XATTRS[0]!, valueInode: 13, valueHash: 0xfedcba98 };
  const [decoded] = decodeInodeXattrs(encodeInodeXattrs([xattr], 96), "inode");
  assert(decoded !== undefined && decoded.value.length === 0 && decoded.valueSizeBytes === 5);
  verifyXattrValueInode(decoded, 0xfedcba98, "inode 12");
  assertThrows(
    () => verifyXattrValueInode(decoded, 1, "inode 12"),
    InputError,
    "inode 12: the hash",
  );
});

Deno.test("areas without attributes give none", () => {
  for (const size of [0, 3, 4, 96]) {
    assertEquals(decodeInodeXattrs(new Uint8Array(size), "inode"), []);
  }
});

Deno.test("an area that is cut anywhere is refused or keeps its meaning, but never crashes", () => {
  const whole = encodeInodeXattrs(XATTRS, 96);
  for (let length = 0; length < whole.length; length++) {
    try {
      decodeInodeXattrs(whole.slice(0, length), "inode");
    } catch (error) {
      assert(error instanceof InputError, String(error));
    }
  }
});

Deno.test("random bytes behind the magic number never fail but with InputError", () => {
  fc.assert(fc.property(fc.uint8Array({ minLength: 28, maxLength: 92 }), fc.nat(6), (rest, cut) => {
    const area = Uint8Array.of(0, 0, 2, 0xea, ...rest);
    // Small numbers get further than random ones.
    for (let i = 0; i < cut; i++) area[4 + i * 4] = (area[4 + i * 4] ?? 0) % 8;
    area.set([0, 0, 0, 0, 4, 0, 0, 0], 8);
    try {
      decodeInodeXattrs(area, "inode");
    } catch (error) {
      assert(error instanceof InputError, String(error));
    }
  }));
});
