import { assert, assertEquals } from "@std/assert";
import { readFileSync, writeFileSync } from "node:fs";
import process from "node:process";
import fc from "fast-check";
import { blessLayered } from "../../lib/bless/layered.ts";
import { blessMerged } from "../../lib/bless/merged.ts";
import { LAYERED_DEFAULTS, MERGED_DEFAULTS } from "../../lib/bless/options.ts";
import { createFileSink } from "../../lib/io/file_sink.ts";
import { buildTree } from "../../lib/tree/build.ts";
import { mustRun, withTemporaryDirectory } from "../oracle/command.ts";
import type { ComparedCounts } from "../oracle/compare.ts";
import { describeDifference, firstDifference } from "../oracle/compare.ts";
import { viewDirectory } from "../oracle/directory_view.ts";
import { assertE2fsckClean } from "../oracle/e2fsck.ts";
import { kernelOrNotice, mountReadOnly, unmount } from "../oracle/kernel.ts";
import { notRun } from "../oracle/notice.ts";
import type { ObservedName } from "../oracle/observed.ts";
import { writeOciLayout } from "../source/build_layout.ts";
import { testOptions } from "../source/helpers.ts";
import { buildTar } from "../tar/build.ts";
import { treeOptions } from "../tree/layers.ts";
import { randomStacks, withoutRefusedEntries } from "../tree/random_layers.ts";
import { EDGE_IMAGES } from "./cases.ts";
import type { EdgeImage } from "./edge_image.ts";

/** Sources besides the edge images, separated by spaces: `oci:DIR oci:OTHER`. */
const MORE_SOURCES = (process.env["BLESSFS_LAYERED_SOURCES"] ?? "").split(" ").filter(Boolean);
const RANDOM_STACK_COUNT = Number(process.env["BLESSFS_OVERLAYFS_STACKS"] ?? 10);
const FIRST_UNESCAPING_KERNEL = [6, 7] as const;

interface Description {
  readonly layers: readonly { readonly file: string; readonly mountPoint: string | null }[];
  readonly overlay: { readonly options: string; readonly emptyDirectories: readonly string[] };
}

Deno.test("the layers of every edge image, mounted and stacked by the kernel, show its merged image", async () => {
  if (!stackingOrNotice("layer images of edge images under overlayfs")) return;
  const wrong: string[] = [];
  for (const image of EDGE_IMAGES) {
    // Without layers, the root is whatever empty directory is mounted.
    if ("refused" in image || image.layers.length === 0) continue;
    await withTemporaryDirectory(async (directory) => {
      const difference = await differenceOf(writeSource(image, directory), directory);
      if (difference !== undefined) wrong.push(`${image.name}: ${difference}`);
    });
  }
  assertEquals(wrong, []);
});

Deno.test("random layers, repeated in a stack, show their merged image", async () => {
  if (!stackingOrNotice("repeated layer images under overlayfs")) return;
  await fc.assert(
    fc.asyncProperty(randomStacks, async (random) => {
      // A layer may be refused where it comes again, for example a hard link to what was removed since.
      const stack = withoutRefusedEntries(
        [...random, ...random, ...random.slice(0, 1)],
        (layers) => buildTree(layers, treeOptions()),
      );
      const image = { name: "random", layers: stack, expected: [] };
      await withTemporaryDirectory(async (directory) => {
        assertEquals(await differenceOf(writeSource(image, directory), directory), undefined);
      });
    }),
    { numRuns: RANDOM_STACK_COUNT },
  );
});

Deno.test("the layers of the given sources, mounted and stacked by the kernel, show their merged images", async () => {
  const what = "layer images of large sources under overlayfs";
  if (MORE_SOURCES.length === 0) return notRun(what, "BLESSFS_LAYERED_SOURCES names none");
  if (!stackingOrNotice(what)) return;
  for (const source of MORE_SOURCES) {
    await withTemporaryDirectory(async (directory) => {
      const counts = { nameCount: 0, contentBytes: 0 };
      assertEquals(await differenceOf(source, directory, counts), undefined, source);
      assert(counts.nameCount > 1 && counts.contentBytes > 0, `${source} holds nothing`);
    });
  }
});

