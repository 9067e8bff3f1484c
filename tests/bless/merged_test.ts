import { assertEquals, assertNotEquals, assertRejects } from "@std/assert";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { contentIdentity, deriveUuid, withTree } from "../../lib/bless/plan_image.ts";
import { blessMerged, type BlessMergedOptions, releaseAsWritten } from "../../lib/bless/merged.ts";
import { MERGED_DEFAULTS } from "../../lib/bless/options.ts";
import { formatUuid } from "../../lib/bytes/digest.ts";
import { BlessfsError, InputError, InterruptedError, UsageError } from "../../lib/errors.ts";
import type { PayloadWrite } from "../../lib/ext4/plan/image_plan.ts";
import { createFileSink } from "../../lib/io/file_sink.ts";
import type { RandomReader } from "../../lib/io/random_reader.ts";
import type { ImageSink } from "../../lib/io/sink.ts";
import type { DataSegment, Payload } from "../../lib/model/node.ts";
import { mustRun } from "../oracle/command.ts";
import { describeDifference, firstDifference } from "../oracle/compare.ts";
import { assertE2fsckClean } from "../oracle/e2fsck.ts";
import { kernelOrNotice, mountReadOnly } from "../oracle/kernel.ts";
import { viewImage } from "../oracle/kernel_tree.ts";
import { notRun } from "../oracle/notice.ts";
import { dir, file, symlink, treeOf } from "../oracle/tree_builder.ts";
import { viewTree } from "../oracle/tree_view.ts";
import { writeOciLayout } from "../source/build_layout.ts";
import { openFilesBelow, sampleTar, testOptions, withDirectory } from "../source/helpers.ts";
import { buildTar } from "../tar/build.ts";

const LOWER = buildTar([
  { path: "etc/", mtime: 5 },
  { path: "etc/kept", data: "kept", mtime: 5 },
  { path: "etc/gone", data: "gone", mtime: 5 },
  { path: "large", data: new Uint8Array(200_000).fill(3), mtime: 5 },
  { path: "again", kind: "hardlink", link: "etc/kept", mtime: 5 },
]);
const UPPER = buildTar([
  { path: "etc/.wh.gone", data: "" },
  { path: "etc/new", data: "new", uid: 1000, mtime: 6, xattrs: { "user.x": "y" } },
  { path: "link", link: "etc/new", mtime: 6 },
]);

async function bless(
  directory: string,
  source: string,
  more: Partial<BlessMergedOptions> = {},
) {
  return await blessMerged({
    ...testOptions(),
    source,
    layout: MERGED_DEFAULTS,
    sink: createFileSink(`${directory}/image`, { force: true }),
    ...more,
  });
}

function namesIn(directory: string): string[] {
  return [...Deno.readDirSync(directory)].map(({ name }) => name).sort();
}

Deno.test("blessMerged applies all layers of an image to one tree in one file system", async () => {
  await withDirectory(async (directory) => {
    const { manifest, configDigest, diffIds } = writeOciLayout(`${directory}/oci`, {
      layers: [LOWER, UPPER],
    });
    const report = await bless(directory, `oci:${directory}/oci:latest`, { timestamp: 7 });
    assertEquals(report.mode, "merged");
    assertEquals([report.manifestDigest, report.configDigest], [manifest.digest, configDigest]);
    assertEquals(report.layers.map(({ diffId }) => diffId), [...diffIds]);
    assertEquals(report.uuid, formatUuid(deriveUuid({ contentDigest: manifest.digest })));
    assertEquals([report.files, report.directories, report.symlinks], [3, 2, 1]);
    assertEquals(report.warnings, []);
    assertE2fsckClean(`${directory}/image`);
    assertEquals(Deno.statSync(`${directory}/image`).size, report.sizeBytes);
    if (!kernelOrNotice("mounting a merged image")) return;
    const kept = file("kept", { mtime: 5 });
    const wanted = treeOf({
      "again": kept,
      "etc": dir({
        kept,
        "new": file("new", { uid: 1000, mtime: 6, xattrs: { "user.x": "y" } }),
      }, { mtime: 5 }),
      "large": file(new Uint8Array(200_000).fill(3), { mtime: 5 }),
      "link": symlink("etc/new", { mtime: 6 }),
    }, { mtime: 7 });
    const difference = mountReadOnly(
      `${directory}/image`,
      (mountPoint) => firstDifference(viewImage(mountPoint, false), viewTree(wanted)),
    );
    if (difference) throw new Error(describeDifference(difference));
  });
});

Deno.test("blessMerged gives equal bytes for equal sources, wherever they lie", async () => {
  await withDirectory(async (directory) => {
    for (const name of ["one", "two"]) {
      writeOciLayout(`${directory}/${name}`, { layers: [LOWER, UPPER] });
      const sink = createFileSink(`${directory}/${name}.ext4`);
      await bless(directory, `oci:${directory}/${name}:latest`, { sink });
    }
    mustRun("cmp", [`${directory}/one.ext4`, `${directory}/two.ext4`]);
  });
});

