import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { writeFileSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { InputError } from "../../lib/errors.ts";
import { SharedDescriptor } from "../../lib/io/random_reader.ts";
import { createUnlinkedFile } from "../../lib/io/spool.ts";
import { Archive } from "../../lib/source/archive.ts";
import type { SourceOptions } from "../../lib/source/source.ts";
import { normalizeMemberPath } from "../../lib/tar/entry.ts";
import { gzipOf, HAS_ZSTD, skippableFrame, zstdOf } from "../io/compressed_samples.ts";
import { buildTar, joinBytes, type SimpleEntry } from "../tar/build.ts";
import { givesTars, layoutEntries, oldDockerEntries, TARS, withArchive } from "./build_archives.ts";
import { openAndLoad, openFilesBelow, sampleTar, testOptions, withDirectory } from "./helpers.ts";

/** An archive whose members can be found, and not be read. */
function scanTar(tar: Uint8Array, options: Pick<SourceOptions, "tarLimits"> = {}): Archive {
  const file = new SharedDescriptor(createUnlinkedFile(tmpdir()));
  try {
    writeSync(file.descriptor, tar);
    return new Archive({ name: "archive", file, sizeBytes: tar.length }, options, () => {});
  } finally {
    file.release();
  }
}

function scan(entries: readonly SimpleEntry[]): Archive {
  return scanTar(buildTar(entries));
}

Deno.test("Archive finds files by their paths, long ones too, and where their bytes lie", () => {
  const long = `${"d/".repeat(150)}file`;
  const entries = [
    { path: "./a", data: "first" },
    { path: "/b/", kind: "directory" as const },
    { path: "b//c", data: "x".repeat(70_000) },
    { path: long, data: "deep" },
  ];
  const tar = buildTar(entries);
  const members = scanTar(tar);
  for (
    const [path, data] of [["a", "first"], ["b/c", "x".repeat(70_000)], [long, "deep"]] as const
  ) {
    const { offsetBytes, lengthBytes } = members.find(path)!;
    const found = tar.subarray(offsetBytes, offsetBytes + lengthBytes);
    assertEquals(new TextDecoder().decode(found), data);
  }
  assertEquals(members.find("nothing"), undefined);
  assertEquals(members.has("./a"), true);
  assertEquals(members.has("b"), false);
});

Deno.test("Archive takes the last of several members of one name", () => {
  const members = scan([{ path: "a", data: "1" }, { path: "./a", data: "22" }]);
  assertEquals(members.find("a")!.lengthBytes, 2);
});

Deno.test("find follows links of both kinds inside the archive, and not for ever", () => {
  const members = scan([
    { path: "d/file", data: "abc" },
    { path: "d/near", link: "file" },
    { path: "e/far", link: "../d/near" },
    { path: "e/absolute", link: "/d/file" },
    { path: "e/out", link: "../../../../d/file" },
    { path: "hard", kind: "hardlink", link: "./d/file" },
    { path: "dangling", link: "nowhere" },
    { path: "a", link: "b" },
    { path: "b", link: "a" },
    ...Array.from({ length: 18 }, (_, i) => ({ path: `l${i}`, link: `l${i + 1}` })),
    { path: "l18", data: "x" },
  ]);
  for (const path of ["d/near", "e/far", "e/absolute", "e/out", "hard"]) {
    assertEquals(members.find(path)!.lengthBytes, 3, path);
  }
  assertEquals(members.find("dangling"), undefined);
  assertThrows(() => members.find("a"), InputError, "follow one another");
  assertEquals(members.find("l2")!.lengthBytes, 1);
  assertThrows(() => members.find("l1"), InputError, "more than 16 links");
});

Deno.test("find refuses what cannot be read in place", () => {
  const members = scan([
    { path: "sparse", data: { sizeBytes: 100_000, parts: [[50_000, new Uint8Array(5).fill(1)]] } },
    { path: "fifo", kind: "fifo" },
    { path: "after", data: "x" },
  ]);
  assertThrows(() => members.find("sparse"), InputError, "sparse");
  assertThrows(() => members.find("fifo"), InputError, "not a regular file");
  assertEquals(members.find("after")!.lengthBytes, 1);
});

Deno.test("Archive does without an end marker and the last padding", () => {
  const tar = buildTar([{ path: "a", data: "abc" }]);
  for (const length of [tar.length, tar.length - 512, tar.length - 1024, 515]) {
    const members = scanTar(tar.subarray(0, length));
    assertEquals(members.find("a")!.lengthBytes, 3);
  }
  for (const length of [514, 512, 511, 1]) {
    assertThrows(() => scanTar(tar.subarray(0, length)), InputError);
  }
});

Deno.test("Archive refuses a member that is longer than the archive, and what is no header", () => {
  const tar = buildTar([{ path: "a", data: "abc" }]);
  assertThrows(
    () => scanTar(joinBytes([tar.subarray(0, 1024), new Uint8Array(512).fill(9)])),
    InputError,
    "not a tar header",
  );
  assertEquals(scanTar(new Uint8Array(0)).find("a"), undefined);
});

Deno.test("Archive keeps to the limit of headers", () => {
  const tar = buildTar([{ path: "a" }, { path: "b" }]);
  scanTar(tar, { tarLimits: { layerHeaders: 2 } });
  assertThrows(
    () => scanTar(tar, { tarLimits: { layerHeaders: 1 } }),
    InputError,
    "the number of headers",
  );
});

Deno.test("normalizeMemberPath drops what says nothing, and does not leave the archive", () => {
  assertEquals(normalizeMemberPath("./a//b/./c/"), "a/b/c");
  assertEquals(normalizeMemberPath("/a"), "a");
  assertEquals(normalizeMemberPath("a/../../../b"), "b");
  assertEquals(normalizeMemberPath("./"), "");
});

const STORES: readonly (readonly [string, (tar: Uint8Array) => Uint8Array])[] = [
  ["gzip", gzipOf],
  [
    "multi-member gzip",
    (tar) => joinBytes([gzipOf(tar.subarray(0, 999)), gzipOf(tar.subarray(999))]),
  ],
  ...(HAS_ZSTD
    ? [["zstd", (tar: Uint8Array) => joinBytes([skippableFrame(3), zstdOf(tar)])] as const]
    : []),
];

for (const [kind, store] of STORES) {
  Deno.test(`openArchive inflates a ${kind} archive once, to a file without a name`, async () => {
    const test = async (path: string) => {
      await givesTars(`oci-archive:${path}`);
      await givesTars(path);
    };
    await withArchive(layoutEntries(), test, store);
    const dockerTars = [...TARS, TARS[0]!];
    await withArchive(oldDockerEntries(), (path) => givesTars(path, dockerTars), store);
  });
}

Deno.test("openArchive refuses an archive that was cut anywhere", async () => {
  await withDirectory(async (directory) => {
    const path = join(directory, "archive.tar");
    const whole = buildTar(layoutEntries({ layers: [sampleTar()] }));
    writeFileSync(path, whole);
    await givesTars(`oci-archive:${path}`, [sampleTar()]);
    // The end marker and the padding before it may be missing; nothing else may.
    const lastFile = layoutEntries({ layers: [sampleTar()] }).at(-1)!.data as Uint8Array;
    const needed = whole.length - 1024 - 512 + lastFile.length;
    for (let length = 0; length < needed; length += 512) {
      writeFileSync(path, whole.subarray(0, length));
      await assertRejects(() => openAndLoad(`oci-archive:${path}`, testOptions()), InputError);
    }
    writeFileSync(path, whole.subarray(0, needed - 1));
    await assertRejects(() => openAndLoad(`oci-archive:${path}`, testOptions()), InputError);
    assertEquals(openFilesBelow(directory), []);
  });
});
