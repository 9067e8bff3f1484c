import { assertEquals, assertStringIncludes } from "@std/assert";
import { deviceNumbers, NodeReader } from "../../../lib/ext4/read/node_reader.ts";
import { Warnings } from "../../../lib/warnings.ts";
import { victimOf } from "./read_image.ts";

Deno.test("NodeReader makes a node of every kind of inode", () => {
  const victim = victimOf("csum-4k");
  const image = victim.open();
  const nodes = new NodeReader(image, { warnings: new Warnings(true) });
  const read = (path: string) => nodes.read(image.inode(victim.inodeOf(path)), path, 5);
  const times = read("/times");
  assertEquals(times.origin, { layerIndex: 0, entryIndex: 5 });
  const { mtimeSeconds, mtimeNanoseconds, uid, gid, mode } = times.attributes;
  assertEquals([mtimeSeconds, mtimeNanoseconds], [-1, 999_999_999]);
  assertEquals([uid, gid, mode], [70000, 4_294_967_294, 0o644]);
  const disk = read("/disk");
  assertEquals(disk.kind === "blockDevice" && [disk.deviceMajor, disk.deviceMinor], [259, 60000]);
  assertEquals(read("/pipe").kind, "fifo");
  const short = read("/short");
  assertEquals(short.kind === "symlink" && short.target, "target");
  const directory = read("/directory");
  assertEquals(directory.kind === "directory" && directory.children.size, 0);
  const empty = read("/empty");
  assertEquals(empty.kind === "file" && empty.payload.sizeBytes, 0);
});

Deno.test("deviceNumbers reads both ways of writing them", () => {
  const victim = victimOf("csum-4k");
  const image = victim.open();
  const numbers = ["/null", "/disk"].map((path) => {
    const { deviceMajor, deviceMinor } = deviceNumbers(image.inode(victim.inodeOf(path)));
    return [deviceMajor, deviceMinor];
  });
  assertEquals(numbers, [[1, 3], [259, 60000]]);
});

Deno.test("NodeReader counts what the model has no place for, and refuses what has no name", () => {
  const lost = (flags: number): string[] => {
    const victim = victimOf("plain-4k");
    const number = victim.inodeOf("/holes");
    victim.view.setUint32(victim.inodeOffset(number) + 0x20, 0x80000 | flags, true);
    const warnings = new Warnings();
    const image = victim.open();
    new NodeReader(image, { warnings }).read(image.inode(number), "/holes", 0);
    return warnings.list().map(({ kind, message }) => `${kind} ${message}`);
  };
  assertEquals(lost(0), []);
  assertEquals(lost(0x30), ["droppedFlags /holes: its flags ia (lsattr) are left out"]);
  assertEquals(lost(0x100000), ["droppedVerity /holes: its fs-verity hashes are left out"]);
  const victim = victimOf("rare-4k");
  const message = victim.refusal((image) => {
    const inode = image.inode(victim.inodeOf("/empty"));
    const value = { ...inode, record: { ...inode.record, flags: 0x200000 } };
    new NodeReader(image, { warnings: new Warnings() }).read(value, "/empty", 0);
  });
  assertStringIncludes(message, "it holds the value of an attribute, but has a name");
});
