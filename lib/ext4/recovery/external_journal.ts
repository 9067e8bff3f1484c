/**
 * A journal on a device of its own (kernel documentation, "External Journal").
 *
 * @module
 */
import { formatUuid } from "../../bytes/uuid.ts";
import { InputError } from "../../errors.ts";
import type { RandomReader } from "../../io/random_reader.ts";
import { checkChecksum } from "../format/checksum.ts";
import { INCOMPAT, SUPERBLOCK_OFFSET_BYTES } from "../format/constants.ts";
import type { Superblock } from "../format/superblock.ts";
import type { JournalPlace } from "../journal/log.ts";
import { readSuperblock } from "../volume/superblock.ts";

/**
 * Where the log of an external journal is.
 *
 * @param superblock of the file system
 * @throws {InputError} when there is none, or it is the journal of another file system
 */
export function externalJournal(
  superblock: Superblock,
  blockSizeBytes: number,
  journal: RandomReader | undefined,
): JournalPlace {
  if (journal === undefined) {
    const uuid = formatUuid(superblock.journalUuid);
    throw new InputError("journal", `it is on another device, which has the UUID ${uuid}`, {
      remedies: [{ option: "externalJournal", change: "set", to: "name it" }],
    });
  }
  const found = readSuperblock(journal);
  if (found.checksum !== undefined) {
    checkChecksum("superblock", found.checksum.stored, found.checksum.computed);
  }
  const { featureIncompat, uuid, blocksCount, logBlockSize } = found.superblock;
  if ((featureIncompat & INCOMPAT.JOURNAL_DEV) === 0) {
    throw new InputError(journal.name, "it is not an external journal");
  }
  if (uuid.some((byte, i) => byte !== superblock.journalUuid[i])) {
    throw new InputError(
      journal.name,
      `its UUID is ${formatUuid(uuid)}, but the image wants ${formatUuid(superblock.journalUuid)}`,
    );
  }
  const journalBlockSizeBytes = 2 ** (10 + logBlockSize);
  if (journalBlockSizeBytes !== blockSizeBytes) {
    throw new InputError(
      journal.name,
      `its blocks have ${journalBlockSizeBytes} bytes, those of the file system ${blockSizeBytes}`,
    );
  }
  return {
    reader: journal,
    blockSizeBytes,
    blockCount: Math.min(blocksCount, 2 ** 32 - 1),
    runs: [{ logicalBlock: 0, blockCount: blocksCount, startBlock: 0 }],
    // Behind the block that holds the ext4 superblock.
    superblockBlock: Math.floor(SUPERBLOCK_OFFSET_BYTES / blockSizeBytes) + 1,
  };
}
