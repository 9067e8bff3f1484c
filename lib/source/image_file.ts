/**
 * The ext4 image in a file: raw, compressed, in an Android sparse image, in a disk partition, or a combination of these;
 * and with its journal replayed.
 *
 * @module
 */
import { displayText } from "../bytes/byte_string.ts";
import { existsSync } from "node:fs";
import { isAndroidSparse, openAndroidSparse } from "../disk/android_sparse.ts";
import { openPartition, type PartitionTable, readPartitions } from "../disk/partitions.ts";
import { InputError } from "../errors.ts";
import type { RecoveryReport } from "../ext4/recovery/recover.ts";
import { needsRecovery } from "../ext4/volume/superblock.ts";
import { openFileReader, type RandomReader } from "../io/random_reader.ts";
import {
  contentFault,
  fileReader,
  HEAD_BYTES,
  isCompressed,
  isExt4,
  type KnownContent,
  openSourceFile,
  recogniseContent,
  type SourceFile,
} from "./source_file.ts";
import { type ImageName, parseImageName } from "./source_name.ts";
import type { ResolvedOptions } from "./types.ts";

export interface OpenedImageFile {
  /** The image's bytes. Closing it closes everything opened for it. */
  readonly reader: RandomReader;
  /** The result of replaying the journal, if that was necessary. */
  readonly replay: RecoveryReport | undefined;
}

const WANTED = "an ext4 image";

/**
 * Opens an image by name: `FILE` or `FILE#PARTITION`, optionally after `ext4:`.
 *
 * @throws {InputError} if there is no ext4 image, or its journal cannot be replayed
 */
export async function openNamedImage(
  image: string,
  options: ResolvedOptions,
): Promise<OpenedImageFile> {
  const name = parseImageName(image, existsSync);
  return await openImageFile(await openSourceFile(name.path, WANTED, options), name, options);
}

/** The same for an open file. Takes ownership of it, even on failure. */
export async function openImageFile(
  file: SourceFile,
  { partition }: Pick<ImageName, "partition">,
  options: ResolvedOptions,
): Promise<OpenedImageFile> {
  const plain = await plainFile(file, options);
  const whole = fileReader(plain);
  plain.file.release();
  let reader = whole;
  try {
    if (isAndroidSparse(headOf(reader))) reader = openAndroidSparse(reader);
    if (partition !== undefined) reader = openPartition(reader, partition);
    checkContent(reader);
    return await asMounted(reader, options);
  } catch (error) {
    whole.close();
    throw error;
  }
}

/** Inflates a compressed file, which needs the code that reads layers. */
async function plainFile(file: SourceFile, options: ResolvedOptions): Promise<SourceFile> {
  try {
    if (!isCompressed(file)) return file;
  } catch (error) {
    file.file.release();
    throw error;
  }
  const { inflated } = await import("./archive.ts");
  return await inflated(file, options);
}

/** Whether an image may be inside: in a sparse image or a disk. */
export function isImageContainer(head: Uint8Array): boolean {
  return isAndroidSparse(head) || recogniseContent(head)?.isDisk === true;
}

function headOf(reader: RandomReader): Uint8Array {
  const head = new Uint8Array(Math.min(HEAD_BYTES, reader.sizeBytes));
  return head.subarray(0, reader.readAt(head, 0));
}

/** Unknown content may be a damaged image: the ext4 reader reports what is wrong. */
function checkContent(reader: RandomReader): void {
  const head = headOf(reader);
  const known = recogniseContent(head);
  if (isExt4(head) || known === undefined) return;
  const table = known.isDisk ? readTable(reader, known) : undefined;
  if (table === undefined || table.partitions.length === 0) {
    throw contentFault(reader.name, head, WANTED);
  }
  const count = table.partitions.length;
  const list = table.partitions.map(({ number, startBytes, sizeBytes, name }) => {
    const start = new Uint8Array(HEAD_BYTES);
    const length = reader.readAt(start, startBytes);
    const content = start.subarray(0, Math.min(length, sizeBytes));
    const what = isExt4(content) ? "ext4" : recogniseContent(content)?.what;
    const facts = [...name === "" ? [] : [displayText(name)], `${sizeBytes} bytes`, what ?? []];
    return `#${number} (${facts.flat().join(", ")})`;
  });
  const partitions = `${count} ${count === 1 ? "partition" : "partitions"}`;
  const why = `is a disk with ${partitions} (${table.kind}): wanted ${WANTED}`;
  const hint = `add the number of a partition: ${list.join(", ")}`;
  throw new InputError(reader.name, why, { code: "wrongKind", hint });
}

function readTable(disk: RandomReader, known: KnownContent): PartitionTable | undefined {
  try {
    return readPartitions(disk);
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    throw new InputError(disk.name, `is ${known.what}, and ${error.why}`, {
      hint: "see what sfdisk --verify FILE makes of it",
    });
  }
}

/** The image with its journal replayed, if necessary. */
async function asMounted(
  image: RandomReader,
  options: ResolvedOptions,
): Promise<OpenedImageFile> {
  const { replay = true, externalJournal } = options;
  if (!replay) return { reader: image, replay: undefined };
  // Few images need the code that replays a journal.
  if (externalJournal === undefined && !needsRecovery(image)) {
    return { reader: image, replay: undefined };
  }
  const { recoverImage } = await import("../ext4/recovery/recover.ts");
  if (externalJournal === undefined) return recoverImage(image);
  const journal = openFileReader(externalJournal, { what: "an external journal" });
  try {
    const { reader, replay } = recoverImage(image, { journal });
    const { sizeBytes, name } = reader;
    const readAt: RandomReader["readAt"] = (target, position) => reader.readAt(target, position);
    const close = () => {
      journal.close();
      reader.close();
    };
    return { reader: { sizeBytes, name, readAt, close }, replay };
  } catch (error) {
    journal.close();
    throw error;
  }
}
