/** A boot reads its hot files in few pieces, and other images share as much as before. */
import { assertEquals, assertLess, assertMatch } from "@std/assert";
import { join } from "node:path";
import { planImage, withTree } from "../../lib/bless/plan_image.ts";
import { MERGED_DEFAULTS } from "../../lib/bless/options.ts";
import { BLOCK_SIZE_BYTES, walkTree } from "../../lib/model/node.ts";
import { inDirectory } from "../cli/program.ts";
import { assertE2fsckClean } from "../oracle/e2fsck.ts";
import { notRun } from "../oracle/notice.ts";
import { testOptions } from "../source/helpers.ts";
import { blessfs, writeTree } from "./boot_steps.ts";
import { type HostKernel, hostKernel, Machine, machineWords, PROMPT } from "./machine.ts";
import { makeRoot, SERVER_ROOT } from "./roots.ts";

const CELL_BYTES = 128 * 1024;
const SECTOR_BYTES = 512;

/** Bytes that a guest read. */
interface Read {
  readonly offset: number;
  readonly lengthBytes: number;
}

/** Boots until systemd says that the system runs, and gives what was read of the disk, in order. */
async function readsOfBoot(kernel: HostKernel, image: string, trace: string): Promise<Read[]> {
  const words = [
    ...machineWords({ kernel, disks: [image], append: "root=/dev/vda ro quiet" }),
    ...["-trace", "virtio_blk_handle_read", "-D", trace, "-snapshot"],
  ];
  const machine = new Machine(words);
  await machine.until(PROMPT);
  machine.type("systemctl is-system-running --wait; echo 'en'ded");
  await machine.until(/\nended/);
  machine.cut();
  await machine.ended;
  assertMatch(machine.output, /running\n/, machine.output);
  const lines = Deno.readTextFileSync(trace)
    .matchAll(/virtio_blk_handle_read.* sector (\d+) nsectors (\d+)/g);
  return [...lines].map(([, sector, count]) => ({
    offset: Number(sector) * SECTOR_BYTES,
    lengthBytes: Number(count) * SECTOR_BYTES,
  }));
}

/** Distinct cells that were read, and runs of neighbours among them. */
function cellsAndRanges(
  reads: readonly Read[],
): { readonly cells: number; readonly ranges: number } {
  const cells = new Set<number>();
  for (const { offset, lengthBytes } of reads) {
    const last = Math.floor((offset + lengthBytes - 1) / CELL_BYTES);
    for (let cell = Math.floor(offset / CELL_BYTES); cell <= last; cell++) cells.add(cell);
  }
  const ranges = [...cells].filter((cell) => !cells.has(cell - 1)).length;
  return { cells: cells.size, ranges };
}

/** The files that reads of an image touch, in the order in which they do. */
async function filesRead(source: string, reads: readonly Read[]): Promise<string[]> {
  const options = testOptions();
  return await withTree(source, options, ({ tree, identity }) => {
    const plan = planImage(tree, { layout: MERGED_DEFAULTS, ...identity });
    const pathOf = new Map([...walkTree(tree)].reverse().map(({ path, node }) => [node, path]));
    const owners = new Map<number, string>();
    for (const { draft, extents } of plan.files) {
      for (const { startBlock, blockCount } of extents) {
        for (let i = 0; i < blockCount; i++) owners.set(startBlock + i, pathOf.get(draft.node)!);
      }
    }
    const files = new Set<string>();
    for (const { offset, lengthBytes } of reads) {
      const end = (offset + lengthBytes) / BLOCK_SIZE_BYTES;
      for (let block = Math.floor(offset / BLOCK_SIZE_BYTES); block < end; block++) {
        const owner = owners.get(block);
        if (owner !== undefined) files.add(owner);
      }
    }
    return Promise.resolve([...files]);
  });
}

Deno.test("a boot reads hot files in at most a third of the ranges", async () => {
  const what = "what a boot reads of hot files";
  const kernel = hostKernel();
  if (typeof kernel === "string") return notRun(what, kernel);
  await inDirectory(async (directory) => {
    const at = (name: string) => join(directory, name);
    const why = makeRoot(at("root.tar"), SERVER_ROOT);
    if (why !== undefined) return notRun(what, why);
    const getty = "etc/systemd/system/serial-getty@ttyS0.service.d/autologin.conf";
    writeTree(at("machine"), {
      "etc/fstab": "/dev/vda / ext4 defaults 0 0\n",
      [getty]: "[Service]\nExecStart=\nExecStart=-/sbin/agetty --autologin root 115200 - $TERM\n",
    });
    blessfs(
      "export",
      `tar:${at("root.tar")}`,
      "--add",
      `${at("machine")}:/`,
      "-o",
      at("whole.tar"),
    );
    const source = `tar:${at("whole.tar")}`;
    blessfs("bless", source, "-o", at("plain.ext4"));
    const before = await readsOfBoot(kernel, at("plain.ext4"), at("before.log"));
    const files = await filesRead(source, before);
    Deno.writeTextFileSync(at("list"), files.join("\n"));
    blessfs(
      "bless",
      source,
      "--hot",
      at("list"),
      "--prefetch",
      at("hot.json"),
      "-o",
      at("hot.ext4"),
    );
    assertE2fsckClean(at("hot.ext4"));
    const after = await readsOfBoot(kernel, at("hot.ext4"), at("after.log"));
    const [plain, hot] = [cellsAndRanges(before), cellsAndRanges(after)];
    const { length } = JSON.parse(Deno.readTextFileSync(at("hot.json")));
    const figures = { files: files.length, prefetchCells: length / CELL_BYTES, plain, hot };
    // deno-lint-ignore no-console
    console.log(JSON.stringify(figures));
    assertEquals(plain.ranges > 0 && hot.ranges > 0, true, JSON.stringify(figures));
    assertLess(hot.ranges * 3, plain.ranges + 1, JSON.stringify(figures));
  });
});
