/**
 * The first oracle: `e2fsck -fn` exits 0 and says nothing but its passes and its summary.
 *
 * @module
 */
import { runCommand } from "./command.ts";

const PASSES = [
  "Pass 1: Checking inodes, blocks, and sizes",
  "Pass 2: Checking directory structure",
  "Pass 3: Checking directory connectivity",
  "Pass 4: Checking reference counts",
  "Pass 5: Checking group summary information",
];
const BANNER = /^e2fsck \d+\.\d+\S* \(\d+-\w+-\d+\)$/;
const SUMMARY = /^.*: (\d+)\/(\d+) files \(\d+\.\d% non-contiguous\), (\d+)\/(\d+) blocks$/;

/** The counts in e2fsck's summary. */
export interface E2fsckSummary {
  readonly usedInodes: number;
  readonly inodeCount: number;
  readonly usedBlocks: number;
  readonly blockCount: number;
}

/** The kernel does not shorten the extent tree of a file whose extents it joins; e2fsck offers to, and exits 0. */
const SHORTER_TREE =
  /^Inode \d+ extent tree \(at level \d\) could be shorter\. {2}Optimize\? no\n+/gm;

/** Throws unless e2fsck finds nothing at all to say about an image. `extra` are more options, such as `-b 32768`. */
export function assertE2fsckClean(imagePath: string, extra: readonly string[] = []): E2fsckSummary {
  const stdout = passedStdout(imagePath, extra, (text) => text);
  const [, ...counts] = SUMMARY.exec(stdout.trimEnd().split("\n").slice(PASSES.length).join("\n"))!;
  const [usedInodes, inodeCount, usedBlocks, blockCount] = counts.map(Number) as [
    number,
    number,
    number,
    number,
  ];
  return { usedInodes, inodeCount, usedBlocks, blockCount };
}

/** Throws unless e2fsck finds an image sound that the kernel has written to. */
export function assertE2fsckSound(imagePath: string): void {
  passedStdout(imagePath, [], (text) => text.replace(SHORTER_TREE, ""));
}

/** What e2fsck printed, changed by `edit` before it is judged. Throws when it finds anything. */
function passedStdout(
  imagePath: string,
  extra: readonly string[],
  edit: (stdout: string) => string,
): string {
  const { status, stdout, stderr } = runCommand("e2fsck", ["-fn", ...extra, imagePath]);
  const fault = status === 0 ? faultOf(edit(stdout), stderr) : `exit status ${status}`;
  if (fault !== undefined) {
    throw new Error(`e2fsck -fn ${imagePath}: ${fault}\n${stderr}${stdout}`);
  }
  return stdout;
}

/** What e2fsck said beyond what it must say; undefined when there is nothing. */
export function faultOf(stdout: string, stderr: string): string | undefined {
  const banner = stderr.trimEnd();
  if (!BANNER.test(banner)) return `unexpected on stderr: ${JSON.stringify(banner)}`;
  const lines = stdout.trimEnd().split("\n");
  for (const [i, pass] of PASSES.entries()) {
    if (lines[i] !== pass) {
      return `found ${JSON.stringify(lines[i])}, wanted ${JSON.stringify(pass)}`;
    }
  }
  const summary = lines.slice(PASSES.length).join("\n");
  // Anything between the passes and the summary is a complaint.
  if (!SUMMARY.test(summary) || lines.length > PASSES.length + 1) {
    return `unexpected in the summary: ${JSON.stringify(summary)}`;
  }
  return undefined;
}
