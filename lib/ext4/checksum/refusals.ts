/**
 * Images whose checksums must not be switched: in use, with changes that were not written back, or with structures that
 * are not known here.
 *
 * @module
 */
import { InputError } from "../../errors.ts";
import { COMPAT, INCOMPAT, RO_COMPAT } from "../format/constants.ts";
import { decodeMmpBlock, MMP_SEQUENCE_CLEAN, MMP_SIZE_BYTES } from "../format/mmp.ts";
import type { Superblock } from "../format/superblock.ts";
import { readBlock } from "./switch_structures.ts";
import type { Volume } from "../volume/volume.ts";

const STATE_CLEAN = 1;
const STATE_ERRORS = 2;

/** All COMPAT bits of Linux up to ORPHAN_FILE, without those of snapshots. */
const KNOWN_COMPAT = 0x1e3f;
const FAST_COMMIT = 0x400;
const KNOWN_INCOMPAT = Object.values(INCOMPAT).reduce((all, bit) => all | bit, 0) &
  ~(INCOMPAT.JOURNAL_DEV | INCOMPAT.DIRDATA);
const KNOWN_RO_COMPAT = Object.values(RO_COMPAT).reduce((all, bit) => all | bit, 0);

/** @throws InputError that says why the image cannot be switched, and what helps */
export function refuseUnfit(volume: Volume): void {
  const { superblock, reader } = volume;
  refuseUnknown(superblock, reader.name);
  refuseUnclean(superblock, reader.name);
  if ((superblock.featureIncompat & INCOMPAT.MMP) !== 0) refuseMounted(volume);
}

function refuseUnknown(superblock: Superblock, name: string): void {
  const { featureCompat, featureIncompat, featureRoCompat } = superblock;
  const unknown: [string, number][] = [
    ["compat", featureCompat & ~(KNOWN_COMPAT | FAST_COMMIT)],
    ["incompat", featureIncompat & ~KNOWN_INCOMPAT],
    ["ro_compat", featureRoCompat & ~KNOWN_RO_COMPAT],
  ];
  for (const [word, bits] of unknown) {
    if (bits === 0) continue;
    throw new InputError(
      name,
      `it has the ${word} feature 0x${(bits >>> 0).toString(16)}, whose structures are not known`,
    );
  }
  const hashed = INCOMPAT.ENCRYPT | INCOMPAT.CASEFOLD;
  if ((featureIncompat & hashed) === hashed) {
    throw new InputError(name, "its directories may be both encrypted and casefolded");
  }
  const both = RO_COMPAT.GDT_CSUM | RO_COMPAT.METADATA_CSUM;
  if ((featureRoCompat & both) === both) {
    throw new InputError(name, "it has both uninit_bg and metadata_csum, which is damage");
  }
}

function refuseUnclean(superblock: Superblock, name: string): void {
  const fsck = { hint: "check it first: e2fsck -f" };
  const { state } = superblock;
  if ((superblock.featureIncompat & INCOMPAT.RECOVER) !== 0) {
    throw new InputError(name, "its journal holds changes that were not written back", {
      hint: "let e2fsck -f or a mount replay the journal first",
    });
  }
  if ((state & STATE_CLEAN) === 0 || (state & STATE_ERRORS) !== 0) {
    throw new InputError(name, `its state is ${state}: it is mounted, or was not unmounted`, fsck);
  }
  if (superblock.lastOrphan !== 0) {
    throw new InputError(name, `inode ${superblock.lastOrphan} waits to be deleted`, fsck);
  }
  const hasOrphanFile = (superblock.featureCompat & COMPAT.ORPHAN_FILE) !== 0;
  if (hasOrphanFile && (superblock.featureRoCompat & RO_COMPAT.ORPHAN_PRESENT) !== 0) {
    throw new InputError(name, "inodes in its orphan file wait to be deleted", fsck);
  }
}

function refuseMounted(volume: Volume): void {
  const { mmpBlock } = volume.superblock;
  const what = `${volume.reader.name}: MMP block ${mmpBlock}`;
  const block = readBlock(volume, mmpBlock, what);
  const { sequence } = decodeMmpBlock(block.subarray(0, MMP_SIZE_BYTES), what);
  if (sequence === MMP_SEQUENCE_CLEAN) return;
  throw new InputError(
    what,
    `its sequence is 0x${sequence.toString(16)}, not 0x${MMP_SEQUENCE_CLEAN.toString(16)}: ` +
      "a machine uses the file system",
    { hint: "unmount it everywhere, or clear the mark with tune2fs -E clear_mmp" },
  );
}
