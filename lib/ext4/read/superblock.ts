/**
 * Finding the superblock of an image, and what its state has to say.
 *
 * @module
 */
import { InputError } from "../../errors.ts";
import { type RandomReader, readExactly } from "../../io/random_reader.ts";
import type { Warnings } from "../../warnings.ts";
import { checkChecksum } from "../format/checksum.ts";
import {
  COMPAT,
  INCOMPAT,
  RO_COMPAT,
  SUPERBLOCK_OFFSET_BYTES,
  SUPERBLOCK_SIZE_BYTES,
} from "../format/constants.ts";
import {
  decodeSuperblock,
  storedSuperblockChecksum,
  type Superblock,
  superblockChecksum,
} from "../format/superblock.ts";

/** A superblock as it was found. */
export interface FoundSuperblock {
  readonly superblock: Superblock;
  /** Its 1024 bytes. */
  readonly encoded: Uint8Array;
  /** Stored and computed checksum; undefined without METADATA_CSUM. */
  readonly checksum: { readonly stored: number; readonly computed: number } | undefined;
}

/** s_state. */
const STATE = { CLEAN: 1, ERRORS: 2 } as const;

/**
 * Reads the primary superblock; only its magic number is demanded.
 *
 * @throws {InputError} when the image is too short, or something else is there
 */
export function readSuperblock(reader: RandomReader): FoundSuperblock {
  const encoded = new Uint8Array(SUPERBLOCK_SIZE_BYTES);
  if (reader.sizeBytes < SUPERBLOCK_OFFSET_BYTES + encoded.length) {
    throw new InputError(reader.name, `no ext4 image: it has only ${reader.sizeBytes} bytes`);
  }
  readExactly(reader, encoded, SUPERBLOCK_OFFSET_BYTES);
  const superblock = decodeSuperblock(encoded);
  const isChecksummed = (superblock.featureRoCompat & RO_COMPAT.METADATA_CSUM) !== 0;
  const checksum = isChecksummed
    ? { stored: storedSuperblockChecksum(encoded), computed: superblockChecksum(encoded) }
    : undefined;
  return { superblock, encoded, checksum };
}

/** Throws InputError when the checksum is wrong. */
export function verifySuperblock({ checksum }: FoundSuperblock): void {
  if (checksum !== undefined) checkChecksum("superblock", checksum.stored, checksum.computed);
}

/** Counts what says that the image was not left as an unmounted file system is. */
export function warnOfState(superblock: Superblock, name: string, warnings: Warnings): void {
  const { state, featureCompat, featureIncompat, featureRoCompat, lastOrphan } = superblock;
  const hasJournal = (featureCompat & COMPAT.HAS_JOURNAL) !== 0;
  if ((featureIncompat & INCOMPAT.RECOVER) !== 0) {
    if (!hasJournal) {
      throw new InputError(name, "its journal needs recovery, but it has no journal");
    }
    warnings.add(
      "dirtyJournal",
      name,
      "its journal holds changes that are not in place yet; it is read as it is, without them",
    );
  } else if ((state & STATE.CLEAN) === 0) {
    warnings.add("notUnmounted", name, "it was not unmounted; it is read as it is");
  }
  if ((state & STATE.ERRORS) !== 0) {
    warnings.add("recordedErrors", name, "the kernel found errors in it and nothing mended them");
  }
  if (lastOrphan !== 0 || (featureRoCompat & RO_COMPAT.ORPHAN_PRESENT) !== 0) {
    warnings.add(
      "orphanInodes",
      name,
      "it has deleted or half-cut files that the kernel would mend",
    );
  }
}
