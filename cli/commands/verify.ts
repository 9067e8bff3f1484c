/**
 * `blessfs verify IMAGE...`.
 *
 * @module
 */
import { UsageError } from "../../lib/errors.ts";
import { describeLocation, describeProblem } from "../../lib/ext4/volume/judge.ts";
import { checkGrid } from "../../lib/ext4/plan/settings.ts";
import { type Finding, verifyImage, type VerifyReport } from "../../lib/ext4/verify/verify.ts";
import type { RecoveryReport } from "../../lib/ext4/recovery/recover.ts";
import type { VerityCheck } from "../../lib/verity/verify_tree.ts";
import type { CommandIo, OptionSpec, ParsedArguments } from "../command.ts";
import { errorLines, EXIT, failureFacts, safeLine } from "../errors.ts";
import { styleOf } from "../text.ts";
import { formatCount, parseCount, parseSize, sizeOption } from "../values.ts";
import { parseImageAccess, withImageReader } from "./image.ts";

const NO_STYLE = styleOf(false);

interface Failure {
  readonly image: string;
  readonly error: unknown;
}

interface Verified {
  readonly image: string;
  readonly report: VerifyReport;
  /** The replay that preceded the check, if the journal had to be replayed. */
  readonly replay: RecoveryReport | undefined;
  /** The check of the hash tree; undefined when no root hash was given. */
  readonly verity?: VerityCheck | undefined;
}

export async function run(args: ParsedArguments, io: CommandIo): Promise<0 | 1 | void> {
  const gridBytes = args.read("grid", parseSize);
  checkGrid(gridBytes);
  const options = {
    layout: { gridBytes, thresholdBytes: args.read("align-threshold", parseSize) },
    requireLayout: args.firstGiven(["grid", "align-threshold"]) !== undefined,
    findingsMax: args.read("max-findings", parseCount),
    progress: io.progress,
    signal: io.signal,
  };
  const isStrict = args.flag("strict");
  const isClean = (found: Verified): boolean =>
    found.verity?.clean !== false && found.report.clean &&
    !(isStrict && (found.report.noteCount > 0 || found.report.warnings.length > 0));
  const access = parseImageAccess(args, io);
  const isProved = args.value("root-hash") !== undefined;
  // Most images have no hash tree and do not need this code.
  const verityCommand = isProved ? await import("./verity.ts") : undefined;
  const images = args.positionals("IMAGE");
  checkVerityArguments(args, images);
  const verified: Verified[] = [];
  const failures: Failure[] = [];
  for (const image of images) {
    let found: Verified;
    try {
      found = verityCommand === undefined
        ? await withImageReader(
          image,
          access,
          async (reader, replay) => ({ image, report: await verifyImage(reader, options), replay }),
        )
        : { image, replay: undefined, ...await verityCommand.verifyProved(image, args, options) };
    } catch (error) {
      io.signal.throwIfAborted();
      // The findings in the other images are still worth reporting.
      failures.push({ image, error });
      continue;
    }
    verified.push(found);
    const { report, verity } = found;
    io.warn(report.warnings);
    if (io.json) continue;
    await io.stdout.write(reportText(found, io.quiet));
    if (verityCommand === undefined || verity === undefined) continue;
    await io.stdout.write(verityCommand.checkText(image, verity, io.quiet));
  }
  const hasMore = verified.length + failures.length > 1;
  if (io.json && (failures.length === 0 || hasMore)) {
    await io.writeJson(documentOf({ verified, isClean }, failures, args.options));
  }
  const last = failures.pop();
  if (last !== undefined) {
    if (!io.json) {
      for (const { error } of failures) {
        io.stderr.write(errorLines(error, NO_STYLE, false, args.options));
      }
    }
    throw last.error;
  }
  return verified.every(isClean) ? undefined : EXIT.answerNo;
}

