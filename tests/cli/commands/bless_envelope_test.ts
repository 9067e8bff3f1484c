/** What `blessfs bless` puts around an image, on the tiny fixture. */
import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { COMMANDS } from "../../../cli/commands.ts";
import { hasCommand, mustRun } from "../../oracle/command.ts";
import { notRun } from "../../oracle/notice.ts";
import { hasVeritysetup, veritysetupAgrees } from "../../verity/veritysetup.ts";
import { runFake } from "../fake_io.ts";
import { inDirectory } from "../program.ts";

const SOURCE = `oci:${fileURLToPath(new URL("../../../fixtures/oci-tiny", import.meta.url))}`;

function bless(...words: string[]) {
  return runFake(["bless", ...words], COMMANDS);
}

Deno.test("bless --verity append gives an image that verify proves, without a journal", async () => {
  await inDirectory(async (directory) => {
    const image = join(directory, "tiny.ext4");
    const made = await bless(SOURCE, "-o", image, "--verity", "append", "--roothash", "--json");
    assertEquals(made.code, 0, made.stderr);
    const { verity, sizeBytes, outputBytes } = JSON.parse(made.stdout);
    assertEquals(Object.keys(verity).sort(), [
      "dataBlocks",
      "hashBytes",
      "hashOffset",
      "rootHash",
      "salt",
      "uuid",
    ]);
    assertEquals([verity.hashOffset, outputBytes], [sizeBytes, readFileSync(image).length]);
    assertEquals(readFileSync(`${image}.roothash`, "utf8"), verity.rootHash);
    const { code } = await runFake(["verify", image, "--root-hash", verity.rootHash], COMMANDS);
    assertEquals(code, 0);
    const inspected = await runFake(["inspect", image, "--json"], COMMANDS);
    assertEquals(inspected.stdout.includes("has_journal"), false);
    if (!hasVeritysetup("bless --verity against veritysetup")) return;
    assertEquals(veritysetupAgrees(image, image, verity.rootHash, sizeBytes), true);
  });
});

Deno.test("bless --verity FILE writes the tree beside the image, and refuses what is there", async () => {
  await inDirectory(async (directory) => {
    const [image, tree] = [join(directory, "tiny.ext4"), join(directory, "tiny.verity")];
    const words = [SOURCE, "-o", image, "--verity", tree];
    const made = await bless(...words);
    assertEquals(made.code, 0, made.stderr);
    assertMatch(made.stdout, /^root hash +[0-9a-f]{64}$/m);
    assertEquals(readdirSync(directory).sort(), ["tiny.ext4", "tiny.verity"]);
    const again = await bless(SOURCE, "-o", `${image}2`, "--verity", tree);
    assertEquals(again.code, 4);
    assertStringIncludes(again.stderr, `${tree}: already exists`);
    assertEquals(readdirSync(directory).length, 2);
    const forced = await bless(...words, "--force");
    assertEquals(forced.code, 0, forced.stderr);
  });
});

Deno.test("bless --verity beside names the tree after the image, as systemd does", async () => {
  await inDirectory(async (directory) => {
    const roots: string[] = [];
    for (const [name, tree] of [["tiny.ext4", "tiny.ext4.verity"], ["tiny.raw", "tiny.verity"]]) {
      const image = join(directory, name!);
      const made = await bless(SOURCE, "-o", image, "--verity", "beside", "--json");
      assertEquals(made.code, 0, made.stderr);
      const { rootHash } = JSON.parse(made.stdout).verity;
      roots.push(rootHash);
      const hashFile = join(directory, tree!);
      const words = ["verity", "verify", image, "--hash-file", hashFile, "--root-hash", rootHash];
      assertEquals((await runFake(words, COMMANDS)).code, 0);
    }
    assertEquals(roots[0], roots[1]);
    const streamed = await bless(SOURCE, "-o", "-", "--verity", "beside");
    assertEquals(streamed.code, 2);
    assertStringIncludes(streamed.stderr, "the image has no name that the hash tree could be");
    const out = join(directory, "layers");
    const layered = await bless("layered", SOURCE, "-o", out, "--verity", "beside", "--json");
    assertEquals(layered.code, 0, layered.stderr);
    for (const { file, hashFile, verity: { rootHash } } of JSON.parse(layered.stdout).layers) {
      const words = ["verify", join(out, file), "--hash-file", join(out, hashFile)];
      const verified = await runFake([...words, "--root-hash", rootHash], COMMANDS);
      assertEquals(verified.code, 0, verified.stderr);
    }
  });
});

