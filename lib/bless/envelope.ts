/**
 * What surrounds a file system: its dm-verity tree, a disk with partitions, the footer of a VHD. Everything is written
 * in one ascending pass, and every size is known before the first byte.
 *
 * PARTUUIDs are derived from the root hash and are stored at the start of a disk. Unless the sink can rewrite the
 * start, a disk with a hash tree is therefore made in two passes: one to hash, one to write.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { setImmediate } from "node:timers/promises";
import { alignDown } from "../bytes/arithmetic.ts";
import { derivedUuid, formatUuid } from "../bytes/digest.ts";
import {
  checkVhdSize,
  layOutDisk,
  PARTITION_ALIGNMENT_BYTES,
  type PartitionWriter,
  roomOnDisk,
  VHD_FOOTER_BYTES,
  vhdSink,
  writeDisk,
} from "../disk/disk_layout.ts";
import { type Gpt, type PartitionRole, partitionType, SECTOR_BYTES } from "../disk/gpt.ts";
import {
  dataBlocksWithin,
  treeShape,
  VERITY_BLOCK_BYTES,
  type VerityReport,
  type VeritySignature,
} from "../verity/format.ts";
import { InputError, optionError, throwIfAborted } from "../errors.ts";
import { withoutStubGroup } from "../ext4/plan/groups.ts";
import type { ImagePlan } from "../ext4/plan/image_plan.ts";
import { CellCounter, writeImage, type WriteOptions } from "../ext4/write/write_image.ts";
import { type RandomReader, readExactly } from "../io/random_reader.ts";
import { type ImageSink, teeSink, writingAgain } from "../io/sink.ts";
import type { ThreadOptions } from "../io/thread.ts";
import { BLOCK_SIZE_BYTES } from "../model/node.ts";
import { NO_PROGRESS, type Progress, type ProgressTask } from "../progress.ts";
import type { HashTree } from "../verity/hash_tree.ts";
import { TreeSink, verityReport, VeritySink } from "../verity/verity_sink.ts";
import type { LayoutOptions } from "./options.ts";

/** What surrounds an image; nothing by default. */
export interface EnvelopeOptions {
  /** A dm-verity hash tree. */
  readonly verity?: VerityOptions | undefined;
  /** A disk with a GUID partition table that contains the file system as a partition. */
  readonly disk?: DiskOptions | undefined;
  /** Append the footer of a fixed VHD. */
  readonly vhd?: boolean | undefined;
}

/** Options of a hash tree. */
export interface VerityOptions {
  /** The salt, which is hashed before every block; at most 256 bytes. */
  readonly salt: Uint8Array;
  /** The salt is random, so existing images with other salts are reused, too. */
  readonly randomSalt?: boolean | undefined;
  /** Receives the tree; when left out, it goes behind the image or into its own partition. */
  readonly hashSink?: ImageSink | undefined;
  /** In layered mode, put each tree into a file beside its image instead of behind it. */
  readonly beside?: boolean | undefined;
}

/** Options of a disk with a GUID partition table. */
export interface DiskOptions {
  /** The content of an EFI system partition. */
  readonly esp?: RandomReader | undefined;
  /** The signature of the root hash, which gets a partition. */
  readonly signature?: (VeritySignature & { readonly name: string }) | undefined;
}

/** A partition of the written disk. */
export interface PartitionReport {
  /** The partition number, starting at 1. */
  readonly number: number;
  /** The partition's role. */
  readonly role: PartitionRole;
  /** The PARTUUID. */
  readonly guid: string;
  /** The start of the partition; a multiple of 1 MiB. */
  readonly startBytes: number;
  /** The size of the partition, in whole blocks. */
  readonly sizeBytes: number;
}

/** A written disk. */
export interface DiskReport {
  /** The GUID of the disk, as text. */
  readonly guid: string;
  /** The size of the whole disk. */
  readonly sizeBytes: number;
  /** The partitions in the order of their numbers. */
  readonly partitions: readonly PartitionReport[];
}

/** The envelope in a report; absent parts are left out. */
export interface EnvelopeReport {
  /** The hash tree. */
  readonly verity?: VerityReport | undefined;
  /** The disk. */
  readonly disk?: DiskReport | undefined;
  /** The size of the whole output, if it is more than the file system. */
  readonly outputBytes?: number | undefined;
}

