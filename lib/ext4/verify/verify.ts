/**
 * Verifies an image: every checksum, every pointer, every count, without stopping at the first fault.
 *
 * The passes follow those of e2fsck: the superblock and descriptors; all inodes with their blocks and attributes; all
 * directories; the links between them; the bitmaps and counts; then the journal, backups and rarer structures.
 *
 * Memory: two bits per block, some bytes per inode in use, and a record for each directory.
 *
 * @module
 */
import { setImmediate } from "node:timers/promises";
import { throwIfAborted } from "../../errors.ts";
import type { RandomReader } from "../../io/random_reader.ts";
import { NO_PROGRESS, type Progress } from "../../progress.ts";
import { Warnings, type WarningSummary } from "../../warnings.ts";
import { RO_COMPAT } from "../format/constants.ts";
import { HASH_SEED } from "../format/htree.ts";
import { formatUuid } from "../../bytes/digest.ts";
import { blocksBehind, DirectoryWalker } from "../volume/directory.ts";
import { featureNames, warnOfState } from "../volume/superblock.ts";
import { type Finding, Findings } from "../volume/judge.ts";
import type { Group, Volume } from "../volume/volume.ts";
import { checkXattrReferences } from "./attributes.ts";
import { checkBitmaps, checkGroupFlags, markGroupBlocks } from "./bitmaps.ts";
import {
  BlockUsage,
  type Context,
  describeOwner,
  type LayoutRule,
  newContext,
  type Owner,
} from "./context.ts";
import { checkLinks, EntryCheck } from "./directories.ts";
import { scanInodes } from "./inodes.ts";
import { checkJournal, checkMmp, checkOrphans, checkQuotas, checkResizeInode } from "./special.ts";
import { checkBackups, checkSuperblock } from "./superblock.ts";

export {
  type Finding,
  FINDING_CODES,
  type FindingCode,
  type Location,
  type Structure,
} from "../volume/judge.ts";
export type { LayoutRule } from "./context.ts";

/** Options for verification. */
export interface VerifyOptions {
  /** How many findings are kept; the rest are only counted. 1000 by default. */
  readonly findingsMax?: number | undefined;
  /** The grid that large files are checked against; 128 KiB and 64 KiB by default. */
  readonly layout?: Partial<LayoutRule> | undefined;
  /** Whether a large file that is not congruent is a finding. By default it is only counted. */
  readonly requireLayout?: boolean | undefined;
  /** Progress reporter. */
  readonly progress?: Progress | undefined;
  /** Aborts the work with its reason. */
  readonly signal?: AbortSignal | undefined;
}

/** How the large files of an image are aligned. */
export interface LayoutReport {
  /** The grid that they are checked against. */
  readonly gridBytes: number;
  /** Files of at least this size are large. */
  readonly thresholdBytes: number;
  /** Regular files with blocks whose size reaches the threshold. */
  readonly files: number;
  /** Those whose extents all have physical = logical block, modulo the grid. */
  readonly congruentFiles: number;
}

/** The result of verification. */
export interface VerifyReport {
  /** Whether there are no findings except notes. */
  readonly clean: boolean;
  /** Number of findings, including those not kept. */
  readonly findingCount: number;
  /** How many of them are notes: worth knowing, but neither the kernel nor e2fsck objects. */
  readonly noteCount: number;
  /** The first findings, in the order of the passes. */
  readonly findings: readonly Finding[];
  /** False if the superblock is so damaged that nothing else could be checked. */
  readonly complete: boolean;
  /** Size of the image. */
  readonly sizeBytes: number;
  /** Undefined if the superblock could not be read. */
  readonly uuid?: string | undefined;
  /** Names as in e2fsprogs. */
  readonly features?: readonly string[] | undefined;
  /** Whether it has the constant hash seed that bless gives all its images. */
  readonly blessed?: boolean | undefined;
  /** Inodes in use. */
  readonly usedInodes?: number | undefined;
  /** Blocks in use. */
  readonly usedBlocks?: number | undefined;
  /** How the large files are aligned. */
  readonly layout?: LayoutReport | undefined;
  /** What is unusual but not a fault. */
  readonly warnings: readonly WarningSummary[];
}

const FINDINGS_MAX_DEFAULT = 1000;
const GRID_BYTES_DEFAULT = 128 * 1024;
const THRESHOLD_BYTES_DEFAULT = 64 * 1024;
const DIRECTORIES_A_TURN = 256;

