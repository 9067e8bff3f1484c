import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { join } from "node:path";
import { COMMANDS } from "../../../cli/commands.ts";
import { mustRun, withTemporaryDirectory } from "../../oracle/command.ts";
import { hasVeritysetup, veritysetupAgrees } from "../../verity/veritysetup.ts";
import { runFake } from "../fake_io.ts";
import { withFixture } from "./fixture_file.ts";

async function rootHashOf(image: string, ...words: string[]): Promise<string> {
  const { stdout } = await runFake(["verity", "dump", image, "--json", ...words], COMMANDS);
  return JSON.parse(stdout).verity.rootHash;
}

function flip(path: string, offset: number): void {
  const bytes = Deno.readFileSync(path);
  bytes[offset]! ^= 1;
  Deno.writeFileSync(path, bytes);
}

Deno.test("format puts a tree behind an image, that verify, dump and veritysetup know", async () => {
  await withFixture("csum-4k", async (image) => {
    const before = Deno.readFileSync(image);
    const made = await runFake(["verity", "format", image, "--json"], COMMANDS);
    assertEquals([made.code, made.stderr], [0, ""]);
    const { verity, hashFile } = JSON.parse(made.stdout);
    assertEquals([hashFile, verity.hashOffset], [null, before.length]);
    const after = Deno.readFileSync(image);
    assertEquals(after.subarray(0, before.length), before);
    assertEquals(after.length, before.length + verity.hashBytes);
    assertEquals(await rootHashOf(image), verity.rootHash);
    const { rootHash } = verity;
    const words = ["verity", "verify", image, "--root-hash", rootHash];
    const proved = await runFake(words, COMMANDS);
    assertEquals([proved.code, proved.stderr], [0, ""]);
    assertStringIncludes(proved.stdout, `${verity.dataBlocks} blocks match ${rootHash}`.slice(-20));
    if (hasVeritysetup("trees of the command line against veritysetup")) {
      assertEquals(veritysetupAgrees(image, image, rootHash, before.length), true);
      const dumped = mustRun("veritysetup", ["dump", image, `--hash-offset=${before.length}`]);
      assertStringIncludes(dumped, verity.uuid);
    }
    flip(image, 5 * 4096);
    const damaged = await runFake([...words, "--json"], COMMANDS);
    assertEquals(damaged.code, 1);
    const check = JSON.parse(damaged.stdout).verity;
    assertEquals([check.clean, check.damagedDataBlocks], [false, 1]);
    assertEquals(check.findings[0].offset, 5 * 4096);
  });
});

Deno.test("format puts a tree into a file of its own, with the salt that is asked for", async () => {
  await withFixture("csum-4k", async (image) => {
    const hashFile = `${image}.verity`;
    const words = ["verity", "format", image, "--hash-file", hashFile];
    const made = await runFake([...words, "--salt", "00ff"], COMMANDS);
    assertEquals([made.code, made.stderr], [0, ""]);
    assertMatch(made.stdout, /^salt +00ff$/m);
    const again = await runFake(words, COMMANDS);
    assertEquals(again.code, 4);
    assertStringIncludes(again.stderr, "already exists\nhint: use --force to replace it");
    const rootHash = await rootHashOf(image, "--hash-file", hashFile);
    assertStringIncludes(made.stdout, rootHash);
    if (hasVeritysetup("a tree in a file of its own against veritysetup")) {
      assertEquals(veritysetupAgrees(image, hashFile, rootHash), true);
    }
    const random = await runFake([...words, "--force", "--salt", "random"], COMMANDS);
    assertEquals(random.code, 0);
    const other = await runFake([...words, "--force", "--salt=random"], COMMANDS);
    assertEquals(random.stdout === other.stdout, false);
  });
});

Deno.test("verify proves file system and tree in one go", async () => {
  await withFixture("csum-4k", async (image) => {
    await runFake(["verity", "format", image], COMMANDS);
    const rootHash = await rootHashOf(image);
    const words = ["verify", image, "--root-hash", rootHash];
    const clean = await runFake(words, COMMANDS);
    assertEquals(clean.code, 0);
    assertMatch(clean.stdout, /: clean, .*\n.* blocks match /);
    const json = JSON.parse((await runFake([...words, "--json"], COMMANDS)).stdout);
    assertEquals([json.clean, json.images[0].clean, json.images[0].verity.clean], [
      true,
      true,
      true,
    ]);
    // The last block holds nothing that a check of the file system looks at.
    flip(
      image,
      JSON.parse(
        (await runFake(["verity", "dump", image, "--json"], COMMANDS)).stdout,
      ).verity.hashOffset - 1,
    );
    const damaged = await runFake([...words, "--json"], COMMANDS);
    assertEquals(damaged.code, 1);
    const { clean: whole, images } = JSON.parse(damaged.stdout);
    assertEquals([whole, images[0].verity.damagedDataBlocks], [false, 1]);
  });
});

