import { Buffer } from "node:buffer";
import { assert, assertEquals, assertRejects } from "@std/assert";
import { readFileSync, writeFileSync } from "node:fs";
import { blessMerged } from "../../lib/bless/merged.ts";
import { MERGED_DEFAULTS } from "../../lib/bless/options.ts";
import { openPrevious } from "../../lib/bless/previous_image.ts";
import { InputError, InterruptedError, UsageError } from "../../lib/errors.ts";
import { createFileSink } from "../../lib/io/file_sink.ts";
import type { FileTree } from "../../lib/model/node.ts";
import { makeImage } from "../ext4/made_image.ts";
import { kernelOrNotice } from "../oracle/kernel.ts";
import { Random } from "../oracle/noise.ts";
import { dir, file, treeOf } from "../oracle/tree_builder.ts";
import { testOptions, withDirectory } from "../source/helpers.ts";
import { buildTar } from "../tar/build.ts";
import { assertRebuilt, changedTree, firstTree, rebuild } from "./like_chain.ts";

const MIB = 2 ** 20;

Deno.test("a chain of rebuilds stays sound and equal to its trees, with stale bytes and without", async () => {
  const mounts = kernelOrNotice("mounting rebuilt images");
  for (const keepStale of [false, true]) {
    await withDirectory(async (scratch) => {
      const random = new Random(77);
      let tree = firstTree(random, 60);
      await makeImage(`${scratch}/0`, tree);
      for (let i = 1; i <= 4; i++) {
        tree = changedTree(tree, random, 0.04);
        const made = await rebuild(`${scratch}/${i}`, tree, `${scratch}/${i - 1}`, { keepStale });
        await assertRebuilt(made, mounts && i === 4);
      }
    });
  }
});

Deno.test("an image that is laid out like itself is itself, and equal inputs give equal bytes", async () => {
  await withDirectory(async (scratch) => {
    const random = new Random(5);
    const tree = firstTree(random, 40);
    await makeImage(`${scratch}/0`, tree);
    const same = await rebuild(`${scratch}/same`, tree, `${scratch}/0`);
    assertEquals([same.like.cells.changed, same.like.cells.new, same.like.placedFiles], [1, 0, 0]);
    const changed = changedTree(tree, random, 0.1);
    for (const keepStale of [false, true]) {
      const [a, b] = [`${scratch}/a`, `${scratch}/b`];
      const first = await rebuild(a, changed, `${scratch}/0`, { keepStale });
      await rebuild(b, changed, `${scratch}/0`, { keepStale });
      assert(readFileSync(a).equals(readFileSync(b)));
      assert(!keepStale || first.like.cells.kept > first.like.cells.changed);
    }
  });
});

/** Which inode and blocks each file of the root has. */
function placesOf(plan: { files: readonly { draft: { path: string; inodeNumber: number } }[] }) {
  return new Map(
    plan.files.map((
      each,
    ) => [each.draft.path, JSON.stringify(each, ["extents", "startBlock", "inodeNumber"])]),
  );
}

Deno.test("what is unchanged keeps its place, and what is removed is kept on request only", async () => {
  await withDirectory(async (scratch) => {
    const secret = "the removed secret ".repeat(500);
    const files = (more: Record<string, ReturnType<typeof file>>) =>
      treeOf({ "a": file("a".repeat(5000)), "z": file(new Uint8Array(2 * MIB).fill(7)), ...more });
    const before = files({ "m": file(secret) });
    const after = files({ "b": file("new"), "n": file("x".repeat(30_000)) });
    const first = await makeImage(`${scratch}/0`, before);
    const clean = await rebuild(`${scratch}/clean`, after, first.path);
    const stale = await rebuild(`${scratch}/stale`, after, first.path, { keepStale: true });
    assertEquals(readFileSync(clean.path).includes("removed secret"), false);
    assertEquals([clean.like.staleBytes, stale.like.staleBytes], [0, 3 * 4096]);
    assertEquals(readFileSync(stale.path).includes("removed secret"), true);
    // What a later rebuild clears is gone for good.
    const cleared = await rebuild(`${scratch}/cleared`, after, stale.path);
    assertEquals(readFileSync(cleared.path).includes("removed secret"), false);
    for (const made of [clean, stale, cleared]) {
      for (const path of ["/a", "/z"]) {
        assertEquals(placesOf(made.plan).get(path), placesOf(first.plan).get(path));
      }
      await assertRebuilt(made, false);
    }
  });
});

Deno.test("one name more or less changes one leaf of a hashed directory", async () => {
  await withDirectory(async (scratch) => {
    const names = Array.from(
      { length: 2000 },
      (_, i) => [`some-longer-name-${i}`, file()] as const,
    );
    const tree = (children: Iterable<readonly [string, ReturnType<typeof file>]>): FileTree =>
      treeOf({ "many": dir(children) });
    await makeImage(`${scratch}/0`, tree(names));
    const more = await rebuild(
      `${scratch}/1`,
      tree([...names.slice(1), ["another", file("x")]]),
      `${scratch}/0`,
    );
    await assertRebuilt(more, kernelOrNotice("mounting a hashed directory"));
    const changed = changedBlocks(`${scratch}/0`, more.path);
    // Superblock, bitmaps, inodes, two leaves, the file, and a directory's inode: not all leaves.
    assert(changed < 12, `${changed} blocks changed`);
    // So many that leaves are split, and so few that some are empty.
    const many = Array.from({ length: 3000 }, (_, i) => [`more-${i}`, file()] as const);
    const grown = await rebuild(`${scratch}/2`, tree([...names, ...many]), more.path);
    await assertRebuilt(grown, false);
    const shrunk = await rebuild(`${scratch}/3`, tree(names.slice(0, 3)), grown.path);
    await assertRebuilt(shrunk, kernelOrNotice("mounting a directory with empty leaves"));
  });
});

