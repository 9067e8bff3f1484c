import { assert, assertEquals, assertNotEquals, assertRejects } from "@std/assert";
import { readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { InputError, InterruptedError } from "../../lib/errors.ts";
import { readPayload, type TreeNode } from "../../lib/model/node.ts";
import { EntryDigester, openExt4Source } from "../../lib/source/ext4_image.ts";
import { openImage } from "../../lib/source/source.ts";
import { openSourceFile } from "../../lib/source/source_file.ts";
import { treeItems } from "../../lib/tree/tar.ts";
import { Warnings } from "../../lib/warnings.ts";
import { makeImage } from "../ext4/made_image.ts";
import { mustRun } from "../oracle/command.ts";
import { dir, file, special, symlink, treeOf } from "../oracle/tree_builder.ts";
import { openAndLoad, openFilesBelow, testOptions, withDirectory, withLoaded } from "./helpers.ts";

const linked = file("linked", { xattrs: { "user.a": "b" } });
const TREE = treeOf({
  a: linked,
  b: dir({ c: linked, big: file({ sizeBytes: 100_000, noise: "all", seed: 1 }) }),
  d: symlink("b/big"),
  e: special("socket"),
  f: special("blockDevice", [8, 1]),
});

Deno.test("ext4: gives the entries of an image, and the image is their store", async () => {
  await withDirectory(async (directory) => {
    const path = join(directory, "image");
    // The same files have the same digest, wherever they lie.
    const digests = new Set<string>();
    for (const inlineData of [false, true]) {
      await makeImage(path, TREE, { inlineData });
      // Both ways to write it.
      for (const source of [`ext4:${path}`, path]) {
        const warnings = new Warnings();
        await withLoaded(source, testOptions({ warnings }), ([layer, ...rest], image) => {
          assertEquals([image.kind, rest.length, layer!.whiteouts], ["ext4", 0, false]);
          assertEquals(layer!.entries.map(({ kind, path }) => `${kind} ${path}`), [
            "directory ./",
            "file a",
            "directory b/",
            "file b/big",
            "hardlink b/c",
            "symlink d",
            "blockDevice f",
          ]);
          const { payload } = layer!.entries[1]!;
          const bytes = new Uint8Array(6);
          readPayload({ ...payload!, store: layer!.store }, bytes, 0);
          assertEquals(new TextDecoder().decode(bytes), "linked");
          digests.add(layer!.digest).add(layer!.diffId);
          assertEquals(typeof layer!.statedUuid, "string");
        });
        assertEquals(warnings.list().map(({ kind }) => kind), ["skippedSocket"]);
        assertEquals(openFilesBelow(directory), []);
      }
    }
    assertEquals(digests.size, 1);
  });
});

Deno.test("ext4: tells the order of payload and the UUID of images that blessing made, of no others", async () => {
  await withDirectory(async (directory) => {
    const path = join(directory, "image");
    const [first, second] = [file("1"), file("2")];
    first.firstLayer = 1;
    await makeImage(path, treeOf({ first, second }), { payloadOrder: "first-layer" });
    await withLoaded(path, testOptions(), ([layer]) => {
      assertEquals(layer!.entries.map(({ firstLayer }) => firstLayer), [undefined, 1, undefined]);
    });
    const statedUuid = () => withLoaded(path, testOptions(), ([layer]) => layer!.statedUuid);
    assertEquals(typeof await statedUuid(), "string");
    mustRun("debugfs", ["-w", "-R", "rm /second", path]);
    assertEquals(await statedUuid(), undefined);
    const fixture = new URL("../../fixtures/ext4/csum-4k.img.gz", import.meta.url);
    writeFileSync(path, gunzipSync(readFileSync(fixture)));
    await withLoaded(path, testOptions(), ([layer]) => {
      assertEquals(layer!.statedUuid, undefined);
      assert(layer!.entries.every((entry) => entry.firstLayer === undefined));
    });
  });
});

Deno.test("ext4: refuses damage and stops for a signal, and closes the file", async () => {
  await withDirectory(async (directory) => {
    const path = join(directory, "image");
    await makeImage(path, treeOf({ a: file({ sizeBytes: 40 << 20, noise: "all", seed: 1 }) }));
    const { size } = Deno.statSync(path);
    const file_ = await openSourceFile(path, "an image", testOptions());
    const signal = AbortSignal.abort();
    await assertRejects(
      () => openExt4Source(path, file_, testOptions({ signal })),
      InterruptedError,
    );
    truncateSync(path, size - 4096);
    await assertRejects(() => openAndLoad(path, testOptions()), InputError, "its file system has");
    await assertRejects(() => openImage(`ext4:${directory}`, testOptions()), InputError);
    assertEquals(openFilesBelow(directory), []);
  });
});

const TIB = 2 ** 40;

async function digestOf(
  children: Readonly<Record<string, TreeNode>>,
  signal?: AbortSignal,
): Promise<string> {
  const digester = new EntryDigester(signal);
  for (const item of treeItems(treeOf(children), new Warnings())) await digester.add(item);
  return digester.digest();
}

Deno.test("EntryDigester gives equal trees one digest, and others others", async () => {
  const linked = file("linked");
  const base = { a: linked, b: linked, c: file("c", { xattrs: { "user.x": "1" } }) };
  const digest = await digestOf(base);
  assertEquals(await digestOf(base), digest);
  const others = [
    { ...base, b: file("linked") },
    { ...base, c: file("d", { xattrs: { "user.x": "1" } }) },
    { ...base, c: file("c", { xattrs: { "user.x": "2" } }) },
    { ...base, c: file("c", { xattrs: { "user.x": "1" }, uid: 1 }) },
    { ...base, d: file() },
    // The same bytes in another place, and behind another length.
    { ...base, c: file({ sizeBytes: 8193, parts: [[4096, Uint8Array.of(0x63)]] }) },
    { ...base, c: file({ sizeBytes: 8194, parts: [[4096, Uint8Array.of(0x63)]] }) },
    { ...base, c: file({ sizeBytes: 8193, parts: [[0, Uint8Array.of(0x63)]] }) },
  ];
  const digests = await Promise.all(others.map((children) => digestOf(children)));
  assertEquals(new Set([digest, ...digests]).size, 9);
});

Deno.test("EntryDigester reads data and no holes, whoever made them", async () => {
  const bytes = new Uint8Array(8192).fill(1);
  const stored = file({ sizeBytes: 9 * TIB, parts: [[4 * TIB, bytes]] });
  let readBytes = 0;
  const { payload } = stored;
  const readAt = (target: Uint8Array, position: number) => {
    readBytes += target.length;
    return payload.store.readAt(target, position);
  };
  const counted = { ...payload.store, readAt };
  const sparse = { ...stored, payload: { ...payload, store: counted } };
  const digest = await digestOf({ sparse });
  assertEquals(readBytes, bytes.length);
  assertNotEquals(await digestOf({ sparse: file({ sizeBytes: 9 * TIB, parts: [] }) }), digest);
  const zeros = file(new Uint8Array(10_000));
  const hole = file({ sizeBytes: 10_000, parts: [] });
  assertEquals(await digestOf({ zeros }), await digestOf({ zeros: hole }));
});

Deno.test("EntryDigester reads files of several pieces, and stops for a signal", async () => {
  const large = (seed: number) => file({ sizeBytes: (40 << 20) + 5, noise: "all", seed });
  assertNotEquals(await digestOf({ large: large(1) }), await digestOf({ large: large(2) }));
  await assertRejects(() => digestOf({ large: large(1) }, AbortSignal.abort()), InterruptedError);
});
