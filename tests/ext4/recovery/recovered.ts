/**
 * Whether an image that was not unmounted is read as the kernel reads it.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import { Buffer } from "node:buffer";
import { openExt4Image } from "../../../lib/ext4/read/image.ts";
import { readTree } from "../../../lib/ext4/read/tree.ts";
import { verifyImage } from "../../../lib/ext4/read/verify/verify.ts";
import { recoverImage, type RecoveryReport } from "../../../lib/ext4/recovery/recover.ts";
import { openFileReader } from "../../../lib/io/random_reader.ts";
import { Warnings } from "../../../lib/warnings.ts";
import { mustRun, runCommand } from "../../oracle/command.ts";
import { type CompareOptions, describeDifference, firstDifference } from "../../oracle/compare.ts";
import { mountReadWrite } from "../../oracle/kernel.ts";
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
  options: CompareOptions & { readonly journal?: string } = {},
): Promise<RecoveryReport | undefined> {
  const before = Deno.readFileSync(image);
  const raw = openFileReader(image);
  const journal = options.journal === undefined ? undefined : openFileReader(options.journal);
  try {
    const { reader, replay } = recoverImage(raw, { journal });
    const warnings = new Warnings();
    const tree = await readTree(openExt4Image(reader, { warnings }), { warnings });
    withCopy(image, (copy) => {
      mountReadWrite(copy, (mountPoint) => {
        const hasLostAndFound = tree.root.children.has("lost+found");
        const found = viewImage(mountPoint, hasLostAndFound);
        const difference = firstDifference(viewTree(tree), found, options);
        if (difference) throw new Error(`${image}: ${describeDifference(difference)}`);
      });
    });
    assertEquals(warnings.list(), []);
    const report = await verifyImage(reader);
    const fault = e2fsckFault(image);
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

/** What e2fsck finds in a copy that it has replayed itself; undefined when it is sound. */
function e2fsckFault(image: string): string | undefined {
  return withCopy(image, (copy) => {
    const { status, stdout, stderr } = runCommand("e2fsck", ["-fp", copy]);
    if (status > E2FSCK_CORRECTED) return `${stdout}${stderr}`;
    // That a tree could be shorter is said too, but is no fault.
    const second = runCommand("e2fsck", ["-fn", copy]);
    return second.status === 0 ? undefined : second.stdout;
  });
}

function withCopy<T>(image: string, work: (copy: string) => T): T {
  const copy = `${image}.copy`;
  mustRun("cp", ["--sparse=always", image, copy]);
  try {
    return work(copy);
  } finally {
    Deno.removeSync(copy);
  }
}
