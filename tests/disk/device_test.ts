/** Disks and trees on block devices, and as systemd sees them. */
import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { COMMANDS } from "../../cli/commands.ts";
import { runFake } from "../cli/fake_io.ts";
import { unpackFixture } from "../ext4/format/fixture_image.ts";
import { hasCommand, mustRun, runCommand, withTemporaryDirectory } from "../oracle/command.ts";
import { kernelOrNotice } from "../oracle/kernel.ts";
import { withWritableLoopDevice } from "../oracle/loop_device.ts";
import { notRun } from "../oracle/notice.ts";
import { hasVeritysetup, veritysetupAgrees } from "../verity/veritysetup.ts";

const SOURCE = `oci:${fileURLToPath(new URL("../../fixtures/oci-tiny", import.meta.url))}`;

async function run(...words: string[]): Promise<string> {
  const { code, stdout, stderr } = await runFake(words, COMMANDS);
  assertEquals(code, 0, stderr);
  return stdout;
}

Deno.test("a disk that was streamed onto a device is proved there", async () => {
  await withTemporaryDirectory(async (directory) => {
    const disk = join(directory, "disk");
    const words = ["bless", SOURCE, "--disk", "gpt", "--verity", "append"];
    const made = JSON.parse(await run(...words, "-o", disk, "--json"));
    const file = join(directory, "device");
    Deno.writeFileSync(file, new Uint8Array(made.outputBytes).fill(0xee));
    await withWritableLoopDevice(file, "disks on devices", async (device) => {
      mustRun("dd", [`if=${disk}`, `of=${device}`, "bs=1M", "status=none"]);
      await run("verify", device, "--root-hash", made.verity.rootHash);
      if (hasCommand("sgdisk")) assertMatch(mustRun("sgdisk", ["-v", device]), /No problems found/);
      else notRun("disks on devices against sgdisk", "sgdisk is not installed");
    });
  });
});

Deno.test("a device larger than its file system gets the tree behind it", async () => {
  await withTemporaryDirectory(async (directory) => {
    const file = join(directory, "device");
    const image = unpackFixture("csum-4k");
    Deno.writeFileSync(file, image);
    Deno.truncateSync(file, image.length + (1 << 20));
    await withWritableLoopDevice(file, "trees on devices", async (device) => {
      const { verity } = JSON.parse(await run("verity", "format", device, "--json"));
      assertEquals(verity.hashOffset, image.length);
      await run("verity", "verify", device, "--root-hash", verity.rootHash);
      if (!hasVeritysetup("trees on devices against veritysetup")) return;
      assertEquals(veritysetupAgrees(device, device, verity.rootHash, image.length), true);
    });
    Deno.writeFileSync(file, image);
    await withWritableLoopDevice(file, "trees on devices that are full", async (device) => {
      const { code, stderr } = await runFake(["verity", "format", device], COMMANDS);
      assertEquals(code, 3);
      assertStringIncludes(stderr, `has ${image.length} bytes: data and tree need`);
    });
  });
});

Deno.test("systemd-dissect finds root and tree of a disk by the root hash", async () => {
  const what = "disks against systemd-dissect";
  if (!hasCommand("systemd-dissect")) return notRun(what, "systemd-container is not installed");
  if (!kernelOrNotice(what)) return;
  await withTemporaryDirectory(async (directory) => {
    const disk = join(directory, "disk.raw");
    const words = [
      "bless",
      SOURCE,
      "--disk",
      "gpt",
      "--verity",
      "append",
      "--roothash",
      "-o",
      disk,
    ];
    const { verity } = JSON.parse(await run(...words, "--json"));
    const dissect = (path: string) => {
      const words = ["--json=short", `--root-hash=${verity.rootHash}`, path];
      return runCommand("systemd-dissect", words);
    };
    const { stdout, stderr } = dissect(disk);
    assertMatch(stdout, /"designator":"root".*"verity":"?(?:yes|true)/, stderr);
    assertMatch(stdout, /"designator":"root-verity"/);
    // What the signature is worth only the kernel says, when the disk is opened.
    const [signature, signed] = [join(directory, "signature.json"), join(directory, "signed.raw")];
    const { rootHash } = verity;
    const document = { rootHash, signature: "MIIB", certificateFingerprint: "01".repeat(32) };
    Deno.writeTextFileSync(signature, JSON.stringify(document));
    await run(...words.slice(0, 6), "--verity-signature", signature, "-o", signed);
    const found = dissect(signed);
    assertMatch(found.stdout, /"designator":"root",[^}]*"verity":"signed"/, found.stderr);
    assertMatch(found.stdout, /"designator":"root-verity-sig"/);
  });
});
