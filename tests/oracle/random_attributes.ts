/**
 * Random names, attributes, extended attributes and ACLs, with a taste for the values at the edges.
 *
 * @module
 */
import type { ByteString } from "../../lib/bytes/byte_string.ts";
import { byteStringFromBytes } from "../../lib/bytes/byte_string.ts";
import type { NodeAttributes, TreeNode, Xattr } from "../../lib/model/node.ts";
import type { Random } from "./noise.ts";

/** Longest name of a file and of an extended attribute. */
const NAME_BYTES_MAX = 255;
const ID_MAX = 2 ** 32 - 2;
const IDS = [0, 1, 1000, 65_533, 65_534, 65_535, 65_536, 2 ** 31 - 1, 2 ** 31, ID_MAX];
/**
 * The first and the last second that ext4 can store, and those where its epoch bits change. Left out are those that
 * e2fsck objects to, from 0x280000000 up to 0x300000000: it takes them for times before 1970 that an old kernel wrote.
 */
const SECONDS = [
  -(2 ** 31),
  -1,
  0,
  1,
  1_700_000_000,
  2 ** 31 - 1,
  2 ** 31,
  2 ** 32 - 1,
  2 ** 32,
  2 ** 33,
  2 ** 33 + 2 ** 31 - 1,
  2 ** 34 - 2 ** 31 - 1,
];
const NANOSECONDS = [0, 1, 500_000_000, 999_999_999];
/** Lengths around what fits behind an inode of 256 bytes, and around a block with its header. */
const XATTR_LENGTHS = [0, 1, 3, 4, 40, 60, 64, 68, 72, 76, 80, 500, 3900, 3996, 4000, 4040, 4096];
const BIG_XATTR_LENGTHS = [4097, 8192, 12_000, 65_535, 65_536];
const ACL_NO_ID = 2 ** 32 - 1;

/** What limits the extended attributes of a tree. */
export interface XattrLimits {
  /** Whether values may be longer than a block. */
  readonly allowsBig: boolean;
  /** Most bytes that all values of one inode may have together. */
  readonly valueBytesMax: number;
}

/** A name that a directory can hold: 1 to 255 bytes, anything but `/`, NUL, `.` and `..`. */
export function randomName(random: Random): ByteString {
  const length = random.pick([
    random.between(1, 4),
    random.between(1, 30),
    random.between(1, 30),
    random.between(200, NAME_BYTES_MAX),
    NAME_BYTES_MAX,
  ]);
  const style = random.below(4);
  const letters = random.bytes(length).map((byte) => {
    if (style === 0) return byte === 0 || byte === 0x2f ? 0xff : byte;
    if (style === 1) return 0x61 + (byte % 3);
    return 0x61 + (byte % 26);
  });
  const name = byteStringFromBytes(letters);
  if (random.chance(0.03)) {
    return random.pick(["...", " ", "-", "\n", ".hidden", "\xff", ".wh.kept", "a\tb", "*", "-rf"]);
  }
  return name === "." || name === ".." ? "dots" : name;
}

/** Attributes for a node of this kind. */
export function randomAttributes(
  random: Random,
  kind: TreeNode["kind"],
  limits: XattrLimits,
): NodeAttributes {
  const mode = randomMode(random, kind);
  const { xattrs, groupBits } = randomXattrs(random, kind, mode, limits);
  return {
    mode: groupBits === undefined ? mode : (mode & ~0o070) | (groupBits << 3),
    uid: randomId(random),
    gid: randomId(random),
    mtimeSeconds: random.chance(0.5) ? random.pick(SECONDS) : random.between(0, 2 ** 31),
    mtimeNanoseconds: random.chance(0.5) ? random.pick(NANOSECONDS) : random.below(1e9),
    xattrs,
  };
}

function randomMode(random: Random, kind: TreeNode["kind"]): number {
  if (kind === "symlink") return 0o777;
  if (random.chance(0.3)) return random.below(0o10000);
  return random.pick(
    kind === "directory" ? [0o755, 0o755, 0o1777, 0o2775] : [0o644, 0o755, 0o4755, 0o600],
  );
}

function randomId(random: Random): number {
  if (random.chance(0.5)) return 0;
  return random.chance(0.6) ? random.pick(IDS) : random.between(0, ID_MAX);
}

