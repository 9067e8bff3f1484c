/**
 * Verifying an image: every checksum, every pointer, every count, without stopping at the first fault.
 *
 * The passes follow those of e2fsck: the superblock and descriptors, all inodes with their blocks and attributes, all
 * directories, the links between them, the bitmaps and counts; then journal, backups and what few images have.
 *
 * Memory: two bits a block, some bytes an inode in use, and a record for each directory.
 *
 * @module
 */
import { setImmediate } from "node:timers/promises";
import { throwIfAborted } from "../../../errors.ts";
import type { RandomReader } from "../../../io/random_reader.ts";
import { NO_PROGRESS, type Progress } from "../../../progress.ts";
import { Warnings } from "../../../warnings.ts";
import type { WarningSummary } from "../../../warnings.ts";
import { RO_COMPAT } from "../../format/constants.ts";
import { HASH_SEED } from "../../plan/directories.ts";
import { formatUuid } from "../../../bytes/uuid.ts";
import { featureNames } from "../features.ts";
import { warnOfState } from "../superblock.ts";
import { checkBackups } from "./backups.ts";
import { checkBitmaps } from "./bitmaps.ts";
import { blocksBehind } from "./block_window.ts";
import type { Owner } from "./claims.ts";
import { Claims, describeOwner } from "./claims.ts";
import type { Context, GroupState, LayoutRule } from "./context.ts";
import { checkDirectory, DirectoryRoom } from "./directories.ts";
import type { Finding } from "./findings.ts";
import { Findings } from "./findings.ts";
import { checkDescriptors, claimGroupBlocks } from "./groups.ts";
import { InodeBook } from "./inode_book.ts";
import { scanInodes } from "./inodes.ts";
import { checkJournal } from "./journal.ts";
import { checkLinks, LinkTable } from "./links.ts";
import { checkQuotas } from "./quota.ts";
import { checkMmp, checkOrphans, checkResizeInode } from "./special.ts";
import { checkSuperblock } from "./superblock.ts";
import type { Volume } from "./volume.ts";
import { checkXattrReferences } from "./xattrs.ts";

export type { LayoutRule } from "./context.ts";
export type { Finding, Place, Structure } from "./findings.ts";

/** How an image is to be verified. */
export interface VerifyOptions {
  /** How many findings are kept; the rest are counted. 1000 by default. */
  readonly findingsMax?: number;
  /** What large files are held against; 128 KiB and 64 KiB by default. */
  readonly layout?: Partial<LayoutRule>;
  /** Whether a large file that is not congruent is a finding. Otherwise it is only counted. */
  readonly demandsLayout?: boolean;
  /** Is told how far the work is. */
  readonly progress?: Progress;
  /** Ends the work with its reason. */
  readonly signal?: AbortSignal;
}

/** How the large files of an image lie. */
export interface LayoutReport {
  /** What they are held against. */
  readonly gridBytes: number;
  /** Files of at least this size are large. */
  readonly thresholdBytes: number;
  /** Regular files of at least the threshold that have blocks. */
  readonly files: number;
  /** Those of which every extent has physical = logical block, modulo the grid. */
  readonly congruentFiles: number;
}

/** What was found. */
export interface VerifyReport {
  /** Whether there is no finding. */
  readonly clean: boolean;
  /** How many there are, those that were not kept included. */
  readonly findingCount: number;
  /** The first findings, in the order of the passes. */
  readonly findings: readonly Finding[];
  /** False when the superblock is so damaged that nothing else could be looked at. */
  readonly complete: boolean;
  /** Of what was read. */
  readonly sizeBytes: number;
  /** Undefined when the superblock could not be read. */
  readonly uuid?: string;
  /** By the names that e2fsprogs gives them. */
  readonly features?: readonly string[];
  /** Whether it has the constant hash seed that bless gives to all its images. */
  readonly blessed?: boolean;
  /** Inodes in use. */
  readonly usedInodes?: number;
  /** Blocks in use. */
  readonly usedBlocks?: number;
  /** How the large files lie. */
  readonly layout?: LayoutReport;
  /** What is unusual and no fault. */
  readonly warnings: readonly WarningSummary[];
}

const FINDINGS_MAX_DEFAULT = 1000;
const GRID_BYTES_DEFAULT = 128 * 1024;
const THRESHOLD_BYTES_DEFAULT = 64 * 1024;
/** Directories between two looks at the signal. */
const DIRECTORIES_A_TURN = 256;

/**
 * Verifies an image.
 *
 * @param reader the image; it is left open
 * @throws {InputError} when it is no ext4 image at all, or has features that are not supported
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { readFileSync } from "node:fs";
 * import { gunzipSync } from "node:zlib";
 * import { memoryReader } from "../../../io/random_reader.ts";
 * import { verifyImage } from "./verify.ts";
 *
 * const fixture = new URL("../../../../fixtures/ext4/csum-4k.img.gz", import.meta.url);
 * const image = new Uint8Array(gunzipSync(readFileSync(fixture)));
 * assertEquals((await verifyImage(memoryReader(image))).findings, []);
 *
 * image[1024 + 0x10] ^= 1; // s_free_inodes_count
 * const { clean, findings } = await verifyImage(memoryReader(image));
 * assertEquals(clean, false);
 * assertEquals(findings.map(({ problem }) => problem), ["checksum", "s_free_inodes_count"]);
 * ```
 */
