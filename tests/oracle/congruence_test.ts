import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { mustRun, withTemporaryDirectory } from "./command.ts";
import type { MappedFile } from "./congruence.ts";
import { congruenceFault, mapFiles } from "./congruence.ts";
import { kernelOrNotice, mountReadOnly } from "./kernel.ts";

const RULE = { gridBytes: 16384, thresholdBytes: 8192, isolates: true };

function mapped(
  path: string,
  sizeBytes: number,
  ...extents: [number, number, number][]
): MappedFile {
  return {
    path,
    sizeBytes,
    extents: extents.map(([fileOffset, diskOffset, lengthBytes]) => ({
      fileOffset,
      diskOffset,
      lengthBytes,
    })),
  };
}

Deno.test("congruenceFault accepts extents that stay on the grid, holes and small files", () => {
  const files = [
    mapped("/a", 40_000, [0, 16384, 20_480], [36_864, 53_248, 4096]),
    mapped("/b", 40_000, [20_480, 16384 * 9 + 4096, 4096]),
    mapped("/small", 4096, [0, 4096, 4096]),
    mapped("/small too", 4096, [0, 8192, 4096]),
    mapped("/empty", 100_000),
  ];
  assertEquals(congruenceFault(files, RULE), 2);
  assertEquals(congruenceFault(files, { ...RULE, thresholdBytes: Infinity }), 0);
});

Deno.test("congruenceFault finds an extent off the grid, however late", () => {
  const file = mapped("/a", 40_000, [0, 16384, 16384], [16384, 32768 + 4096, 4096]);
  assertStringIncludes(String(congruenceFault([file], RULE)), "/a: bytes 16384 on lie at 36864");
});

Deno.test("congruenceFault finds a file in the last cell of an aligned one, in either order", () => {
  const aligned = mapped("/a", 20_000, [0, 16384, 20_480]);
  const small = mapped("/b", 100, [0, 36_864, 4096]);
  for (const files of [[aligned, small], [small, aligned]]) {
    assertEquals(congruenceFault(files, RULE), "/b: shares grid cell 2 with /a");
    assertEquals(congruenceFault(files, { ...RULE, isolates: false }), 1);
  }
});

Deno.test("mapFiles tells where the bytes of files lie, each inode once", () => {
  if (!kernelOrNotice("asking the kernel where files lie")) return;
  withTemporaryDirectory((scratch) => {
    const tree = `${scratch}/tree`;
    Deno.mkdirSync(`${tree}/sub`, { recursive: true });
    const content = new Uint8Array(9000).map((_, i) => (i % 250) + 1);
    Deno.writeFileSync(`${tree}/sub/file`, content);
    Deno.linkSync(`${tree}/sub/file`, `${tree}/sub/other`);
    Deno.writeTextFileSync(`${tree}/empty`, "");
    const image = `${scratch}/a.ext4`;
    mustRun("mke2fs", ["-q", "-t", "ext4", "-b", "4096", "-d", tree, image, "4M"]);
    const files = mountReadOnly(image, mapFiles);
    assertEquals(files.map(({ path, sizeBytes }) => [path, sizeBytes]), [
      ["/empty", 0],
      ["/sub/file", 9000],
    ]);
    const bytes = Deno.readFileSync(image);
    const extents = files[1]!.extents;
    assert(extents.length > 0);
    for (const { fileOffset, diskOffset } of extents) {
      const block = content.subarray(fileOffset, fileOffset + 4096);
      assertEquals(bytes.slice(diskOffset, diskOffset + block.length), block);
    }
  });
});