interface EnvelopedResult {
  /** The size of all written grid cells that are not all zeros. */
  readonly cellBytes: number;
  readonly envelope: EnvelopeReport;
}

interface EnvelopeWriteOptions extends WriteOptions, ThreadOptions {
  readonly envelope: EnvelopeOptions | undefined;
  /** The size in the planned layout. */
  readonly size: LayoutOptions["size"];
  /** The architecture in OCI's terms, which determines the partition types. */
  readonly architecture: string;
  /** The directory for a hash tree that does not fit in memory. */
  readonly tmpdir?: string | undefined;
}

/**
 * Throws a UsageError for options that conflict, and for an architecture without partition types.
 *
 * @param architecture undefined until it is known
 */
export function checkEnvelope(
  envelope: EnvelopeOptions | undefined,
  layout: LayoutOptions,
  architecture?: string,
): void {
  if (envelope === undefined) return;
  const { verity, disk } = envelope;
  if (verity !== undefined && layout.journalBytes > 0) {
    const why = "an image with a hash tree is never written to: wanted none";
    const remedies = [{ option: "journalBytes", change: "omit" }] as const;
    throw optionError("journalBytes", why, { remedies });
  }
  if (disk?.signature !== undefined && (verity === undefined || verity.hashSink !== undefined)) {
    throw optionError("veritySignature", "there is no hash tree on the disk to sign", {
      remedies: [{ option: "verity", change: "set", value: "append" }],
    });
  }
  const espBytes = disk?.esp?.sizeBytes;
  if (espBytes !== undefined && (espBytes === 0 || espBytes % BLOCK_SIZE_BYTES !== 0)) {
    throw new InputError(disk!.esp!.name, `has ${espBytes} bytes: wanted a multiple of 4096`);
  }
  if (disk !== undefined && architecture !== undefined) partitionType("root", architecture);
  const { size } = layout;
  if (disk !== undefined && size.kind === "total") rootBytesOf(envelope, size.sizeBytes);
}

/** The layout of the file system itself. On a disk, the requested size is the size of the disk. */
export function layoutInside(
  layout: LayoutOptions,
  envelope: EnvelopeOptions | undefined,
): LayoutOptions {
  const { size } = layout;
  if (envelope?.disk === undefined || size.kind !== "total") return layout;
  const sizeBytes = rootBytesOf(envelope, size.sizeBytes);
  return { ...layout, size: { kind: "total", sizeBytes } };
}

/** Plans a file system. If it does not fit on a disk of the requested size, the error says so. */
export function withinDisk<T>(
  { size }: LayoutOptions,
  envelope: EnvelopeOptions | undefined,
  plan: () => T,
): T {
  try {
    return plan();
  } catch (error) {
    const isOfDisk = envelope?.disk !== undefined && size.kind === "total";
    if (!isOfDisk || !(error instanceof InputError) || error.option !== "size") throw error;
    throw new InputError(error.what, `${error.why}, on a disk of ${size.sizeBytes} bytes`, {
      code: "doesNotFit",
      option: "size",
      hint: "give a larger size, or none for just what is needed",
    });
  }
}

function rootBytesOf(envelope: EnvelopeOptions, diskBytes: number): number {
  const { disk, vhd } = envelope;
  const esp = disk!.esp === undefined ? [] : [disk!.esp.sizeBytes];
  return roomOnDisk(diskBytes - (vhd ? VHD_FOOTER_BYTES : 0), esp, (sizeBytes) => [
    ...hasInnerTree(envelope) ? [treeShape(sizeBytes / VERITY_BLOCK_BYTES).sizeBytes] : [],
    ...disk!.signature === undefined ? [] : [disk!.signature.bytes.length],
  ]);
}

/**
 * Writes an image with its envelope and finishes the sink. On an error, the sinks are aborted before the error is
 * rethrown.
 *
 * @throws {InputError} when a signature is for another root hash, or the disk is too large for a VHD
 */
