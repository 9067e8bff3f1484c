/**
 * What a tree is opened with, as those who open it want to be told: the kernel, veritysetup, systemd, containerd.
 *
 * @module
 */
import { VERITY_BLOCK_BYTES } from "./format.ts";
import type { VerityReport } from "./verity_sink.ts";

/** Who is told. */
export const VERITY_FORMATS: readonly VerityFormat[] = [
  "kernel",
  "veritysetup",
  "systemd",
  "containerd",
];

/** Who is told. */
export type VerityFormat = "kernel" | "veritysetup" | "systemd" | "containerd";

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
  // The kernel is told where the tree begins: it does not read the superblock.
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
  const offset = report.hashOffset === 0 ? [] : [`--hash-offset=${report.hashOffset}`];
  return ["veritysetup", "open", dataDevice, name, hashDevice, report.rootHash, ...offset].join(
    " ",
  );
}

/** veritytab(5); hash-offset is known from systemd 254 on. */
function veritytabLine(report: VerityReport, devices: VerityDevices): string {
  const { name, dataDevice, hashDevice } = devices;
  const offset = report.hashOffset === 0 ? [] : [`hash-offset=${report.hashOffset}`];
  return [name, dataDevice, hashDevice, report.rootHash, ...offset].join(" ");
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
