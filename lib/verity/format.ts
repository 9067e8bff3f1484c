/**
 * The format of a hash tree: superblock, shape, salt; and the texts around it: what opens it (the kernel, veritysetup,
 * systemd, containerd), and the signature of its root.
 *
 * The superblock is what veritysetup writes (cryptsetup wiki, "DMVerity", "Verity superblock format"): 512 bytes,
 * little-endian, in a hash block of its own.
 *
 * | offset | bytes | is                                           |
 * | ------ | ----- | -------------------------------------------- |
 * | 0      | 8     | "verity", two zeros                          |
 * | 8      | 4     | version of the superblock, 1                 |
 * | 12     | 4     | hash type: 1, the salt comes before the data |
 * | 16     | 16    | UUID                                         |
 * | 32     | 32    | hash algorithm, padded with zeros            |
 * | 64     | 4     | data block size                              |
 * | 68     | 4     | hash block size                              |
 * | 72     | 8     | number of data blocks                        |
 * | 80     | 2     | length of the salt                           |
 * | 88     | 256   | salt, padded with zeros                      |
 *
 * Behind it are the levels of the tree from the root down (kernel documentation, admin-guide/device-mapper/verity.rst,
 * "Hash Tree"). Each hash block holds the digests of 128 blocks below it.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { alignUp, divCeil } from "../bytes/arithmetic.ts";
import { bytesFromByteString, byteStringFromBytes } from "../bytes/byte_string.ts";
import { InputError, invariant, optionError } from "../errors.ts";

/** Data blocks and hash blocks are both this long. */
export const VERITY_BLOCK_BYTES = 4096;

/** What a superblock says, as far as it can differ. */
export interface VeritySuperblock {
  /** 16 bytes. */
  readonly uuid: Uint8Array;
  /** How many blocks of 4096 bytes the tree covers. */
  readonly dataBlocks: number;
  /** At most 256 bytes. */
  readonly salt: Uint8Array;
}

const MAGIC = "verity\0\0";
/** Fields that have one value. Hash type 1 puts the salt before the data; Chrome OS's type 0 has it behind. */
const CONSTANT_FIELDS = [
  ["version", 8, 1],
  ["hash type", 12, 1],
  ["data block size", 64, VERITY_BLOCK_BYTES],
  ["hash block size", 68, VERITY_BLOCK_BYTES],
] as const;
const ALGORITHM = "sha256";
const ALGORITHM_FIELD_BYTES = 32;

/** The hash block that holds the superblock. */
export function encodeVeritySuperblock(superblock: VeritySuperblock): Uint8Array {
  const { uuid, dataBlocks, salt } = superblock;
  invariant(uuid.length === 16, `a UUID of ${uuid.length} bytes`);
  invariant(salt.length <= SALT_BYTES_MAX, `a salt of ${salt.length} bytes`);
  const block = new Uint8Array(VERITY_BLOCK_BYTES);
  const view = new DataView(block.buffer);
  block.set(bytesFromByteString(MAGIC), 0);
  for (const [, at, value] of CONSTANT_FIELDS) view.setUint32(at, value, true);
  block.set(uuid, 16);
  block.set(bytesFromByteString(ALGORITHM), 32);
  view.setBigUint64(72, BigInt(dataBlocks), true);
  view.setUint16(80, salt.length, true);
  block.set(salt, 88);
  return block;
}

/** Whether a superblock begins here. */
export function hasVerityMagic(bytes: Uint8Array): boolean {
  return byteStringFromBytes(bytes, 0, MAGIC.length) === MAGIC;
}

/**
 * Reads a superblock.
 *
 * @param bytes at least 512
 * @param what names the file in errors
 * @throws {InputError} when it is not one, or has a version, type, algorithm or block size that is not supported
 */
