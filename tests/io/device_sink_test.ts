/** Images straight onto block devices, which are full of noise before. */
import { assert, assertEquals, assertGreater, assertRejects, assertThrows } from "@std/assert";
import { Buffer } from "node:buffer";
import { existsSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { InputError, InterruptedError, IoError } from "../../lib/errors.ts";
import { claimDevice, deviceFacts } from "../../lib/io/block_device.ts";
import {
  createDeviceSink,
  type DeviceOperations,
  type DeviceSinkOptions,
  NODE_DEVICE_OPERATIONS,
  type ZeroedBy,
} from "../../lib/io/device_sink.ts";
import { mustRun, runCommand, withTemporaryDirectory } from "../oracle/command.ts";
import { kernelOrNotice, mountReadWrite } from "../oracle/kernel.ts";
import { withWritableLoopDevice } from "../oracle/loop_device.ts";
import { notRun } from "../oracle/notice.ts";
import { noiseBytes } from "./noise_bytes.ts";
import { MIB, systemError, writeOddPieces } from "./sink_samples.ts";

const DEVICE_BYTES = 8 * MIB;
const HEAD_BYTES = 2 * MIB;

/** Works on a device of noise; `content` is what is on it. */
async function onNoise(
  what: string,
  work: (device: string, content: () => Buffer) => Promise<void>,
): Promise<void> {
  await withTemporaryDirectory(async (directory) => {
    const file = join(directory, "device");
    writeFileSync(file, noiseBytes(DEVICE_BYTES, 1));
    await withWritableLoopDevice(file, what, async (device) => {
      await work(device, () => {
        mustRun("blockdev", ["--flushbufs", device]);
        return readFileSync(file);
      });
    });
  });
}

const plainZeros: DeviceOperations = {
  ...NODE_DEVICE_OPERATIONS,
  zero: () => Promise.resolve(false),
};

Deno.test("an image on a device has the bytes of the file, holes included, and nothing behind it changes", async () => {
  const ways: [options: DeviceSinkOptions, isTold: boolean, zeroedBy: ZeroedBy[]][] = [
    [{}, true, ["device", "writing"]],
    [{}, false, ["writing"]],
    [{ files: plainZeros }, true, ["writing"]],
  ];
  await onNoise("images on devices", async (device, content) => {
    for (const [options, isTold, zeroedBy] of ways) {
      writeFileSync(device, noiseBytes(DEVICE_BYTES, 2));
      const behind = Uint8Array.from(content().subarray(5 * MIB + 4096));
      const sink = createDeviceSink(device, options);
      assertEquals([sink.sizeBytes, sink.sectorBytes], [DEVICE_BYTES, 512]);
      if (isTold) sink.checkSize(5 * MIB + 4096);
      const expected = await writeOddPieces(sink);
      await sink.finish(expected.length);
      assert(zeroedBy.includes(sink.zeroedBy), sink.zeroedBy);
      assert(content().subarray(0, expected.length).equals(expected), sink.zeroedBy);
      assert(content().subarray(expected.length).equals(behind), "what is behind the image");
    }
  });
});

Deno.test("a device that is said to be zeroed gets no zeros behind its head", async () => {
  await onNoise("devices that are said to be zeroed", async (device, content) => {
    const before = Uint8Array.from(content());
    const sink = createDeviceSink(device, { assumeZeroed: true });
    const expected = await writeOddPieces(sink);
    await sink.finish(expected.length);
    assertEquals(sink.zeroedBy, "nothing");
    const [start, end] = [4 * MIB, 5 * MIB];
    assert(content().subarray(start, end).equals(before.subarray(start, end)));
    assert(content().subarray(0, HEAD_BYTES).equals(expected.subarray(0, HEAD_BYTES)));
  });
});

Deno.test("an image of less than the head, and an empty one, leave what is behind them", async () => {
  await onNoise("small images on devices", async (device, content) => {
    for (const sizeBytes of [0, 512, 4096, 5000, HEAD_BYTES, HEAD_BYTES + 512]) {
      writeFileSync(device, noiseBytes(DEVICE_BYTES, 3));
      const sink = createDeviceSink(device);
      sink.checkSize(sizeBytes);
      const head = noiseBytes(Math.min(sizeBytes, 700), 4);
      await sink.write(head, 0);
      await sink.finish(sizeBytes);
      const expected = noiseBytes(DEVICE_BYTES, 3);
      expected.fill(0, 0, sizeBytes);
      expected.set(head);
      assert(content().equals(expected), `${sizeBytes} bytes`);
    }
  });
});

/** One image on a device, with one call to it failing. */
async function writeWithFault(device: string, failing: number): Promise<number> {
  let calls = 0;
  const count = () => {
    if (++calls === failing) throw systemError("EIO");
  };
  const { write, writeBehind, sync } = NODE_DEVICE_OPERATIONS;
  const sink = createDeviceSink(device, {
    files: {
      ...plainZeros,
      write: (...args) => (count(), write(...args)),
      writeBehind: async (...args) => (count(), await writeBehind(...args)),
      sync: async (...args) => (count(), await sync(...args)),
    },
  });
  const expected = await writeOddPieces(sink);
  await sink.finish(expected.length);
  return calls;
}

Deno.test("whichever call fails, the device has no superblock, neither an old nor a new one", async () => {
  await onNoise("failures while a device is written", async (device, content) => {
    const calls = await writeWithFault(device, Infinity);
    assertGreater(calls, 8);
    const noise = noiseBytes(DEVICE_BYTES, 5);
    for (let failing = 1; failing < calls; failing++) {
      writeFileSync(device, noise);
      await assertRejects(() => writeWithFault(device, failing), IoError, "input/output error");
      const first = content().subarray(0, 4096);
      // The first call is the one that clears it.
      const wanted = failing === 1 ? noise.subarray(0, 4096) : new Uint8Array(4096);
      assertEquals(Buffer.compare(first, wanted), 0, `call ${failing} of ${calls}`);
    }
    // The last one brings to the disk what is whole by then.
    await assertRejects(() => writeWithFault(device, calls), IoError, "input/output error");
  });
});

Deno.test("an image that is given up leaves the head cleared, and the device free", async () => {
  await onNoise("images that are given up", async (device, content) => {
    const controller = new AbortController();
    const sink = createDeviceSink(device, { signal: controller.signal });
    await writeOddPieces(sink);
    controller.abort();
    await assertRejects(async () => await sink.finish(6 * MIB), InterruptedError);
    await sink.abort();
    assert(content().subarray(0, HEAD_BYTES).every((byte) => byte === 0));
    const again = createDeviceSink(device);
    const expected = await writeOddPieces(again);
    await again.finish(expected.length);
    assert(content().subarray(0, expected.length).equals(expected));
  });
});

Deno.test("a device that is too small or was given up before the first write stays as it is", async () => {
  await onNoise("devices that are too small", async (device, content) => {
    const before = Uint8Array.from(content());
    const sink = createDeviceSink(device);
    const message = `has ${DEVICE_BYTES} bytes: the image needs ${DEVICE_BYTES + 1}`;
    await assertRejects(
      () => Promise.resolve().then(() => sink.checkSize(DEVICE_BYTES + 1)),
      InputError,
      message,
    );
    sink.abort();
    await assertRejects(
      async () => await createDeviceSink(device).finish(DEVICE_BYTES + 1),
      InputError,
      message,
    );
    assert(content().equals(before));
  });
});

Deno.test("a device that is mounted is refused, named with its mount point, and stays mounted", async () => {
  await withTemporaryDirectory(async (directory) => {
    const what = "devices that are mounted";
    if (!kernelOrNotice(what)) return;
    const image = join(directory, "image");
    truncateSync(writeEmpty(image), 8 * MIB);
    mustRun("mke2fs", ["-q", "-t", "ext4", image]);
    await mountReadWrite(image, async (mountPoint) => {
      const device = mustRun("findmnt", ["-n", "-o", "SOURCE", mountPoint]).trim();
      const sink = createDeviceSink(device);
      await assertRejects(
        async () => await sink.write(new Uint8Array(4096), 0),
        IoError,
        `is mounted on ${mountPoint}`,
      );
      assertEquals(runCommand("findmnt", [mountPoint]).status, 0);
    });
    assertEquals(runCommand("e2fsck", ["-fn", image]).status, 0);
  });
});

function writeEmpty(path: string): string {
  writeFileSync(path, "");
  return path;
}

Deno.test("a device with a partition in use is refused", async () => {
  await withTemporaryDirectory((directory) => {
    const what = "devices with mounted partitions";
    if (!kernelOrNotice(what)) return;
    const disk = join(directory, "disk");
    truncateSync(writeEmpty(disk), 16 * MIB);
    const table = join(directory, "table");
    writeFileSync(table, "label: gpt\nstart=2048, size=16384\n");
    mustRun("sh", ["-c", `sfdisk --quiet '${disk}' < '${table}'`]);
    const device = mustRun("losetup", ["--find", "--show", "--partscan", disk]).trim();
    try {
      const mountPoint = join(directory, "mount");
      mustRun("mkdir", [mountPoint]);
      // Without a device manager, nobody makes the node.
      const partition = `${device}p1`;
      const name = partition.slice("/dev/".length);
      if (!existsSync(`/sys/class/block/${name}`)) {
        return notRun(what, "the kernel reads no partition tables of loop devices");
      }
      const number = readFileSync(`/sys/class/block/${name}/dev`, "utf8").trim().split(":");
      const node = join(directory, "p1");
      mustRun("mknod", [node, "b", ...number]);
      mustRun("mke2fs", ["-q", "-F", "-t", "ext4", node]);
      mustRun("mount", ["-t", "ext4", node, mountPoint]);
      try {
        assertThrows(
          () => void claimDevice(device),
          IoError,
          `has a partition ${name} that is mounted on ${mountPoint}`,
        );
      } finally {
        mustRun("umount", [mountPoint]);
      }
      const { descriptor, release } = claimDevice(device);
      assertThrows(() => void claimDevice(device), IoError, "is in use");
      NODE_DEVICE_OPERATIONS.close(descriptor);
      release();
      const again = claimDevice(device);
      NODE_DEVICE_OPERATIONS.close(again.descriptor);
      again.release();
    } finally {
      mustRun("losetup", ["--detach", device]);
    }
  });
});

Deno.test("a device that vanishes is told as that", async () => {
  await onNoise("devices that vanish", async (device) => {
    for (const code of ["ENXIO", "ENODEV"]) {
      let calls = 0;
      const writeBehind: DeviceOperations["writeBehind"] = async (...args) => {
        if (++calls > 1) throw systemError(code);
        return await NODE_DEVICE_OPERATIONS.writeBehind(...args);
      };
      const sink = createDeviceSink(device, { files: { ...plainZeros, writeBehind } });
      await assertRejects(
        async () => {
          const expected = await writeOddPieces(sink);
          await sink.finish(expected.length);
        },
        IoError,
        "the device is gone",
      );
    }
  });
});

Deno.test("a device whose storage is full fails with an error of the device", async () => {
  await withTemporaryDirectory(async (directory) => {
    if (!kernelOrNotice("devices whose storage is full")) return;
    mustRun("mount", ["-t", "tmpfs", "-o", "size=3M", "tmpfs", directory]);
    try {
      const file = join(directory, "device");
      truncateSync(writeEmpty(file), 8 * MIB);
      await withWritableLoopDevice(file, "devices whose storage is full", async (device) => {
        const sink = createDeviceSink(device, { assumeZeroed: true });
        await assertRejects(
          async () => {
            for (let at = 0; at < 7 * MIB; at += MIB) await sink.write(noiseBytes(MIB, 1), at);
            await sink.finish(7 * MIB);
          },
          IoError,
          "cannot be flushed to the disk",
        );
      });
    } finally {
      mustRun("umount", [directory]);
    }
  });
});

Deno.test("deviceFacts refuses what is no device", async () => {
  await assertRejects(() => Promise.resolve().then(() => deviceFacts("/dev/null")), InputError);
});