Deno.test("blessMerged gives the same bytes from spools of many parts, which it frees as it writes", async () => {
  await withDirectory(async (directory) => {
    writeOciLayout(`${directory}/oci`, { layers: [LOWER, UPPER] });
    const scratch = `${directory}/scratch`;
    Deno.mkdirSync(scratch);
    const openFiles: number[] = [];
    for (const spoolPartBytes of [undefined, 1, 512, 4096, 10_000]) {
      const path = `${directory}/${spoolPartBytes}.ext4`;
      const file = createFileSink(path);
      const sink: ImageSink = {
        write: (bytes, offset) => {
          openFiles.push(openFilesBelow(scratch).length);
          return file.write(bytes, offset);
        },
        finish: (sizeBytes) => file.finish(sizeBytes),
        abort: () => file.abort(),
      };
      const more = spoolPartBytes === undefined ? {} : { spoolPartBytes, inlineLayerBytes: -1 };
      await bless(directory, `oci:${directory}/oci:latest`, { ...more, sink, tmpdir: scratch });
      mustRun("cmp", [`${directory}/undefined.ext4`, path]);
    }
    assertEquals(openFilesBelow(scratch), []);
    if (openFiles.length > 0 && Math.max(...openFiles) === 0) {
      return notRun("counting open spools", "there is no /proc/self/fd");
    }
    // The last part is read for the last write.
    assertEquals(openFiles.at(-1)! <= 1, true);
    assertEquals(Math.max(...openFiles) > 1, true);
  });
});

Deno.test("a source without a manifest is named by what its layers hold", () => {
  const image = { manifestDigest: undefined } as Parameters<typeof contentIdentity>[0];
  type Layers = Parameters<typeof contentIdentity>[1];
  const layers = (...diffIds: string[]) =>
    diffIds.map((diffId) => ({ diffId })) as unknown as Layers;
  const digestOf = (...diffIds: string[]) =>
    contentIdentity(image, layers(...diffIds)).contentDigest;
  const digest = digestOf("sha256:a", "sha256:b");
  assertEquals(/^sha256:[0-9a-f]{64}$/.test(digest), true);
  assertEquals(digestOf("sha256:a", "sha256:b"), digest);
  assertNotEquals(digestOf("sha256:b", "sha256:a"), digest);
  const named = { manifestDigest: "sha256:m" } as Parameters<typeof contentIdentity>[0];
  assertEquals(contentIdentity(named, layers("sha256:a")).contentDigest, "sha256:m");
  const stated = [{ diffId: "sha256:a", statedUuid: "u" }] as unknown as Layers;
  assertEquals(contentIdentity(image, stated).statedUuid, "u");
  assertEquals(contentIdentity(named, stated).statedUuid, undefined);
  assertEquals(contentIdentity(image, [...stated, ...stated]).statedUuid, undefined);
});

Deno.test("blessMerged leaves nothing behind when it fails, and says why", async () => {
  await withDirectory(async (directory) => {
    Deno.writeFileSync(`${directory}/root.tar`, LOWER);
    Deno.writeFileSync(`${directory}/cut.tar`, LOWER.subarray(0, LOWER.length - 180_000));
    const before = namesIn(directory);
    const source = `tar:${directory}/root.tar`;
    const layout = { ...MERGED_DEFAULTS, gridBytes: 7 };
    const small = { ...MERGED_DEFAULTS, size: { kind: "total", sizeBytes: 8192 } } as const;
    await assertRejects(() => bless(directory, source, { layout }), UsageError, "gridBytes");
    await assertRejects(() => bless(directory, source, { layout: small }), InputError, "too few");
    await assertRejects(() => bless(directory, `tar:${directory}/cut.tar`), InputError);
    await assertRejects(() => bless(directory, `tar:${directory}/none.tar`), BlessfsError);
    const signal = AbortSignal.abort();
    await assertRejects(() => bless(directory, source, { signal }), InterruptedError);
    assertEquals(namesIn(directory), before);
    const report = await bless(directory, source);
    assertEquals([report.manifestDigest, report.platform], [null, null]);
    assertE2fsckClean(`${directory}/image`);
  });
});

/** A store that notes what it gives back. */
function storeOf(name: string, freed: string[], partCount?: number): RandomReader {
  return {
    name,
    sizeBytes: 1 << 20,
    readAt: () => 0,
    close: () => freed.push(name),
    ...partCount === undefined ? {} : {
      parts: {
        count: partCount,
        partBytes: 8192,
        release: (index: number) => freed.push(`${name}${index}`),
      },
    },
  };
}

function write(
  store: RandomReader,
  segments: readonly DataSegment[],
  logicalBlock = 0,
  blockCount = 1,
): PayloadWrite {
  const payload = { sizeBytes: 1 << 20, segments, dataRuns: [], contentHash: 0, store };
  return { startBlock: 0, blockCount, logicalBlock, payload };
}