function randomXattrs(
  random: Random,
  kind: TreeNode["kind"],
  mode: number,
  limits: XattrLimits,
): { xattrs: Xattr[]; groupBits: number | undefined } {
  const byName = new Map<ByteString, Uint8Array>();
  let groupBits: number | undefined;
  if (random.chance(0.65)) return { xattrs: [], groupBits };
  let room = limits.valueBytesMax;
  const put = (name: ByteString, value: Uint8Array) => {
    if (value.length > room || byName.has(name)) return false;
    room -= value.length;
    byName.set(name, value);
    return true;
  };
  if (kind !== "symlink" && random.chance(0.3)) {
    groupBits = random.below(8);
    if (!put("system.posix_acl_access", randomAcl(random, mode, groupBits))) groupBits = undefined;
  }
  if (kind === "directory" && random.chance(0.3)) {
    put("system.posix_acl_default", randomAcl(random, 0o750, 5));
  }
  if (kind === "file" && random.chance(0.2)) put("security.capability", randomCapability(random));
  for (let i = random.below(6); i > 0; i--) {
    put(randomXattrName(random, kind), randomXattrValue(random, limits));
  }
  const xattrs = [...byName].map(([name, value]) => ({ name, value }));
  return { xattrs: xattrs.sort((a, b) => (a.name < b.name ? -1 : 1)), groupBits };
}

/** Only files and directories can have `user.` attributes. */
function randomXattrName(random: Random, kind: TreeNode["kind"]): ByteString {
  const prefixes = ["trusted.", "security.test-"];
  if (kind === "file" || kind === "directory") prefixes.push("user.", "user.");
  const prefix = random.pick(prefixes);
  const rest = randomName(random).slice(0, NAME_BYTES_MAX - prefix.length);
  return prefix + rest;
}

function randomXattrValue(random: Random, { allowsBig }: XattrLimits): Uint8Array {
  if (random.chance(0.4)) return random.bytes(random.below(100));
  const lengths = allowsBig && random.chance(0.3) ? BIG_XATTR_LENGTHS : XATTR_LENGTHS;
  // Few different values, so that equal blocks come up and can be shared.
  return new Uint8Array(random.pick(lengths)).fill(random.between(0, 2));
}

/** An ACL in the system call's format that agrees with the mode; `groupBits` is its mask. */
function randomAcl(random: Random, mode: number, groupBits: number): Uint8Array {
  const entries: [tag: number, permissions: number, id: number][] = [];
  const named = (tag: number, count: number) => {
    const ids = new Set(Array.from({ length: count }, () => randomId(random)));
    for (const id of [...ids].sort((a, b) => a - b)) entries.push([tag, random.below(8), id]);
  };
  const manyCount = random.chance(0.1) ? random.between(20, 300) : 1;
  entries.push([0x01, (mode >> 6) & 7, ACL_NO_ID]);
  named(0x02, manyCount);
  entries.push([0x04, random.below(8), ACL_NO_ID]);
  named(0x08, random.below(3));
  entries.push([0x10, groupBits, ACL_NO_ID], [0x20, mode & 7, ACL_NO_ID]);
  const view = new DataView(new ArrayBuffer(4 + 8 * entries.length));
  view.setUint32(0, 2, true);
  for (const [i, [tag, permissions, id]] of entries.entries()) {
    view.setUint16(4 + 8 * i, tag, true);
    view.setUint16(6 + 8 * i, permissions, true);
    view.setUint32(8 + 8 * i, id, true);
  }
  return new Uint8Array(view.buffer);
}

/** VFS_CAP_REVISION_2, or _3 with the user that it belongs to. */
function randomCapability(random: Random): Uint8Array {
  const rootId = random.chance(0.3) ? random.between(1, ID_MAX) : undefined;
  const view = new DataView(new ArrayBuffer(rootId === undefined ? 20 : 24));
  view.setUint32(0, (rootId === undefined ? 0x02000000 : 0x03000000) | random.below(2), true);
  for (const at of [4, 8, 12, 16]) {
    view.setUint32(at, random.below(at < 12 ? 2 ** 32 : 2 ** 9), true);
  }
  if (rootId !== undefined) view.setUint32(20, rootId, true);
  return new Uint8Array(view.buffer);
}
