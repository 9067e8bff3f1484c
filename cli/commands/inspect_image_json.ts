/**
 * What `blessfs inspect IMAGE` prints for scripts.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { byteStringFromBytes, displayName } from "../../lib/bytes/byte_string.ts";
import type { Superblock } from "../../lib/ext4/format/superblock.ts";
import { formatUuid } from "../../lib/bytes/uuid.ts";
import type { GroupInspection, ImageInspection } from "../../lib/ext4/read/inspect_image.ts";

const UUID_FIELDS: ReadonlySet<string> = new Set(["uuid", "journalUuid", "encryptPasswordSalt"]);
const TEXT_FIELDS: ReadonlySet<string> = new Set([
  "volumeName",
  "lastMounted",
  "firstErrorFunction",
  "lastErrorFunction",
  "mountOptions",
]);

/** The document without the groups. */
export function imageJson(inspection: ImageInspection): Record<string, unknown> {
  const { name, fileSizeBytes, superblock, geometry, features, checksum, journal, faults } =
    inspection;
  return {
    image: name,
    fileSizeBytes,
    sizeBytes: geometry.blocksCount * geometry.blockSizeBytes,
    blockSizeBytes: geometry.blockSizeBytes,
    groupCount: geometry.groupCount,
    features,
    superblock: superblockJson(superblock),
    superblockChecksum: checksum ?? null,
    journal: journal === undefined ? null : { ...journal, uuid: formatUuid(journal.uuid) },
    faults,
  };
}

/** One group; a checksum that the file system does not have is null. */
export function groupJson(group: GroupInspection): Record<string, unknown> {
  const { checksum, blockBitmap, inodeBitmap, flagNames, ...rest } = group;
  const { blockBitmapChecksum: _block, inodeBitmapChecksum: _inode, ...numbers } = rest;
  return {
    ...numbers,
    flagNames,
    checksum: checksum ?? null,
    blockBitmapChecksum: blockBitmap ?? null,
    inodeBitmapChecksum: inodeBitmap ?? null,
  };
}

/** Every field by its name, bytes as a UUID, as text or in hex. */
export function superblockJson(superblock: Superblock): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(superblock).map(([name, value]) => [
      name,
      value instanceof Uint8Array ? bytesJson(name, value) : value,
    ]),
  );
}

function bytesJson(name: string, bytes: Uint8Array): string {
  if (UUID_FIELDS.has(name)) return formatUuid(bytes);
  if (TEXT_FIELDS.has(name)) return displayName(byteStringFromBytes(bytes));
  return Buffer.from(bytes).toString("hex");
}
