/** `--like` together with what else can be done with an image: chunks, hash trees, disks and devices. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { COMMANDS } from "../../cli/commands.ts";
import { openVerity, verityData } from "../../lib/bless/verity_image.ts";
import { verifyTree } from "../../lib/verity/verify_tree.ts";
import { runFake } from "../cli/fake_io.ts";
import { mustRun } from "../oracle/command.ts";
import { assertE2fsckClean } from "../oracle/e2fsck.ts";
import { withWritableLoopDevice } from "../oracle/loop_device.ts";
import { Random } from "../oracle/noise.ts";
import { withDirectory } from "../source/helpers.ts";
import { buildTar } from "../tar/build.ts";
import { hasVeritysetup, veritysetupAgrees } from "../verity/veritysetup.ts";

async function run(...words: string[]) {
  const { code, stdout, stderr } = await runFake([...words, "--json"], COMMANDS);
  assertEquals(code, 0, `${words.join(" ")}: ${stderr}`);
  return JSON.parse(stdout);
}

/** Files of many sizes; the second version has one changed, one removed and one new. */
function tarOf(version: number): Uint8Array {
  const random = new Random(3);
  const files = Array.from({ length: 60 }, (_, i) => {
    const data = random.bytes(random.between(100, i % 10 === 0 ? 300_000 : 9000));
    if (i === 20) data.fill(version, 0, 50);
    return { path: `d/${i}`, data, mtime: 5 };
  });
  if (version > 1) files.splice(33, 1, { path: "d/new", data: random.bytes(5000), mtime: 6 });
  return buildTar([{ path: "d/", mtime: 5 }, ...files]);
}

/** Two versions of a source, and an image of the first. */
async function inScratch(
  work: (at: (name: string) => string, sources: { old: string; new: string }) => Promise<void>,
): Promise<void> {
  await withDirectory(async (scratch) => {
    const at = (name: string) => `${scratch}/${name}`;
    writeFileSync(at("1.tar"), tarOf(1));
    writeFileSync(at("2.tar"), tarOf(2));
    await work(at, { old: `tar:${at("1.tar")}`, new: `tar:${at("2.tar")}` });
  });
}

Deno.test("--like with --store sends what changed, and the index gives the image back", () =>
  inScratch(async (at, sources) => {
    const store = ["--store", at("store"), "--create-store"];
    await run("bless", sources.old, "-o", at("1"), ...store, "--index", at("1.caibx"));
    const report = await run(
      ...["bless", sources.new, "-o", at("2"), "--like", at("1")],
      ...[...store, "--index", at("2.caibx")],
    );
    const { chunkStore: { newChunks, reusedChunks }, like: { cells } } = report;
    assertEquals(newChunks, cells.changed + cells.new);
    assert(reusedChunks > 2 * newChunks, `${newChunks} new, ${reusedChunks} there`);
    await run("restore", at("2.caibx"), "--store", at("store"), "-o", at("back"));
    assert(readFileSync(at("back")).equals(readFileSync(at("2"))));
    assertE2fsckClean(at("2"));
  }));

Deno.test("--like with --verity append puts a sound tree behind the image, and continues such an image", () =>
  inScratch(async (at, sources) => {
    const verity = ["--verity", "append", "--journal", "none"];
    await run("bless", sources.old, "-o", at("1"), ...verity);
    const plain = await run(
      ...["bless", sources.new, "-o", at("plain"), "--like", at("1"), "--journal", "none"],
    );
    const made = await run("bless", sources.new, "-o", at("2"), "--like", at("1"), ...verity);
    assertEquals(made.like, plain.like);
    assertEquals([made.like.afresh, made.like.keptFiles > 50], [null, true]);
    const [image, wanted] = [readFileSync(at("2")), readFileSync(at("plain"))];
    assert(image.subarray(0, wanted.length).equals(wanted));
    await assertTree(at("2"), undefined, made.verity.rootHash);
    assertE2fsckClean(at("2"));
    if (!hasVeritysetup("trees behind continued images")) return;
    assert(veritysetupAgrees(at("2"), at("2"), made.verity.rootHash, made.sizeBytes));
  }));

