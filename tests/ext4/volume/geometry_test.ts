import { assertEquals, assertThrows } from "@std/assert";
import { InputError } from "../../../lib/errors.ts";
import { defaultSuperblock, type Superblock } from "../../../lib/ext4/format/superblock.ts";
import { imageGeometry } from "../../../lib/ext4/volume/superblock.ts";

function superblockOf(fields: Partial<Superblock> = {}): Superblock {
  return {
    ...defaultSuperblock(),
    revision: 1,
    logBlockSize: 2,
    logClusterSize: 2,
    blocksCount: 3 * 32768 + 100,
    blocksPerGroup: 32768,
    clustersPerGroup: 32768,
    inodesPerGroup: 64,
    inodesCount: 256,
    inodeSizeBytes: 256,
    firstInode: 11,
    descriptorSizeBytes: 64,
    featureIncompat: 0x80,
    ...fields,
  };
}

Deno.test("imageGeometry works the measures out, and the last group may be short", () => {
  const geometry = imageGeometry(superblockOf());
  assertEquals([geometry.groupCount, geometry.blockSizeBytes, geometry.descriptorsPerBlock], [
    4,
    4096,
    64,
  ]);
  const clusters = { featureRoCompat: 0x200, logClusterSize: 6, blocksPerGroup: 524288 };
  const wide = imageGeometry(superblockOf({ ...clusters, inodesCount: 64 }));
  assertEquals([wide.groupCount, wide.clusterBlocks, wide.clustersPerGroup], [1, 16, 32768]);
});

Deno.test("imageGeometry names the field that no file system has", () => {
  const wrong: [Partial<Superblock>, string][] = [
    [{ revision: 2 }, "s_rev_level is 2, not 0 to 1"],
    [{ revision: 0 }, "s_rev_level is 0, but it has features"],
    [{ logBlockSize: 7 }, "s_log_block_size is 7, not 0 to 6"],
    [{ logClusterSize: 4 }, "s_log_cluster_size is 4, not 2 to 2"],
    [{ firstDataBlock: 1 }, "s_first_data_block is 1, not 0"],
    [{ blocksCount: 0 }, "s_blocks_count is 0"],
    [{ blocksCount: 2 ** 40, featureIncompat: 0 }, "s_blocks_count"],
    [{ clustersPerGroup: 32776 }, "s_clusters_per_group is 32776, not 8 to 32768"],
    [{ blocksPerGroup: 0 }, "s_blocks_per_group is 0"],
    [{ clustersPerGroup: 1001 }, "s_clusters_per_group is 1001, not a multiple of 8"],
    [{ clustersPerGroup: 8 }, "s_blocks_per_group is 32768, not 8"],
    [{ inodeSizeBytes: 64 }, "s_inode_size is 64"],
    [{ inodeSizeBytes: 384 }, "s_inode_size is 384, not a power of two"],
    [{ inodeSizeBytes: 8192 }, "s_inode_size is 8192"],
    [{ inodesPerGroup: 8 }, "s_inodes_per_group is 8, not 16"],
    [{ inodesPerGroup: 65 }, "s_inodes_per_group is 65, not a multiple of 8"],
    [{ inodesCount: 255 }, "s_inodes_count is 255, not 256"],
    [{ firstInode: 2 }, "s_first_ino is 2, not 11"],
    [{ descriptorSizeBytes: 32 }, "s_desc_size is 32, not 64 to 1024"],
    [{ descriptorSizeBytes: 96 }, "s_desc_size is 96, not a power of two"],
    [{ featureRoCompat: 0x400, checksumType: 2 }, "s_checksum_type is 2, not 1"],
  ];
  for (const [fields, message] of wrong) {
    assertThrows(() => imageGeometry(superblockOf(fields)), InputError, message);
  }
});