export function decodeVeritySuperblock(bytes: Uint8Array, what: string): VeritySuperblock {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const wrong = (field: string, found: string | number, wanted: string | number) =>
    new InputError(what, `the ${field} of the verity superblock is ${found}: wanted ${wanted}`);
  if (!hasVerityMagic(bytes)) {
    throw new InputError(what, "has no verity superblock where one was expected", {
      code: "wrongKind",
    });
  }
  for (const [field, at, wanted] of CONSTANT_FIELDS) {
    const found = view.getUint32(at, true);
    if (found !== wanted) throw wrong(field, found, wanted);
  }
  const algorithm = byteStringFromBytes(bytes, 32, 32 + ALGORITHM_FIELD_BYTES).replace(/\0+$/, "");
  if (algorithm !== ALGORITHM) {
    throw wrong("algorithm", JSON.stringify(algorithm.replace(/[^\x20-\x7e]/g, "?")), ALGORITHM);
  }
  const dataBlocks = view.getBigUint64(72, true);
  if (dataBlocks < 1n || dataBlocks > BigInt(DATA_BLOCKS_MAX)) {
    throw wrong("number of data blocks", String(dataBlocks), `1 to ${DATA_BLOCKS_MAX}`);
  }
  const saltBytes = view.getUint16(80, true);
  if (saltBytes > SALT_BYTES_MAX) throw wrong("length of the salt", saltBytes, "at most 256");
  return {
    uuid: bytes.slice(16, 32),
    dataBlocks: Number(dataBlocks),
    salt: bytes.slice(88, 88 + saltBytes),
  };
}

/** 8 EiB of data less one block: every offset in tree and data is a safe number. */
const DATA_BLOCKS_MAX = Math.floor(Number.MAX_SAFE_INTEGER / (2 * VERITY_BLOCK_BYTES));

/** A superblock has room for no more. */
export const SALT_BYTES_MAX = 256;

/** How long a salt of veritysetup is. */
export const SALT_BYTES = 32;

/**
 * The salt that is used where none is named: 32 zeros, as hcsshim and containerd have it, so that equal images have the
 * same root hash whichever of the three made the tree.
 */
export const CONSTANT_SALT: Uint8Array = new Uint8Array(SALT_BYTES);

/**
 * Reads a salt: hex digits, or `-` for none, as veritysetup writes it.
 *
 * @throws {UsageError} when it is not hex, or longer than 256 bytes
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { parseSalt } from "./format.ts";
 * assertEquals(parseSalt("00ff"), Uint8Array.of(0, 255));
 * assertEquals(parseSalt("-").length, 0);
 * ```
 */
export function parseSalt(text: string): Uint8Array {
  if (text === "-") return new Uint8Array(0);
  if (!/^(?:[0-9a-f]{2})+$/i.test(text)) {
    throw optionError("veritySalt", `wanted pairs of hex digits, found ${quoted(text)}`);
  }
  if (text.length > 2 * SALT_BYTES_MAX) {
    throw optionError(
      "veritySalt",
      `wanted at most ${SALT_BYTES_MAX} bytes, found ${text.length / 2}`,
    );
  }
  return new Uint8Array(Buffer.from(text, "hex"));
}

function quoted(text: string): string {
  const shown = text.replace(/[^\x20-\x7e]/g, "?");
  return `"${shown.length > 40 ? `${shown.slice(0, 40)}...` : shown}"`;
}

export const DIGEST_BYTES = 32;
/** Digests that one hash block holds. */
export const DIGESTS_PER_BLOCK: number = VERITY_BLOCK_BYTES / DIGEST_BYTES;

/** Hash blocks that lie at the same distance from the data. */
export interface TreeLevel {
  /** Counted from the superblock, which is block 0. */
  readonly startBlock: number;
  /** How many there are. */
  readonly blockCount: number;
}

/** Sizes and places of a hash tree. */
export interface TreeShape {
  /** How many blocks of data the tree is over. */
  readonly dataBlocks: number;
  /** The first has the digests of the data, the last is one block. None for one data block: its digest is the root. */
  readonly levels: readonly TreeLevel[];
  /** Of superblock and tree together. */
  readonly sizeBytes: number;
}

/**
 * The shape of the tree over so many data blocks.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { treeShape } from "./format.ts";
 * assertEquals(treeShape(129).levels, [
 *   { startBlock: 2, blockCount: 2 },
 *   { startBlock: 1, blockCount: 1 },
 * ]);
 * ```
 */
export function treeShape(dataBlocks: number): TreeShape {
  const counts: number[] = [];
  for (let blocks = dataBlocks; blocks > 1;) {
    blocks = divCeil(blocks, DIGESTS_PER_BLOCK);
    counts.push(blocks);
  }
  const levels: TreeLevel[] = [];
  let startBlock = 1;
  for (const blockCount of counts.reverse()) {
    levels.unshift({ startBlock, blockCount });
    startBlock += blockCount;
  }
  return { dataBlocks, levels, sizeBytes: startBlock * VERITY_BLOCK_BYTES };
}

/**
 * How many data blocks can have their tree, and its superblock, behind them within so many blocks in all.
 * 0 when there is no room for both.
 */
