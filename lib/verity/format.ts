/**
 * The format of a hash tree (superblock, shape, salt), the text that each tool needs to open one (the kernel,
 * veritysetup, systemd, containerd), and the signature of a root hash.
 *
 * The superblock is the one that veritysetup writes (cryptsetup wiki, "DMVerity", "Verity superblock format"): 512
 * bytes, little-endian, in a hash block of its own.
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
 * The levels of the tree follow it, from the root down (kernel documentation, admin-guide/device-mapper/verity.rst,
 * "Hash Tree"). Each hash block holds the digests of 128 blocks of the level below.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { alignUp, divCeil } from "../bytes/arithmetic.ts";
import { bytesFromByteString, byteStringFromBytes } from "../bytes/byte_string.ts";
import { InputError, invariant, optionError } from "../errors.ts";

/** The size of data blocks and of hash blocks. */
export const VERITY_BLOCK_BYTES = 4096;

/** The variable fields of a superblock. */
export interface VeritySuperblock {
  /** 16 bytes. */
  readonly uuid: Uint8Array;
  /** The number of 4096-byte blocks that the tree covers. */
  readonly dataBlocks: number;
  /** The salt, at most 256 bytes. */
  readonly salt: Uint8Array;
}

const MAGIC = "verity\0\0";
/** Fields with a fixed value. Hash type 1 puts the salt before the data; Chrome OS's type 0 puts it after. */
const CONSTANT_FIELDS = [
  ["version", 8, 1],
  ["hash type", 12, 1],
  ["data block size", 64, VERITY_BLOCK_BYTES],
  ["hash block size", 68, VERITY_BLOCK_BYTES],
] as const;
const ALGORITHM = "sha256";
const ALGORITHM_FIELD_BYTES = 32;

/** Encodes a superblock as a whole hash block. */
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

/** Whether the bytes start with the magic number of a superblock. */
export function hasVerityMagic(bytes: Uint8Array): boolean {
  return byteStringFromBytes(bytes, 0, MAGIC.length) === MAGIC;
}

/**
 * Reads a superblock.
 *
 * @param bytes at least 512 bytes
 * @param what the file's name in errors
 * @throws {InputError} when the bytes are not a superblock, or one with an unsupported version, type, algorithm or
 * block size
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

/** Keeps every offset in the data and the tree within the safe integers. */
const DATA_BLOCKS_MAX = Math.floor(Number.MAX_SAFE_INTEGER / (2 * VERITY_BLOCK_BYTES));

/** The size of the salt field in a superblock. */
export const SALT_BYTES_MAX = 256;

/** The length of the salts that veritysetup generates. */
export const SALT_BYTES = 32;

/**
 * The default salt: 32 zeros, as in hcsshim and containerd, so that all three give the same root hash for equal images.
 */
export const CONSTANT_SALT: Uint8Array = new Uint8Array(SALT_BYTES);

/**
 * Parses a salt in veritysetup's notation: hex digits, or `-` for an empty salt.
 *
 * @throws {UsageError} when the text is not hex, or the salt is longer than 256 bytes
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
/** The number of digests in one hash block. */
export const DIGESTS_PER_BLOCK: number = VERITY_BLOCK_BYTES / DIGEST_BYTES;

/** One level of the tree. */
export interface TreeLevel {
  /** The first block of the level, counted from the superblock, which is block 0. */
  readonly startBlock: number;
  /** The number of hash blocks. */
  readonly blockCount: number;
}

/** The sizes and positions of the parts of a hash tree. */
export interface TreeShape {
  /** The number of data blocks that the tree covers. */
  readonly dataBlocks: number;
  /**
   * From the digests of the data up to the level of a single block. Empty for one data block, whose digest is the root
   * hash.
   */
  readonly levels: readonly TreeLevel[];
  /** The size of superblock and tree together. */
  readonly sizeBytes: number;
}

/**
 * The shape of the tree over the given number of data blocks.
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
 * The largest number of data blocks that fits into `totalBlocks` together with its superblock and tree; 0 if nothing
 * fits.
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

/** The parameters of a finished tree. */
export interface VerityParameters {
  /** The root hash in hexadecimal, which authenticates the whole image. */
  readonly rootHash: string;
  /** The salt in hexadecimal; may be empty. */
  readonly salt: string;
  /** The UUID in the superblock, as text. */
  readonly uuid: string;
  /** The number of 4096-byte blocks that the tree covers. */
  readonly dataBlocks: number;
}

