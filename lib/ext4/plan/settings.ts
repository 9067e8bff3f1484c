/**
 * The options of an image, and the settings that result from checking them.
 *
 * @module
 */
import { divCeil, isPowerOfTwo } from "../../bytes/arithmetic.ts";
import { uuidBytes } from "../../bytes/digest.ts";
import { optionError } from "../../errors.ts";
import { BLOCK_SIZE_BYTES } from "../../model/node.ts";
import type { Packing, PayloadOrder } from "../../layout/placement.ts";
import { TIMESTAMP_SECONDS_MAX } from "../format/inode.ts";
import { JOURNAL_BLOCKS_MIN } from "../format/journal.ts";
import { type RuledOut, ruledOutBy } from "./compat.ts";

/** The size of the file system, rounded up to whole blocks of 4 KiB. */
export type ImageSize =
  | { readonly kind: "exact" }
  | { readonly kind: "total"; readonly sizeBytes: number }
  | { readonly kind: "free"; readonly freeBytes: number };

/** Blocks that only root may fill. */
export type ReservedBlocks =
  | { readonly kind: "bytes"; readonly bytes: number }
  | { readonly kind: "percent"; readonly percent: number };

/** Every option that changes the bytes of an image. */
export interface LayoutOptions {
  /** The fixed block size of the store that the image is laid out for: a power of two, 4 KiB to 16 MiB. */
  readonly gridBytes: number;
  /** Files of at least this size start on the grid; `Infinity` turns alignment off. */
  readonly alignThresholdBytes: number;
  /** Whether payload begins on the grid; default: unless alignment is off. */
  readonly startOnGrid?: boolean | undefined;
  /** How files below the threshold are packed. */
  readonly packing: Packing;
  /** The order in which files are laid out: `first-layer` in MERGED_DEFAULTS; default: `path`. */
  readonly payloadOrder?: PayloadOrder | undefined;
  /** The size of the file system. */
  readonly size: ImageSize;
  /** Size of the internal journal, rounded up to whole blocks of 4 KiB; 0 for none. */
  readonly journalBytes: number;
  /** UUID as text; undefined derives it from the content. */
  readonly uuid: string | undefined;
  /** Volume label, at most 16 bytes of UTF-8. */
  readonly label: string | undefined;
  /** `sparse`: backups in groups 1 and powers of 3, 5, 7 (sparse_super); `none`: no gaps at all (sparse_super2). */
  readonly backups: "sparse" | "none";
  /** Whether small files are stored in their inodes (inline_data). */
  readonly inlineData: boolean;
  /** CRC-32C on every structure (metadata_csum). */
  readonly metadataChecksums: boolean;
  /**
   * Readers that must be able to read the image, such as `grub`, `u-boot` or `linux-5.10`; undefined: current kernels.
   */
  readonly compat: readonly string[] | undefined;
  /** At least this many inodes in total; undefined: those of the content, plus one per 16 KiB of free space. */
  readonly inodeCount: number | undefined;
  /** Blocks that only root may use. */
  readonly reservedBlocks: ReservedBlocks;
}

type ResolvedOption =
  | "gridBytes"
  | "startOnGrid"
  | "payloadOrder"
  | "journalBytes"
  | "uuid"
  | "label"
  | "compat";

/** Checked options, in blocks. */
export interface Settings extends Omit<LayoutOptions, ResolvedOption> {
  readonly gridBlocks: number;
  readonly startOnGrid: boolean;
  readonly payloadOrder: PayloadOrder;
  readonly journalBlocks: number;
  readonly uuid: Uint8Array;
  readonly label: Uint8Array;
  readonly wide: boolean;
  readonly constantSeed: boolean;
  /** A reader that lacks attribute values in inodes of their own; undefined: they are created where needed. */
  readonly valueInodesRefusedBy: string | undefined;
  /** Unix time for everything without a time in the tree. */
  readonly timestamp: number;
}

const GRID_BYTES_MAX = 16 * 1024 * 1024;
/** e2fsprogs' own limit for journals (ext2fs_default_journal_size, mke2fs(8)). */
const JOURNAL_BLOCKS_MAX = 10_240_000;
const LABEL_BYTES_MAX = 16;
/** 2^32 blocks of 4 KiB: the limit of a file system without 64bit; larger ones are always refused. */
const IMAGE_BYTES_MAX = 2 ** 44;

/** Checks the options and converts them to blocks. Throws a UsageError that names the option. */
export function resolveSettings(
  options: LayoutOptions,
  identity: { readonly derivedUuid: Uint8Array; readonly timestamp: number },
): Settings {
  const { gridBytes, startOnGrid, payloadOrder, journalBytes, uuid, label, compat, ...kept } =
    options;
  checkNumbers(options, identity.timestamp);
  checkPacking(options.packing);
  const ruledOut = ruledOutBy(compat ?? []);
  checkRuledOut(options, ruledOut);
  return {
    ...kept,
    gridBlocks: gridBytes / BLOCK_SIZE_BYTES,
    startOnGrid: startOnGrid ?? options.alignThresholdBytes !== Infinity,
    payloadOrder: payloadOrder ?? "path",
    journalBlocks: journalBlocks(journalBytes),
    uuid: uuid === undefined ? identity.derivedUuid : parseUuid(uuid),
    label: labelBytes(label),
    wide: !ruledOut.has("64bit"),
    constantSeed: options.metadataChecksums && !ruledOut.has("metadata_csum_seed"),
    valueInodesRefusedBy: ruledOut.get("ea_inode"),
    timestamp: identity.timestamp,
  };
}