function changedBlocks(a: string, b: string): number {
  const [before, after] = [readFileSync(a), readFileSync(b)];
  let count = 0;
  const zeros = Buffer.alloc(4096);
  for (let at = 0; at < Math.max(before.length, after.length); at += 4096) {
    const block = at < before.length ? before.subarray(at, at + 4096) : zeros;
    if (at < after.length && !block.equals(after.subarray(at, at + 4096))) count++;
  }
  return count;
}

Deno.test("too many stale bytes are cleared, and an image that drifted is laid out afresh", async () => {
  await withDirectory(async (scratch) => {
    const random = new Random(9);
    const files = (count: number, sizeBytes: number) =>
      Array.from(
        { length: count },
        (_, i) => [`f${1000 + i}`, file(random.bytes(sizeBytes))] as const,
      );
    const small = files(300, 9000);
    await makeImage(`${scratch}/0`, treeOf(small));
    const half = small.filter((_, i) => i % 2 === 0);
    const cleared = await rebuild(`${scratch}/1`, treeOf(half), `${scratch}/0`, {
      keepStale: true,
    });
    assert(cleared.like.staleCleared?.includes("of stale bytes, over"));
    assertEquals([cleared.like.afresh, cleared.like.staleBytes], [null, 0]);
    assertEquals(cleared.like.keptFiles, half.length);
    await assertRebuilt(cleared, false);
    const large = files(120, 128 * 1024);
    await makeImage(`${scratch}/2`, treeOf(large));
    const last = treeOf(large.slice(-20));
    const made = await rebuild(`${scratch}/3`, last, `${scratch}/2`);
    assert(made.like.afresh?.includes("a fresh layout has"), made.like.afresh ?? "continued");
    const fresh = await makeImage(`${scratch}/4`, last);
    assertEquals(made.plan.summary.sizeBytes, fresh.plan.summary.sizeBytes);
    await assertRebuilt(made, false);
  });
});

Deno.test("a previous image that cannot be continued is refused by name", async () => {
  await withDirectory(async (scratch) => {
    const tree = treeOf({
      "big": file(new Random(3).bytes(200_000)),
      "other": file(new Random(4).bytes(300_000)),
    });
    const image = `${scratch}/0`;
    await makeImage(image, tree, { gridBytes: 64 * 1024 });
    const refused = async (choices: Parameters<typeof rebuild>[3], why: string, path = image) => {
      const error = await assertRejects(
        () => rebuild(`${scratch}/1`, tree, path, choices),
        InputError,
      );
      assert(error.message.includes(why), error.message);
      assertEquals([...Deno.readDirSync(scratch)].some(({ name }) => name === "1"), false);
    };
    await refused({ gridBytes: MIB }, "is not on a grid of 1048576");
    await refused({ metadataChecksums: false }, "it has metadata_csum");
    await refused({ journalBytes: 0 }, "it has has_journal");
    await refused({ journalBytes: 8 * MIB }, "its journal has");
    await refused({ compat: ["3.10"] }, "64bit");
    const damaged = readFileSync(image);
    damaged.fill(0x55, 4096 * 3, 4096 * 3 + 10);
    writeFileSync(`${scratch}/damaged`, damaged);
    await refused({}, "is damaged", `${scratch}/damaged`);
    writeFileSync(`${scratch}/text`, "hello");
    await refused({}, "text", `${scratch}/text`);
    await refused({}, "missing", `${scratch}/missing`);
    const stream = { ...testOptions(), source: `tar:${scratch}/text`, keepStale: true };
    const sink = createFileSink(`${scratch}/1`);
    await assertRejects(
      () => blessMerged({ ...stream, layout: MERGED_DEFAULTS, sink }),
      UsageError,
      "keepStale",
    );
  });
});

Deno.test("an interrupted look at a previous image ends what it began", async () => {
  await withDirectory(async (scratch) => {
    const { path } = await makeImage(`${scratch}/0`, treeOf({ "a": file("a") }));
    const abort = new AbortController();
    const running: string[] = [];
    const progress = {
      begin(name: string) {
        running.push(name);
        return { advance: () => abort.abort(), end: () => running.splice(running.indexOf(name)) };
      },
    };
    await assertRejects(
      () =>
        openPrevious({ like: path }, {
          ...testOptions(),
          layout: MERGED_DEFAULTS,
          signal: abort.signal,
          progress,
        }),
      InterruptedError,
    );
    assertEquals(running, []);
  });
});

Deno.test("blessMerged reports what it kept of a previous image, also of one in a disk", async () => {
  await withDirectory(async (scratch) => {
    const tar = (data: string) =>
      buildTar([{ path: "etc/", mtime: 1 }, { path: "etc/a", data, mtime: 1 }, {
        path: "big",
        data: new Uint8Array(300_000).fill(9),
        mtime: 1,
      }]);
    writeFileSync(`${scratch}/1.tar`, tar("one"));
    writeFileSync(`${scratch}/2.tar`, tar("two"));
    const bless = async (source: string, output: string, more = {}) =>
      await blessMerged({
        ...testOptions(),
        source: `tar:${scratch}/${source}`,
        layout: MERGED_DEFAULTS,
        sink: createFileSink(`${scratch}/${output}`, { force: true }),
        ...more,
      });
    await bless("1.tar", "disk", { envelope: { disk: {} } });
    const report = await bless("2.tar", "2", { like: `ext4:${scratch}/disk#1` });
    assertEquals(report.like?.previous, `ext4:${scratch}/disk#1`);
    assertEquals([report.like?.keptFiles, report.like?.placedFiles], [1, 1]);
    assertEquals(report.like?.digest.startsWith("sha256:"), true);
  });
});
