/**
 * dm-verity hash trees: built while an image is written, and verified without the kernel.
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
export {
  CONSTANT_SALT,
  deviceMapperTable,
  kernelArgument,
  parseSalt,
  parseVeritySignature,
  rootHashPath,
  treeShape,
  verityText,
} from "./format.ts";
export type {
  TreeLevel,
  TreeShape,
  VerityDevices,
  VerityFormat,
  VerityParameters,
  VerityReport,
  VeritySignature,
  VeritySuperblock,
} from "./format.ts";
export type { HashTree, HashTreeOptions } from "./hash_tree.ts";
export { TreeSink, VeritySink } from "./verity_sink.ts";
export type { TreeSinkOptions, VeritySinkOptions } from "./verity_sink.ts";
export { verifyTree } from "./verify_tree.ts";
export type { VerifyTreeOptions, VerityCheck, VerityFinding, VerityPlace } from "./verify_tree.ts";