export async function writeEnveloped(
  plan: ImagePlan,
  target: ImageSink,
  options: EnvelopeWriteOptions,
): Promise<EnvelopedResult> {
  const { envelope = {}, ...writeOptions } = options;
  const { verity, disk, vhd = false } = envelope;
  target.checkSize?.(outputBytesOf(plan, envelope, options.size));
  if (verity === undefined && disk === undefined && !vhd) {
    const { cellBytes } = await writeImage(plan, target, writeOptions);
    return { cellBytes, envelope: {} };
  }
  // Rewritten bytes occupy the same cells.
  const cells = new CellCounter(plan.gridBlocks * BLOCK_SIZE_BYTES);
  let outputBytes = 0;
  const counted: ImageSink = {
    ...unfinished(target),
    write(bytes, offset) {
      cells.add(bytes, offset);
      return target.write(bytes, offset);
    },
    finish: (sizeBytes) => target.finish(outputBytes = sizeBytes),
  };
  const identity = { text: plan.summary.uuid };
  const outer = vhd ? vhdSink(counted, () => derivedUuid("blessfs vhd", identity.text)) : counted;
  let report: EnvelopeReport = {};
  try {
    if (vhd) checkVhdSize(plan.totalBlocks * BLOCK_SIZE_BYTES);
    if (disk !== undefined) {
      report = await writePartitions(plan, outer, { ...options, envelope }, identity);
    } else if (verity === undefined) await writeImage(plan, outer, writeOptions);
    else {
      const { tmpdir, workerUrl } = options;
      const dataBlocks = plan.totalBlocks;
      const sink = new VeritySink(outer, { ...verity, dataBlocks, tmpdir, workerUrl });
      await writeImage(plan, sink, writeOptions);
      report = { verity: sink.report };
    }
  } catch (error) {
    await target.abort();
    await verity?.hashSink?.abort();
    throw error;
  }
  return { cellBytes: cells.cellBytes, envelope: { ...report, outputBytes } };
}

/** A sink whose `finish` is left to the caller. */
export function unfinished(sink: ImageSink): ImageSink {
  return {
    write: (bytes, offset) => sink.write(bytes, offset),
    ...writingAgain(sink),
    finish: () => {},
    abort: () => sink.abort(),
  };
}

/** Whether a hash tree goes behind the image or into its own partition. */
function hasInnerTree({ verity }: EnvelopeOptions): boolean {
  return verity !== undefined && verity.hashSink === undefined;
}

function outputBytesOf(
  { totalBlocks }: ImagePlan,
  envelope: EnvelopeOptions,
  size: LayoutOptions["size"],
): number {
  const { disk, vhd } = envelope;
  const dataBytes = totalBlocks * BLOCK_SIZE_BYTES;
  const treeBytes = hasInnerTree(envelope) ? treeShape(totalBlocks).sizeBytes : 0;
  const footerBytes = vhd ? VHD_FOOTER_BYTES : 0;
  if (disk === undefined) return dataBytes + treeBytes + footerBytes;
  const sizes = [disk.esp?.sizeBytes ?? 0, dataBytes, treeBytes, disk.signature?.bytes.length ?? 0];
  const { diskBytes } = layOutDisk(
    sizes.filter((sizeBytes) => sizeBytes > 0),
    size.kind === "total" ? size.sizeBytes - footerBytes : undefined,
  );
  return diskBytes + footerBytes;
}

/**
 * The `size` option for an image that fills a device: the size of the file system, or of the disk if there is one.
 *
 * @param envelope what surrounds the file system
 * @returns the size in bytes, as `layout.size` takes it
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { fillingBytes } from "./envelope.ts";
 * assertEquals(fillingBytes(64 * 1024 * 1024 + 512), 64 * 1024 * 1024);
 * ```
 */
export function fillingBytes(deviceBytes: number, envelope: EnvelopeOptions = {}): number {
  const { disk, vhd } = envelope;
  if (disk !== undefined) return alignDown(deviceBytes, SECTOR_BYTES);
  const blocks = Math.floor((deviceBytes - (vhd ? VHD_FOOTER_BYTES : 0)) / BLOCK_SIZE_BYTES);
  const dataBlocks = hasInnerTree(envelope) ? dataBlocksWithin(blocks) : blocks;
  return withoutStubGroup(Math.max(0, dataBlocks)) * BLOCK_SIZE_BYTES;
}

