import { assertEquals, assertRejects } from "@std/assert";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { InputError } from "../../lib/errors.ts";
import { gzipOf, HAS_ZSTD, skippableFrame, zstdOf } from "../io/compressed_samples.ts";
import { buildTar, joinBytes } from "../tar/build.ts";
import { givesTars, layoutEntries, oldDockerEntries, TARS, withArchive } from "./build_archives.ts";
import { openAndLoad, openFilesBelow, sampleTar, testOptions, withDirectory } from "./helpers.ts";

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
