/**
 * Logs written by hand into the journal of an image that mke2fs made. What they replace are blocks of a file of that
 * image, so that the kernel and the reader both show what became of them.
 *
 * @module
 */
import { viewOf } from "../../../lib/ext4/format/fields.ts";
import {
  JOURNAL_INCOMPAT,
  JOURNAL_MAGIC,
  journalSuperblockChecksum,
} from "../../../lib/ext4/format/journal.ts";
import {
  commitBlockChecksum,
  crc32BigEndian,
  JOURNAL_COMPAT_CHECKSUM,
  LOG_BLOCK_TYPE,
  type LogFormat,
  logFormat,
  logTailChecksum,
  TAG_FLAG,
  tagChecksum,
  tagSizeBytes,
} from "../../../lib/ext4/journal/log.ts";
import { editSuperblock } from "../../../lib/ext4/format/superblock.ts";
import { mustRun } from "../../oracle/command.ts";

/** How a log is written. */
export interface LogOptions {
  readonly blockSizeBytes: number;
  readonly checksumVersion: 0 | 1 | 2 | 3;
  readonly is64Bit: boolean;
  readonly isAsynchronous?: boolean;
  /** s_sequence; default 5. */
  readonly sequence?: number;
  /** s_start; default 1. */
  readonly startBlock?: number;
  /** s_maxlen; default all of the journal. */
  readonly blockCount?: number;
  /** s_num_fc_blks, with the feature. */
  readonly fastCommitBlocks?: number;
}

/** One block of a transaction. */
export interface LoggedBlock {
  /** Which block of the file it replaces; a number of blocks past its end is taken as it is. */
  readonly fileBlock: number;
  /** What it is filled with. */
  readonly fill: number;
  /** Begins with the magic number of journals. */
  readonly isMagic?: boolean;
  /** Its tag has a UUID of its own, as the first one always has. */
  readonly hasUuid?: boolean;
}

/** A part of a transaction. */
export type LogPart =
  | { readonly kind: "blocks"; readonly blocks: readonly LoggedBlock[] }
  | { readonly kind: "revoke"; readonly fileBlocks: readonly number[]; readonly usedBytes?: number }
  | { readonly kind: "commit"; readonly seconds?: number };

const JOURNAL_BLOCKS = 1100;
/** Blocks of the file. */
export const FILE_BLOCKS = 40;
const COMMIT_SECONDS = 1_700_000_000;

/** An image with a journal that is written block by block. */
export class LogImage {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly format: LogFormat;
  /** The first block of the file. */
  readonly fileStart: number;
  readonly #options: LogOptions;
  readonly #journalStart: number;
  readonly #blockCount: number;
  #block: number;
  #sequence: number;
  #crc32 = 0xffffffff;