/** A partition to write. */
export interface PlannedPartition {
  readonly role: PartitionRole;
  readonly guid: string;
  readonly sizeBytes: number;
  readonly write: PartitionWriter;
}

/** A placeholder for the root hash. It has no zeros, so it occupies the same cells. */
const UNKNOWN_HASH = "f".repeat(64);

/**
 * If the sink can rewrite, the file system is hashed while it is written, and the table at the start of the disk is
 * rewritten with the root hash in it. Otherwise the file system is hashed first.
 */
async function writePartitions(
  plan: ImagePlan,
  target: ImageSink,
  options: EnvelopeWriteOptions & { readonly envelope: EnvelopeOptions },
  identity: { text: string },
): Promise<EnvelopeReport> {
  const { envelope, ...writeOptions } = options;
  const { tmpdir, workerUrl, architecture, size, signal, progress = NO_PROGRESS } = options;
  const { verity, vhd } = envelope;
  const isHashedMeanwhile = verity !== undefined && target.writeAgain !== undefined;
  let tree: HashTree | undefined;
  const hash = async (sinks: readonly ImageSink[], more: WriteOptions) => {
    const dataBlocks = plan.totalBlocks;
    const hashing = new TreeSink({ dataBlocks, salt: verity!.salt, tmpdir, workerUrl });
    await writeImage(plan, teeSink(hashing, ...sinks), more);
    tree = hashing.tree;
  };
  const writeRoot = async (sink: ImageSink) => {
    if (isHashedMeanwhile) await hash([sink], writeOptions);
    else await writeImage(plan, sink, writeOptions);
  };
  const partitionsOf = (rootHash: string | undefined) =>
    planPartitions(plan, envelope, { writeRoot, tree: () => tree!, rootHash, signal });
  const named = (): NamedPartitions => {
    const rootHash = tree?.parameters.rootHash;
    identity.text = rootHash ?? identity.text;
    checkSignature(envelope, rootHash);
    return { identity: identity.text, partitions: partitionsOf(rootHash) };
  };
  try {
    if (verity !== undefined && !isHashedMeanwhile) {
      const begin: Progress["begin"] = (_name, totalBytes) => progress.begin("hash", totalBytes);
      await hash([], { signal, progress: { begin } });
    }
    const first = isHashedMeanwhile
      ? { identity: "", partitions: partitionsOf(UNKNOWN_HASH) }
      : named();
    const footerBytes = vhd ? VHD_FOOTER_BYTES : 0;
    // A separate tree file is finished before the disk is published under its name.
    const disk = await writePartitioned(unfinished(target), first, {
      architecture,
      diskBytes: size.kind === "total" ? size.sizeBytes - footerBytes : undefined,
      named: isHashedMeanwhile ? named : undefined,
    });
    if (tree !== undefined && verity?.hashSink !== undefined) {
      await tree.writeTo(verity.hashSink, 0);
      await verity.hashSink.finish(tree.shape.sizeBytes);
    }
    await target.finish(disk.sizeBytes);
    return tree === undefined ? { disk } : { disk, verity: verityReport(tree, 0) };
  } finally {
    tree?.close();
  }
}

function checkSignature({ disk }: EnvelopeOptions, rootHash: string | undefined): void {
  const signature = disk?.signature;
  if (signature === undefined || signature.rootHash === rootHash) return;
  throw new InputError(
    signature.name,
    `signs the root hash ${signature.rootHash}, the image has ${rootHash}`,
    { code: "digestMismatch", data: { expected: rootHash!, actual: signature.rootHash } },
  );
}