export function dataBlocksWithin(totalBlocks: number): number {
  let low = 0;
  let high = Math.max(totalBlocks, 0);
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    const blocks = middle + treeShape(middle).sizeBytes / VERITY_BLOCK_BYTES;
    if (blocks <= totalBlocks) low = middle;
    else high = middle - 1;
  }
  return low;
}

/** What is known of a finished tree. */
export interface VerityParameters {
  /** In hexadecimal: what proves the whole image. */
  readonly rootHash: string;
  /** In hexadecimal; empty for none. */
  readonly salt: string;
  /** Of the superblock, in its usual form. */
  readonly uuid: string;
  /** How many blocks of 4096 bytes are covered. */
  readonly dataBlocks: number;
}

/** What a report says of a tree. */
export interface VerityReport extends VerityParameters {
  /** Where superblock and tree begin, in the image or in the file of their own. */
  readonly hashOffset: number;
  /** How long both are. */
  readonly hashBytes: number;
}

/** What opens a tree. */
export type VerityFormat = "kernel" | "veritysetup" | "systemd" | "containerd";

/** Each of them. */
export const VERITY_FORMATS: readonly VerityFormat[] = [
  "kernel",
  "veritysetup",
  "systemd",
  "containerd",
];

/** Where data and tree will be found. */
export interface VerityDevices {
  /** Of the device that is made. */
  readonly name: string;
  /** Holds the data. */
  readonly dataDevice: string;
  /** Holds the tree; the same when it is behind the data. */
  readonly hashDevice: string;
}

/** The kernel counts devices in sectors. */
const SECTOR_BYTES = 512;

/** The text for one of them, with a line end. */
export function verityText(
  format: VerityFormat,
  report: VerityReport,
  devices: VerityDevices,
): string {
  switch (format) {
    case "kernel":
      return `${kernelArgument(report, devices)}\n`;
    case "veritysetup":
      return `${veritysetupLine(report, devices)}\n`;
    case "systemd":
      return `${veritytabLine(report, devices)}\n`;
    case "containerd":
      return containerdMetadata(report);
  }
}

/**
 * The target line of device-mapper (kernel documentation, admin-guide/device-mapper/verity.rst, "Construction
 * Parameters").
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { deviceMapperTable } from "./format.ts";
 * const report = {
 *   rootHash: "ab",
 *   salt: "00",
 *   uuid: "",
 *   dataBlocks: 2,
 *   hashOffset: 8192,
 *   hashBytes: 8192,
 * };
 * const devices = { name: "root", dataDevice: "/dev/vda", hashDevice: "/dev/vda" };
 * assertEquals(
 *   deviceMapperTable(report, devices),
 *   "0 16 verity 1 /dev/vda /dev/vda 4096 4096 2 3 sha256 ab 00",
 * );
 * ```
 */
export function deviceMapperTable(report: VerityReport, devices: VerityDevices): string {
  const { dataBlocks, hashOffset, rootHash, salt } = report;
  const sectors = dataBlocks * (VERITY_BLOCK_BYTES / SECTOR_BYTES);
  // The kernel wants the tree's first block: it does not read the superblock.
  const treeBlock = hashOffset / VERITY_BLOCK_BYTES + 1;
  const { dataDevice, hashDevice } = devices;
  return [
    `0 ${sectors} verity 1 ${dataDevice} ${hashDevice}`,
    `${VERITY_BLOCK_BYTES} ${VERITY_BLOCK_BYTES} ${dataBlocks} ${treeBlock}`,
    `sha256 ${rootHash} ${salt === "" ? "-" : salt}`,
  ].join(" ");
}

/** The kernel's own way, without an initial ramdisk (admin-guide/device-mapper/dm-init.rst). */
export function kernelArgument(report: VerityReport, devices: VerityDevices): string {
  return `dm-mod.create="${devices.name},,,ro,${deviceMapperTable(report, devices)}"`;
}

function veritysetupLine(report: VerityReport, devices: VerityDevices): string {
  const { dataDevice, name, hashDevice } = devices;
  const offset = report.hashOffset === 0 ? "" : ` --hash-offset=${report.hashOffset}`;
  return `veritysetup open ${dataDevice} ${name} ${hashDevice} ${report.rootHash}${offset}`;
}

/** veritytab(5); hash-offset is known from systemd 254 on. */
function veritytabLine(report: VerityReport, devices: VerityDevices): string {
  const { name, dataDevice, hashDevice } = devices;
  const offset = report.hashOffset === 0 ? "" : ` hash-offset=${report.hashOffset}`;
  return `${name} ${dataDevice} ${hashDevice} ${report.rootHash}${offset}`;
}

