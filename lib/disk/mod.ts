/**
 * Disks around file systems: GUID partition tables, and the footers of fixed VHDs.
 *
 * @module
 */
export { encodeGpt, readGpt } from "./gpt.ts";
export type { EncodedGpt, FoundPartition, Gpt, GptPartition } from "./gpt.ts";
export { layOutDisk, writeDisk } from "./disk_layout.ts";
export type { DiskLayout, PartitionWriter } from "./disk_layout.ts";
export { partitionType } from "./partition_types.ts";
export type { PartitionRole } from "./partition_types.ts";
export { encodeVhdFooter, vhdSink } from "./vhd.ts";
export { parseVeritySignature } from "./verity_signature.ts";
export type { VeritySignature } from "./verity_signature.ts";