Deno.test("dump says how the tree is opened", async () => {
  await withFixture("csum-4k", async (image) => {
    await runFake(["verity", "format", image], COMMANDS);
    const rootHash = await rootHashOf(image);
    const dump = async (...words: string[]) =>
      (await runFake(["verity", "dump", image, ...words], COMMANDS)).stdout;
    const kernel = await dump("--format", "kernel", "--device", "/dev/vda", "--name", "system");
    assertMatch(
      kernel,
      /^dm-mod.create="system,,,ro,0 \d+ verity 1 \/dev\/vda \/dev\/vda 4096 4096 /,
    );
    assertStringIncludes(kernel, ` sha256 ${rootHash} ${"00".repeat(32)}"`);
    assertStringIncludes(
      await dump("--format", "veritysetup", "--hash-device=/dev/vdb"),
      `veritysetup open ${image} root /dev/vdb ${rootHash} --hash-offset=`,
    );
    assertEquals(JSON.parse(await dump("--format", "containerd")).roothash, rootHash);
    assertMatch(await dump("--format", "systemd"), /^root .* hash-offset=\d+\n$/);
    const other = await runFake(
      ["verity", "dump", image, "--root-hash", "00".repeat(32)],
      COMMANDS,
    );
    assertEquals(other.code, 2);
    assertStringIncludes(other.stderr, `--root-hash: the tree of ${image} has ${rootHash}`);
  });
});

Deno.test("bad input is refused, and leaves everything as it was", async () => {
  await withTemporaryDirectory(async (directory) => {
    const image = join(directory, "image");
    const fails = async (code: number, message: string, ...words: string[]) => {
      const before = Deno.readFileSync(image);
      const { code: found, stderr } = await runFake(["verity", ...words], COMMANDS);
      assertStringIncludes(stderr, message);
      assertEquals(found, code);
      assertEquals(Deno.readFileSync(image), before);
      assertEquals([...Deno.readDirSync(directory)].length, 1);
    };
    const tree = join(directory, "tree");
    Deno.writeFileSync(image, new Uint8Array(10_000));
    await fails(3, "has 10000 bytes: wanted a multiple of 4096", "format", image);
    await fails(3, "wanted a multiple of 4096", "format", image, "--hash-file", tree);
    await fails(3, "has 1808 bytes after its data", "format", image, "--data-size=8K");
    await fails(3, "has 10000 bytes: wanted 12288 of data", "format", image, "--data-size=12K");
    await fails(2, "--salt: wanted at most 256 bytes", "format", image, "--salt", "ab".repeat(257));
    await fails(2, "--salt: wanted pairs of hex digits", "format", image, "--salt", "xy");
    await fails(3, "has no hash tree after its data", "dump", image);
    await fails(3, "no verity superblock", "dump", image, "--hash-offset=4K");
    await fails(2, "wanted a multiple of 4096", "dump", image, "--hash-offset=5000");
    await fails(2, "--root-hash: wanted 64 hex digits", "verify", image, "--root-hash=ab");
    await fails(2, "--root-hash HEX is missing", "verify", image);
    await fails(3, "does not exist", "format", join(directory, "none"));
    Deno.writeFileSync(image, new Uint8Array(8192).fill(3));
    await runFake(["verity", "format", image], COMMANDS);
    const rootHash = await rootHashOf(image);
    await fails(3, "has a hash tree already, at offset 8192", "format", image);
    const verify = ["verify", image, `--root-hash=${rootHash}`, "--hash-offset=8K"];
    Deno.truncateSync(image, 8192 + 4096);
    await fails(3, "is cut off: the hash tree over 2 blocks", ...verify);
    Deno.truncateSync(image, 8192 + 100);
    await fails(3, "ends at offset 8292: wanted a verity superblock", ...verify);
  });
});

Deno.test("what is behind a file system is not taken for data: it may be half a tree", async () => {
  await withFixture("csum-4k", async (image) => {
    const sizeBytes = Deno.statSync(image).size;
    await runFake(["verity", "format", image], COMMANDS);
    const whole = Deno.readFileSync(image);
    // Killed before the superblock, which comes last.
    const half = whole.slice(0, whole.length - 4096).fill(0, sizeBytes, sizeBytes + 4096);
    Deno.writeFileSync(image, half);
    const refused = await runFake(["verity", "format", image], COMMANDS);
    assertEquals(refused.code, 3);
    assertStringIncludes(
      refused.stderr,
      `has ${half.length - sizeBytes} bytes after its file system of ${sizeBytes} bytes`,
    );
    assertEquals(Deno.readFileSync(image), half);
    const { code } = await runFake(["verity", "format", image, "--force"], COMMANDS);
    assertEquals(code, 0);
    assertEquals(Deno.readFileSync(image), whole);
  });
});

Deno.test("a tree that is there is replaced when that is asked for", async () => {
  await withTemporaryDirectory(async (directory) => {
    const image = join(directory, "image");
    Deno.writeFileSync(image, new Uint8Array(300 * 4096).fill(3));
    await runFake(["verity", "format", image, "--salt=aa"], COMMANDS);
    const first = Deno.readFileSync(image);
    const { code } = await runFake(["verity", "format", image, "--force"], COMMANDS);
    assertEquals(code, 0);
    const second = Deno.readFileSync(image);
    assertEquals(second.length, first.length);
    await runFake(["verity", "format", image, "--force", "--salt=aa"], COMMANDS);
    assertEquals(Deno.readFileSync(image), first);
  });
});
