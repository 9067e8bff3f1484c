/**
 * Hashed directory index blocks (kernel documentation, "Hash Tree Directories"): dx_root in the directory's first
 * block, dx_node below it. Code that does not know them sees directory blocks without entries. The hashes are those of
 * fs/ext4/hash.c: legacy, half MD4 and TEA, each over signed or unsigned characters, which differ only for bytes of
 * 0x80 and above.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { rotateLeft } from "../../bytes/arithmetic.ts";
import { bytesFromByteString, type ByteString } from "../../bytes/byte_string.ts";
import { crc32c } from "../../bytes/crc32c.ts";
import { InputError, invariant } from "../../errors.ts";
import { checkChecksum, ZEROED_CHECKSUM } from "./checksum.ts";
import { DIRENT_TYPE, HASH_VERSION } from "./constants.ts";
import {
  decodeDirectoryEntries,
  encodeDirectoryEntry,
  encodeRecordLength,
  NAME_LENGTH_MAX,
} from "./directory.ts";
import { viewOf } from "./fields.ts";

/** A pointer to a directory block. */
export interface DxEntry {
  /**
   * The lowest hash in that block; bit 0 means that the previous block ends with the same hash. Ignored for entry 0.
   */
  readonly hash: number;
  readonly block: number;
}

interface DxNode {
  readonly entries: readonly DxEntry[];
  /** Whether the block ends with a checksum. */
  readonly checksummed: boolean;
}

interface DxRoot extends DxNode {
  readonly inodeNumber: number;
  readonly parentInodeNumber: number;
  /** A HASH_VERSION; signedness is a flag of the superblock. */
  readonly hashVersion: number;
  /** Levels of dx_node below the root. */
  readonly indirectLevels: number;
}

/** Where the limit, the count and the entries begin in the root. */
export const DX_ROOT_COUNT_OFFSET = 0x20;
/** Where the limit, the count and the entries begin in a node. */
export const DX_NODE_COUNT_OFFSET = 0x08;
/** Size of struct dx_entry, struct dx_countlimit and struct dx_tail. */
export const DX_ENTRY_SIZE_BYTES = 8;
/** Most levels below the root without LARGEDIR; one more with it. */
export const DX_INDIRECT_LEVELS_MAX = 1;

/** Offsets of the root's struct dx_root_info. */
const DX_ROOT_INFO_AT = {
  reserved: 0x18, // reserved_zero
  hashVersion: 0x1c, // hash_version
  infoLength: 0x1d, // info_length
  indirectLevels: 0x1e, // indirect_levels
  unusedFlags: 0x1f, // unused_flags
} as const;

const DX_ROOT_INFO_LENGTH = 8;
const DOT_RECORD_LENGTH = 12;

/** How many entries fit in a root or node: 507 and 510 at 4 KiB with checksums, one more without. */
export function dxEntriesMax(
  blockSizeBytes: number,
  options: { readonly countOffset: number; readonly checksummed: boolean },
): number {
  const room = Math.floor((blockSizeBytes - options.countOffset) / DX_ENTRY_SIZE_BYTES);
  return options.checksummed ? room - 1 : room;
}

/** Writes a root over a whole block; seal it with sealDxBlock(block, DX_ROOT_COUNT_OFFSET, inodeSeed). */
export function encodeDxRoot(block: Uint8Array, root: DxRoot): void {
  block.fill(0);
  encodeDirectoryEntry(block, 0, {
    inodeNumber: root.inodeNumber,
    recordLength: DOT_RECORD_LENGTH,
    name: ".",
    fileType: DIRENT_TYPE.DIRECTORY,
  });
  encodeDirectoryEntry(block, DOT_RECORD_LENGTH, {
    inodeNumber: root.parentInodeNumber,
    recordLength: block.length - DOT_RECORD_LENGTH,
    name: "..",
    fileType: DIRENT_TYPE.DIRECTORY,
  });
  block[DX_ROOT_INFO_AT.hashVersion] = root.hashVersion;
  block[DX_ROOT_INFO_AT.infoLength] = DX_ROOT_INFO_LENGTH;
  block[DX_ROOT_INFO_AT.indirectLevels] = root.indirectLevels;
  writeEntries(block, DX_ROOT_COUNT_OFFSET, root);
}

