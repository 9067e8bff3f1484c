import fc from "fast-check";
import { assert, assertEquals, assertThrows } from "@std/assert";
import { InputError } from "../../../lib/errors.ts";
import { INODE_FLAG } from "../../../lib/ext4/format/constants.ts";
import type { InodeRecord } from "../../../lib/ext4/format/inode.ts";
import {
  decodeInode,
  defaultInode,
  inodeChecksum,
  InodeSlots,
  isMendedByFsck,
  sealInode,
  storedInodeChecksum,
  TIMESTAMP_SECONDS_MAX,
  TIMESTAMP_SECONDS_MIN,
  timestampExtra,
  timestampFromWords,
} from "../../../lib/ext4/format/inode.ts";
import { fixture, fixtures } from "./fixture_image.ts";

/** Writes an inode into a slot of its own. */
function encodeInode(
  inode: InodeRecord,
  target: Uint8Array,
  { inodeNumber, seed }: { readonly inodeNumber: number; readonly seed: number | undefined },
): void {
  const slots = new InodeSlots(inodeNumber, 1, target.length, seed);
  slots.put(inodeNumber, inode);
  target.set(slots.bytes);
}

Deno.test("inodes in use come back byte for byte, checksum included", () => {
  let count = 0;
  for (const image of fixtures()) {
    for (const { number, slot, inode } of image.usedInodes()) {
      const isZero = slot.every((byte) => byte === 0);
      const target = new Uint8Array(slot.length).fill(0xaa);
      // Slots that mke2fs reserves but never writes are zeros, and so without a checksum.
      const seed = isZero ? undefined : image.seed;
      encodeInode(inode, target, { inodeNumber: number, seed });
      assertEquals(target, slot.slice(), `${image.name} inode ${number}`);
      count++;
    }
  }
  assert(count > 200, `only ${count} inodes`);
});

Deno.test("inodeChecksum is what mke2fs and the kernel stored", () => {
  for (const image of fixtures()) {
    if (image.seed === undefined) continue;
    for (const { number: inodeNumber, slot } of image.usedInodes()) {
      if (slot.every((byte) => byte === 0)) continue;
      const checksum = inodeChecksum(slot, { inodeNumber, seed: image.seed });
      assertEquals(storedInodeChecksum(slot), checksum, `${image.name} inode ${inodeNumber}`);
    }
  }
});

Deno.test("decodeInode reads the times, ids and sizes that debugfs set", () => {
  const inodes = fixture("csum-4k").usedInodes().map(({ inode }) => inode);
  const times = inodes.find((inode) => inode.uid === 70000);
  assertEquals(times?.gid, 4294967294);
  assertEquals(times?.atime, { seconds: TIMESTAMP_SECONDS_MAX, nanoseconds: 249999997 });
  assertEquals(times?.crtime, { seconds: TIMESTAMP_SECONDS_MIN, nanoseconds: 1 });
  assertEquals(times?.mtime, { seconds: -1, nanoseconds: 999999999 });
  assert(inodes.some((inode) => inode.sizeBytes === 5 * 2 ** 30));
  assert(inodes.some((inode) => inode.generation === 0x89abcdef));
});

const timestamp = fc.record({
  seconds: fc.integer({ min: TIMESTAMP_SECONDS_MIN, max: TIMESTAMP_SECONDS_MAX }),
  nanoseconds: fc.nat(999_999_999),
});
const word = fc.integer({ min: 0, max: 0xffffffff });

const anyInode: fc.Arbitrary<InodeRecord> = fc.record({
  mode: fc.nat(0xffff),
  uid: word,
  gid: word,
  sizeBytes: fc.maxSafeNat(),
  linkCount: fc.nat(0xffff),
  sectorCount: fc.integer({ min: 0, max: 2 ** 48 - 1 }),
  flags: word,
  atime: timestamp,
  ctime: timestamp,
  mtime: timestamp,
  crtime: timestamp,
  dtime: word,
  generation: word,
  xattrBlock: fc.integer({ min: 0, max: 2 ** 48 - 1 }),
  blockField: fc.uint8Array({ minLength: 60, maxLength: 60 }),
  extraSizeBytes: fc.constant(32),
  xattrArea: fc.uint8Array({ minLength: 96, maxLength: 96 }),
  versionLow: word,
  versionHigh: word,
  projectId: word,
});

Deno.test("inodes survive a round trip, and their checksum fits", () => {
  fc.assert(fc.property(anyInode, word, word, (inode, inodeNumber, seed) => {
    const slot = new Uint8Array(256);
    encodeInode(inode, slot, { inodeNumber, seed });
    assertEquals(decodeInode(slot), inode);
    assertEquals(storedInodeChecksum(slot), inodeChecksum(slot, { inodeNumber, seed }));
  }));
});

