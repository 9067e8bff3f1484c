/**
 * Whether an image that was not unmounted is read as the kernel reads it.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import { Buffer } from "node:buffer";
import { openExt4Image } from "../../../lib/ext4/read/image.ts";
import { readTree } from "../../../lib/ext4/read/tree.ts";
import { verifyImage } from "../../../lib/ext4/verify/verify.ts";
import { recoverImage, type RecoveryReport } from "../../../lib/ext4/recovery/recover.ts";
import type { ByteString } from "../../../lib/bytes/byte_string.ts";
import { openFileReader, type RandomReader } from "../../../lib/io/random_reader.ts";
import { walkTree } from "../../../lib/model/node.ts";
import { Warnings } from "../../../lib/warnings.ts";
import { mustRun, runCommand, withTemporaryDirectory } from "../../oracle/command.ts";
import { type CompareOptions, describeDifference, firstDifference } from "../../oracle/compare.ts";
import { mountReadWrite, unmount } from "../../oracle/kernel.ts";
import { viewImage } from "../../oracle/kernel_tree.ts";
import { viewTree } from "../../oracle/tree_view.ts";

/** e2fsck exits with 1 when it corrected what it found. */
const E2FSCK_CORRECTED = 1;

/**
 * Throws unless the replayed image shows the tree that the kernel shows after its own replay of a copy, attribute for
 * attribute, and is as sound as e2fsck finds a copy that e2fsck replayed first.
 *
 * @returns what was replayed
 */
export async function assertRecovered(
  image: string,
  options: CompareOptions & {
    readonly journal?: string;
    /** The kernel gives directories the time of the mount: theirs are not compared. */
    readonly setsDirectoryTimes?: boolean;
  } = {},
): Promise<RecoveryReport | undefined> {
  const before = Deno.readFileSync(image);
  const raw = openFileReader(image);
  const journal = options.journal === undefined ? undefined : openFileReader(options.journal);
  try {
    const { reader, replay } = recoverImage(raw, { journal });
    const warnings = new Warnings();
    const tree = await readTree(openExt4Image(reader, { warnings }), { warnings });
    const directories = new Set<ByteString>();
    if (options.setsDirectoryTimes) {
      for (const { path, node } of walkTree(tree)) {
        if (node.kind === "directory") directories.add(path);
      }
    }
    const ignore = (path: ByteString, field: string) =>
      options.ignore?.(path, field) === true || (field === "mtime" && directories.has(path));
    withCopy(image, options.journal, (copy, device) => {
      mountReplayed(copy, device, (mountPoint) => {
        const hasLostAndFound = tree.root.children.has("lost+found");
        const found = viewImage(mountPoint, hasLostAndFound);
        const difference = firstDifference(viewTree(tree), found, { ...options, ignore });
        if (difference) throw new Error(`${image}: ${describeDifference(difference)}`);
      });
    });
    assertEquals(warnings.list(), []);
    const report = await verifyImage(reader);
    const written = writtenFault(reader, options.journal);
    // With fast commits, e2fsck 1.47 leaves deleted files and wrong counts behind.
    const hasFastCommits = (replay?.fastCommitBlocks ?? 0) > 0;
    const fault = hasFastCommits ? written : e2fsckFault(image, options.journal);
    if (report.clean !== (written === undefined)) {
      throw new Error(`${image}, written as it is read: ${written ?? "clean"}`);
    }
    if (report.clean !== (fault === undefined)) {
      const found = JSON.stringify(report.findings.slice(0, 5));
      throw new Error(`${image}: verify found ${found}, e2fsck ${fault ?? "nothing"}`);
    }
    return replay;
  } finally {
    raw.close();
    journal?.close();
    assertEquals(Buffer.compare(before, Deno.readFileSync(image)), 0, `${image} was written to`);
  }
}

/**
 * What e2fsck finds in a copy that it has replayed itself; undefined when it is sound. With its own replay, e2fsck 1.47
 * leaves attribute values of deleted orphans behind that have inodes of their own: then it judges what the kernel made.
 */
function e2fsckFault(image: string, journal: string | undefined): string | undefined {
  return withCopy(image, journal, (copy, device) => {
    const place = device === undefined ? [] : ["-j", device];
    const { status, stdout, stderr } = runCommand("e2fsck", ["-fp", ...place, copy]);
    if (status <= E2FSCK_CORRECTED) return e2fsckComplaint(copy, place);
    if (!stdout.includes("Unattached inode")) return `${stdout}${stderr}`;
    return withCopy(image, journal, (again, at) => {
      mountReplayed(again, at, () => undefined);
      return e2fsckComplaint(again, at === undefined ? [] : ["-j", at]);
    });
  });
}

/** What e2fsck finds in the image as it is read, when that is written to a file. */
export function writtenFault(reader: RandomReader, journal?: string): string | undefined {
  return withTemporaryDirectory((directory) => {
    const path = `${directory}/image`;
    const file = Deno.openSync(path, { write: true, create: true });
    const piece = new Uint8Array(1 << 20);
    for (let at = 0; at < reader.sizeBytes;) {
      const count = reader.readAt(piece, at);
      file.writeSync(piece.subarray(0, count));
      at += count;
    }
    file.close();
    return e2fsckComplaint(path, journal === undefined ? [] : ["-j", journal]);
  });
}

function e2fsckComplaint(image: string, place: readonly string[]): string | undefined {
  // That a tree could be shorter is said too, but is no fault.
  const { status, stdout } = runCommand("e2fsck", ["-fn", ...place, image]);
  return status === 0 ? undefined : stdout;
}

/** Mounts an image, whose journal may be on a device. */
function mountReplayed(
  image: string,
  journal: string | undefined,
  work: (mountPoint: string) => void,
): void {
  if (journal === undefined) return mountReadWrite(image, work);
  withTemporaryDirectory((mountPoint) => {
    mustRun("mount", ["-t", "ext4", "-o", `loop,journal_path=${journal}`, image, mountPoint]);
    try {
      work(mountPoint);
    } finally {
      unmount(mountPoint);
    }
  });
}

/** Works on a copy of an image, and a device with a copy of its journal. */
function withCopy<T>(
  image: string,
  journal: string | undefined,
  work: (copy: string, device: string | undefined) => T,
): T {
  return withTemporaryDirectory((directory) => {
    const copy = `${directory}/image`;
    mustRun("cp", ["--sparse=always", image, copy]);
    if (journal === undefined) return work(copy, undefined);
    mustRun("cp", [journal, `${directory}/journal`]);
    const device = mustRun("losetup", ["--find", "--show", `${directory}/journal`]).trim();
    try {
      return work(copy, device);
    } finally {
      mustRun("losetup", ["--detach", device]);
    }
  });
}