/** Writes a node over a whole block; seal it with sealDxBlock(block, DX_NODE_COUNT_OFFSET, inodeSeed). */
export function encodeDxNode(block: Uint8Array, node: DxNode): void {
  block.fill(0);
  viewOf(block).setUint16(4, encodeRecordLength(block.length), true);
  writeEntries(block, DX_NODE_COUNT_OFFSET, node);
}

function writeEntries(block: Uint8Array, countOffset: number, node: DxNode): void {
  const { entries, checksummed } = node;
  const limit = dxEntriesMax(block.length, { countOffset, checksummed });
  invariant(
    entries.length >= 1 && entries.length <= limit,
    `an index block with ${entries.length} of ${limit} entries`,
  );
  const view = viewOf(block);
  let at = countOffset;
  for (const entry of entries) {
    view.setUint32(at, entry.hash, true);
    view.setUint32(at + 4, entry.block, true);
    at += DX_ENTRY_SIZE_BYTES;
  }
  // The first entry needs no hash; limit and count take its place.
  view.setUint16(countOffset, limit, true);
  view.setUint16(countOffset + 2, entries.length, true);
}

/** Writes the checksum (dt_checksum) of an index block. `inodeSeed` is the directory's. */
export function sealDxBlock(block: Uint8Array, countOffset: number, inodeSeed: number): void {
  const { at, checksum } = dxChecksum(block, {
    countOffset,
    inodeSeed,
    what: "directory index block",
  });
  viewOf(block).setUint32(at, checksum, true);
}

interface DxChecksumOptions {
  readonly countOffset: number;
  readonly inodeSeed: number;
  readonly what: string;
}

/** Throws InputError, with `what` in it, if an index block's checksum is wrong. */
export function verifyDxBlock(block: Uint8Array, options: DxChecksumOptions): void {
  const { at, checksum } = dxChecksum(block, options);
  checkChecksum(options.what, viewOf(block).getUint32(at, true), checksum);
}

/**
 * The correct dt_checksum and its offset: after the room for entries, in struct dx_tail. It covers the entries in use,
 * dt_reserved, and zeros in its own place.
 */
function dxChecksum(block: Uint8Array, { countOffset, inodeSeed, what }: DxChecksumOptions) {
  const view = viewOf(block);
  const limit = view.getUint16(countOffset, true);
  const tail = countOffset + limit * DX_ENTRY_SIZE_BYTES;
  if (tail + DX_ENTRY_SIZE_BYTES > block.length) {
    throw new InputError(what, `its limit of ${limit} entries leaves no room for its checksum`);
  }
  const count = view.getUint16(countOffset + 2, true);
  const end = countOffset + count * DX_ENTRY_SIZE_BYTES;
  if (end > tail) throw new InputError(what, `its ${count} entries are more than its limit`);
  const reserved = block.subarray(tail, tail + 4);
  return {
    at: tail + 4,
    checksum: crc32c(inodeSeed, block.subarray(0, end), reserved, ZEROED_CHECKSUM),
  };
}

interface DxDecodeOptions {
  /** Whether the file system has metadata checksums; the limit must leave room for one. */
  readonly checksummed: boolean;
  readonly what: string;
}

/**
 * Reads a root. Throws InputError, with `what` in it, unless it has the entries "." and "..", a known hash, the exact
 * limit, and hashes in order. The caller checks the checksum (verifyDxBlock()).
 */