function planPartitions(
  plan: ImagePlan,
  envelope: EnvelopeOptions,
  { writeRoot, tree, rootHash, signal }: {
    readonly writeRoot: PartitionWriter;
    readonly tree: () => HashTree;
    readonly rootHash: string | undefined;
    readonly signal: AbortSignal | undefined;
  },
): PlannedPartition[] {
  const identity = rootHash ?? plan.summary.uuid;
  const guidOf = (role: PartitionRole) =>
    formatUuid(derivedUuid(`blessfs ${role} partition`, identity));
  const [dataGuid, hashGuid] = rootHash === undefined
    ? [guidOf("root"), guidOf("root-verity")]
    : partitionGuidsOf(rootHash);
  const { esp, signature } = envelope.disk!;
  const partitions: PlannedPartition[] = [];
  const add = (role: PartitionRole, guid: string, sizeBytes: number, write: PartitionWriter) =>
    partitions.push({ role, guid, sizeBytes, write });
  if (esp !== undefined) {
    add("esp", guidOf("esp"), esp.sizeBytes, (sink) => copyReader(esp, sink, { signal }));
  }
  add("root", dataGuid, plan.totalBlocks * BLOCK_SIZE_BYTES, writeRoot);
  if (hasInnerTree(envelope)) {
    const { sizeBytes } = treeShape(plan.totalBlocks);
    add("root-verity", hashGuid, sizeBytes, (sink) => tree().writeTo(sink, 0));
  }
  if (signature !== undefined) {
    const { bytes } = signature;
    const write: PartitionWriter = async (sink) => await sink.write(bytes, 0);
    add("root-verity-sig", guidOf("root-verity-sig"), bytes.length, write);
  }
  return partitions;
}

/** The PARTUUIDs of the data and the tree. @param rootHash in hexadecimal */
export function partitionGuidsOf(rootHash: string): readonly [data: string, hash: string] {
  const bytes = Buffer.from(rootHash, "hex");
  return [formatUuid(bytes.subarray(0, 16)), formatUuid(bytes.subarray(-16))];
}

interface NamedPartitions {
  /** The text that the disk's GUID is derived from. */
  readonly identity: string;
  readonly partitions: readonly PlannedPartition[];
}

interface PartitionedOptions {
  readonly architecture: string;
  /** As small as possible when left out. */
  readonly diskBytes?: number | undefined;
  /**
   * Returns identity and partitions with their final GUIDs once all partitions are written. Requires a sink with
   * `writeAgain`.
   */
  readonly named?: (() => NamedPartitions) | undefined;
}

/** Writes a disk of partitions and finishes the sink. */
export async function writePartitioned(
  target: ImageSink,
  first: NamedPartitions,
  { architecture, diskBytes, named }: PartitionedOptions,
): Promise<DiskReport> {
  const { partitions } = first;
  const layout = layOutDisk(partitions.map(({ sizeBytes }) => sizeBytes), diskBytes);
  const hasTree = partitions.some(({ role }) => role === "root-verity");
  const tableOf = (of: NamedPartitions): Gpt => ({
    diskGuid: formatUuid(derivedUuid("blessfs disk", of.identity)),
    diskBytes: layout.diskBytes,
    partitions: of.partitions.map(({ role, guid, sizeBytes }, i) => ({
      typeGuid: partitionType(role, architecture),
      guid,
      startBytes: layout.starts[i]!,
      sizeBytes,
      name: role,
      isReadOnly: role !== "esp" && (hasTree || role === "layer"),
    })),
  });
  let gpt = tableOf(first);
  const finalTable = named && (() => gpt = tableOf(named()));
  await writeDisk(gpt, target, partitions.map(({ write }) => write), finalTable);
  return {
    guid: gpt.diskGuid,
    sizeBytes: gpt.diskBytes,
    partitions: gpt.partitions.map(({ guid, startBytes, sizeBytes }, i) => ({
      number: i + 1,
      role: partitions[i]!.role,
      guid,
      startBytes,
      sizeBytes,
    })),
  };
}

const COPY_BYTES = PARTITION_ALIGNMENT_BYTES;

/** Copies a file; all-zero pieces become holes. */
export async function copyReader(
  reader: RandomReader,
  sink: ImageSink,
  { signal, task }: {
    readonly signal: AbortSignal | undefined;
    readonly task?: ProgressTask | undefined;
  },
): Promise<void> {
  const buffer = new Uint8Array(COPY_BYTES);
  for (let at = 0; at < reader.sizeBytes; at += COPY_BYTES) {
    await setImmediate();
    throwIfAborted(signal);
    const piece = buffer.subarray(0, Math.min(COPY_BYTES, reader.sizeBytes - at));
    readExactly(reader, piece, at);
    if (piece.some((byte) => byte !== 0)) await sink.write(piece, at);
    task?.advance(piece.length);
  }
}
