import { assertEquals, assertThrows } from "@std/assert";
import { UsageError } from "../../../lib/errors.ts";
import { CHECKSUM_SEED } from "../../../lib/ext4/plan/superblocks.ts";
import type { LayoutOptions } from "../../../lib/bless/options.ts";
import { file, treeOf } from "../../oracle/tree_builder.ts";
import { MIB, planTree } from "../made_image.ts";

const COMPAT = 0x5c;
const INCOMPAT = 0x60;
const RO_COMPAT = 0x64;

/** The superblock of group 0 as it would be written, by the kernel's offsets. */
function superblock(choices: Partial<LayoutOptions> = {}, xattrBytes = 0): DataView {
  const xattrs = xattrBytes === 0 ? {} : { "user.v": new Uint8Array(xattrBytes) };
  const plan = planTree(treeOf({ "f": file("x", { xattrs }) }), choices);
  const bytes = plan.metadata.find(({ offsetBytes }) => offsetBytes === 1024)!.encode();
  assertEquals(bytes.length, 1024);
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
}

Deno.test("the superblock has the features that were asked for and no others", () => {
  const features = (choices: Partial<LayoutOptions>, xattrBytes = 0) => {
    const view = superblock(choices, xattrBytes);
    return [COMPAT, INCOMPAT, RO_COMPAT].map((at) => view.getUint32(at, true));
  };
  // has_journal, ext_attr, dir_index; filetype, extents, 64bit, flex_bg, csum_seed;
  // sparse_super, large_file, huge_file, dir_nlink, extra_isize, metadata_csum.
  assertEquals(features({}), [0x2c, 0x22c2, 0x46b]);
  assertEquals(features({ journalBytes: 0 }), [0x28, 0x22c2, 0x46b]);
  assertEquals(features({ backups: "none" }), [0x22c, 0x22c2, 0x46a]);
  assertEquals(features({ metadataChecksums: false }), [0x2c, 0x2c2, 0x6b]);
  assertEquals(features({ compat: "3.10" }), [0x2c, 0x242, 0x46b]);
  assertEquals(features({ inlineData: true }), [0x2c, 0xa2c2, 0x46b]);
  assertEquals(features({}, 10_000), [0x2c, 0x26c2, 0x46b]);
});

Deno.test("the checksum seed is a constant where there is one, and the UUID's otherwise", () => {
  assertEquals(superblock().getUint32(0x270, true), CHECKSUM_SEED);
  assertEquals(superblock({ compat: "3.10" }).getUint32(0x270, true), 0);
  assertEquals(superblock({ metadataChecksums: false }).getUint32(0x270, true), 0);
});

Deno.test("reserved blocks are counted in bytes or in percent, and never more than half", () => {
  const reserved = (reservedBlocks: LayoutOptions["reservedBlocks"]) => {
    const size = { kind: "total", sizeBytes: 100 * MIB } as const;
    return superblock({ reservedBlocks, size }).getUint32(0x08, true);
  };
  assertEquals(reserved({ kind: "percent", percent: 5 }), 1280);
  assertEquals(reserved({ kind: "bytes", bytes: 8191 }), 1);
  assertEquals(reserved({ kind: "bytes", bytes: 50 * MIB }), 12_800);
  assertThrows(() => reserved({ kind: "bytes", bytes: 51 * MIB }), UsageError, "reservedBlocks");
});

Deno.test("the overhead is what the kernel would work out", () => {
  const size = { kind: "total", sizeBytes: 300 * MIB } as const;
  const plan = planTree(treeOf({}), { size });
  const { geometry } = plan;
  const view = superblock({ size });
  const reserved = geometry.reserved.length * (1 + geometry.descriptorBlocks);
  const tables = geometry.groupCount * (2 + geometry.inodeTableBlocks);
  assertEquals(view.getUint32(0x248, true), reserved + tables + 1024);
});

Deno.test("a copy of the journal's map is kept, its size behind it", () => {
  const view = superblock();
  assertEquals(view.getUint8(0xfd), 1);
  assertEquals(view.getUint16(0x10c, true), 0xf30a);
  assertEquals(view.getUint32(0x10c + 16 * 4, true), 4 * MIB);
  assertEquals(superblock({ journalBytes: 0 }).getUint8(0xfd), 0);
});