export function decodeDxRoot(block: Uint8Array, options: DxDecodeOptions): DxRoot {
  const { what } = options;
  const [dot, dotDot] = decodeDirectoryEntries(block, { start: 0, end: block.length, what });
  if (dot?.name !== "." || dot.recordLength !== DOT_RECORD_LENGTH || dotDot?.name !== "..") {
    throw new InputError(what, 'it does not begin with "." and ".."');
  }
  if (dotDot.recordLength !== block.length - DOT_RECORD_LENGTH) {
    throw new InputError(what, 'its entry ".." does not reach to the end of the block');
  }
  const view = viewOf(block);
  const hashVersion = view.getUint8(DX_ROOT_INFO_AT.hashVersion);
  const infoLength = view.getUint8(DX_ROOT_INFO_AT.infoLength);
  const indirectLevels = view.getUint8(DX_ROOT_INFO_AT.indirectLevels);
  if (
    view.getUint32(DX_ROOT_INFO_AT.reserved, true) !== 0 || infoLength !== DX_ROOT_INFO_LENGTH ||
    view.getUint8(DX_ROOT_INFO_AT.unusedFlags) !== 0
  ) {
    throw new InputError(what, "its reserved fields are in use");
  }
  if (hashVersion > HASH_VERSION.TEA) {
    throw new InputError(what, `its hash version ${hashVersion} is not supported`, {
      code: "unsupported",
    });
  }
  if (indirectLevels > DX_INDIRECT_LEVELS_MAX + 1) {
    throw new InputError(what, `it has ${indirectLevels} levels of nodes below it`);
  }
  return {
    inodeNumber: dot.inodeNumber,
    parentInodeNumber: dotDot.inodeNumber,
    hashVersion,
    indirectLevels,
    entries: readEntries(view, DX_ROOT_COUNT_OFFSET, options),
    checksummed: options.checksummed,
  };
}

/** Reads a node below the root; throws InputError as decodeDxRoot() does. */
export function decodeDxNode(block: Uint8Array, options: DxDecodeOptions): DxNode {
  const { what, checksummed } = options;
  const [unused] = decodeDirectoryEntries(block, { start: 0, end: block.length, what });
  if (unused?.inodeNumber !== 0 || unused.recordLength !== block.length) {
    throw new InputError(what, "it does not begin with one unused entry over the whole block");
  }
  return { entries: readEntries(viewOf(block), DX_NODE_COUNT_OFFSET, options), checksummed };
}

function readEntries(
  view: DataView<ArrayBufferLike>,
  countOffset: number,
  options: DxDecodeOptions,
): DxEntry[] {
  const { checksummed, what } = options;
  const limit = view.getUint16(countOffset, true);
  const count = view.getUint16(countOffset + 2, true);
  const wanted = dxEntriesMax(view.byteLength, { countOffset, checksummed });
  if (limit !== wanted) throw new InputError(what, `its limit is ${limit} entries, not ${wanted}`);
  if (count < 1 || count > limit) {
    throw new InputError(what, `it has ${count} entries, not 1 to ${limit}`);
  }
  const entries: DxEntry[] = [];
  let previousHash = 0;
  for (let i = 0; i < count; i++) {
    const at = countOffset + i * DX_ENTRY_SIZE_BYTES;
    const hash = i === 0 ? 0 : view.getUint32(at, true);
    if (hash < previousHash) throw new InputError(what, `entry ${i} is not in the order of hashes`);
    previousHash = hash;
    entries.push({ hash, block: view.getUint32(at + 4, true) });
  }
  return entries;
}

/** s_hash_seed of images made by this program: any constant but zero. These are the first digits of pi. */
export const HASH_SEED: readonly number[] = [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344];

/** What the hash depends on besides the name. */
export interface DirectoryHashOptions {
  readonly version: number;
  /** s_hash_seed, 4 words; all zeros select MD4's start values. The legacy hash ignores it. */
  readonly seed: readonly number[];
  /** Whether bytes are signed (SUPERBLOCK_FLAG.SIGNED_HASH). */
  readonly signed: boolean;
}

/** A name's place in an index. */
export interface DirectoryHash {
  /** The hash with bit 0 clear; in index entries that bit marks a collision. */
  readonly hash: number;
  /** The second half, which orders names with equal hashes; 0 for the legacy hash. */
  readonly minor: number;
}

type Words = [number, number, number, number];

/** Readers of a directory use this hash as its end, so no name may have it. */
const END_OF_DIRECTORY_HASH = 0xfffffffe;
const LAST_NAME_HASH = 0xfffffffc;

