/**
 * `blessfs verify IMAGE...`.
 *
 * @module
 */
import { checkGrid } from "../../lib/ext4/plan/settings.ts";
import type { RecoveryReport } from "../../lib/ext4/recovery/recover.ts";
import type { Finding, VerifyReport } from "../../lib/ext4/read/verify/verify.ts";
import { verifyImage } from "../../lib/ext4/read/verify/verify.ts";
import type { Command } from "../command.ts";
import { JSON_OPTION } from "../command.ts";
import { errorLines, failureFacts, safeLine } from "../errors_output.ts";
import { EXIT, type ExitCode } from "../exit_codes.ts";
import type { CommandIo } from "../io.ts";
import type { ParsedArguments } from "../parsed_arguments.ts";
import { formatCount, parseSize, sizeOption } from "../sizes.ts";
import { styleOf } from "../style.ts";
import { parseCount } from "../values.ts";
import { parseImageAccess, REPLAY_OPTIONS, withImageReader } from "./image_argument.ts";

const GRID_BYTES_DEFAULT = 128 * 1024;
const THRESHOLD_BYTES_DEFAULT = 64 * 1024;
const FINDINGS_DEFAULT = 100;
const NO_STYLE = styleOf(false);

/** The command. */
export const verifyCommand: Command = {
  name: "verify",
  summary: "check ext4 images: every checksum, every structure, every count",
  examples: [
    { purpose: "Check an image, without e2fsprogs", line: "blessfs verify python.ext4" },
    {
      purpose: "Check all layers, and fail when a large file is off the grid",
      line: "blessfs verify layers/*.ext4 --grid 128K --align-threshold 64K",
    },
    { purpose: "Give findings to a script", line: "blessfs verify python.ext4 --json" },
  ],
  description: [
    "Reports damage wherever e2fsck -fn does, and where it does not look: values of attributes, backups, the journal's " +
    "copy in the superblock. It changes nothing. The exit code is 1 when an image is damaged.",
    "How large files lie on the grid is counted. An image does not say which grid it was blessed for: with --grid or " +
    "--align-threshold, files off that grid count as damage.",
  ],
  positionals: [{ name: "IMAGE", summary: "an ext4 image", completion: "file", repeated: true }],
  options: [
    {
      name: "grid",
      key: "gridBytes",
      value: "SIZE",
      defaultText: sizeOption(GRID_BYTES_DEFAULT),
      summary: "the grid that large files are to lie on",
    },
    {
      name: "align-threshold",
      key: "alignThresholdBytes",
      value: "SIZE",
      defaultText: sizeOption(THRESHOLD_BYTES_DEFAULT),
      summary: "files of at least this size are large",
    },
    {
      name: "max-findings",
      value: "COUNT",
      defaultText: `${FINDINGS_DEFAULT}`,
      summary: "how many findings of an image are shown; all are counted",
    },
    ...REPLAY_OPTIONS,
    JSON_OPTION,
  ],
  run,
};

/** An image of which nothing can be said. */
interface Failure {
  readonly image: string;
  readonly error: unknown;
}

interface Verified {
  readonly image: string;
  readonly report: VerifyReport;
  /** What was done before, when its journal had to be replayed. */
  readonly replay: RecoveryReport | undefined;
}

async function run(args: ParsedArguments, io: CommandIo): Promise<ExitCode | void> {
  const grid = args.value("grid");
  const threshold = args.value("align-threshold");
  const findings = args.value("max-findings");
  const gridBytes = grid === undefined ? GRID_BYTES_DEFAULT : parseSize(grid, "--grid");
  checkGrid(gridBytes);
  const options = {
    layout: {
      gridBytes,
      thresholdBytes: threshold === undefined
        ? THRESHOLD_BYTES_DEFAULT
        : parseSize(threshold, "--align-threshold"),
    },
    demandsLayout: grid !== undefined || threshold !== undefined,
    findingsMax: findings === undefined ? FINDINGS_DEFAULT : parseCount(findings, "--max-findings"),
    progress: io.progress,
    signal: io.signal,
  };
  const access = parseImageAccess(args);
  const verified: Verified[] = [];
  const failures: Failure[] = [];
  for (const image of args.positionals("IMAGE")) {
    let found: Verified;
    try {
      found = await withImageReader(
        image,
        access,
        async (reader, replay) => ({ image, report: await verifyImage(reader, options), replay }),
      );
    } catch (error) {
      io.signal.throwIfAborted();
      // What was found in the other images is worth knowing all the same.
      failures.push({ image, error });
      continue;
    }
    verified.push(found);
    io.warn(found.report.warnings);
    if (!io.json) await io.stdout.write(reportText(found, io.quiet));
  }
  const hasMore = verified.length + failures.length > 1;
  if (io.json && (failures.length === 0 || hasMore)) {
    await io.writeJson(documentOf(verified, failures));
  }
  const last = failures.pop();
  if (last !== undefined) {
    if (!io.json) {
      for (const { error } of failures) {
        io.stderr.write(errorLines(error, NO_STYLE, false, verifyCommand.options));
      }
    }
    throw last.error;
  }
  return verified.every(({ report }) => report.clean) ? undefined : EXIT.answerNo;
}

/** `clean` speaks for all images that were named. */
function documentOf(verified: readonly Verified[], failures: readonly Failure[]): unknown {
  return {
    clean: failures.length === 0 && verified.every(({ report }) => report.clean),
    images: verified.map(({ image, report, replay }) => ({
      image,
      ...report,
      ...replay === undefined ? {} : { replay },
    })),
    failed: failures.map(({ image, error }) => ({
      image,
      ...failureFacts(error, verifyCommand.options),
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

/** What was done before an image was checked. */
function replayText({ transactions, blocks, orphans }: RecoveryReport): string {
  const counts = [
    `${formatCount(transactions)} ${transactions === 1 ? "transaction" : "transactions"}`,
    `${formatCount(blocks)} ${blocks === 1 ? "block" : "blocks"}`,
    ...orphans.deleted === 0 ? [] : [`${formatCount(orphans.deleted)} orphans deleted`],
    ...orphans.truncated === 0 ? [] : [`${formatCount(orphans.truncated)} orphans truncated`],
  ];
  return `checked as it is after its journal is replayed: ${counts.join(", ")}`;
}

function summaryOf(report: VerifyReport): string {
  const { findingCount, layout } = report;
  const verdict = report.clean
    ? "clean"
    : `damaged: ${formatCount(findingCount)} ${findingCount === 1 ? "finding" : "findings"}`;
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

/** One finding on one line: where, what, found and wanted. */
export function findingText(finding: Finding): string {
  const { structure, problem, found, wanted } = finding;
  const places: string[] = [];
  if (finding.group !== undefined) places.push(`group ${finding.group}`);
  if (finding.inode !== undefined && structure !== "inode") places.push(`inode ${finding.inode}`);
  if (finding.block !== undefined) places.push(`block ${finding.block}`);
  if (finding.offset !== undefined) places.push(`byte ${finding.offset}`);
  const name = structure === "inode" && finding.inode !== undefined
    ? `inode ${finding.inode}`
    : structure;
  const where = places.length === 0 ? name : `${name} (${places.join(", ")})`;
  const values = [
    ...found === undefined ? [] : [`found ${found}`],
    ...wanted === undefined ? [] : [`wanted ${wanted}`],
  ];
  return values.length === 0
    ? `${where}: ${problem}`
    : `${where}: ${problem}: ${values.join(", ")}`;
}
