// deno-lint-ignore-file no-console -- what it prints is what it is for
/**
 * Answers "does the kernel see in IMAGE exactly the tree in DIR?": paths, types, modes, owners, link counts and which
 * names share an inode, mtimes to the nanosecond, symlink targets, device numbers, extended attributes, and bytes.
 *
 *     deno run -A tools/compare_image.ts IMAGE DIR [--e2fsck] [--unprivileged]
 *         [--ignore FIELD:PATH]...
 *
 * IMAGE is mounted read-only (as root); it may also be a directory where it is mounted already. An empty lost+found
 * in its root is left out when DIR has none. Prints the first difference and exits 1, or says what was compared and
 * exits 0; 2 is a wrong command line, 3 an image that could not be looked at or that e2fsck objects to.
 *
 *     --e2fsck             first see that e2fsck -fn exits 0 without a word of complaint
 *     --unprivileged       also open everything as user 65534, which must work exactly where modes and ACLs allow it
 *     --ignore FIELD:PATH  leave one field (as reports name it, such as mtime) of one path out; what was left out
 *                          is printed
 *
 * @module
 */
import { parseArgs } from "@std/cli/parse-args";
import type { ByteString } from "../lib/bytes/byte_string.ts";
import { byteStringFromText, displayName } from "../lib/bytes/byte_string.ts";
import type { ComparedCounts, Difference } from "../tests/oracle/compare.ts";
import { describeDifference, firstDifference } from "../tests/oracle/compare.ts";
import { viewDirectory } from "../tests/oracle/directory_view.ts";
import { assertE2fsckClean } from "../tests/oracle/e2fsck.ts";
import { mountReadOnly } from "../tests/oracle/kernel.ts";
import { viewImage } from "../tests/oracle/kernel_tree.ts";
import { firstWrongAccess } from "../tests/oracle/unprivileged.ts";

const USAGE =
  "usage: compare_image.ts IMAGE DIR [--e2fsck] [--unprivileged] [--ignore FIELD:PATH]...";

interface Request {
  readonly image: string;
  readonly directory: string;
  readonly e2fsck: boolean;
  readonly unprivileged: boolean;
  readonly ignored: ReadonlySet<string>;
}

function parseRequest(args: readonly string[]): Request | string {
  const unknown: string[] = [];
  const parsed = parseArgs(args, {
    string: ["ignore", "_"],
    boolean: ["e2fsck", "unprivileged"],
    collect: ["ignore"],
    unknown: (arg: string, key?: string) => {
      if (key !== undefined) unknown.push(arg);
      return key === undefined;
    },
  });
  const [image, directory, ...rest] = parsed._;
  if (unknown.length > 0) return `unknown option ${unknown[0]}`;
  if (image === undefined || directory === undefined || rest.length > 0) {
    return "wanted an image and a directory";
  }
  const ignored = new Set<string>();
  for (const text of parsed["ignore"] as string[]) {
    const colon = text.indexOf(":/");
    if (colon < 1) return `--ignore ${text}: wanted FIELD:/PATH`;
    ignored.add(`${text.slice(0, colon)}:${byteStringFromText(text.slice(colon + 1))}`);
  }
  const { e2fsck, unprivileged } = parsed as unknown as Pick<Request, "e2fsck" | "unprivileged">;
  return { image, directory, e2fsck, unprivileged, ignored };
}

function compare(request: Request): number {
  if (request.e2fsck) {
    const { usedInodes, usedBlocks, blockCount } = assertE2fsckClean(request.image);
    console.log(
      `e2fsck: clean, ${usedInodes} inodes and ${usedBlocks} of ${blockCount} blocks used`,
    );
  }
  const work = (mountPoint: string) => compareMounted(mountPoint, request);
  return Deno.statSync(request.image).isDirectory
    ? work(request.image)
    : mountReadOnly(request.image, work);
}

function compareMounted(mountPoint: string, request: Request): number {
  const counts: ComparedCounts = { nameCount: 0, contentBytes: 0 };
  const leftOut: string[] = [];
  const ignore = (path: ByteString, field: string) => {
    const shown = path === "" ? "/" : path;
    const isIgnored = request.ignored.has(`${field}:${shown}`);
    if (isIgnored) leftOut.push(`left out: ${displayName(shown)}: ${field} differs`);
    return isIgnored;
  };
  const wantsLostAndFound = exists(`${request.directory}/lost+found`);
  const difference: Difference | undefined = firstDifference(
    viewImage(mountPoint, wantsLostAndFound),
    viewDirectory(request.directory, { directoryLinks: "counted" }),
    { ignore },
    counts,
  );
  for (const line of leftOut) console.log(line);
  if (difference) return report(difference);
  const access = { openedCount: 0, refusedCount: 0 };
  if (request.unprivileged) {
    const wrong = firstWrongAccess(mountPoint, access);
    if (wrong) return report(wrong);
    console.log(
      `user 65534: ${access.openedCount} open, ${access.refusedCount} refused, all rightly`,
    );
  }
  console.log(`equal: ${counts.nameCount} names, ${counts.contentBytes} bytes of content`);
  return 0;
}

function exists(path: string): boolean {
  try {
    Deno.lstatSync(path);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

function report(difference: Difference): number {
  console.log(`different: ${describeDifference(difference)}`);
  return 1;
}

function main(): number {
  const request = parseRequest(Deno.args);
  if (typeof request === "string") {
    console.error(`compare_image: ${request}\n${USAGE}`);
    return 2;
  }
  try {
    return compare(request);
  } catch (error) {
    console.error(`compare_image: ${(error as Error).message}`);
    return 3;
  }
}

Deno.exitCode = main();
