/** `-o DEVICE` on the command line: of bless, with what is around images, and of restore. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { COMMANDS } from "../../../cli/commands.ts";
import { noiseBytes } from "../../io/noise_bytes.ts";
import { MIB } from "../../io/sink_samples.ts";
import { mustRun, withTemporaryDirectory } from "../../oracle/command.ts";
import { assertE2fsckClean } from "../../oracle/e2fsck.ts";
import { withWritableLoopDevice } from "../../oracle/loop_device.ts";
import { runFake } from "../fake_io.ts";

const SOURCE = `oci:${fileURLToPath(new URL("../../../fixtures/oci-tiny", import.meta.url))}`;
const DEVICE_BYTES = 24 * MIB;

async function run(...words: string[]) {
  const { code, stdout, stderr } = await runFake([...words, "--json"], COMMANDS);
  assertEquals(code, 0, `${words.join(" ")}: ${stderr}`);
  return JSON.parse(stdout);
}

async function fault(code: number, ...words: string[]): Promise<string> {
  const found = await runFake(words, COMMANDS);
  assertEquals(found.code, code, `${words.join(" ")}: ${found.stderr}`);
  assertEquals(found.stdout, "");
  return found.stderr;
}

interface Place {
  readonly directory: string;
  readonly device: string;
  /** What is on the device. */
  content(): Uint8Array;
}

async function onDevice(what: string, work: (place: Place) => Promise<void>): Promise<void> {
  await withTemporaryDirectory(async (directory) => {
    const file = join(directory, "device");
    writeFileSync(file, noiseBytes(DEVICE_BYTES, 1));
    await withWritableLoopDevice(file, what, async (device) => {
      const content = () => {
        mustRun("blockdev", ["--flushbufs", device]);
        return readFileSync(file);
      };
      await work({ directory, device, content });
    });
  });
}

const SHAPES: readonly (readonly string[])[] = [
  [],
  ["--vhd"],
  ["--verity", "append"],
  ["--verity", "append", "--vhd"],
  ["--disk", "gpt"],
  ["--disk", "gpt", "--verity", "append", "--vhd"],
];

Deno.test("a device gets the bytes that a file gets, whatever is around the image", async () => {
  await onDevice("bless onto devices", async ({ directory, device, content }) => {
    const file = join(directory, "file");
    for (const shape of SHAPES) {
      writeFileSync(device, noiseBytes(DEVICE_BYTES, 2));
      const report = await run("bless", SOURCE, ...shape, "-o", device);
      assertEquals([report.image, report.device.sizeBytes], [device, DEVICE_BYTES]);
      await run("bless", SOURCE, ...shape, "-o", file);
      const expected = readFileSync(file);
      assertEquals(expected.compare(content().subarray(0, expected.length)), 0, shape.join(" "));
      rmSync(file);
    }
  });
});

Deno.test("--size fill takes all of the device, and leaves room for the tree and the footer", async () => {
  await onDevice("bless onto devices that it fills", async ({ directory, device, content }) => {
    const file = join(directory, "file");
    for (const shape of SHAPES) {
      const { sizeBytes, outputBytes = sizeBytes, disk } = await run(
        "bless",
        SOURCE,
        ...shape,
        ...["-o", device, "--size", "fill"],
      );
      assert(outputBytes <= DEVICE_BYTES && outputBytes > DEVICE_BYTES - 8192, `${shape}`);
      const size = disk === undefined ? sizeBytes : DEVICE_BYTES;
      await run("bless", SOURCE, ...shape, "-o", file, "--size", String(size));
      const expected = readFileSync(file);
      assertEquals(expected.compare(content().subarray(0, expected.length)), 0, shape.join(" "));
      rmSync(file);
    }
    await run("bless", SOURCE, "-o", device, "--size", "fill", "--force");
    assertEquals(assertE2fsckClean(device).blockCount, DEVICE_BYTES / 4096);
  });
});

Deno.test("a device that is too small stays as it is", async () => {
  await onDevice("bless onto devices that are too small", async ({ device, content }) => {
    const before = Uint8Array.from(content());
    for (const shape of [[], ["--verity", "append"], ["--disk", "gpt"]]) {
      const stderr = await fault(3, "bless", SOURCE, ...shape, "-o", device, "--size", "40M");
      assertMatch(
        stderr,
        new RegExp(`^blessfs: ${device}: has ${DEVICE_BYTES} bytes: the image needs`),
      );
    }
    assertEquals(readFileSync(device).compare(before), 0);
  });
});

