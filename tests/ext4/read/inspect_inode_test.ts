import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { InputError } from "../../../lib/errors.ts";
import { inspectInode } from "../../../lib/ext4/read/inspect.ts";
import { openFixture, victimOf } from "./read_image.ts";

const ALL = { maxRunCount: 1e6 };

Deno.test("inspectInode shows map, attributes and checksum of an inode", () => {
  const victim = victimOf("csum-1k");
  const image = victim.open();
  const holes = inspectInode(image, victim.inodeOf("/holes"), { maxRunCount: 3 });
  assertEquals([holes.contentPlace, holes.runCount, holes.runs.length], ["extents", 450, 3]);
  assertEquals([holes.mapBlockCount > 5, holes.mapBlocks.length], [true, 3]);
  assertEquals(holes.checksum!.stored, holes.checksum!.computed);
  assertEquals([holes.faults, holes.flagNames], [[], ["Extents"]]);
  const many = inspectInode(image, victim.inodeOf("/many"), ALL);
  assertEquals(many.directory, { parentInodeNumber: 2, nameCount: 900 });
  assertEquals(many.flagNames.includes("Indexed_directory"), true);
  const disk = inspectInode(image, victim.inodeOf("/disk"), ALL);
  assertEquals([disk.device?.deviceMajor, disk.contentPlace], [259, "none"]);
  const short = inspectInode(image, victim.inodeOf("/short"), ALL);
  assertEquals([short.target, short.contentPlace], ["target", "inode"]);
});

Deno.test("inspectInode shows inodes that are not in use, and refuses those that are not there", () => {
  const image = openFixture("plain-4k");
  const last = image.geometry.inodesCount;
  const unused = inspectInode(image, last, ALL);
  assertEquals([unused.kind, unused.faults, unused.contentPlace], [undefined, [], "none"]);
  assertThrows(() => inspectInode(image, last + 1, ALL), InputError, "it does not exist");
  assertEquals(inspectInode(openFixture("csum-4k"), 8, ALL).runCount > 0, true);
});

Deno.test("inspectInode tells what is damaged and shows the rest", () => {
  const victim = victimOf("csum-4k");
  const number = victim.inodeOf("/holes");
  victim.bytes[victim.inodeOffset(number) + 0x28 + 12 + 4 + 3] = 0xff;
  const { faults, checksum, runCount, record } = inspectInode(victim.open(), number, ALL);
  assertEquals([runCount, record.sizeBytes], [0, 65542]);
  assertEquals(checksum!.stored === checksum!.computed, false);
  assertStringIncludes(faults.join("\n"), ": checksum: found 0x");
  assertEquals(faults.length, 2);
});