function segment(storeOffset: number, lengthBytes: number, fileOffset = 0): DataSegment {
  return { fileOffset, storeOffset, lengthBytes };
}

/** What is freed before the first write, and after each. */
function schedule(
  payload: PayloadWrite[],
  stores: RandomReader[],
  freed: string[],
  inlinePayloads: readonly Payload[] = [],
): string[][] {
  const onWritten = releaseAsWritten(stores, { payload, inlinePayloads });
  const steps = [freed.splice(0)];
  for (const one of payload) {
    onWritten(one);
    steps.push(freed.splice(0));
  }
  return steps;
}

Deno.test("releaseAsWritten closes a store after the last write that reads it, others at once", () => {
  const freed: string[] = [];
  const [a, b, unread] = [storeOf("a", freed), storeOf("b", freed), storeOf("unread", freed)];
  const other = storeOf("not one of the layers", freed);
  const of = (store: RandomReader) => write(store, [segment(0, 4096)]);
  assertEquals(
    schedule([of(a), of(b), of(other), of(a), of(b)], [a, b, unread], freed),
    [["unread"], [], [], [], ["a"], ["b"]],
  );
});

Deno.test("releaseAsWritten frees each part of a store after the last write that reads it", () => {
  const freed: string[] = [];
  const store = storeOf("s", freed, 5);
  const writes = [
    write(store, [segment(512, 4096)]),
    // Over the border of two parts, and one of them is read again.
    write(store, [segment(8191, 2)]),
    write(store, [segment(8192, 8192)], 0, 2),
    // Only the second half of this file.
    write(store, [segment(16_384, 16_384)], 2, 2),
  ];
  assertEquals(schedule(writes, [store], freed), [["s2", "s4"], [], ["s0"], ["s1"], ["s3"]]);
});

Deno.test("releaseAsWritten keeps open what metadata is made from", () => {
  const freed: string[] = [];
  const [whole, unread] = [storeOf("whole", freed), storeOf("unread", freed)];
  const parted = storeOf("s", freed, 3);
  const inline = (store: RandomReader, at: number) => write(store, [segment(at, 100)]).payload;
  assertEquals(
    schedule(
      [write(whole, [segment(0, 4096)]), write(parted, [segment(0, 512)])],
      [whole, parted, unread],
      freed,
      [inline(whole, 9000), inline(parted, 8191)],
    ),
    [["s2", "unread"], [], []],
  );
});

Deno.test("blessMerged keeps small files in inodes, also of layers that have no other files", async () => {
  const small = buildTar([{ path: "small", data: "hello\n" }]);
  const big = buildTar([{ path: "big", data: new Uint8Array(300_000).fill(7) }]);
  const mixed = buildTar([{ path: "small", data: "hi" }, { path: "big", data: "x".repeat(9000) }]);
  for (const layers of [[small], [big, small], [small, big], [big, mixed]]) {
    for (const compress of ["gzip", "none"] as const) {
      for (const more of [{}, { inlineLayerBytes: -1, spoolPartBytes: 700 }]) {
        await withDirectory(async (directory) => {
          writeOciLayout(directory, { layers, compress });
          const path = `${directory}/image`;
          const layout = { ...MERGED_DEFAULTS, inlineData: true };
          await bless(directory, `oci:${directory}`, { ...testOptions(more), layout });
          assertEquals(openFilesBelow(directory), []);
          assertE2fsckClean(path);
          const text = mustRun("debugfs", ["-R", "cat /small", path]).replaceAll("\0", "");
          assertEquals(["hello\n", "hi"].includes(text), true, text);
        });
      }
    }
  }
});

Deno.test("releaseAsWritten takes a sparse file for one stretch, and what is behind the parts for the last", () => {
  const freed: string[] = [];
  const store = storeOf("s", freed, 3);
  const sparse = [segment(20, 100), segment(8000, 8000, 1 << 16), segment(100_000, 5, 1 << 19)];
  const writes = [write(store, sparse), write(store, sparse, 16), write(store, [segment(0, 1)])];
  assertEquals(schedule(writes, [store], freed), [[], [], ["s1", "s2"], ["s0"]]);
});

Deno.test("withTree hands over the tree and what names it, and closes the source in any case", async () => {
  await withDirectory(async (directory) => {
    const path = join(directory, "tar");
    writeFileSync(path, sampleTar());
    const names = await withTree(path, testOptions(), ({ tree, identity }) => {
      assertEquals(identity.contentDigest.startsWith("sha256:"), true);
      return Promise.resolve([...tree.root.children.keys()].sort());
    });
    assertEquals(names, ["big-1", "etc", "link"]);
    await assertRejects(() => withTree(path, testOptions(), () => Promise.reject(new Error("no"))));
    assertEquals(openFilesBelow(directory), []);
  });
});
