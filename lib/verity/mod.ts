/**
 * Hash trees of dm-verity: made while an image goes by, and checked without the kernel.
 *
 * @example Prove an image by its root hash
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { blessMerged, createFileSink, openVerity } from "@blessfs/blessfs";
 * import { CONSTANT_SALT, verifyTree } from "@blessfs/blessfs/verity";
 * import { mkdtempSync, rmSync } from "node:fs";
 *
 * const directory = mkdtempSync("/tmp/blessfs-");
 * const image = `${directory}/root.ext4`;
 * const { verity } = await blessMerged({
 *   source: "oci:fixtures/oci-tiny",
 *   layout: { journalBytes: 0 },
 *   envelope: { verity: { salt: CONSTANT_SALT } },
 *   sink: createFileSink(image),
 * });
 * const found = openVerity({ image });
 * const { rootHash } = verity!;
 * assertEquals((await verifyTree(found.place, { rootHash })).clean, true);
 * found.close();
 * rmSync(directory, { recursive: true });
 * ```
 *
 * @module
 */
export { CONSTANT_SALT, parseSalt, treeShape } from "./format.ts";
export type { TreeLevel, TreeShape, VeritySuperblock } from "./format.ts";
export type { HashTree, HashTreeOptions, VerityParameters } from "./hash_tree.ts";
export { TreeSink, VeritySink } from "./verity_sink.ts";
export type { TreeSinkOptions, VerityReport, VeritySinkOptions } from "./verity_sink.ts";
export { verifyTree } from "./verify_tree.ts";
export type { VerifyTreeOptions, VerityCheck, VerityFinding, VerityPlace } from "./verify_tree.ts";
export {
  deviceMapperTable,
  kernelArgument,
  parseVeritySignature,
  rootHashPath,
  verityText,
} from "./texts.ts";
export type { VerityDevices, VerityFormat, VeritySignature } from "./texts.ts";
