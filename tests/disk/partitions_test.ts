import { assertEquals, assertThrows } from "@std/assert";
import { openPartition, readPartitions } from "../../lib/disk/partitions.ts";
import { InputError } from "../../lib/errors.ts";
import { memoryReader } from "../../lib/io/random_reader.ts";
import { hasCommand, mustRun, withTemporaryDirectory } from "../oracle/command.ts";
import { kernelOrNotice } from "../oracle/kernel.ts";
import { notRun } from "../oracle/notice.ts";

const DISK_BYTES = 64 * 1024 * 1024;

/** A disk whose table sfdisk makes, and the partitions that sfdisk then finds on it. */
function sfdisk(script: string): { disk: Uint8Array; wanted: readonly (readonly number[])[] } {
  return withTemporaryDirectory((directory) => {
    const path = `${directory}/disk`;
    Deno.writeFileSync(path, new Uint8Array(0));
    Deno.truncateSync(path, DISK_BYTES);
    Deno.writeTextFileSync(`${directory}/script`, script);
    mustRun("sh", ["-c", `sfdisk -q ${path} < ${directory}/script`]);
    const { partitiontable } = JSON.parse(mustRun("sfdisk", ["--json", path]));
    const wanted = partitiontable.partitions
      .filter(({ type }: { type: string }) => type !== "5" && type !== "f")
      .map(({ node, start, size }: { node: string; start: number; size: number }) => [
        Number(/\d+$/.exec(node)![0]),
        start * 512,
        size * 512,
      ]);
    return { disk: Deno.readFileSync(path), wanted };
  });
}

const SCRIPTS: Readonly<Record<string, string>> = {
  "one primary partition": "label: dos\nstart=2048,type=83\n",
  "four primary partitions":
    "label: dos\nsize=4M,type=83\nsize=4M,type=82\nsize=4M,type=c\nsize=4M,type=83\n",
  "logical partitions":
    "label: dos\nsize=4M,type=83\nsize=40M,type=f\nsize=4M,type=83\nsize=5M,type=83\nsize=6M,type=7\n",
  "a logical partition behind a hole in the numbers":
    "label: dos\n3: size=4M,type=83\n4: size=40M,type=5\n5: size=4M,type=83\n",
  "GPT": "label: gpt\nsize=4M,name=first\n7: size=8M,name=seventh\n",
};

for (const [name, script] of Object.entries(SCRIPTS)) {
  Deno.test(`readPartitions finds what sfdisk finds: ${name}`, () => {
    if (!hasCommand("sfdisk")) return notRun("partition tables", "sfdisk is missing");
    const { disk, wanted } = sfdisk(script);
    const table = readPartitions(memoryReader(disk, "disk"));
    assertEquals(table?.kind, name === "GPT" ? "GPT" : "MBR");
    const found = table?.partitions.map((one) => [one.number, one.startBytes, one.sizeBytes]);
    assertEquals(found, [...wanted]);
  });
}

Deno.test("readPartitions reads a GPT of a disk with sectors of 4096 bytes", () => {
  if (!kernelOrNotice("a disk with large sectors")) return;
  withTemporaryDirectory((directory) => {
    const path = `${directory}/disk`;
    Deno.writeFileSync(path, new Uint8Array(0));
    Deno.truncateSync(path, DISK_BYTES);
    const device = mustRun("losetup", ["--find", "--show", "--sector-size", "4096", path]).trim();
    try {
      const script = "label: gpt\nsize=4M,name=one\nsize=8M,name=two\n";
      mustRun("sh", [
        "-c",
        `printf '${script}' | sfdisk -q --no-reread --no-tell-kernel ${device}`,
      ]);
    } finally {
      mustRun("losetup", ["--detach", device]);
    }
    const { partitions } = readPartitions(memoryReader(Deno.readFileSync(path), "disk"))!;
    assertEquals(
      partitions.map(({ startBytes, sizeBytes, name }) => [startBytes, sizeBytes, name]),
      [
        [1 << 20, 4 << 20, "one"],
        [5 << 20, 8 << 20, "two"],
      ],
    );
  });
});

/** A sector with a table: type, start and length in sectors of each entry. */
function table(...entries: readonly (readonly [number, number, number])[]): Uint8Array {
  const sector = new Uint8Array(512);
  const view = new DataView(sector.buffer);
  for (const [i, [type, start, length]] of entries.entries()) {
    sector[446 + 16 * i + 4] = type;
    view.setUint32(446 + 16 * i + 8, start, true);
    view.setUint32(446 + 16 * i + 12, length, true);
  }
  view.setUint16(510, 0xaa55, true);
  return sector;
}

Deno.test("readPartitions takes no boot sector, and no empty table, for a disk", () => {
  const read = (bytes: Uint8Array) => readPartitions(memoryReader(bytes, "disk"));
  assertEquals(read(new Uint8Array(4096)), undefined);
  assertEquals(read(new Uint8Array(10)), undefined);
  assertEquals(read(table()), undefined);
  const boot = table([0x83, 1, 10]);
  boot[446] = 0x33; // code where an entry says whether it is active
  assertEquals(read(boot), undefined);
});

Deno.test("a chain of logical partitions that leads back to itself ends", () => {
  const disk = new Uint8Array(64 * 512);
  disk.set(table([0x05, 10, 40]));
  disk.set(table([0x83, 1, 2], [0x05, 0, 40]), 10 * 512);
  // The next table is where the first one is, which an entry of length 0 or start 0 would not say.
  assertEquals(readPartitions(memoryReader(disk, "disk"))?.partitions.length, 1);
  disk.set(table([0x83, 1, 2], [0x05, 5, 40]), 10 * 512);
  disk.set(table([0x83, 1, 2], [0x05, 5, 40]), 15 * 512);
  assertEquals(readPartitions(memoryReader(disk, "disk"))?.partitions.length, 256);
});

Deno.test("openPartition reads within its partition, and refuses what is not there", () => {
  const disk = new Uint8Array(40 * 512).fill(7);
  disk.set(table([0x83, 2, 3], [0x83, 30, 30]));
  disk.fill(9, 2 * 512, 5 * 512);
  const reader = memoryReader(disk, "disk");
  const partition = openPartition(reader, 1);
  const target = new Uint8Array(2000);
  assertEquals([partition.sizeBytes, partition.readAt(target, 0)], [1536, 1536]);
  assertEquals(target.subarray(0, 1536).every((byte) => byte === 9), true);
  assertEquals([partition.readAt(target, 1000), partition.readAt(target, 1536)], [536, 0]);
  assertThrows(() => openPartition(reader, 2), InputError, "ends at 30720, but it has 20480");
  assertThrows(() => openPartition(reader, 3), InputError, "has no partition 3: it has 1, 2");
  const none = memoryReader(new Uint8Array(4096), "none");
  assertThrows(() => openPartition(none, 1), InputError, "has no partition table");
});
