import { assertEquals, assertMatch, assertThrows } from "@std/assert";
import type { LayoutOptions } from "../../lib/bless/options.ts";
import { InputError, UsageError } from "../../lib/errors.ts";
import type { FileTree, TreeNode } from "../../lib/model/node.ts";
import { hasCommand, mustRun, runCommand, withTemporaryDirectory } from "../oracle/command.ts";
import { kernelOrNotice } from "../oracle/kernel.ts";
import { notRun } from "../oracle/notice.ts";
import { sweepCases } from "../oracle/sweeps.ts";
import { dir, file, special, symlink, treeOf } from "../oracle/tree_builder.ts";
import { assertMounts, assertSound, makeImage, MIB, planTree } from "./made_image.ts";

/** What a kernel of 2013 mounts: ext4 as of Linux 3.10, less what only it had to be asked for. */
const FEATURES_OF_3_10 = new Set([
  "has_journal",
  "ext_attr",
  "dir_index",
  "filetype",
  "extent",
  "flex_bg",
  "sparse_super",
  "large_file",
  "huge_file",
  "dir_nlink",
  "extra_isize",
  "metadata_csum",
]);

/** A node of every kind, directories that are hashed, files with many extents and many attributes. */
function richTree(): FileTree {
  const entries = Array.from(
    { length: 700 },
    (_, i): [string, TreeNode] => [`entry-${i}`, file(`${i}`)],
  );
  const noise = Array.from({ length: 400 }, (_, i) => [i * 8192, 4096] as const);
  return treeOf({
    "hashed": dir(entries),
    "extents": file({ sizeBytes: 400 * 8192, noise, seed: 1 }),
    "attributes": file("x", {
      xattrs: { "user.a": "a".repeat(500), "security.b": "b".repeat(700), "user.c": "" },
    }),
    "small": file("less than an inode holds"),
    "hundred": file("y".repeat(100)),
    "target": symlink("t".repeat(100)),
    "null": special("characterDevice", [1, 3]),
    "disk": special("blockDevice", [300, 70_000]),
    "large": file({ sizeBytes: 2 * MIB + 1, noise: "all", seed: 2 }),
  });
}

function headerOf(image: string): Map<string, string> {
  const lines = mustRun("dumpe2fs", ["-h", image]).split("\n");
  return new Map(
    lines.flatMap((line) => {
      const colon = line.indexOf(":");
      return colon < 0 ? [] : [[line.slice(0, colon), line.slice(colon + 1).trim()]];
    }),
  );
}

function featuresOf(image: string): string[] {
  return headerOf(image).get("Filesystem features")!.split(" ");
}

async function checkChoices(choices: Partial<LayoutOptions>): Promise<void> {
  const hasKernel = kernelOrNotice("mounting images of all kinds of features");
  await withTemporaryDirectory(async (scratch) => {
    try {
      const made = await makeImage(`${scratch}/image`, richTree(), choices);
      assertEquals(made.warnings, []);
      assertSound(made);
      if (hasKernel) assertMounts(made);
    } catch (error) {
      throw new Error(`${JSON.stringify(choices)}: ${(error as Error).message}`, { cause: error });
    }
  });
}

Deno.test("--compat 3.10 asks for nothing that a kernel of that time does not know", async () => {
  await withTemporaryDirectory(async (scratch) => {
    for (const metadataChecksums of [true, false]) {
      const choices = { compat: ["3.10"], metadataChecksums } as const;
      const made = await makeImage(`${scratch}/image`, richTree(), choices);
      const header = headerOf(made.path);
      assertEquals(featuresOf(made.path).filter((name) => !FEATURES_OF_3_10.has(name)), []);
      // dumpe2fs names the size of descriptors only where it is not 32.
      assertEquals(header.has("Group descriptor size"), false);
      assertEquals(header.has("Checksum seed"), false);
      assertEquals(featuresOf(made.path).includes("metadata_csum"), metadataChecksums);
    }
  });
});

/** What kernels as of 3.10 cannot read, in all combinations. */
const NEWER_CHOICES = [true, false].flatMap((inlineData) =>
  (["sparse", "none"] as const).map((backups) => ({ inlineData, backups }))
);

for (const compat of [["3.10"], undefined]) {
  for (const metadataChecksums of [true, false]) {
    for (const journalBytes of [0, 4 * MIB]) {
      const what = `compat ${compat}, checksums ${metadataChecksums}, journal ${journalBytes}`;
      Deno.test(`features go together: ${what}`, async () => {
        const choices = compat === undefined
          ? sweepCases(NEWER_CHOICES, 3)
          : [{ inlineData: false, backups: "sparse" } as const];
        for (const choice of choices) {
          await checkChoices({ compat, metadataChecksums, journalBytes, ...choice });
        }
      });
    }
  }
}