Deno.test("bless --disk gpt makes a disk whose partitions tools see", async () => {
  await inDirectory(async (directory) => {
    const [disk, esp] = [join(directory, "tiny.raw"), join(directory, "esp.img")];
    const sector = new Uint8Array(1 << 20);
    sector.set([0x55, 0xaa], 510);
    writeFileSync(esp, sector);
    const words = [SOURCE, "--disk", "gpt", "--verity", "append", "--esp", esp];
    const made = await bless(...words, "-o", disk, "--roothash", "--json");
    assertEquals(made.code, 0, made.stderr);
    const { verity, disk: report } = JSON.parse(made.stdout);
    assertEquals(
      report.partitions.map(({ number, role }: { number: number; role: string }) => [number, role]),
      [[1, "esp"], [2, "root"], [3, "root-verity"]],
    );
    assertEquals(readFileSync(join(directory, "tiny.roothash"), "utf8"), verity.rootHash);
    const { code } = await runFake(["verify", disk, "--root-hash", verity.rootHash], COMMANDS);
    assertEquals(code, 0);
    const streamed = await bless(...words, "-o", "-");
    assertEquals(streamed.code, 0);
    assertStringIncludes(streamed.stderr, `blessfs: root hash ${verity.rootHash}\n`);
    if (!hasCommand("sgdisk")) return notRun("bless --disk against sgdisk", "it is not installed");
    assertMatch(mustRun("sgdisk", ["-v", disk]), /No problems found/);
  });
});

Deno.test("bless puts trees and disks into a chunk store as they are in files", async () => {
  await inDirectory(async (directory) => {
    const image = join(directory, "tiny.raw");
    const store = join(directory, "store");
    const words = [SOURCE, "--disk", "gpt", "--verity", "append", "--vhd"];
    const index = join(directory, "tiny.caibx");
    const made = await bless(
      ...words,
      "-o",
      image,
      "--create-store",
      "--store",
      store,
      "--index",
      index,
      "--json",
    );
    assertEquals(made.code, 0, made.stderr);
    const other = join(directory, "other.caibx");
    const chunked = await runFake(["chunk", image, "--store", store, "-o", other], COMMANDS);
    assertEquals(chunked.code, 0, chunked.stderr);
    assertEquals(readFileSync(index), readFileSync(other));
    const dry = await bless(
      ...[SOURCE, "-o", "none", "--store", store, "--dry-run", "--json"],
      ...["--verity", join(directory, "none.verity")],
    );
    assertEquals(dry.code, 0, dry.stderr);
    assertEquals(readdirSync(directory).includes("none.verity"), false);
  });
});

Deno.test("bless layered puts images and their trees, and the disk of all, into a chunk store as they are in files", async () => {
  await inDirectory(async (directory) => {
    const store = join(directory, "store");
    for (const around of [["append"], ["beside"], ["append", "--disk", "gpt", "--vhd"]]) {
      const out = join(directory, around.join("-"));
      const words = ["layered", SOURCE, "-o", out, "--verity", ...around];
      const made = await bless(...words, "--create-store", "--store", store, "--json");
      assertEquals(made.code, 0, made.stderr);
      const { layers, disk } = JSON.parse(made.stdout);
      const files: { file: string; index: string }[] = [
        ...layers,
        ...disk === undefined ? [] : [disk],
      ];
      for (const { file, index } of files) {
        const copy = join(directory, "copy");
        const restore = ["restore", join(out, index), "--store", store, "-o", copy, "--force"];
        const restored = await runFake(restore, COMMANDS);
        assertEquals(restored.code, 0, restored.stderr);
        assertEquals(readFileSync(copy), readFileSync(join(out, file)), file);
      }
    }
  });
});

