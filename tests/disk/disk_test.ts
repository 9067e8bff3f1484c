import { assertEquals, assertMatch, assertRejects, assertThrows } from "@std/assert";
import { join } from "node:path";
import { InputError, UsageError } from "../../lib/errors.ts";
import {
  encodeGpt,
  type Gpt,
  hasGpt,
  type PartitionRole,
  partitionType,
  readGpt,
  rootRoleOf,
} from "../../lib/disk/gpt.ts";
import {
  encodeVhdFooter,
  hasVhdFooter,
  layOutDisk,
  roomOnDisk,
  vhdSink,
  writeDisk,
} from "../../lib/disk/disk_layout.ts";
import { parseVeritySignature } from "../../lib/verity/format.ts";
import { createFileSink } from "../../lib/io/file_sink.ts";
import { memoryReader } from "../../lib/io/random_reader.ts";
import { hasCommand, mustRun, withTemporaryDirectory } from "../oracle/command.ts";
import { notRun } from "../oracle/notice.ts";
import { MemorySink } from "../verity/veritysetup.ts";

const MIB = 1 << 20;

function guid(number: number): string {
  return `00000000-0000-8000-8000-${number.toString(16).padStart(12, "0")}`;
}

/** A disk with partitions of these sizes. */
function diskOf(sizes: readonly number[], diskBytes?: number): Gpt {
  const layout = layOutDisk(sizes, diskBytes);
  return {
    diskGuid: guid(0xd15c),
    diskBytes: layout.diskBytes,
    partitions: sizes.map((sizeBytes, i) => ({
      typeGuid: partitionType(i === 0 ? "root" : "layer", "amd64"),
      guid: guid(i + 1),
      startBytes: layout.starts[i]!,
      sizeBytes,
      name: `part ${i + 1}`,
      isReadOnly: i % 2 === 0,
    })),
  };
}

async function writtenDisk(gpt: Gpt): Promise<MemorySink> {
  const sink = new MemorySink();
  await writeDisk(
    gpt,
    sink,
    gpt.partitions.map((_, i) => async (part) => {
      await part.write(new Uint8Array(512).fill(i + 1), 0);
    }),
  );
  return sink;
}

const SIZES = [
  [4096],
  [5 * MIB, 4096, 3 * MIB + 8192],
  Array(129).fill(4096),
  Array(200).fill(MIB),
];

Deno.test("sgdisk and sfdisk find nothing wrong with a disk, whatever its partitions", async () => {
  const tools = ["sgdisk", "sfdisk"].filter((tool) => {
    if (hasCommand(tool)) return true;
    notRun(`disks against ${tool}`, `${tool} is not installed`);
    return false;
  });
  await withTemporaryDirectory(async (directory) => {
    const path = join(directory, "disk");
    for (const sizes of SIZES) {
      const gpt = diskOf(sizes);
      Deno.writeFileSync(path, (await writtenDisk(gpt)).bytes);
      if (tools.includes("sgdisk")) {
        assertMatch(mustRun("sgdisk", ["-v", path]), /No problems found/);
        const shown = mustRun("sgdisk", [`--info=${sizes.length}`, path]);
        const last = gpt.partitions.at(-1)!;
        assertMatch(shown.toLowerCase(), new RegExp(`partition unique guid: ${last.guid}`));
        assertMatch(shown, new RegExp(`First sector: ${last.startBytes / 512} `));
        assertMatch(shown, new RegExp(`Partition name: '${last.name}'`));
      }
      if (!tools.includes("sfdisk")) continue;
      assertMatch(mustRun("sfdisk", ["--verify", path]), /^No errors detected\.$/m);
    }
  });
});

Deno.test("a table that was written is read again, and damage is told", async () => {
  for (const sizes of SIZES) {
    const gpt = diskOf(sizes);
    const { bytes } = await writtenDisk(gpt);
    const reader = memoryReader(bytes, "disk");
    assertEquals(hasGpt(reader), true);
    const found = readGpt(reader);
    assertEquals(found, {
      ...gpt,
      partitions: gpt.partitions.map((partition, i) => ({ number: i + 1, ...partition })),
    });
    for (const [i, { startBytes }] of gpt.partitions.entries()) {
      assertEquals(bytes[startBytes], (i + 1) & 0xff);
    }
  }
  const { bytes } = await writtenDisk(diskOf([4096]));
  const damaged = (at: number) =>
    memoryReader(bytes.map((byte, i) => i === at ? byte ^ 1 : byte), "disk");
  assertThrows(
    () => readGpt(damaged(512 + 72)),
    InputError,
    "disk: the partition table is damaged: the checksum of its header",
  );
  assertThrows(() => readGpt(damaged(1024 + 40)), InputError, "the checksum of its entries");
  assertThrows(
    () => readGpt(memoryReader(bytes.subarray(0, MIB), "disk")),
    InputError,
    "has a partition 1 from 1048576 to 1052672: the disk has 1048576 bytes",
  );
  assertThrows(() => readGpt(memoryReader(new Uint8Array(4096), "disk")), InputError, "is missing");
});