/** A root hash belongs to a single image. */
function checkVerityArguments(args: ParsedArguments, images: readonly string[]): void {
  const rootHash = args.value("root-hash");
  if (rootHash !== undefined && images.length > 1) {
    throw new UsageError("--root-hash", `is that of one image: ${images.length} are named`);
  }
  const place = args.firstGiven(["hash-file", "hash-offset"]);
  if (rootHash === undefined && place !== undefined) {
    throw new UsageError(`--${place}`, "there is no root hash to check the tree with", {
      remedies: [{ option: "rootHash", change: "set" }],
    });
  }
}

/** `clean` covers all images on the command line. */
function documentOf(
  { verified, isClean }: {
    readonly verified: readonly Verified[];
    readonly isClean: (found: Verified) => boolean;
  },
  failures: readonly Failure[],
  options: readonly OptionSpec[],
): unknown {
  return {
    clean: failures.length === 0 && verified.every(isClean),
    images: verified.map(({ image, report, replay, verity }) => ({
      image,
      ...report,
      ...replay === undefined ? {} : { replay },
      ...verity === undefined ? {} : { verity },
    })),
    failed: failures.map(({ image, error }) => ({
      image,
      ...failureFacts(error, options),
    })),
  };
}

function reportText({ image, report, replay }: Verified, quiet: boolean): string {
  const name = safeLine(image);
  const lines = report.findings.map((finding) => `${name}: ${findingText(finding)}`);
  if (report.findingCount > report.findings.length) {
    const rest = report.findingCount - report.findings.length;
    lines.push(`${name}: and ${formatCount(rest)} more`);
  }
  if (replay !== undefined && (!quiet || !report.clean)) {
    lines.push(`${name}: ${replayText(replay)}`);
  }
  if (!quiet || !report.clean) lines.push(`${name}: ${summaryOf(report)}`);
  return lines.map((line) => `${line}\n`).join("");
}

/** What the replay did before the image was checked. */
function replayText(report: RecoveryReport): string {
  const { transactions, blocks, fastCommitBlocks, orphans } = report;
  const counts = [
    `${formatCount(transactions)} ${transactions === 1 ? "transaction" : "transactions"}`,
    `${formatCount(blocks)} ${blocks === 1 ? "block" : "blocks"}`,
    ...fastCommitBlocks === 0 ? [] : [`${formatCount(fastCommitBlocks)} of fast commits`],
    ...orphans.deleted === 0 ? [] : [`${formatCount(orphans.deleted)} orphans deleted`],
    ...orphans.truncated === 0 ? [] : [`${formatCount(orphans.truncated)} orphans truncated`],
  ];
  return `checked as it is after its journal is replayed: ${counts.join(", ")}`;
}

function summaryOf(report: VerifyReport): string {
  const { findingCount, noteCount, layout } = report;
  const counted = (count: number, what: string) =>
    `${formatCount(count)} ${what}${count === 1 ? "" : "s"}`;
  const damage = counted(findingCount - noteCount, "finding");
  const notes = noteCount === 0 ? "" : `, ${counted(noteCount, "note")}`;
  const verdict = `${report.clean ? "clean" : `damaged: ${damage}`}${notes}`;
  if (layout === undefined) return `${verdict}; nothing but the superblock could be looked at`;
  const parts = [
    verdict,
    `${formatCount(report.usedInodes ?? 0)} inodes and ` +
    `${formatCount(report.usedBlocks ?? 0)} blocks in use`,
    `${formatCount(layout.congruentFiles)} of ${formatCount(layout.files)} files of ` +
    `${sizeOption(layout.thresholdBytes)} on the ${sizeOption(layout.gridBytes)} grid`,
  ];
  return parts.join(", ");
}

/** One finding per line: where, what, found and wanted. */
export function findingText(finding: Finding): string {
  const { structure, severity } = finding;
  const text = `${describeLocation(structure, finding)}: ${describeProblem(finding)}`;
  return severity === undefined ? text : `${severity}: ${text}`;
}