const MD4_START: Readonly<Words> = [0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476];
/** Octal 013240474631 and 015666365641 in RFC 1320: the square roots of 2 and 3. */
const MD4_ROUND_2 = 0x5a827999;
const MD4_ROUND_3 = 0x6ed9eba1;
/** 2^32 divided by the golden ratio. */
const TEA_DELTA = 0x9e3779b9;
const TEA_ROUNDS = 16;

/** The hash of a name. Throws InputError for an unsupported version. */
export function directoryHash(name: ByteString, options: DirectoryHashOptions): DirectoryHash {
  if (name.length > NAME_LENGTH_MAX) invariant(false, `a name of ${name.length} bytes`);
  const raw = rawHash(name, options);
  const even = (raw.hash & ~1) >>> 0;
  return { hash: even === END_OF_DIRECTORY_HASH ? LAST_NAME_HASH : even, minor: raw.minor };
}

function rawHash(name: ByteString, options: DirectoryHashOptions): DirectoryHash {
  switch (options.version) {
    case HASH_VERSION.LEGACY:
      return { hash: legacyHash(name, options.signed), minor: 0 };
    case HASH_VERSION.HALF_MD4:
      return halfMd4Hash(name, options);
    case HASH_VERSION.TEA:
      return teaHash(name, options);
    default:
      throw new InputError("directory index", `hash version ${options.version} is not supported`, {
        code: "unsupported",
      });
  }
}

function startWords(seed: readonly number[]): Words {
  if (seed.length !== 4) invariant(false, `a hash seed of ${seed.length} words`);
  const [a, b, c, d] = seed as Readonly<Words>;
  if ((a | b | c | d) === 0) return [...MD4_START];
  return [a, b, c, d];
}

function characterAt(name: ByteString, index: number, signed: boolean): number {
  const byte = name.charCodeAt(index);
  return signed && byte >= 0x80 ? byte - 0x100 : byte;
}

/** The hash of the first directory index patches, for Linux 2.4. */
function legacyHash(name: ByteString, signed: boolean): number {
  let previous = 0x37abe8f9;
  let current = 0x12a3fe2d;
  for (let i = 0; i < name.length; i++) {
    const mixed = current ^ Math.imul(characterAt(name, i, signed), 7152373);
    let next = (previous + mixed) >>> 0;
    if (next >= 0x80000000) next -= 0x7fffffff;
    previous = current;
    current = next;
  }
  return (current << 1) >>> 0;
}

const md4Chunk = new Int32Array(8);

function halfMd4Hash(name: ByteString, options: DirectoryHashOptions): DirectoryHash {
  const words = startWords(options.seed);
  const chunk = md4Chunk;
  for (let at = 0; at < name.length; at += 32) {
    fillWords(chunk, name, at, options.signed);
    halfMd4(words, chunk);
  }
  return { hash: words[1] >>> 0, minor: words[2] >>> 0 };
}

function teaHash(name: ByteString, options: DirectoryHashOptions): DirectoryHash {
  const words = startWords(options.seed);
  const chunk = new Int32Array(4);
  for (let at = 0; at < name.length; at += 16) {
    fillWords(chunk, name, at, options.signed);
    tea(words, chunk);
  }
  return { hash: words[0] >>> 0, minor: words[1] >>> 0 };
}

/**
 * Packs the name from `at` on into words, four characters per word, the first one highest. Past the end of the name,
 * each missing character is the length of the rest of the name; a signed character borrows from those before it.
 */
function fillWords(chunk: Int32Array, name: ByteString, at: number, signed: boolean): void {
  const remaining = name.length - at;
  const padding = Math.imul(remaining, 0x01010101);
  for (let word = 0; word < chunk.length; word++) {
    const start = word * 4;
    const end = Math.min(start + 4, remaining);
    let value = padding;
    for (let i = start; i < end; i++) {
      value = (characterAt(name, at + i, signed) + (value << 8)) | 0;
    }
    chunk[word] = value;
  }
}

