import { assertEquals, assertStringIncludes } from "@std/assert";
import { INSPECT } from "../../../cli/table/images.ts";
import { runFake } from "../fake_io.ts";
import { withFixture } from "./fixture_file.ts";

const inspect = (...words: string[]) => runFake(["inspect", ...words], [INSPECT]);

Deno.test("inspect shows superblock, journal, groups and checksums", async () => {
  await withFixture("rare-4k", async (image) => {
    const { code, stdout, stderr } = await inspect(image);
    assertEquals([code, stderr], [0, ""]);
    for (
      const line of [
        /^label +fixture$/m,
        /^UUID +12345678-1234-1234-1234-123456789abc$/m,
        /^features +has_journal ext_attr .* project$/m,
        /^blocks +4096, 3005 free$/m,
        /^created +2023-11-14T22:13:20Z$/m,
        /^last mounted +never$/m,
        /^directory hash +half_md4$/m,
        /^journal +1024 blocks of 4096 \(4\.0 MiB\)$/m,
        /^checksum +0x[0-9a-f]{8} \(right\)$/m,
        /^group 0: blocks 0 to 4095 \[INODE_ZEROED\]$/m,
        /^ {2}block bitmap 2, checksum 0x[0-9a-f]+ \(right\)$/m,
        /^ {2}inode table 34 to 37$/m,
      ]
    ) assertEquals(line.test(stdout), true, `${line}`);
  });
});

Deno.test("inspect --json has every field of superblock, journal and groups", async () => {
  await withFixture("csum-1k", async (image) => {
    const document = JSON.parse((await inspect("--json", image)).stdout);
    assertEquals(document.superblock.uuid, "12345678-1234-1234-1234-123456789abc");
    assertEquals(document.superblock.volumeName, "fixture");
    assertEquals(document.superblock.logBlockSize, 0);
    assertEquals(Object.keys(document.superblock).length >= 80, true);
    assertEquals(document.groups.length, document.groupCount);
    for (const { checksum, blockBitmapChecksum } of document.groups) {
      assertEquals(checksum.stored, checksum.computed);
      if (blockBitmapChecksum) {
        assertEquals(blockBitmapChecksum.stored, blockBitmapChecksum.computed);
      }
    }
    assertEquals([document.journal.startBlock, document.faults], [0, []]);
    assertEquals(document.superblockChecksum.stored, document.superblockChecksum.computed);
  });
});

Deno.test("inspect shows wrong checksums beside the right ones", async () => {
  await withFixture("csum-4k", async (image) => {
    const bytes = Deno.readFileSync(image);
    bytes[1024 + 0x78]! ^= 0x80;
    Deno.writeFileSync(image, bytes);
    const { code, stdout } = await inspect(image);
    assertEquals(code, 0);
    assertEquals(/^checksum +0x[0-9a-f]{8}, should be 0x[0-9a-f]{8}$/m.test(stdout), true);
    assertEquals(/^fault +superblock: checksum: found/m.test(stdout), true);
    assertEquals(/^label +\\xe6ixture$/m.test(stdout), true);
  });
});

Deno.test("inspect PATH shows an inode with its map and attributes", async () => {
  await withFixture("csum-4k", async (image) => {
    const { stdout } = await inspect(image, "/holes");
    assertStringIncludes(stdout, "extents (9 in 1 blocks):");
    assertEquals(/^mode +0100644 \(-rw-r--r--\)$/m.test(stdout), true);
    assertEquals(/^checksum +0x[0-9a-f]{8} \(right\)$/m.test(stdout), true);
    const short = await inspect(image, "/holes", "--max-extents", "2");
    assertStringIncludes(short.stdout, "  and 7 more (--max-extents)");
    const attributes = (await inspect(image, "/xattrs-block")).stdout;
    assertStringIncludes(attributes, '  user.z (2 bytes, in the inode) = "zz"');
    const link = (await inspect(image, "/short")).stdout;
    assertEquals(/^target +target$/m.test(link), true);
    const journal = (await inspect(image, "<8>")).stdout;
    assertEquals(/^kind +file$/m.test(journal), true);
  });
});

Deno.test("inspect PATH --json has attributes, extents and the target", async () => {
  await withFixture("rare-4k", async (image) => {
    const document = JSON.parse((await inspect("--json", image, "/xattrs-block")).stdout);
    assertEquals([document.path, document.kind, document.contentPlace], [
      "/xattrs-block",
      "file",
      "inode",
    ]);
    const value = document.xattrs.find(({ name }: { name: string }) => name === "user.large");
    assertEquals(atob(value.valueBase64), "v".repeat(300));
    const link = JSON.parse((await inspect("--json", image, "/long")).stdout);
    assertEquals(link.target, "t".repeat(70));
  });
});

Deno.test("inspect fails for paths, numbers and images that are not there", async () => {
  await withFixture("plain-4k", async (image) => {
    assertEquals((await inspect(image, "/none")).code, 3);
    assertEquals((await inspect(image, "<4000000000>")).code, 3);
    assertEquals((await inspect(image, "/holes", "--max-extents", "x")).code, 2);
    assertEquals((await inspect("/dev/null")).code, 3);
  });
});