Deno.test("inodeChecksum changes with every byte but its own", () => {
  const slot = new Uint8Array(256);
  encodeInode(defaultInode(), slot, { inodeNumber: 12, seed: 7 });
  const checksum = inodeChecksum(slot, { inodeNumber: 12, seed: 7 });
  for (let at = 0; at < slot.length; at++) {
    // Changing i_extra_isize also moves what is covered, so it is left out here.
    if (at === 0x80 || at === 0x81) continue;
    const changed = slot.slice();
    changed[at] = (changed[at] ?? 0) ^ 1;
    const isOwn = [0x7c, 0x7d, 0x82, 0x83].includes(at);
    const after = inodeChecksum(changed, { inodeNumber: 12, seed: 7 });
    assertEquals(after === checksum, isOwn, `byte ${at}`);
  }
});

Deno.test("a slot of 128 bytes keeps the low half of the checksum and no extra fields", () => {
  const inode = {
    ...defaultInode(),
    extraSizeBytes: 0,
    mtime: { seconds: -5, nanoseconds: 0 },
    flags: INODE_FLAG.EXTENTS,
  };
  const slot = new Uint8Array(128);
  encodeInode(inode, slot, { inodeNumber: 3, seed: 9 });
  assertEquals(decodeInode(slot), inode);
  assert(storedInodeChecksum(slot) <= 0xffff);
  assertEquals(storedInodeChecksum(slot), inodeChecksum(slot, { inodeNumber: 3, seed: 9 }));
  const late = { ...inode, mtime: { seconds: 2 ** 31, nanoseconds: 0 } };
  assertThrows(() => encodeInode(late, slot, { inodeNumber: 3, seed: 9 }), Error, "mtime is past");
});

Deno.test("a slot with just 4 extra bytes has the whole checksum", () => {
  const slot = new Uint8Array(256);
  encodeInode({ ...defaultInode(), extraSizeBytes: 4 }, slot, { inodeNumber: 12, seed: 1 });
  assert(storedInodeChecksum(slot) > 0xffff);
  assertEquals(storedInodeChecksum(slot), inodeChecksum(slot, { inodeNumber: 12, seed: 1 }));
});

Deno.test("InodeSlots puts inodes where encodeInode would", () => {
  const inodes = new Map([[5, { ...defaultInode(), uid: 70000 }], [7, {
    ...defaultInode(),
    mode: 3,
  }]]);
  const slots = new InodeSlots(4, 4, 256, 9);
  for (const [inodeNumber, inode] of inodes) slots.put(inodeNumber, inode);
  for (const inodeNumber of [4, 5, 6, 7]) {
    const expected = new Uint8Array(256);
    const inode = inodes.get(inodeNumber);
    if (inode) encodeInode(inode, expected, { inodeNumber, seed: 9 });
    const at = (inodeNumber - 4) * 256;
    assertEquals(slots.bytes.subarray(at, at + 256), expected);
  }
  for (const inodeNumber of [3, 8]) {
    assertThrows(() => slots.put(inodeNumber, defaultInode()), Error, "Invariant");
  }
});

Deno.test("defaultInode is zero but for its extra size", () => {
  const slot = new Uint8Array(256).fill(0xaa);
  encodeInode(defaultInode(), slot, { inodeNumber: 12, seed: undefined });
  const expected = new Uint8Array(256);
  expected[0x80] = 32;
  assertEquals(slot, expected);
});

Deno.test("fields past i_extra_isize are refused when set and read as zero", () => {
  const slot = new Uint8Array(256);
  const small = { ...defaultInode(), extraSizeBytes: 4 };
  encodeInode(small, slot, { inodeNumber: 12, seed: 1 });
  assertEquals(decodeInode(slot).projectId, 0);
  const project = { ...small, projectId: 1 };
  assertThrows(
    () => encodeInode(project, slot, { inodeNumber: 12, seed: 1 }),
    Error,
    "projectId is past",
  );
});

Deno.test("encodeInode refuses what does not fit", () => {
  const refused: Partial<InodeRecord>[] = [
    { mode: 0x10000 },
    { uid: 2 ** 32 },
    { gid: -1 },
    { sizeBytes: 2 ** 53 },
    { linkCount: 65536 },
    { sectorCount: 2 ** 48 },
    { xattrBlock: 2 ** 48 },
    { blockField: new Uint8Array(59) },
    { xattrArea: new Uint8Array(97) },
    { extraSizeBytes: 30 },
    { extraSizeBytes: 132 },
    { mtime: { seconds: TIMESTAMP_SECONDS_MAX + 1, nanoseconds: 0 } },
  ];
  for (const fields of refused) {
    assertThrows(
      () =>
        encodeInode({ ...defaultInode(), ...fields }, new Uint8Array(256), {
          inodeNumber: 12,
          seed: undefined,
        }),
      Error,
      "Invariant",
    );
  }
});

