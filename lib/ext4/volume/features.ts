/**
 * Features of a file system, by the names that dumpe2fs prints, and which of them the reader knows.
 *
 * @module
 */
import { InputError } from "../../errors.ts";
import type { Warnings } from "../../warnings.ts";
import { COMPAT, HALF_SWITCHED_FEATURE, INCOMPAT, RO_COMPAT } from "../format/constants.ts";
import type { Superblock } from "../format/superblock.ts";
import { CREATOR_HURD } from "./geometry.ts";

/** The three words of features. */
export type FeatureWords = Pick<
  Superblock,
  "featureCompat" | "featureIncompat" | "featureRoCompat"
>;

type Names = Readonly<Record<number, string>>;

const COMPAT_NAMES: Names = {
  0x1: "dir_prealloc",
  0x2: "imagic_inodes",
  [COMPAT.HAS_JOURNAL]: "has_journal",
  [COMPAT.EXT_ATTR]: "ext_attr",
  [COMPAT.RESIZE_INODE]: "resize_inode",
  [COMPAT.DIR_INDEX]: "dir_index",
  0x40: "lazy_bg",
  0x100: "exclude_bitmap",
  [COMPAT.SPARSE_SUPER2]: "sparse_super2",
  0x400: "fast_commit",
  0x800: "stable_inodes",
  [COMPAT.ORPHAN_FILE]: "orphan_file",
};

const INCOMPAT_NAMES: Names = {
  0x1: "compression",
  [INCOMPAT.FILETYPE]: "filetype",
  [INCOMPAT.RECOVER]: "needs_recovery",
  [INCOMPAT.JOURNAL_DEV]: "journal_dev",
  [INCOMPAT.META_BG]: "meta_bg",
  [INCOMPAT.EXTENTS]: "extent",
  [INCOMPAT.BIT64]: "64bit",
  [INCOMPAT.MMP]: "mmp",
  [INCOMPAT.FLEX_BG]: "flex_bg",
  [INCOMPAT.EA_INODE]: "ea_inode",
  [INCOMPAT.DIRDATA]: "dirdata",
  [INCOMPAT.CSUM_SEED]: "metadata_csum_seed",
  [INCOMPAT.LARGEDIR]: "large_dir",
  [INCOMPAT.INLINE_DATA]: "inline_data",
  [INCOMPAT.ENCRYPT]: "encrypt",
  [INCOMPAT.CASEFOLD]: "casefold",
};

const RO_COMPAT_NAMES: Names = {
  [RO_COMPAT.SPARSE_SUPER]: "sparse_super",
  [RO_COMPAT.LARGE_FILE]: "large_file",
  [RO_COMPAT.HUGE_FILE]: "huge_file",
  [RO_COMPAT.GDT_CSUM]: "uninit_bg",
  [RO_COMPAT.DIR_NLINK]: "dir_nlink",
  [RO_COMPAT.EXTRA_ISIZE]: "extra_isize",
  0x80: "snapshot",
  [RO_COMPAT.QUOTA]: "quota",
  [RO_COMPAT.BIGALLOC]: "bigalloc",
  [RO_COMPAT.METADATA_CSUM]: "metadata_csum",
  0x800: "replica",
  [RO_COMPAT.READONLY]: "read-only",
  [RO_COMPAT.PROJECT]: "project",
  [RO_COMPAT.SHARED_BLOCKS]: "shared_blocks",
  [RO_COMPAT.VERITY]: "verity",
  [RO_COMPAT.ORPHAN_PRESENT]: "orphan_present",
};

/** What the reader knows how to read. ENCRYPT: names and files without their keys are listed, not read. */
const KNOWN_INCOMPAT = INCOMPAT.FILETYPE | INCOMPAT.RECOVER | INCOMPAT.META_BG | INCOMPAT.EXTENTS |
  INCOMPAT.BIT64 | INCOMPAT.MMP | INCOMPAT.FLEX_BG | INCOMPAT.EA_INODE | INCOMPAT.CSUM_SEED |
  INCOMPAT.LARGEDIR | INCOMPAT.INLINE_DATA | INCOMPAT.ENCRYPT | INCOMPAT.CASEFOLD;

const HALF_SWITCHED_HINT =
  "a switch of its checksums was interrupted: finish it with `blessfs checksum`";

const KNOWN_RO_COMPAT = Object.values(RO_COMPAT).reduce((word, bit) => word | bit, 0);

/**
 * The names of all features that are set, in dumpe2fs's words and order: compat, incompat, ro_compat. A bit without a
 * name is shown as `FEATURE_I20`.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { featureNames } from "./features.ts";
 * const words = { featureCompat: 0x20, featureIncompat: 0x80000040, featureRoCompat: 0x400 };
 * assertEquals(featureNames(words), ["dir_index", "extent", "FEATURE_I31", "metadata_csum"]);
 * ```
 */
export function featureNames(features: FeatureWords): string[] {
  return [
    ...namesOf(features.featureCompat, COMPAT_NAMES, "C"),
    ...namesOf(features.featureIncompat, INCOMPAT_NAMES, "I"),
    ...namesOf(features.featureRoCompat, RO_COMPAT_NAMES, "R"),
  ];
}

/**
 * Throws InputError for a file system that the reader would misread, and counts `unknownFeature` for one that the
 * kernel would mount read-only without knowing all of it.
 */
export function checkFeatures(features: FeatureWords, warnings: Warnings): void {
  const { featureIncompat, featureRoCompat } = features;
  const refused = namesOf((featureIncompat & ~KNOWN_INCOMPAT) >>> 0, INCOMPAT_NAMES, "I");
  if (refused.length > 0) {
    const isHalfSwitched = (featureIncompat & HALF_SWITCHED_FEATURE) !== 0;
    throw new InputError("superblock", `the feature ${refused.join(", ")} is not supported`, {
      code: "unsupported",
      ...isHalfSwitched ? { hint: HALF_SWITCHED_HINT } : {},
      data: { features: refused.join(",") },
    });
  }
  const unread = namesOf((featureRoCompat & ~KNOWN_RO_COMPAT) >>> 0, RO_COMPAT_NAMES, "R");
  if (unread.length > 0) {
    warnings.add(
      "unknownFeature",
      "superblock",
      `the feature ${unread.join(", ")} is not known, and was left aside as a read-only mount does`,
    );
  }
  const both = RO_COMPAT.METADATA_CSUM | RO_COMPAT.GDT_CSUM;
  if ((featureRoCompat & both) === both) {
    throw new InputError("superblock", "it has both metadata_csum and uninit_bg, wanted one");
  }
}

function namesOf(word: number, names: Names, prefix: string): string[] {
  const found: string[] = [];
  for (let bit = 0; bit < 32; bit++) {
    if (((word >>> bit) & 1) === 0) continue;
    found.push(names[2 ** bit] ?? `FEATURE_${prefix}${bit}`);
  }
  return found;
}

/** s_state. */
const STATE = { CLEAN: 1, ERRORS: 2 } as const;

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
  if (superblock.creatorOs === CREATOR_HURD) {
    const why = "it was made by the Hurd: translators and authors of files are not read";
    warnings.add("unknownFeature", name, why);
  }
  if ((state & STATE.ERRORS) !== 0) {
    warnings.add("recordedErrors", name, "the kernel found errors in it that were never repaired");
  }
  if (lastOrphan !== 0 || (featureRoCompat & RO_COMPAT.ORPHAN_PRESENT) !== 0) {
    warnings.add(
      "orphanInodes",
      name,
      "it has deleted or half-truncated files that the kernel would clean up",
    );
  }
}