Deno.test("a disk that is too small says what is needed, and a given size is filled", () => {
  assertThrows(
    () => layOutDisk([4096], MIB),
    UsageError,
    "the partitions and their table need 2097152 bytes, the disk has 1048576",
  );
  assertEquals(layOutDisk([4096], 10 * MIB + 100).diskBytes, 10 * MIB);
  const tree = (size: number) => [Math.ceil(size / 128 / 4096) * 4096 + 8192];
  for (const diskBytes of [4 * MIB, 10 * MIB, 10 * MIB + 512, 100 * MIB, 3 * 2 ** 30]) {
    const room = roomOnDisk(diskBytes, [MIB], tree);
    layOutDisk([MIB, room, ...tree(room)], diskBytes);
    assertThrows(() => layOutDisk([MIB, room + 4096, ...tree(room + 4096)], diskBytes), UsageError);
  }
  assertThrows(() => roomOnDisk(2 * MIB, [MIB], tree), UsageError, "the disk has 2097152");
});

Deno.test("a partition takes no more than its own bytes", async () => {
  const gpt = diskOf([4096, 4096]);
  await assertRejects(
    () =>
      writeDisk(gpt, new MemorySink(), [
        async (part) => await part.write(new Uint8Array(10), 4090),
        async () => {},
      ]),
    InputError,
    "the partition part 1 has 4096 bytes, found 4100",
  );
});

Deno.test("partition types are those of the specification, by architecture", () => {
  assertEquals(rootRoleOf(partitionType("root-verity", "arm64")), "root-verity");
  assertEquals(rootRoleOf(partitionType("esp", "amd64")), undefined);
  assertThrows(
    () => partitionType("root", "s390x"),
    UsageError,
    "no root partition type for the architecture `s390x`: wanted amd64 or arm64",
  );
  assertThrows(() => partitionType("root", "toString"), UsageError);
});

/** As the tables of the tools call them; sgdisk of gptfdisk 1.0.9 does not know those of signatures. */
const TYPE_NAMES: [role: PartitionRole, architecture: string, sfdisk: string, sgdisk?: string][] = [
  ["root", "amd64", "Linux root (x86-64)", "Linux x86-64 root (/)"],
  ["root-verity", "amd64", "Linux root verity (x86-64)", "Linux x86-64 root verity"],
  ["root-verity-sig", "amd64", "Linux root verity sign. (x86-64)"],
  ["root", "arm64", "Linux root (ARM-64)", "Linux ARM64 root (/)"],
  ["root-verity", "arm64", "Linux root verity (ARM-64)", "Linux ARM64 root verity"],
  ["root-verity-sig", "arm64", "Linux root verity sign. (ARM-64)"],
  ["esp", "amd64", "EFI System", "EFI system partition"],
  ["layer", "amd64", "Linux filesystem", "Linux filesystem"],
];

Deno.test("sfdisk and sgdisk know the types of both architectures by name", async () => {
  const layout = layOutDisk(TYPE_NAMES.map(() => MIB));
  const gpt: Gpt = {
    diskGuid: guid(1),
    diskBytes: layout.diskBytes,
    partitions: TYPE_NAMES.map(([role, architecture], i) => ({
      typeGuid: partitionType(role, architecture),
      guid: guid(i + 2),
      startBytes: layout.starts[i]!,
      sizeBytes: MIB,
      name: role,
      isReadOnly: true,
    })),
  };
  await withTemporaryDirectory(async (directory) => {
    const path = join(directory, "disk");
    Deno.writeFileSync(path, (await writtenDisk(gpt)).bytes);
    const check = (tool: "sfdisk" | "sgdisk", i: number, wanted: string, found: string) => {
      if (found !== wanted && /^unknown$/i.test(found)) {
        notRun(`the partition type of ${wanted} against ${tool}`, "this version does not know it");
      } else assertEquals(found, wanted, `${tool}, partition ${i + 1}`);
    };
    if (hasCommand("sfdisk")) {
      const listed = mustRun("sfdisk", ["--list", "--output", "Type", path]).trim().split("\n");
      const found = listed.slice(-TYPE_NAMES.length).map((line) => line.trim());
      for (const [i, [, , name]] of TYPE_NAMES.entries()) check("sfdisk", i, name, found[i]!);
    } else notRun("names of partition types against sfdisk", "sfdisk is not installed");
    if (!hasCommand("sgdisk")) {
      return notRun("names of partition types against sgdisk", "sgdisk is not installed");
    }
    for (const [i, [, , , name]] of TYPE_NAMES.entries()) {
      if (name === undefined) continue;
      const shown = mustRun("sgdisk", [`--info=${i + 1}`, path]);
      check("sgdisk", i, name, /GUID code: \S+ \((.*)\)$/m.exec(shown)?.[1] ?? shown);
    }
  });
});