Deno.test("bless layered --verity append --disk gpt names root hashes and partitions", async () => {
  await inDirectory(async (directory) => {
    const out = join(directory, "layers");
    const words = ["layered", SOURCE, "-o", out, "--verity", "append", "--disk", "gpt"];
    const made = await bless(...words, "--roothash", "--json");
    assertEquals(made.code, 0, made.stderr);
    const { layers, disk } = JSON.parse(made.stdout);
    assertEquals(layers.map(({ partition }: { partition: number }) => partition), [1, 2, 3]);
    for (const { file, verity } of layers) {
      assertEquals(readFileSync(join(out, `${file}.roothash`), "utf8"), verity.rootHash);
      const path = join(out, disk.file);
      const { code } = await runFake(["verify", path, "--root-hash", verity.rootHash], COMMANDS);
      assertEquals(code, 0);
    }
    const text = await bless(...words);
    assertEquals(text.code, 0, text.stderr);
    assertMatch(text.stdout, /^disk +image-[0-9a-f]{64}\.raw, .* 3 partitions$/m);
  });
});

Deno.test("options around an image that mean nothing are refused, and nothing is made", async () => {
  await inDirectory(async (directory) => {
    const image = join(directory, "tiny.ext4");
    const plain = join(directory, "plain");
    writeFileSync(plain, "plain");
    const refused: [code: number, message: string, words: string[]][] = [
      [2, "--verity-salt: means nothing without --verity", ["--verity-salt", "00"]],
      [2, "--roothash: means nothing without --verity", ["--roothash"]],
      [2, "--esp: means nothing without --disk", ["--esp", plain]],
      [2, "--verity-signature: means nothing without --disk", ["--verity-signature", plain]],
      [2, "--journal: an image with a hash tree is never written to: wanted none", [
        "--verity=append",
        "--journal=4M",
      ]],
      [2, "--verity-salt: wanted at most 256 bytes, found 257", [
        "--verity=append",
        `--verity-salt=${"ab".repeat(257)}`,
      ]],
      [2, "--verity: the hash tree needs a file", ["--verity=-"]],
      [2, "is named for the image and for its hash tree", [`--verity=${image}`]],
      [2, "--disk: `mbr`: wanted gpt", ["--disk", "mbr"]],
      [2, "--size: the partitions and their table need 2097152 bytes, the disk has 1048576", [
        "--disk=gpt",
        "--size=1M",
      ]],
      [3, "on a disk of 3145728 bytes", ["--disk=gpt", "--size=3M"]],
      [3, "is not a FAT file system: wanted an EFI system partition", [
        "--disk=gpt",
        "--esp",
        plain,
      ]],
      [3, "is not JSON: wanted JSON with rootHash", [
        ...["--disk=gpt", "--verity=append", "--verity-signature", plain],
      ]],
      [3, "does not exist: wanted an EFI system partition", ["--disk=gpt", "--esp", `${plain}2`]],
    ];
    for (const [code, message, words] of refused) {
      const run = await bless(SOURCE, "-o", image, ...words);
      assertStringIncludes(run.stderr, message);
      assertEquals(run.code, code, message);
      assertEquals(readdirSync(directory), ["plain"]);
    }
    const layered = await bless("layered", SOURCE, "-o", `${image}.d`, "--verity", "file");
    assertEquals(layered.code, 2);
    assertStringIncludes(layered.stderr, "--verity: `file`: wanted append, beside");
  });
});