/** A tree in a report. */
export interface VerityReport extends VerityParameters {
  /** Where superblock and tree begin, in the image or in a separate file. */
  readonly hashOffset: number;
  /** The size of superblock and tree together. */
  readonly hashBytes: number;
}

/** The tools that can open a tree. */
export type VerityFormat = "kernel" | "veritysetup" | "systemd" | "containerd";

/** All formats. */
export const VERITY_FORMATS: readonly VerityFormat[] = [
  "kernel",
  "veritysetup",
  "systemd",
  "containerd",
];

/** The devices that hold the data and the tree. */
export interface VerityDevices {
  /** The name of the device-mapper device to create. */
  readonly name: string;
  /** The device that holds the data. */
  readonly dataDevice: string;
  /** The device that holds the tree; the data device if the tree follows the data. */
  readonly hashDevice: string;
}

/** The kernel's unit for device sizes. */
const SECTOR_BYTES = 512;

/** The text for one of the formats, ending with a newline. */
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
 * The device-mapper target line (kernel documentation, admin-guide/device-mapper/verity.rst, "Construction
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
  // The kernel does not read the superblock, so it needs the first block of the tree itself.
  const treeBlock = hashOffset / VERITY_BLOCK_BYTES + 1;
  const { dataDevice, hashDevice } = devices;
  return [
    `0 ${sectors} verity 1 ${dataDevice} ${hashDevice}`,
    `${VERITY_BLOCK_BYTES} ${VERITY_BLOCK_BYTES} ${dataBlocks} ${treeBlock}`,
    `sha256 ${rootHash} ${salt === "" ? "-" : salt}`,
  ].join(" ");
}

/** The kernel parameter that opens the device without an initial ramdisk (admin-guide/device-mapper/dm-init.rst). */
export function kernelArgument(report: VerityReport, devices: VerityDevices): string {
  return `dm-mod.create="${devices.name},,,ro,${deviceMapperTable(report, devices)}"`;
}

function veritysetupLine(report: VerityReport, devices: VerityDevices): string {
  const { dataDevice, name, hashDevice } = devices;
  const offset = report.hashOffset === 0 ? "" : ` --hash-offset=${report.hashOffset}`;
  return `veritysetup open ${dataDevice} ${name} ${hashDevice} ${report.rootHash}${offset}`;
}

/** A line of veritytab(5); systemd supports hash-offset since version 254. */
function veritytabLine(report: VerityReport, devices: VerityDevices): string {
  const { name, dataDevice, hashDevice } = devices;
  const offset = report.hashOffset === 0 ? "" : ` hash-offset=${report.hashOffset}`;
  return `${name} ${dataDevice} ${hashDevice} ${report.rootHash}${offset}`;
}

/** The file that containerd's EROFS snapshotter keeps beside a layer, `LAYER.dmverity`. */
function containerdMetadata({ rootHash, hashOffset }: VerityReport): string {
  return `${JSON.stringify({ roothash: rootHash, hashoffset: hashOffset }, undefined, 2)}\n`;
}

/**
 * Where systemd looks for the root hash of an image: in a file beside it, with `.roothash` in place of `.raw` or
 * appended to the name (systemd-dissect(1)).
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
 * Where systemd looks for a hash tree outside the image: the path of the root hash file, but ending in `.verity`
 * (systemd-dissect(1)).
 */
export function verityPath(imagePath: string): string {
  return besidePath(imagePath, "verity");
}

function besidePath(imagePath: string, ending: string): string {
  return `${imagePath.replace(/\.raw$/, "")}.${ending}`;
}

/**
 * The content of a verity signature partition (Discoverable Partitions Specification, "Verity"): a JSON object with the
 * root hash, its PKCS#7 signature and the fingerprint of the certificate, padded with zeros.
 */
export interface VeritySignature {
  /** The signed root hash, in lower-case hexadecimal. */
  readonly rootHash: string;
  /** The partition's content, padded with zeros to whole blocks. */
  readonly bytes: Uint8Array;
}

/** The largest signature that systemd reads. */
const SIGNATURE_BYTES_MAX = 4 << 20;

const WANTED = "wanted JSON with rootHash, signature and certificateFingerprint";

/**
 * Parses the JSON of a signature.
 *
 * @param name the file's name in errors
 * @throws {InputError} when the content is not such JSON
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
    // Content read back from a partition ends with zeros.
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
