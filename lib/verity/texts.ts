/**
 * The texts around a tree: what opens it (the kernel, veritysetup, systemd, containerd), and the signature of its root.
 *
 * @module
 */
import { alignUp } from "../bytes/arithmetic.ts";
import { InputError } from "../errors.ts";
import { VERITY_BLOCK_BYTES } from "./format.ts";
import type { VerityReport } from "./verity_sink.ts";

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
 * import { deviceMapperTable } from "./texts.ts";
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
 * import { rootHashPath } from "./texts.ts";
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
 * import { parseVeritySignature } from "./texts.ts";
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
