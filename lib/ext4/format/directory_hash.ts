/**
 * The hashes of directory indexes (kernel documentation, "Hash Tree Directories"; fs/ext4/hash.c): the legacy hash, half
 * MD4 and TEA, each over signed or unsigned characters. Signedness matters for bytes of 0x80 and more only.
 *
 * @module
 */
import { rotateLeft } from "../../bytes/arithmetic.ts";
import type { ByteString } from "../../bytes/byte_string.ts";
import { InputError, invariant } from "../../errors.ts";
import { HASH_VERSION } from "./constants.ts";
import { NAME_LENGTH_MAX } from "./directory.ts";

/** What the hash depends on beside the name. */
export interface DirectoryHashOptions {
  /** A HASH_VERSION. */
  readonly version: number;
  /** s_hash_seed, 4 words; all zero stands for MD4's start values. The legacy hash ignores it. */
  readonly seed: readonly number[];
  /** Whether bytes are signed (SUPERBLOCK_FLAG.SIGNED_HASH). */
  readonly signed: boolean;
}

/** A name's place in an index. */
export interface DirectoryHash {
  /** The hash with bit 0 clear: that bit of an index entry marks a collision. */
  readonly hash: number;
  /** The second half, which orders names of equal hash; 0 with the legacy hash. */
  readonly minor: number;
}

/** The four words that a hash works on. */
type Words = [number, number, number, number];

/** Readers of a directory use this hash for its end, so no name may have it. */
const END_OF_DIRECTORY_HASH = 0xfffffffe;
const LAST_NAME_HASH = 0xfffffffc;

const MD4_START: Readonly<Words> = [0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476];
/** Octal 013240474631 and 015666365641 in RFC 1320: the square roots of 2 and 3. */
const MD4_ROUND_2 = 0x5a827999;
const MD4_ROUND_3 = 0x6ed9eba1;
/** 2^32 divided by the golden ratio. */
const TEA_DELTA = 0x9e3779b9;
const TEA_ROUNDS = 16;

/**
 * The hash of a name. Throws InputError for a version that is not one of the three.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { directoryHash } from "./directory_hash.ts";
 * const options = { version: 1, seed: [0, 0, 0, 0], signed: false };
 * assertEquals(directoryHash("etc", options).hash & 1, 0);
 * ```
 */
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
      throw new InputError("directory index", `hash version ${options.version} is not supported`);
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

/** Linux 2.4's hash, of the first patches for directory indexes. */
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

/** Used again for each name. */
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
 * Turns the name from `at` on into words, four characters a word and the first one highest. Where the name ends, the
 * missing characters are the length of what was left of it, repeated; a signed character borrows from those before it.
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

/** How far each step of a round rotates, and, of the second and third, which of the eight words it takes. */
const MD4_SHIFTS_1 = Int32Array.of(3, 7, 11, 19);
const MD4_SHIFTS_2 = Int32Array.of(3, 5, 9, 13);
const MD4_SHIFTS_3 = Int32Array.of(3, 9, 11, 15);
const MD4_ORDER_2 = Int32Array.of(1, 3, 5, 7, 0, 2, 4, 6);
const MD4_ORDER_3 = Int32Array.of(3, 7, 2, 6, 1, 5, 0, 4);

/**
 * MD4 (RFC 1320) cut down to eight steps a round. Every name of every directory goes through it: each round is a loop of
 * its own, with its function in place. A step works on the word before: the names rotate instead of the words.
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

/** The Tiny Encryption Algorithm with the name as its key, sixteen rounds. */
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