Deno.test("decodeInode refuses an impossible extra size or file size", () => {
  const slot = new Uint8Array(256);
  for (const extraSize of [129, 132, 30, 0xffff]) {
    new DataView(slot.buffer).setUint16(0x80, extraSize, true);
    assertThrows(() => decodeInode(slot), InputError, `i_extra_isize is ${extraSize}`);
  }
  slot.fill(0);
  slot.fill(0xff, 0x6c, 0x70);
  assertThrows(() => decodeInode(slot), InputError, "over 2^53 - 1");
});

Deno.test("sealInode writes the checksum that encodeInode writes, and takes it away", () => {
  for (const size of [128, 256]) {
    const slot = new Uint8Array(size);
    const inode = { ...defaultInode(), extraSizeBytes: size === 128 ? 0 : 32, uid: 70000 };
    encodeInode(inode, slot, { inodeNumber: 12, seed: 9 });
    const sealed = slot.slice();
    sealInode(slot, { inodeNumber: 12, seed: undefined });
    assertEquals(storedInodeChecksum(slot), 0);
    assertEquals(decodeInode(slot).uid, 70000);
    sealInode(slot, { inodeNumber: 12, seed: 9 });
    assertEquals(slot, sealed);
  }
});

Deno.test("timestamps match the table of the kernel's documentation", () => {
  // Kernel documentation, "Inode Timestamps": epoch bits, sign bit of the low word, seconds.
  const table: [number, number, number][] = [
    [0, 0x80000000, -(2 ** 31)],
    [0, 0xffffffff, -1],
    [0, 0x00000000, 0],
    [0, 0x7fffffff, 0x07fffffff],
    [1, 0x80000000, 0x080000000],
    [1, 0xffffffff, 0x0ffffffff],
    [1, 0x00000000, 0x100000000],
    [1, 0x7fffffff, 0x17fffffff],
    [2, 0x80000000, 0x180000000],
    [2, 0x7fffffff, 0x27fffffff],
    [3, 0x80000000, 0x280000000],
    [3, 0x7fffffff, 0x37fffffff],
  ];
  for (const [epoch, low, seconds] of table) {
    assertEquals(timestampFromWords(low, epoch), { seconds, nanoseconds: 0 });
    assertEquals(timestampExtra({ seconds, nanoseconds: 0 }), epoch);
  }
  assertEquals(TIMESTAMP_SECONDS_MAX, 0x37fffffff);
  assertEquals(TIMESTAMP_SECONDS_MIN, -0x80000000);
});

Deno.test("isMendedByFsck tells the times that e2fsck takes for old mistakes", () => {
  // fixtures/ext4/csum-4k: debugfs set epoch bits 3 with a low word of -1; e2fsck -y cleared them.
  for (const [seconds, mended] of [[0x27fffffff, false], [0x280000000, true]] as const) {
    assertEquals(isMendedByFsck(seconds), mended);
  }
  for (const [seconds, mended] of [[0x2ffffffff, true], [0x300000000, false]] as const) {
    assertEquals(isMendedByFsck(seconds), mended);
    const isEpoch3 = timestampExtra({ seconds, nanoseconds: 0 }) === 3;
    assertEquals(isEpoch3 && (seconds | 0) < 0, mended);
  }
  assertEquals(isMendedByFsck(-1), false);
});

Deno.test("timestamps survive a round trip", () => {
  fc.assert(fc.property(
    fc.integer({ min: 0, max: TIMESTAMP_SECONDS_MAX - TIMESTAMP_SECONDS_MIN }),
    fc.nat(999_999_999),
    (offset, nanoseconds) => {
      const time = { seconds: TIMESTAMP_SECONDS_MIN + offset, nanoseconds };
      assertEquals(timestampFromWords(time.seconds | 0, timestampExtra(time)), time);
    },
  ));
});

Deno.test("timestamps out of range are refused", () => {
  for (
    const time of [
      { seconds: TIMESTAMP_SECONDS_MIN - 1, nanoseconds: 0 },
      { seconds: TIMESTAMP_SECONDS_MAX + 1, nanoseconds: 0 },
      { seconds: 0.5, nanoseconds: 0 },
      { seconds: 0, nanoseconds: 1e9 },
      { seconds: 0, nanoseconds: -1 },
      { seconds: Number.NaN, nanoseconds: 0 },
    ]
  ) {
    assertThrows(() => timestampExtra(time), Error, "Invariant");
  }
});