async function assertTree(image: string, hashFile: string | undefined, rootHash: string) {
  const found = openVerity({ image, hashFile });
  try {
    assertEquals(found.report.rootHash, rootHash);
    assertEquals((await verifyTree(found.place, { rootHash })).clean, true);
    assert(verityData(found).sizeBytes > 0);
  } finally {
    found.close();
  }
}

Deno.test("--like with --verity beside gives each continued layer a tree of its own", () =>
  inScratch(async (at, sources) => {
    const bless = (source: string, output: string, ...more: string[]) =>
      run("bless", "layered", source, "-o", at(output), ...more);
    await bless(sources.old, "old", "--verity", "beside");
    const plain = await bless(sources.new, "plain", "--like", at("old"));
    const made = await bless(sources.new, "new", "--like", at("old"), "--verity", "beside");
    const [layer] = made.layers;
    assertEquals(layer.like, plain.layers[0].like);
    assert(layer.like.keptFiles > 50);
    const image = readFileSync(at(`new/${layer.file}`));
    assert(image.equals(readFileSync(at(`plain/${layer.file}`))));
    await assertTree(at(`new/${layer.file}`), at(`new/${layer.hashFile}`), layer.verity.rootHash);
    // What was made is found again, with its tree.
    const again = await bless(sources.new, "new", "--like", at("old"), "--verity", "beside");
    assertEquals([again.reusedLayers, again.layers[0].like], [1, layer.like]);
  }));

Deno.test("--like with --disk gpt continues a partition in a partition", () =>
  inScratch(async (at, sources) => {
    const disk = ["--disk", "gpt", "--journal", "none"];
    await run("bless", sources.old, "-o", at("1"), ...disk);
    const like = ["--like", `${at("1")}#1`];
    const plain = await run("bless", sources.new, "-o", at("plain"), "--journal", "none", ...like);
    for (const more of [[], ["--vhd"], ["--verity", "append", "--vhd"]]) {
      const made = await run(
        ...["bless", sources.new, "-o", at("2"), "--force", ...like],
        ...[...disk, ...more],
      );
      assertEquals(made.like, plain.like);
      assert(made.like.keptFiles > 50);
      const { startBytes, sizeBytes } = made.disk.partitions[0];
      const root = readFileSync(at("2")).subarray(startBytes, startBytes + sizeBytes);
      assert(root.equals(readFileSync(at("plain"))));
    }
    assertE2fsckClean(at("plain"));
  }));

Deno.test("--like reads a device and writes one, but never over what it reads", () =>
  inScratch(async (at, sources) => {
    writeFileSync(at("device"), new Random(9).bytes(24 << 20));
    await withWritableLoopDevice(at("device"), "continued images on devices", async (device) => {
      const onDevice = (sizeBytes: number) => {
        mustRun("blockdev", ["--flushbufs", device]);
        return readFileSync(at("device")).subarray(0, sizeBytes);
      };
      await run("bless", sources.old, "-o", at("1"));
      const plain = await run("bless", sources.new, "-o", at("2"), "--like", at("1"));
      const made = await run("bless", sources.new, "-o", device, "--like", at("1"));
      assertEquals(made.like, plain.like);
      assert(onDevice(plain.sizeBytes).equals(readFileSync(at("2"))));
      const words = ["bless", sources.old, "-o", device, "--like", device];
      const refused = await runFake(words, COMMANDS);
      assertEquals(refused.code, 2, refused.stderr);
      assertStringIncludes(refused.stderr, device);
      assert(onDevice(plain.sizeBytes).equals(readFileSync(at("2"))));
      const [back, again] = [
        await run("bless", sources.old, "-o", at("back"), "--like", device),
        await run("bless", sources.old, "-o", at("again"), "--like", at("2")),
      ];
      assertEquals({ ...back.like, previous: at("2") }, again.like);
      assert(readFileSync(at("back")).equals(readFileSync(at("again"))));
      assertEquals(readdirSync(at("")).filter((name) => name.includes(".part")), []);
    });
  }));