/**
 * Verifies an image.
 *
 * @param reader the image; it stays open
 * @throws {InputError} if it is not an ext4 image at all, or has unsupported features
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { readFileSync } from "node:fs";
 * import { gunzipSync } from "node:zlib";
 * import { memoryReader } from "../../io/random_reader.ts";
 * import { verifyImage } from "./verify.ts";
 *
 * const fixture = new URL("../../../fixtures/ext4/csum-4k.img.gz", import.meta.url);
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
  if (volume === undefined) return reportOf(reader, findings, warnings, undefined);
  findings.attempt("superblock", {}, () => warnOfState(volume.superblock, reader.name, warnings));
  const context = newContext(volume, readGroups(volume), {
    gridBytes: options.layout?.gridBytes ?? GRID_BYTES_DEFAULT,
    thresholdBytes: options.layout?.thresholdBytes ?? THRESHOLD_BYTES_DEFAULT,
  });
  await runPasses(context, options);
  return reportOf(reader, findings, warnings, context);
}

/** Every group whose descriptor the image holds. If a table ends early, its remaining groups are missing, too. */
function readGroups(volume: Volume): Group[] {
  const groups: Group[] = [];
  for (let index = 0; index < volume.groupCount; index++) {
    const group = volume.group(index);
    const tableBlock = Math.floor(index / volume.descriptorsPerBlock);
    if (group.descriptor === undefined && volume.descriptorBlock(tableBlock) >= volume.endBlock) {
      break;
    }
    groups.push(group);
  }
  return groups;
}

async function runPasses(context: Context, options: VerifyOptions): Promise<void> {
  const { judge } = context;
  const task = (options.progress ?? NO_PROGRESS).begin("verify");
  const turn = async () => {
    throwIfAborted(options.signal);
    await setImmediate();
  };
  try {
    checkGroupFlags(context);
    await markAndScan(context, turn);
    await reportSharedBlocks(context, turn);
    checkXattrReferences(context);
    await checkDirectories(context, turn);
    checkBitmaps(context);
    checkJournal(context);
    checkOrphans(context);
    checkMmp(context);
    checkQuotas(context);
    checkBackups(context, isBlessed(context.volume));
    const { layout, layoutRule } = context;
    if (options.requireLayout && layout.firstOff !== undefined) {
      const { gridBytes, thresholdBytes } = layoutRule;
      const problem = `files of ${thresholdBytes} bytes or more off the grid of ${gridBytes}, ` +
        "this inode first";
      const found = layout.files - layout.congruentFiles;
      judge.report("layout", { inode: layout.firstOff }, problem, { found, wanted: 0 });
    }
  } finally {
    task.end();
  }
}

async function markAndScan(context: Context, turn: () => Promise<void>): Promise<void> {
  markGroupBlocks(context);
  for (const _pause of scanInodes(context)) await turn();
  checkResizeInode(context);
}

async function checkDirectories(context: Context, turn: () => Promise<void>): Promise<void> {
  const { directories, volume } = context;
  const check = new EntryCheck(context);
  const walker = new DirectoryWalker(volume);
  const behind = blocksBehind(directories);
  for (const [i, directory] of directories.entries()) {
    if (i % DIRECTORIES_A_TURN === 0) await turn();
    check.begin(directory.view.number);
    walker.walk(directory, check, behind[i]!);
  }
  checkLinks(context);
}

/** Names both owners of shared blocks; finding the first owners takes a second pass over everything. */
async function reportSharedBlocks(context: Context, turn: () => Promise<void>): Promise<void> {
  const { usage, volume, judge, layoutRule } = context;
  // With shared_blocks, as in Android's images, files of equal content share blocks on purpose.
  if (usage.sharedCount === 0 || volume.hasRoCompat(RO_COMPAT.SHARED_BLOCKS)) return;
  const watched = new Map<number, Owner | undefined>();
  for (const { block } of usage.shared) watched.set(block, undefined);
  const silent = volume.withJudge(new Findings(0));
  const again = newContext(silent, context.groups, layoutRule, new BlockUsage(silent, watched));
  await markAndScan(again, turn);
  for (const { block, owner } of usage.shared) {
    const first = watched.get(block);
    const firstName = first === undefined ? "another" : describeOwner(first);
    judge.report("image", { block }, "block with two owners", {
      found: `${firstName} and ${describeOwner(owner)}`,
      wanted: "one",
    });
  }
  const rest = usage.sharedCount - usage.shared.length;
  if (rest > 0) judge.report("image", {}, "more blocks with two owners", { found: rest });
}

/** Whether it has the constant hash seed that bless gives all its images. */
function isBlessed({ superblock }: Volume): boolean {
  return superblock.hashSeed.every((word, i) => word === HASH_SEED[i]);
}

function reportOf(
  reader: RandomReader,
  findings: Findings,
  warnings: Warnings,
  context: Context | undefined,
): VerifyReport {
  const common = {
    clean: findings.total === findings.notes,
    findingCount: findings.total,
    noteCount: findings.notes,
    findings: findings.kept,
    complete: context !== undefined,
    sizeBytes: reader.sizeBytes,
    warnings: warnings.list(),
  };
  if (context === undefined) return common;
  const { superblock } = context.volume;
  const { layout: { files, congruentFiles }, layoutRule } = context;
  return {
    ...common,
    uuid: formatUuid(superblock.uuid),
    features: featureNames(superblock),
    blessed: isBlessed(context.volume),
    usedInodes: superblock.inodesCount - superblock.freeInodesCount,
    usedBlocks: superblock.blocksCount - superblock.freeBlocksCount,
    layout: { ...layoutRule, files, congruentFiles },
  };
}
