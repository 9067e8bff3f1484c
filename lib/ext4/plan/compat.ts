/**
 * Readers of images, and the ext4 features that they lack.
 *
 * - GRUB: fs/ext2.c, EXT2_DRIVER_SUPPORTED_INCOMPAT and EXT2_DRIVER_IGNORED_INCOMPAT. It refuses a file system with any
 *   other incompatible feature, and ignores the other two feature words. It accepts metadata_csum_seed since 2.12; some
 *   distributions have backported that to 2.06.
 * - U-Boot: fs/ext4/ext4_common.c checks no incompatible feature but 64bit (since 2016.09), so it reads wrong bytes for
 *   one it does not know, namely data in inodes. It does not read extended attributes.
 * - Linux: EXT4_FEATURE_INCOMPAT_SUPP in fs/ext4/ext4.h of each version.
 *
 * @module
 */
import { optionError } from "../../errors.ts";

/** Features that some readers lack, by their dumpe2fs names. */
export type OptionalFeature =
  | "64bit"
  | "ea_inode"
  | "inline_data"
  | "metadata_csum_seed"
  | "sparse_super2";

interface Reader {
  /** The name that selects it. */
  readonly name: string;
  /** The name in errors. */
  readonly shown: string;
  readonly lacks: readonly OptionalFeature[];
}

const BOOT_LOADERS: readonly Reader[] = [
  { name: "grub", shown: "GRUB", lacks: ["ea_inode", "inline_data", "metadata_csum_seed"] },
  { name: "grub-2.12", shown: "GRUB 2.12", lacks: ["ea_inode", "inline_data"] },
  { name: "u-boot", shown: "U-Boot", lacks: ["inline_data"] },
];

type Version = readonly [major: number, minor: number];

/** The oldest kernel that images are made for. It has metadata checksums, but not yet their later fixes. */
const OLDEST: Version = [3, 10];

/** The first kernel trusted with each feature; RHEL 7's kernel is a 3.10 and has none of them. */
const SINCE: Readonly<Record<OptionalFeature, Version>> = {
  "64bit": [3, 16],
  "inline_data": [3, 16],
  "sparse_super2": [3, 16],
  "metadata_csum_seed": [4, 4],
  "ea_inode": [4, 13],
};

/** Names of readers that can be selected; any Linux version from 3.10 on is valid, too. */
export const COMPAT_NAMES: readonly string[] = [
  ...BOOT_LOADERS.map(({ name }) => name),
  "linux-3.10",
  "linux-5.10",
];

/** For each feature, a reader that lacks it; features that all of them have are omitted. */
export type RuledOut = ReadonlyMap<OptionalFeature, string>;

/**
 * The features that some of the readers lack.
 *
 * @param names such as `grub`, `linux-5.10` or `5.10`
 * @throws {UsageError} for an unknown name
 */
export function ruledOutBy(names: readonly string[]): RuledOut {
  const ruledOut = new Map<OptionalFeature, string>();
  for (const { shown, lacks } of names.map(readerOf)) {
    for (const feature of lacks) if (!ruledOut.has(feature)) ruledOut.set(feature, shown);
  }
  return ruledOut;
}

function readerOf(name: string): Reader {
  const known = BOOT_LOADERS.find((reader) => reader.name === name);
  if (known !== undefined) return known;
  const [, major, minor] = /^(?:linux-)?(\d{1,3})\.(\d{1,3})(?:\.\d+)?$/.exec(name) ?? [];
  if (major === undefined) {
    throw optionError(
      "compat",
      `wanted ${COMPAT_NAMES.join(", ")} or another Linux, found ${name}`,
    );
  }
  const version: Version = [Number(major), Number(minor)];
  if (isBefore(version, OLDEST)) {
    throw optionError("compat", `wanted Linux ${OLDEST.join(".")} or later, found ${name}`);
  }
  const features = Object.keys(SINCE) as OptionalFeature[];
  return {
    name,
    shown: `Linux ${version.join(".")}`,
    lacks: features.filter((feature) => isBefore(version, SINCE[feature])),
  };
}

function isBefore(one: Version, other: Version): boolean {
  return one[0] < other[0] || (one[0] === other[0] && one[1] < other[1]);
}

/**
 * How a list of readers changes the bytes of an image, as text: `none`, `3.10` for all features, or the features left
 * out.
 */
export function compatText(names: readonly string[]): string {
  const ruledOut = ruledOutBy(names);
  const left = DROPPED.filter((feature) => ruledOut.has(feature));
  if (left.length === 0) return "none";
  return left.length === DROPPED.length ? OLDEST.join(".") : `without ${left.join(", ")}`;
}

/** Left out silently; the others are options, which are refused. */
const DROPPED: readonly OptionalFeature[] = ["64bit", "metadata_csum_seed", "ea_inode"];
