import { assertEquals } from "@std/assert";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { COMMANDS } from "../../cli/commands.ts";
import { unpackFixture } from "../ext4/format/fixture_image.ts";
import { withTemporaryDirectory } from "../oracle/command.ts";
import { withLoopDevice } from "../oracle/loop_device.ts";
import { buildTar } from "../tar/build.ts";
import { runFake } from "./fake_io.ts";

const NOT_RUN = "block devices as inputs of every command";

async function outputOf(...words: string[]): Promise<string> {
  const { code, stdout, stderr } = await runFake(words, COMMANDS);
  assertEquals(code, 0, `${words.join(" ")}: ${stderr}`);
  return stdout;
}

Deno.test("every command reads an image from a block device as it reads the file behind it", async () => {
  await withTemporaryDirectory(async (directory) => {
    const image = join(directory, "image");
    writeFileSync(image, unpackFixture("csum-4k"));
    await withLoopDevice(image, NOT_RUN, async (device) => {
      for (
        const words of [["verify"], ["inspect"], ["ls", "-lR"], ["probe"], ["probe", "--as-is"]]
      ) {
        const [fromFile, fromDevice] = [
          await outputOf(...words, image),
          await outputOf(...words, device),
        ].map((text) => text.replaceAll(image, "INPUT").replaceAll(device, "INPUT"));
        // The name of an image changes how wide a table of it is.
        assertEquals(fromDevice!.split(/\s+/), fromFile!.split(/\s+/), words.join(" "));
      }
      for (const kind of ["", "ext4:"]) {
        await outputOf("diff", image, `${kind}${device}`, "--exit-code");
        for (const [command, name] of [["export", "tar"], ["bless", "ext4"]] as const) {
          const [one, other] = ["file", "device"].map((from) => join(directory, `${from}.${name}`));
          await outputOf(command, `${kind}${image}`, "-f", "-o", one!);
          await outputOf(command, `${kind}${device}`, "-f", "-o", other!);
          assertEquals(readFileSync(one!).compare(readFileSync(other!)), 0, `${command} ${kind}`);
        }
      }
      const store = join(directory, "store");
      const report = JSON.parse(
        await outputOf("chunk", device, "--dry-run", "--create-store", "--store", store, "--json"),
      );
      assertEquals(report.sizeBytes, readFileSync(image).length);
    });
  });
});

Deno.test("a tar on a block device is blessed as the tar", async () => {
  await withTemporaryDirectory(async (directory) => {
    const tar = join(directory, "tar");
    writeFileSync(tar, buildTar([{ path: "a", data: "a".repeat(5000) }]));
    await withLoopDevice(tar, "a tar on a block device", async (device) => {
      const [one, other] = ["one", "other"].map((name) => join(directory, name));
      await outputOf("bless", tar, "-o", one!);
      await outputOf("bless", device, "-o", other!);
      assertEquals(readFileSync(one!).compare(readFileSync(other!)), 0);
    });
  });
});
