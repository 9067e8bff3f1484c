import { assertEquals, assertStringIncludes } from "@std/assert";
import { symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { COMMANDS } from "../../../cli/commands.ts";
import { findingText } from "../../../cli/commands/verify.ts";
import { unpackFixture } from "../../ext4/format/fixture_image.ts";
import { withTemporaryDirectory } from "../../oracle/command.ts";
import { runFake } from "../fake_io.ts";

async function withImages(use: (good: string, bad: string, none: string) => Promise<void>) {
  await withTemporaryDirectory(async (directory) => {
    const [good, bad, none] = ["good", "bad", "none"].map((name) => join(directory, name));
    const bytes = unpackFixture("csum-4k");
    writeFileSync(good!, bytes);
    bytes[1024 + 0x10]! ^= 1; // s_free_inodes_count
    writeFileSync(bad!, bytes);
    writeFileSync(none!, "no image");
    await use(good!, bad!, none!);
  });
}

Deno.test("verify exits with 0 for clean images and with 1 for damaged ones", async () => {
  await withImages(async (good, bad) => {
    const clean = await runFake(["verify", good], COMMANDS);
    assertEquals([clean.code, clean.stderr], [0, ""]);
    assertStringIncludes(clean.stdout, `${good}: clean, 27 inodes and 1,133 blocks in use`);
    const damaged = await runFake(["verify", good, bad], COMMANDS);
    assertEquals(damaged.code, 1);
    assertStringIncludes(damaged.stdout, `${bad}: superblock (byte 1024): checksum: found 0x`);
    assertStringIncludes(damaged.stdout, `${bad}: damaged: 2 findings`);
    const quiet = await runFake(["verify", "--quiet", good], COMMANDS);
    assertEquals([quiet.code, quiet.stdout], [0, ""]);
  });
});

Deno.test("verify prints one document for all images", async () => {
  await withImages(async (good, bad) => {
    const { code, stdout } = await runFake(["verify", good, bad, "--json"], COMMANDS);
    const { clean, images } = JSON.parse(stdout);
    assertEquals([code, clean, images.length], [1, false, 2]);
    assertEquals(images[0].findings, []);
    assertEquals(images[1].findings[1], {
      structure: "superblock",
      offset: 1024,
      code: "badValue",
      problem: "s_free_inodes_count",
      found: images[1].findings[1].wanted ^ 1,
      wanted: images[1].findings[1].wanted,
    });
    assertEquals(images[0].layout.gridBytes, 131072);
  });
});

Deno.test("verify goes on behind an image that is none, and fails then", async () => {
  await withImages(async (good, bad, none) => {
    const missing = `${none}-not-there`;
    const words = ["verify", missing, none, bad, good];
    const { code, stdout, stderr } = await runFake(words, COMMANDS);
    assertEquals(code, 3);
    assertStringIncludes(stderr, missing);
    assertStringIncludes(stdout, `${good}: clean`);
    assertStringIncludes(stdout, `${bad}: damaged`);
    assertStringIncludes(stderr, none);
  });
});

Deno.test("verify names in its document the images of which nothing can be said", async () => {
  await withImages(async (good, _bad, none) => {
    const loop = `${none}-loop`;
    symlinkSync(loop, loop);
    const some = await runFake(["verify", none, good, loop, "--json"], COMMANDS);
    const { clean, images, failed } = JSON.parse(some.stdout);
    assertEquals([some.code, clean, images.length], [4, false, 1]);
    const facts = failed.map((each: Record<string, unknown>) => [each["image"], each["exitCode"]]);
    assertEquals(facts, [[none, 3], [loop, 4]]);
    assertEquals(JSON.parse(some.stderr).error.message, failed[1].message);
    const one = await runFake(["verify", none, "--json"], COMMANDS);
    assertEquals([one.code, one.stdout, JSON.parse(one.stderr).error.exitCode], [3, "", 3]);
  });
});

Deno.test("verify holds images to a grid that is named, and shows as many findings as wanted", async () => {
  await withImages(async (good, bad) => {
    const held = await runFake(["verify", good, "--grid", "64K"], COMMANDS);
    assertEquals(held.code, 1);
    assertStringIncludes(held.stdout, "layout (inode ");
    const few = await runFake(["verify", bad, "--max-findings", "1"], COMMANDS);
    assertStringIncludes(few.stdout, `${bad}: and 1 more`);
    for (const grid of ["x", "0", "3K", "32M"]) {
      assertEquals((await runFake(["verify", good, "--grid", grid], COMMANDS)).code, 2, grid);
    }
  });
});

Deno.test("findingText says where, what, found and wanted", () => {
  assertEquals(
    findingText({
      code: "badValue",
      structure: "inode",
      inode: 12,
      problem: "i_size",
      found: 1,
      wanted: 2,
    }),
    "inode 12: i_size: found 1, wanted 2",
  );
  assertEquals(
    findingText({
      code: "unexpected",
      structure: "directory",
      inode: 12,
      block: 9,
      problem: "block is unwritten",
    }),
    "directory (inode 12, block 9): block is unwritten",
  );
});