function checkRuledOut({ inlineData, backups }: LayoutOptions, ruledOut: RuledOut): void {
  const withoutInlineData = ruledOut.get("inline_data");
  if (inlineData && withoutInlineData !== undefined) {
    throw optionError("inlineData", `${withoutInlineData} cannot read it`, {
      remedies: [{ option: "compat", change: "omit", when: "if it never reads the image" }],
    });
  }
  const withoutSparse = ruledOut.get("sparse_super2");
  if (backups === "none" && withoutSparse !== undefined) {
    throw optionError("backups", `none is sparse_super2, which ${withoutSparse} does not mount`, {
      hint: "layered images have none by default",
      remedies: [{ option: "backups", change: "set", value: "sparse" }],
    });
  }
}

/** The 16 bytes of a UUID given as text. */
export function parseUuid(text: string): Uint8Array {
  const bytes = uuidBytes(text);
  if (bytes !== undefined) return bytes;
  throw optionError("uuid", `wanted 8-4-4-4-12 hex digits, found "${text}"`);
}

/** Throws a UsageError for an invalid grid size. */
export function checkGrid(gridBytes: number): void {
  if (!isPowerOfTwo(gridBytes) || gridBytes < BLOCK_SIZE_BYTES || gridBytes > GRID_BYTES_MAX) {
    throw optionError("gridBytes", `wanted a power of two from 4K to 16M, found ${gridBytes}`);
  }
}

function checkNumbers(options: LayoutOptions, timestamp: number): void {
  const { alignThresholdBytes, size, reservedBlocks, inodeCount } = options;
  const any = Number.MAX_SAFE_INTEGER;
  checkGrid(options.gridBytes);
  if (alignThresholdBytes !== Infinity) {
    const range = [BLOCK_SIZE_BYTES, any] as const;
    checkWhole("alignThresholdBytes", alignThresholdBytes, range, "at least 4K, or none");
  }
  if (size.kind !== "exact") {
    const bytes = size.kind === "total" ? size.sizeBytes : size.freeBytes;
    checkWhole("size", bytes, [0, IMAGE_BYTES_MAX], "0 to 16T");
  }
  if (reservedBlocks.kind === "bytes") {
    checkWhole("reservedBlocks", reservedBlocks.bytes, [0, any], "a size");
  } else if (!(reservedBlocks.percent >= 0 && reservedBlocks.percent <= 50)) {
    throw optionError("reservedBlocks", `wanted 0 to 50 percent, found ${reservedBlocks.percent}`);
  }
  if (inodeCount !== undefined) {
    checkWhole("inodeCount", inodeCount, [1, 0xffffffff], "1 to 4294967295");
  }
  const latest = TIMESTAMP_SECONDS_MAX;
  checkWhole("timestamp", timestamp, [0, latest], `0 to ${latest} seconds`);
}

function checkWhole(
  option: string,
  value: number,
  [least, most]: readonly [least: number, most: number],
  wanted: string,
): void {
  if (Number.isSafeInteger(value) && value >= least && value <= most) return;
  throw optionError(option, `wanted ${wanted}, found ${value}`);
}

function checkPacking(packing: Packing): void {
  if (packing.kind !== "resync") return;
  const { meanBytes, lowBytes } = packing;
  if (!Number.isSafeInteger(meanBytes) || !Number.isSafeInteger(lowBytes) || lowBytes < 0) {
    const found = `${meanBytes}:${lowBytes}`;
    throw optionError("packing", `wanted resync:MEAN:LO in whole bytes, found ${found}`);
  }
  if (meanBytes - lowBytes <= BLOCK_SIZE_BYTES) {
    const found = `${meanBytes} and ${lowBytes}`;
    throw optionError("packing", `wanted MEAN at least 4K over LO, found ${found}`);
  }
}

function journalBlocks(journalBytes: number): number {
  if (journalBytes === 0) return 0;
  const blocks = divCeil(journalBytes, BLOCK_SIZE_BYTES);
  const isEnough = journalBytes >= JOURNAL_BLOCKS_MIN * BLOCK_SIZE_BYTES;
  if (!(isEnough && blocks <= JOURNAL_BLOCKS_MAX)) {
    throw optionError("journalBytes", `wanted none or 4M to 39G, found ${journalBytes} bytes`);
  }
  return blocks;
}

function labelBytes(label: string | undefined): Uint8Array {
  const bytes = new TextEncoder().encode(label ?? "");
  if (bytes.length > LABEL_BYTES_MAX || bytes.includes(0)) {
    throw optionError("label", `wanted at most 16 bytes and no NUL, found ${bytes.length} bytes`);
  }
  return bytes;
}