Deno.test("encoding takes no partition that is not on the disk", () => {
  const gpt = diskOf([4096]);
  assertThrows(() => encodeGpt({ ...gpt, diskBytes: MIB + 4096 }), Error, "Invariant broken");
});

Deno.test("qemu-img sees a VHD of just the size of its disk", async () => {
  if (!hasCommand("qemu-img")) return notRun("VHDs against qemu-img", "qemu-img is not installed");
  await withTemporaryDirectory(async (directory) => {
    for (
      const sizeBytes of [4096, 10 * MIB + 4096, 600 * MIB, 5 * 2 ** 30 + 12288, 200 * 2 ** 30]
    ) {
      const path = join(directory, `${sizeBytes}.vhd`);
      const sink = vhdSink(createFileSink(path), () => new Uint8Array(16).fill(7));
      await sink.write(new Uint8Array(512).fill(1), 0);
      await sink.finish(sizeBytes);
      const info = JSON.parse(mustRun("qemu-img", ["info", "--output=json", "-f", "vpc", path]));
      assertEquals(info["virtual-size"], sizeBytes);
      assertEquals(Deno.statSync(path).size, sizeBytes + 512);
    }
  });
});

Deno.test("a VHD footer is that of the specification", () => {
  const footer = encodeVhdFooter(4 * MIB, new Uint8Array(16).fill(3));
  const view = new DataView(footer.buffer);
  assertEquals(hasVhdFooter(footer), true);
  assertEquals([view.getUint32(60), view.getBigUint64(48)], [2, BigInt(4 * MIB)]);
  // 8192 sectors: 120 cylinders of 4 heads and 17 sectors.
  assertEquals([view.getUint16(56), view.getUint8(58), view.getUint8(59)], [120, 4, 17]);
  const sum = footer.reduce((total, byte, i) => i >= 64 && i < 68 ? total : total + byte, 0);
  assertEquals(view.getUint32(64), ~sum >>> 0);
  assertThrows(() => encodeVhdFooter(1000, new Uint8Array(16)), InputError, "whole sectors of 512");
  assertThrows(
    () => encodeVhdFooter(4 * 2 ** 40, new Uint8Array(16)),
    InputError,
    "wanted at most",
  );
});

Deno.test("a signature is JSON with the root hash that was signed", () => {
  const rootHash = "AB".repeat(32);
  const whole = { rootHash, signature: "MIIB", certificateFingerprint: "01".repeat(32) };
  const encode = (document: unknown) => new TextEncoder().encode(JSON.stringify(document));
  const parsed = parseVeritySignature(encode(whole), "sig");
  assertEquals([parsed.rootHash, parsed.bytes.length], [rootHash.toLowerCase(), 4096]);
  // A partition that was read back.
  assertEquals(parseVeritySignature(parsed.bytes, "sig").rootHash, parsed.rootHash);
  const cases: [content: Uint8Array, message: string][] = [
    [Uint8Array.of(0x30, 0x82), "sig: is not JSON: wanted JSON with rootHash"],
    [encode([]), "is not a JSON object"],
    [encode({ ...whole, rootHash: "ab" }), "`rootHash` is not a SHA-256 in hexadecimal"],
    [encode({ ...whole, rootHash: undefined }), "`rootHash` is missing"],
    [encode({ ...whole, certificateFingerprint: 1 }), "`certificateFingerprint` is not a SHA-256"],
    [encode({ ...whole, signature: "!" }), "`signature` is not base64"],
    [new Uint8Array(5 << 20), "has 5242880 bytes: wanted at most 4194304"],
  ];
  for (const [content, message] of cases) {
    assertThrows(() => parseVeritySignature(content, "sig"), InputError, message);
  }
});