/** What containerd's EROFS snapshotter keeps beside a layer, as `LAYER.dmverity`. */
function containerdMetadata({ rootHash, hashOffset }: VerityReport): string {
  return `${JSON.stringify({ roothash: rootHash, hashoffset: hashOffset }, undefined, 2)}\n`;
}

/**
 * Where systemd looks for the root hash of an image: beside it, `.roothash` in place of `.raw` or behind the name
 * (systemd-dissect(1)).
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { rootHashPath } from "./format.ts";
 * assertEquals(rootHashPath("vm.raw"), "vm.roothash");
 * assertEquals(rootHashPath("vm.ext4"), "vm.ext4.roothash");
 * ```
 */
export function rootHashPath(imagePath: string): string {
  return besidePath(imagePath, "roothash");
}

/**
 * Where systemd looks for the hash tree of an image that is not behind it: named as the file of the root hash, with
 * `.verity` (systemd-dissect(1)).
 */
export function verityPath(imagePath: string): string {
  return besidePath(imagePath, "verity");
}

function besidePath(imagePath: string, ending: string): string {
  return `${imagePath.replace(/\.raw$/, "")}.${ending}`;
}

/**
 * What a verity signature partition holds (Discoverable Partitions Specification, "Verity"): a JSON object with the root
 * hash, its PKCS#7 signature and the fingerprint of the certificate, and zeros behind it.
 */
export interface VeritySignature {
  /** That was signed, in lower-case hexadecimal. */
  readonly rootHash: string;
  /** The partition, padded with zeros to whole blocks. */
  readonly bytes: Uint8Array;
}

/** systemd reads no larger ones. */
const SIGNATURE_BYTES_MAX = 4 << 20;

const WANTED = "wanted JSON with rootHash, signature and certificateFingerprint";

/**
 * Reads the JSON of a signature.
 *
 * @param name of the file, for errors
 * @throws {InputError} when it is not such JSON
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { parseVeritySignature } from "./format.ts";
 * const rootHash = "0".repeat(64);
 * const text = JSON.stringify({ rootHash, signature: "AAAA", certificateFingerprint: rootHash });
 * assertEquals(parseVeritySignature(new TextEncoder().encode(text), "sig").bytes.length, 4096);
 * ```
 */
export function parseVeritySignature(content: Uint8Array, name: string): VeritySignature {
  if (content.length > SIGNATURE_BYTES_MAX) {
    throw new InputError(
      name,
      `has ${content.length} bytes: wanted at most ${SIGNATURE_BYTES_MAX}`,
      { code: "limitExceeded" },
    );
  }
  const document = parseObject(content, name);
  const rootHash = hexField(document, "rootHash", name);
  hexField(document, "certificateFingerprint", name);
  const signature = document["signature"];
  const isBase64 = typeof signature === "string" && signature.length > 0 &&
    /^[A-Za-z0-9+/]+={0,2}$/.test(signature);
  if (!isBase64) {
    throw new InputError(name, "`signature` is not base64: wanted that of PKCS#7 in DER");
  }
  const bytes = new Uint8Array(alignUp(content.length, VERITY_BLOCK_BYTES));
  bytes.set(content);
  return { rootHash, bytes };
}

function parseObject(content: Uint8Array, name: string): Readonly<Record<string, unknown>> {
  let document: unknown;
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(content);
    // A partition that was read back has zeros behind it.
    document = JSON.parse(text.replace(/\0+$/, ""));
  } catch (cause) {
    throw new InputError(name, `is not JSON: ${WANTED}`, {
      hint: "the certificate's fingerprint is `openssl x509 -fingerprint -sha256`, without colons",
      cause,
    });
  }
  if (typeof document !== "object" || document === null || Array.isArray(document)) {
    throw new InputError(name, `is not a JSON object: ${WANTED}`);
  }
  return document as Readonly<Record<string, unknown>>;
}

function hexField(
  document: Readonly<Record<string, unknown>>,
  key: string,
  name: string,
): string {
  const value = document[key];
  if (typeof value === "string" && /^[0-9a-f]{64}$/i.test(value)) return value.toLowerCase();
  const found = value === undefined ? "is missing" : "is not a SHA-256 in hexadecimal";
  throw new InputError(name, `\`${key}\` ${found}: ${WANTED}`);
}