  /** @param scratch a directory */
  constructor(scratch: string, options: LogOptions) {
    this.#options = options;
    const { blockSizeBytes } = options;
    const journalMiB = Math.ceil(JOURNAL_BLOCKS * blockSizeBytes / 2 ** 20);
    const made = madeImage(scratch, options, journalMiB);
    this.fileStart = made.fileStart;
    this.#journalStart = made.journalStart;
    this.bytes = made.bytes.slice();
    const held = Math.floor(journalMiB * 2 ** 20 / blockSizeBytes);
    this.#blockCount = options.blockCount ?? held;
    this.#block = options.startBlock ?? 1;
    this.#sequence = options.sequence ?? 5;
    const features = featuresOf(options);
    this.format = logFormat({
      blockSizeBytes,
      featureCompat: features.compat,
      featureIncompat: features.incompat,
      uuid: this.#uuid(),
    });
    this.patchJournal((view) => {
      view.setUint32(0x10, this.#blockCount);
      view.setUint32(0x18, this.#sequence);
      view.setUint32(0x1c, this.#block);
      view.setUint32(0x24, features.compat);
      view.setUint32(0x28, features.incompat);
      view.setUint32(0x54, options.fastCommitBlocks ?? 0);
      if (options.checksumVersion >= 2) view.setUint8(0x50, 4);
    });
    this.patchSuperblock({ needsRecovery: true });
  }

  /** Writes parts of the log, one behind the other. */
  add(...parts: readonly LogPart[]): this {
    for (const part of parts) {
      if (part.kind === "blocks") this.#addBlocks(part.blocks);
      else if (part.kind === "revoke") this.#addRevocation(part.fileBlocks, part.usedBytes);
      else this.#addCommit(part.seconds ?? COMMIT_SECONDS);
    }
    return this;
  }

  /** A block of the journal, to spoil. */
  journalBlock(block: number): Uint8Array {
    const start = (this.#journalStart + block) * this.#options.blockSizeBytes;
    return this.bytes.subarray(start, start + this.#options.blockSizeBytes);
  }

  /** Changes the journal's superblock, and its checksum with it. */
  patchJournal(change: (view: DataView<ArrayBufferLike>) => void): void {
    const encoded = this.journalBlock(0).subarray(0, 1024);
    const view = viewOf(encoded);
    change(view);
    const checksums = JOURNAL_INCOMPAT.CSUM_V2 | JOURNAL_INCOMPAT.CSUM_V3;
    if ((view.getUint32(0x28) & checksums) === 0) return;
    view.setUint32(0xfc, journalSuperblockChecksum(encoded));
  }

  patchSuperblock({ needsRecovery }: { readonly needsRecovery: boolean }): void {
    const encoded = this.bytes.subarray(1024, 2048);
    const featureIncompat = viewOf(encoded).getUint32(0x60, true) & ~4 | (needsRecovery ? 4 : 0);
    encoded.set(editSuperblock(encoded, { featureIncompat: featureIncompat >>> 0 }));
  }

  /** The block that is written next. */
  get nextBlock(): number {
    return this.#block;
  }

  #uuid(): Uint8Array {
    return this.journalBlock(0).slice(0x30, 0x40);
  }

  #targetOf(fileBlock: number): number {
    return fileBlock < FILE_BLOCKS ? this.fileStart + fileBlock : fileBlock;
  }

  #newBlock(blockType: number): Uint8Array {
    const block = new Uint8Array(this.#options.blockSizeBytes);
    const view = viewOf(block);
    view.setUint32(0, JOURNAL_MAGIC);
    view.setUint32(4, blockType);
    view.setUint32(8, this.#sequence);
    return block;
  }

  #write(block: Uint8Array): void {
    this.journalBlock(this.#block).set(block);
    const end = this.#blockCount - (this.#options.fastCommitBlocks ?? 0);
    this.#block = this.#block + 1 === end ? 1 : this.#block + 1;
  }

  #addBlocks(blocks: readonly LoggedBlock[]): void {
    const { format } = this;
    const descriptor = this.#newBlock(LOG_BLOCK_TYPE.DESCRIPTOR);
    const copies = blocks.map((block) => this.#copyOf(block));
    let at = 12;
    for (const [i, block] of blocks.entries()) {
      const isLast = i === blocks.length - 1;
      const hasUuid = block.hasUuid ?? i === 0;
      const flags = (block.isMagic ? TAG_FLAG.ESCAPED : 0) | (hasUuid ? 0 : TAG_FLAG.SAME_UUID) |
        (isLast ? TAG_FLAG.LAST_TAG : 0);
      this.#writeTag(descriptor, at, this.#targetOf(block.fileBlock), flags, copies[i]!);
      at += tagSizeBytes(format) + (hasUuid ? 16 : 0);
    }
    if (format.checksumVersion >= 2) {
      viewOf(descriptor).setUint32(descriptor.length - 4, logTailChecksum(descriptor, format));
    }
    for (const block of [descriptor, ...copies]) {
      this.#crc32 = crc32BigEndian(this.#crc32, block);
      this.#write(block);
    }
  }

  #copyOf({ fill, isMagic = false }: LoggedBlock): Uint8Array {
    const copy = new Uint8Array(this.#options.blockSizeBytes).fill(fill);
    if (isMagic) copy.fill(0, 0, 4);
    return copy;
  }

  #writeTag(
    descriptor: Uint8Array,
    at: number,
    target: number,
    flags: number,
    copy: Uint8Array,
  ): void {
    const { format } = this;
    const view = viewOf(descriptor);
    view.setUint32(at, target);
    view.setUint16(at + 6, flags);
    if (format.is64Bit) view.setUint32(at + 8, Math.floor(target / 2 ** 32));
    if (format.checksumVersion < 2) return;
    const checksum = tagChecksum(copy, this.#sequence, format);
    if (format.checksumVersion === 3) view.setUint32(at + 12, checksum);
    else view.setUint16(at + 4, checksum);
  }

  #addRevocation(fileBlocks: readonly number[], usedBytes?: number): void {
    const { format } = this;
    const block = this.#newBlock(LOG_BLOCK_TYPE.REVOKE);
    const view = viewOf(block);
    const sizeBytes = format.is64Bit ? 8 : 4;
    for (const [i, fileBlock] of fileBlocks.entries()) {
      view.setUint32(16 + (i + 1) * sizeBytes - 4, this.#targetOf(fileBlock));
    }
    view.setUint32(12, usedBytes ?? 16 + fileBlocks.length * sizeBytes);
    if (format.checksumVersion >= 2) {
      view.setUint32(block.length - 4, logTailChecksum(block, format));
    }
    this.#write(block);
  }

  #addCommit(seconds: number): void {
    const { format } = this;
    const block = this.#newBlock(LOG_BLOCK_TYPE.COMMIT);
    const view = viewOf(block);
    view.setBigUint64(48, BigInt(seconds));
    if (format.checksumVersion === 1) {
      view.setUint8(12, 1);
      view.setUint8(13, 4);
      view.setUint32(16, this.#crc32);
    } else if (format.checksumVersion >= 2) view.setUint32(16, commitBlockChecksum(block, format));
    this.#write(block);
    this.#crc32 = 0xffffffff;
    this.#sequence = (this.#sequence + 1) >>> 0;
  }
}

/** An image of mke2fs with the file and an empty journal. */
interface MadeImage {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly fileStart: number;
  readonly journalStart: number;
}

const madeImages = new Map<string, MadeImage>();

/** The image that a log is written into, made once for each kind. */
function madeImage(
  scratch: string,
  { blockSizeBytes, is64Bit }: LogOptions,
  journalMiB: number,
): MadeImage {
  const kind = `${blockSizeBytes} ${is64Bit}`;
  const known = madeImages.get(kind);
  if (known !== undefined) return known;
  const image = `${scratch}/log.img`;
  Deno.mkdirSync(`${scratch}/tree`, { recursive: true });
  const content = new Uint8Array(FILE_BLOCKS * blockSizeBytes).fill(0x2e);
  Deno.writeFileSync(`${scratch}/tree/file`, content);
  mustRun("mke2fs", [
    ...["-q", "-F", "-t", "ext4", "-b", `${blockSizeBytes}`, "-J", `size=${journalMiB}`],
    ...["-O", `^metadata_csum${is64Bit ? "" : ",^64bit"}`, "-d", `${scratch}/tree`, image, "12M"],
  ]);
  const made = {
    fileStart: blockOf(image, "/file", 0),
    journalStart: blockOf(image, "<8>", 0),
    bytes: Deno.readFileSync(image),
  };
  Deno.removeSync(image);
  madeImages.set(kind, made);
  return made;
}

function featuresOf(options: LogOptions): { readonly compat: number; readonly incompat: number } {
  const { checksumVersion, is64Bit, isAsynchronous = false, fastCommitBlocks = 0 } = options;
  return {
    compat: checksumVersion === 1 ? JOURNAL_COMPAT_CHECKSUM : 0,
    incompat: JOURNAL_INCOMPAT.REVOKE |
      (is64Bit ? JOURNAL_INCOMPAT.BIT64 : 0) |
      (isAsynchronous ? JOURNAL_INCOMPAT.ASYNC_COMMIT : 0) |
      (checksumVersion === 2 ? JOURNAL_INCOMPAT.CSUM_V2 : 0) |
      (checksumVersion === 3 ? JOURNAL_INCOMPAT.CSUM_V3 : 0) |
      (fastCommitBlocks > 0 ? JOURNAL_INCOMPAT.FAST_COMMIT : 0),
  };
}

function blockOf(image: string, file: string, logicalBlock: number): number {
  return Number(mustRun("debugfs", ["-R", `bmap ${file} ${logicalBlock}`, image]).trim());
}