Deno.test("free space and many groups go with every kind of checksum", async () => {
  const size = { kind: "free", freeBytes: 600 * MIB } as const;
  for (const metadataChecksums of [true, false]) {
    for (const compat of [["3.10"], undefined]) {
      await checkChoices({ size, metadataChecksums, compat, journalBytes: 140 * MIB });
    }
  }
});

Deno.test("--inline-data keeps small files in their inodes, up to the last byte that fits", async () => {
  const children: [string, TreeNode][] = [];
  for (
    const sizeBytes of [0, 1, 59, 60, 61, 100, 130, 131, 132, 133, 150, 155, 156, 157, 160, 161]
  ) {
    children.push([`f${sizeBytes}`, file({ sizeBytes, noise: "all", seed: sizeBytes })]);
    const xattrs = { "user.note": "some text" };
    children.push([`x${sizeBytes}`, file({ sizeBytes, noise: "all", seed: 7 }, { xattrs })]);
  }
  children.push(["hole", file({ sizeBytes: 150, parts: [] })]);
  children.push(["half", file({ sizeBytes: 100, parts: [[90, Uint8Array.of(1, 2, 3)]] })]);
  const hasKernel = kernelOrNotice("mounting inline data");
  await withTemporaryDirectory(async (scratch) => {
    for (const metadataChecksums of [true, false]) {
      const choices = { inlineData: true, metadataChecksums };
      const made = await makeImage(`${scratch}/image`, treeOf(children), choices);
      assertSound(made);
      assertMatch(featuresOf(made.path).join(" "), /inline_data/);
      const stat = mustRun("debugfs", ["-R", "stat /f100", made.path]);
      assertMatch(stat, /Size of inline data: 100|Inline data/i);
      if (hasKernel) assertMounts(made);
    }
  });
});

Deno.test("--label, --uuid, --inodes and --reserved are in the superblock", async () => {
  const hasKernel = kernelOrNotice("mounting labelled images");
  await withTemporaryDirectory(async (scratch) => {
    const made = await makeImage(`${scratch}/image`, richTree(), {
      label: "ein Größe-Name",
      uuid: "01234567-89ab-cdef-8123-456789ABCDEF",
      inodeCount: 100_000,
      reservedBlocks: { kind: "percent", percent: 5 },
      size: { kind: "total", sizeBytes: 500 * MIB },
    });
    const header = headerOf(made.path);
    const blocks = (500 * MIB) / 4096;
    assertEquals(header.get("Filesystem UUID"), "01234567-89ab-cdef-8123-456789abcdef");
    assertEquals(header.get("Reserved block count"), String(Math.floor(blocks * 0.05)));
    assertEquals(header.get("Block count"), String(blocks));
    assertEquals(Number(header.get("Inode count")) >= 100_000, true);
    assertEquals(Number(header.get("Inode count")) < 102_000, true);
    assertSound(made);
    if (hasKernel) assertMounts(made);
  });
});

Deno.test("--inodes beyond what one group holds makes groups, whatever the content", async () => {
  for (const inodeCount of [1, 32_768, 32_769, 200_000]) {
    for (const backups of ["sparse", "none"] as const) {
      await withTemporaryDirectory(async (scratch) => {
        const made = await makeImage(`${scratch}/image`, richTree(), { inodeCount, backups });
        assertSound(made);
        assertEquals(made.plan.summary.inodes >= inodeCount, true);
      });
    }
  }
});

Deno.test("choices that contradict each other are refused", () => {
  const refused: Partial<LayoutOptions>[] = [
    { compat: ["3.10"], inlineData: true },
    { compat: ["3.10"], backups: "none" },
    { gridBytes: 3000 },
    { gridBytes: 32 * MIB },
    { gridBytes: 2048 },
    { alignThresholdBytes: 0 },
    { packing: { kind: "resync", meanBytes: 65536, lowBytes: 65536 } },
    { uuid: "not-a-uuid" },
    { label: "seventeen bytes.." },
    { inodeCount: 0 },
    { inodeCount: 2 ** 32 },
    { reservedBlocks: { kind: "percent", percent: 51 } },
    { size: { kind: "total", sizeBytes: -1 } },
  ];
  for (const choices of refused) {
    assertThrows(
      () => planTree(richTree(), choices),
      UsageError,
      undefined,
      JSON.stringify(choices),
    );
  }
});