Deno.test("an image goes to a device and to a chunk store at once, and comes back to another device", async () => {
  await onDevice("chunks and devices", async ({ directory, device, content }) => {
    const [store, index, file] = ["store", "x.caibx", "file"].map((name) => join(directory, name));
    const chunks = ["--store", store!, "--create-store", "--index", index!];
    await run("bless", SOURCE, "-o", device, ...chunks);
    await run("bless", SOURCE, "-o", file!);
    const expected = readFileSync(file!);
    const there = () => expected.compare(content().subarray(0, expected.length));
    assertEquals(there(), 0);
    const untouched = Uint8Array.from(content());
    const dry = ["bless", SOURCE, "-o", device, "--store", store!, "--dry-run", "--size", "fill"];
    const { image, device: written } = await run(...dry);
    assertEquals([image, written], [null, undefined]);
    assertEquals(readFileSync(device).compare(untouched), 0);
    const restore = ["restore", index!, "--store", store!, "-o", device];
    assertEquals((await run(...restore)).fetchedBytes, 0);
    writeFileSync(device, noiseBytes(DEVICE_BYTES, 3));
    const { fetchedBytes, keptBytes } = await run(...restore);
    assert(fetchedBytes > 0 && keptBytes === 0);
    assertEquals(there(), 0);
    // A store that lacks a chunk leaves nothing that mounts, and the next try goes on.
    writeFileSync(device, noiseBytes(DEVICE_BYTES, 4));
    const folders = readdirSync(store!).filter((name) => /^[0-9a-f]{4}$/.test(name)).sort();
    const lost = join(store!, folders[3]!);
    mustRun("mv", [lost, join(directory, "lost")]);
    await fault(3, ...restore);
    assert(content().subarray(0, 4096).every((byte) => byte === 0));
    mustRun("mv", [join(directory, "lost"), lost]);
    await run(...restore);
    assertEquals(there(), 0);
  });
});

Deno.test("restore refuses a device that is mounted or too small", async () => {
  await onDevice("restore onto devices in use", async ({ directory, device, content }) => {
    const at = (name: string) => join(directory, name);
    const chunks = ["--store", at("store"), "--create-store", "--index", at("x.caibx")];
    await run("bless", SOURCE, "-o", "none", ...chunks, "--size", "32M");
    const restore = ["restore", at("x.caibx"), "--store", at("store"), "-o", device];
    const before = Uint8Array.from(content());
    assertMatch(await fault(3, ...restore), /has 25165824 bytes: the image needs 33554432/);
    assertEquals(readFileSync(device).compare(before), 0);
    await run("bless", SOURCE, "-o", device);
    mustRun("mkdir", [at("mount")]);
    mustRun("mount", ["-o", "ro", device, at("mount")]);
    try {
      await run("bless", SOURCE, "-o", "none", "--index", at("y.caibx"), ...chunks.slice(0, 2));
      restore[1] = at("y.caibx");
      assertMatch(await fault(4, ...restore), /is mounted on /);
      assertMatch(await fault(4, "bless", SOURCE, "-o", device), /is mounted on /);
    } finally {
      mustRun("umount", [at("mount")]);
    }
  });
});

Deno.test("options of devices are refused for files", async () => {
  await withTemporaryDirectory(async (directory) => {
    const image = join(directory, "image");
    for (const output of [image, "-", "none"]) {
      assertStringIncludes(
        await fault(2, "bless", SOURCE, "-o", output, "--size", "fill"),
        "--size: fill takes the size of a block device, and the output is not one",
      );
      assertStringIncludes(
        await fault(2, "bless", SOURCE, "-o", output, "--assume-zeroed"),
        "--assume-zeroed: has no effect on an output that is not a block device",
      );
    }
    const layered = ["bless", "layered", SOURCE, "-o", image, "--size", "fill"];
    assertStringIncludes(await fault(2, ...layered), "--size: fill");
    assertEquals(readdirSync(directory), []);
  });
});

Deno.test("a device is no place for a root hash, and no source of itself", async () => {
  await onDevice("devices and root hashes", async ({ device, directory }) => {
    const words = ["bless", SOURCE, "-o", device, "--verity", "append", "--roothash"];
    assertStringIncludes(await fault(2, ...words), "--roothash: the image has no name");
    await run("bless", SOURCE, "-o", device);
    assertStringIncludes(await fault(2, "bless", device, "-o", device), "is the source too");
    const link = join(directory, "link");
    mustRun("ln", ["-s", device, link]);
    assertStringIncludes(
      await fault(2, "bless", `ext4:${device}`, "-o", link),
      "is the source too",
    );
    assertE2fsckClean(device);
  });
});
