/** `blessfs bless layered` in-process, on the tiny fixture. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { BLESS_LAYERED } from "../../../cli/table/bless.ts";
import { COMMANDS } from "../../../cli/commands.ts";
import { runFake } from "../fake_io.ts";
import { inDirectory } from "../program.ts";

const LAYOUT = fileURLToPath(new URL("../../../fixtures/oci-tiny", import.meta.url));
const SOURCE = `oci:${LAYOUT}`;

function layered(...words: string[]) {
  return runFake(["bless", "layered", ...words], COMMANDS);
}

Deno.test("bless layered makes the images, and uses them again the next time", async () => {
  await inDirectory(async (directory) => {
    const out = join(directory, "out");
    const first = await layered(SOURCE, "-o", out);
    assertEquals(first.code, 0, first.stderr);
    assertMatch(first.stdout, /^layers {5}3, 0 of them used again$/m);
    assertMatch(first.stdout, /^layer 3 {4}[0-9a-f]{12}, .*, made$/m);
    const again = await layered(SOURCE, "-o", out);
    assertMatch(again.stdout, /^layers {5}3, 3 of them used again$/m);
    assertEquals((await layered(SOURCE, "-o", out, "--quiet")).stdout, "");
    const images = readdirSync(out).filter((name) => /^[0-9a-f]{64}\.ext4$/.test(name));
    assertEquals(images.length, 3);
    for (const image of images) {
      assertEquals(readFileSync(join(out, image)).readUInt16LE(1024 + 0x38), 0xef53);
    }
  });
});

Deno.test("bless layered --json prints the report of the contract as the only thing on standard output", async () => {
  await inDirectory(async (directory) => {
    const out = join(directory, "out");
    const { code, stdout, stderr } = await layered(SOURCE, "-o", out, "--json", "--packing=tight");
    assertEquals([code, stderr], [0, ""]);
    const report = JSON.parse(stdout);
    const keys =
      "mode source manifestDigest directory sizeBytes usedBytes cellBytes storedBytes files directories grid " +
      "alignThreshold packing alignedFiles paddingBytes layers elapsedMs warnings reusedLayers";
    for (const key of keys.split(" ")) assert(key in report, key);
    for (const key of ["digest", "diffId", "entries", "file", "isReused", "image"]) {
      assert(key in report.layers[0], key);
    }
    assertEquals([report.mode, report.source, report.packing], ["layered", SOURCE, "tight"]);
    const description = JSON.parse(readFileSync(join(out, "image.json"), "utf8"));
    assertEquals(description.manifestDigest, report.manifestDigest);
  });
});

Deno.test("bless layered honours SOURCE_DATE_EPOCH, and tells it from other times", async () => {
  await inDirectory(async (directory) => {
    const out = join(directory, "out");
    const run = (epoch: string, ...words: string[]) =>
      runFake(["bless", "layered", SOURCE, "-o", out, ...words], COMMANDS, {
        env: { SOURCE_DATE_EPOCH: epoch },
      });
    assertEquals((await run("5")).code, 0);
    assertEquals((await run("5")).code, 0);
    const other = await run("6");
    assertEquals(other.code, 4);
    assertStringIncludes(other.stderr, "SOURCE_DATE_EPOCH 5 (wanted 6)");
    assertEquals((await run("6", "--force")).code, 0);
  });
});

Deno.test("bless layered refuses what it cannot use, in one line and with a remedy", async () => {
  await inDirectory(async (directory) => {
    const out = join(directory, "out");
    const cases: [code: number, words: string[], message: string][] = [
      [2, [SOURCE], "--output"],
      [2, [SOURCE, "-o", out, "--grid", "3K"], "--grid"],
      [2, [SOURCE, "-o", out, "--uuid", "00000000-0000-4000-8000-000000000001"], "--uuid"],
      [2, [`rootfs:${directory}`, "-o", out], "lies inside its source"],
      [2, [`rootfs:${directory}`, "-o", directory], "lies inside its source"],
      [4, [SOURCE, "-o", join(out, "deeper")], "does not exist"],
      [3, ["oci:nowhere", "-o", out], "nowhere"],
    ];
    for (const [code, words, message] of cases) {
      const outcome = await layered(...words);
      assertEquals([outcome.code, outcome.stdout], [code, ""], outcome.stderr);
      assertStringIncludes(outcome.stderr, message);
      assertMatch(outcome.stderr, /^blessfs: .*\n(hint: .*\n)?$/);
    }
    assertEquals(readdirSync(directory), []);
    mkdirSync(out);
    writeFileSync(join(out, "image.json"), "{}");
    const taken = await layered(SOURCE, "-o", out);
    assertEquals(taken.code, 4);
    assertStringIncludes(taken.stderr, "image.json: already exists");
  });
});

Deno.test("BLESS_LAYERED says how the mount is made", () => {
  assertStringIncludes(BLESS_LAYERED.description!.join("\n"), "mount -t overlay");
});