Deno.test("values that need inodes of their own are refused where no old kernel could read them", () => {
  const tree = treeOf({ "f": file("", { xattrs: { "user.big": "x".repeat(5000) } }) });
  assertThrows(() => planTree(tree, { compat: ["3.10"] }), InputError, "extended attributes");
});

const GRUB = "grub-fstest";

/** Whether GRUB's own reader is here. */
function hasGrub(what: string): boolean {
  if (hasCommand(GRUB)) return true;
  notRun(what, "grub-fstest is not installed (grub-common)");
  return false;
}

Deno.test("GRUB reads images that are made for it, to the last byte", async () => {
  if (!hasGrub("images read by GRUB")) return;
  const content = new Uint8Array(300_000).map((_, i) => (i * 31 + (i >> 8)) & 0xff);
  const tree = treeOf({
    "boot": dir({
      "kernel": file(content),
      "link": symlink(`../boot/${"./".repeat(60)}kernel`),
      "short": symlink("kernel"),
    }),
    "hashed": dir(
      Array.from({ length: 700 }, (_, i): [string, TreeNode] => [`entry-${i}`, file(`${i}`)]),
    ),
    "holes": file({ sizeBytes: 400 * 8192, parts: [[0, Uint8Array.of(1)], [4096 * 77, content]] }),
    "attributes": file("x", { xattrs: { "user.a": "a".repeat(900) } }),
  });
  const holes = new Uint8Array(400 * 8192);
  holes[0] = 1;
  holes.set(content, 4096 * 77);
  const files: [string, Uint8Array][] = [
    ["/boot/kernel", content],
    ["/boot/link", content],
    ["/boot/short", content],
    ["/hashed/entry-699", new TextEncoder().encode("699")],
    ["/holes", holes],
    ["/attributes", new TextEncoder().encode("x")],
  ];
  await withTemporaryDirectory(async (scratch) => {
    const local = `${scratch}/local`;
    const choices: Partial<LayoutOptions>[] = [
      {},
      { backups: "none", size: { kind: "total", sizeBytes: 700 * MIB } },
      { metadataChecksums: false, journalBytes: 0 },
    ];
    for (const choice of choices) {
      const compat = ["grub", "u-boot", "linux-5.10"];
      const made = await makeImage(`${scratch}/image`, tree, { ...choice, compat });
      assertSound(made);
      assertEquals(featuresOf(made.path).includes("metadata_csum_seed"), false);
      for (const [path, bytes] of files) {
        Deno.writeFileSync(local, bytes);
        mustRun(GRUB, [made.path, "cmp", path, local]);
      }
      // A hashed directory is not in the order of its names.
      const listed = mustRun(GRUB, [made.path, "ls", "/hashed"]).trim().split(" ");
      assertEquals(listed.sort(), Array.from({ length: 700 }, (_, i) => `entry-${i}`).sort());
    }
  });
});

Deno.test("GRUB refuses what --compat grub rules out", async () => {
  if (!hasGrub("images that GRUB refuses")) return;
  const big = { xattrs: { "user.big": "x".repeat(5000) } };
  await withTemporaryDirectory(async (scratch) => {
    const cases: [FileTree, Partial<LayoutOptions>, boolean][] = [
      [treeOf({ "f": file("content") }), {}, true],
      [treeOf({ "f": file("content") }), { inlineData: true }, false],
      [treeOf({ "f": file("content", big) }), {}, false],
    ];
    for (const [tree, choices, isRead] of cases) {
      const { path } = await makeImage(`${scratch}/image`, tree, {
        ...choices,
        compat: isRead ? ["grub"] : undefined,
      });
      const { stdout } = runCommand(GRUB, [path, "cat", "/f"]);
      assertEquals(stdout === "content", isRead, JSON.stringify(choices));
    }
  });
});

Deno.test("a file that needs what a reader does not know is named with the reader", () => {
  const tree = treeOf({
    "dir": dir({ "f": file("", { xattrs: { "user.big": "x".repeat(5000) } }) }),
  });
  for (
    const [names, shown] of [
      [["grub"], "GRUB"],
      [["u-boot", "grub-2.12"], "GRUB 2.12"],
      [["linux-4.9"], "Linux 4.9"],
    ] as const
  ) {
    const error = assertThrows(() => planTree(tree, { compat: names }), InputError);
    assertMatch(
      error.message,
      /^\/dir\/f: its extended attributes need \d+ bytes: a block holds 4096/,
    );
    assertMatch(error.message, new RegExp(`, and ${shown} cannot read ea_inode$`));
  }
  planTree(tree, { compat: ["u-boot", "linux-5.10"] });
});