/** Rotation of each step of a round and, for the second and third rounds, the indexes of the words that it takes. */
const MD4_SHIFTS_1 = Int32Array.of(3, 7, 11, 19);
const MD4_SHIFTS_2 = Int32Array.of(3, 5, 9, 13);
const MD4_SHIFTS_3 = Int32Array.of(3, 9, 11, 15);
const MD4_ORDER_2 = Int32Array.of(1, 3, 5, 7, 0, 2, 4, 6);
const MD4_ORDER_3 = Int32Array.of(3, 7, 2, 6, 1, 5, 0, 4);

/**
 * MD4 (RFC 1320) reduced to eight steps per round. Every name of every directory goes through it, so each round is a
 * loop of its own with its function inlined. A step works on the previous word: the variables' roles rotate instead of
 * their values.
 */
function halfMd4(words: Words, chunk: Int32Array): void {
  let a = words[0];
  let b = words[1];
  let c = words[2];
  let d = words[3];
  for (let step = 0; step < 8; step++) {
    const sum = (a + (d ^ (b & (c ^ d))) + chunk[step]!) | 0;
    a = d;
    d = c;
    c = b;
    b = rotateLeft(sum, MD4_SHIFTS_1[step & 3]!);
  }
  for (let step = 0; step < 8; step++) {
    const sum = (a + ((b & c) | ((b ^ c) & d)) + chunk[MD4_ORDER_2[step]!]! + MD4_ROUND_2) | 0;
    a = d;
    d = c;
    c = b;
    b = rotateLeft(sum, MD4_SHIFTS_2[step & 3]!);
  }
  for (let step = 0; step < 8; step++) {
    const sum = (a + (b ^ c ^ d) + chunk[MD4_ORDER_3[step]!]! + MD4_ROUND_3) | 0;
    a = d;
    d = c;
    c = b;
    b = rotateLeft(sum, MD4_SHIFTS_3[step & 3]!);
  }
  words[0] = (words[0] + a) | 0;
  words[1] = (words[1] + b) | 0;
  words[2] = (words[2] + c) | 0;
  words[3] = (words[3] + d) | 0;
}

/** The Tiny Encryption Algorithm with the name as its key, in sixteen rounds. */
function tea(words: Words, key: Int32Array): void {
  const [k0 = 0, k1 = 0, k2 = 0, k3 = 0] = key;
  let [left, right] = words;
  let sum = 0;
  for (let round = 0; round < TEA_ROUNDS; round++) {
    sum = (sum + TEA_DELTA) | 0;
    left = (left + (((right << 4) + k0) ^ (right + sum) ^ ((right >>> 5) + k1))) | 0;
    right = (right + (((left << 4) + k2) ^ (left + sum) ^ ((left >>> 5) + k3))) | 0;
  }
  words[0] = (words[0] + left) | 0;
  words[1] = (words[1] + right) | 0;
}

/** The shortest encrypted name (FSCRYPT_FNAME_MIN_MSG_LEN). */
export const CIPHERTEXT_BYTES_MIN = 16;
/** The rest of a longer name is hashed. */
const KEPT_BYTES = 149;

/**
 * The kernel's stand-in for an encrypted name, which lets it be listed, looked up and removed without the key (struct
 * fscrypt_nokey_name, fs/crypto/fname.c; kernel documentation, "Filesystem-level encryption"): the directory index's
 * hashes, then the encrypted name, in base64url.
 *
 * @param hash of the name; zeros if the directory is not read by hashes, and for symlink targets
 */
export function noKeyName(ciphertext: ByteString, hash: DirectoryHash): ByteString {
  const bytes = bytesFromByteString(ciphertext);
  const hashes = new Uint8Array(8);
  viewOf(hashes).setUint32(0, hash.hash, true);
  viewOf(hashes).setUint32(4, hash.minor, true);
  const parts: Uint8Array[] = [hashes, bytes.subarray(0, KEPT_BYTES)];
  if (bytes.length > KEPT_BYTES) {
    parts.push(createHash("sha256").update(bytes.subarray(KEPT_BYTES)).digest());
  }
  return Buffer.concat(parts).toString("base64url");
}
