import { assertEquals, assertNotEquals, assertRejects } from "@std/assert";
import { blessMerged, contentIdentity } from "../../lib/bless/merged.ts";
import type { BlessMergedOptions } from "../../lib/bless/merged.ts";
import { MERGED_DEFAULTS } from "../../lib/bless/options.ts";
import { deriveUuid } from "../../lib/bless/plan_image.ts";
import { BlessfsError, InputError, InterruptedError, UsageError } from "../../lib/errors.ts";
import { formatUuid } from "../../lib/bytes/uuid.ts";
import { createFileSink } from "../../lib/io/file_sink.ts";
import type { ImageSink } from "../../lib/io/sink.ts";
import { assertE2fsckClean } from "../oracle/e2fsck.ts";
import { describeDifference, firstDifference } from "../oracle/compare.ts";
import { mustRun } from "../oracle/command.ts";
import { kernelOrNotice, mountReadOnly } from "../oracle/kernel.ts";
import { viewImage } from "../oracle/kernel_tree.ts";
import { dir, file, symlink, treeOf } from "../oracle/tree_builder.ts";
import { viewTree } from "../oracle/tree_view.ts";
import { writeOciLayout } from "../source/build_layout.ts";
import { notRun } from "../oracle/notice.ts";
import { openFilesBelow, testOptions, withDirectory } from "../source/helpers.ts";
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
    await assertRejects(() => bless(directory, source, { layout: small }), InputError, "too small");
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