/** The kernel part needs root and loop devices, and a kernel that shows escaped xattrs. */
function stackingOrNotice(what: string): boolean {
  if (!kernelOrNotice(what)) return false;
  const [major = 0, minor = 0] = Deno.osRelease().split(".").map(Number);
  const [wantedMajor, wantedMinor] = FIRST_UNESCAPING_KERNEL;
  if (major > wantedMajor || (major === wantedMajor && minor >= wantedMinor)) return true;
  notRun(what, `Linux ${Deno.osRelease()} cannot show escaped xattrs; that takes 6.7`);
  return false;
}

function writeSource(image: EdgeImage, directory: string): string {
  const layers = image.layers.map(buildTar);
  if (image.whiteouts !== false) {
    writeOciLayout(`${directory}/layout`, { layers });
    return `oci:${directory}/layout`;
  }
  assertEquals(layers.length, 1, "a root file system tar is one layer");
  writeFileSync(`${directory}/root.tar`, layers[0]!);
  return `tar:${directory}/root.tar`;
}

/** Blesses both ways, mounts all, and compares; undefined when the kernel shows the same. */
async function differenceOf(
  source: string,
  directory: string,
  counts: ComparedCounts = { nameCount: 0, contentBytes: 0 },
): Promise<string | undefined> {
  const outputDir = `${directory}/layers`;
  await blessLayered({ ...testOptions(), source, layout: LAYERED_DEFAULTS, outputDir });
  const merged = `${directory}/merged.ext4`;
  await blessMerged({
    ...testOptions(),
    source,
    layout: MERGED_DEFAULTS,
    sink: createFileSink(merged),
  });
  const description = JSON.parse(readFileSync(`${outputDir}/image.json`, "utf8")) as Description;
  const files = description.layers.map(({ file }) => `${outputDir}/${file}`);
  for (const file of files) assertE2fsckClean(file);
  return withMounts(
    [merged, ...files],
    ([mergedRoot, ...layerRoots]) =>
      withStack(directory, description, layerRoots, (stack) => {
        const difference = firstDifference(
          viewDirectory(stack, { directoryLinks: "counted" }),
          withoutWhiteoutDevices(viewDirectory(mergedRoot!, { directoryLinks: "counted" })),
          {},
          counts,
        );
        return difference && describeDifference(difference);
      }),
  );
}

/** Mounts all images, each at a directory of its own. */
function withMounts<T>(
  images: readonly string[],
  work: (mountPoints: readonly string[]) => T,
  mounted: readonly string[] = [],
): T {
  const image = images[mounted.length];
  if (image === undefined) return work(mounted);
  return mountReadOnly(image, (mountPoint) => withMounts(images, work, [...mounted, mountPoint]));
}

/** Stacks mounted layers as image.json says. */
function withStack<T>(
  directory: string,
  { layers, overlay }: Description,
  layerRoots: readonly string[],
  work: (stack: string) => T,
): T {
  const names = `${directory}/names`;
  const stack = `${directory}/stack`;
  for (const path of [names, stack]) Deno.mkdirSync(path);
  for (const [i, { mountPoint }] of layers.entries()) {
    if (mountPoint !== null) Deno.symlinkSync(layerRoots[i]!, `${names}/${mountPoint}`);
  }
  for (const name of overlay.emptyDirectories) Deno.mkdirSync(`${names}/${name}`);
  mustRun("sh", [
    "-c",
    'cd "$1" && mount -t overlay overlay -o "$2" "$3"',
    "sh",
    names,
    overlay.options,
    stack,
  ]);
  try {
    return work(stack);
  } finally {
    unmount(stack);
  }
}

/** In a stack, 0:0 character devices are whiteouts, whatever the image meant by them. */
function* withoutWhiteoutDevices(view: Generator<ObservedName>): Generator<ObservedName> {
  for (const name of view) {
    const isWhiteout = name.kind === "characterDevice" && name.deviceMajor === 0 &&
      name.deviceMinor === 0;
    if (!isWhiteout) yield name;
  }
}
