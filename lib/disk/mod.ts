/**
 * Disks around file systems: GUID partition tables, and the footers of fixed VHDs.
 *
 * @module
 */
export { encodeGpt, partitionType, readGpt } from "./gpt.ts";
export type { EncodedGpt, FoundPartition, Gpt, GptPartition, PartitionRole } from "./gpt.ts";
export { encodeVhdFooter, layOutDisk, vhdSink, writeDisk } from "./disk_layout.ts";
export type { DiskLayout, PartitionWriter } from "./disk_layout.ts";