export async function verifyImage(
  reader: RandomReader,
  options: VerifyOptions = {},
): Promise<VerifyReport> {
  const findings = new Findings(options.findingsMax ?? FINDINGS_MAX_DEFAULT);
  const warnings = new Warnings();
  const volume = checkSuperblock(reader, findings);
  if (volume === undefined) {
    return reportOf(reader, findings, warnings, undefined);
  }
  findings.attempt("superblock", {}, () => warnOfState(volume.superblock, reader.name, warnings));
  const context = newContext(volume, findings, checkDescriptors(volume, findings), options);
  await runPasses(context, options);
  return reportOf(reader, findings, warnings, context);
}

async function runPasses(context: Context, options: VerifyOptions): Promise<void> {
  const { findings } = context;
  const task = (options.progress ?? NO_PROGRESS).begin("verify");
  const turn = async () => {
    throwIfAborted(options.signal);
    await setImmediate();
  };
  try {
    await claimAndScan(context, turn);
    await reportConflicts(context, turn);
    checkXattrReferences(context);
    const links = new LinkTable();
    const room = new DirectoryRoom(context.volume);
    const behind = blocksBehind(context.directories);
    for (const [i, directory] of context.directories.entries()) {
      if (i % DIRECTORIES_A_TURN === 0) await turn();
      checkDirectory(context, links, directory, room, behind[i]!);
    }
    checkLinks(context, links);
    checkBitmaps(context);
    checkJournal(context);
    checkOrphans(context);
    checkMmp(context);
    checkQuotas(context);
    checkBackups(context);
    const { layout, layoutRule } = context;
    if (options.demandsLayout && layout.firstOff !== undefined) {
      const { gridBytes, thresholdBytes } = layoutRule;
      const problem = `files of ${thresholdBytes} bytes or more off the grid of ${gridBytes}, ` +
        "this inode first";
      const found = layout.files - layout.congruentFiles;
      findings.add("layout", { inode: layout.firstOff }, problem, { found, wanted: 0 });
    }
  } finally {
    task.end();
  }
}

async function claimAndScan(context: Context, turn: () => Promise<void>): Promise<void> {
  claimGroupBlocks(context.volume, context.groups, context.claims);
  for (const _pause of scanInodes(context)) await turn();
  checkResizeInode(context);
}

/** Names both owners of blocks that are claimed twice: the first ones are found by going through everything again. */
async function reportConflicts(context: Context, turn: () => Promise<void>): Promise<void> {
  const { claims, volume, findings } = context;
  if (claims.conflictCount === 0) return;
  const watched = new Map<number, Owner | undefined>();
  for (const { block } of claims.conflicts) watched.set(block, undefined);
  const groups = context.groups.map((group) => ({ ...group }));
  const second = newContext(volume, new Findings(0), groups, {}, new Claims(volume, watched));
  await claimAndScan(second, turn);
  for (const { block, owner } of claims.conflicts) {
    const first = watched.get(block);
    findings.add("image", { block }, "block with two owners", {
      found: `${first === undefined ? "another" : describeOwner(first)} and ${
        describeOwner(owner)
      }`,
      wanted: "one",
    });
  }
  const rest = claims.conflictCount - claims.conflicts.length;
  if (rest > 0) findings.add("image", {}, "more blocks with two owners", { found: rest });
}

function newContext(
  volume: Volume,
  findings: Findings,
  groups: readonly GroupState[],
  options: VerifyOptions,
  claims = new Claims(volume),
): Context {
  const quotaTypes = volume.hasRoCompat(RO_COMPAT.PROJECT) ? 3 : 2;
  return {
    volume,
    findings,
    claims,
    book: new InodeBook(volume),
    groups,
    directories: [],
    special: new Map(),
    xattrBlocks: new Map(),
    valueReferences: [],
    valueInodes: new Map(),
    quotas: volume.hasRoCompat(RO_COMPAT.QUOTA)
      ? Array.from({ length: quotaTypes }, () => new Map())
      : [],
    layoutRule: {
      gridBytes: options.layout?.gridBytes ?? GRID_BYTES_DEFAULT,
      thresholdBytes: options.layout?.thresholdBytes ?? THRESHOLD_BYTES_DEFAULT,
    },
    layout: { files: 0, congruentFiles: 0, firstOff: undefined },
  };
}

function reportOf(
  reader: RandomReader,
  findings: Findings,
  warnings: Warnings,
  context: Context | undefined,
): VerifyReport {
  const common = {
    clean: findings.total === 0,
    findingCount: findings.total,
    findings: findings.kept,
    complete: context !== undefined,
    sizeBytes: reader.sizeBytes,
    warnings: warnings.list(),
  };
  if (context === undefined) return common;
  const { superblock } = context.volume;
  const { layout, layoutRule } = context;
  return {
    ...common,
    uuid: formatUuid(superblock.uuid),
    features: featureNames(superblock),
    blessed: superblock.hashSeed.every((word, i) => word === HASH_SEED[i]),
    usedInodes: superblock.inodesCount - superblock.freeInodesCount,
    usedBlocks: superblock.blocksCount - superblock.freeBlocksCount,
    layout: {
      ...layoutRule,
      files: layout.files,
      congruentFiles: layout.congruentFiles,
    },
  };
}
