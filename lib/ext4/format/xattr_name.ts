/**
 * Names of extended attributes on disk (kernel documentation, "Extended Attributes"): a number for the prefix, then the
 * rest of the name.
 *
 * @module
 */
import type { ByteString } from "../../bytes/byte_string.ts";

/** e_name_index of the prefixes (EXT4_XATTR_INDEX_...). */
export const XATTR_INDEX = {
  USER: 1,
  POSIX_ACL_ACCESS: 2,
  POSIX_ACL_DEFAULT: 3,
  TRUSTED: 4,
  SECURITY: 6,
  SYSTEM: 7,
  RICHACL: 8,
} as const;

/** A name in two parts. */
export interface SplitXattrName {
  readonly nameIndex: number;
  readonly suffix: ByteString;
}

interface Prefix {
  readonly nameIndex: number;
  readonly text: ByteString;
  /** Whether the prefix is a name by itself; otherwise it needs a suffix. */
  readonly isWholeName: boolean;
}

/** Whole names come before the prefix that they begin with. */
const PREFIXES: readonly Prefix[] = [
  {
    nameIndex: XATTR_INDEX.POSIX_ACL_ACCESS,
    text: "system.posix_acl_access",
    isWholeName: true,
  },
  {
    nameIndex: XATTR_INDEX.POSIX_ACL_DEFAULT,
    text: "system.posix_acl_default",
    isWholeName: true,
  },
  { nameIndex: XATTR_INDEX.RICHACL, text: "system.richacl", isWholeName: true },
  { nameIndex: XATTR_INDEX.USER, text: "user.", isWholeName: false },
  { nameIndex: XATTR_INDEX.TRUSTED, text: "trusted.", isWholeName: false },
  { nameIndex: XATTR_INDEX.SECURITY, text: "security.", isWholeName: false },
  { nameIndex: XATTR_INDEX.SYSTEM, text: "system.", isWholeName: false },
];

/**
 * Splits a name; undefined when ext4 has no number for its prefix, or nothing follows a prefix that needs more.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { splitXattrName } from "./xattr_name.ts";
 * assertEquals(splitXattrName("security.capability"), { nameIndex: 6, suffix: "capability" });
 * assertEquals(splitXattrName("btrfs.compression"), undefined);
 * ```
 */
export function splitXattrName(name: ByteString): SplitXattrName | undefined {
  for (const { nameIndex, text, isWholeName } of PREFIXES) {
    if (isWholeName ? name === text : name.length > text.length && name.startsWith(text)) {
      return { nameIndex, suffix: name.slice(text.length) };
    }
  }
  return undefined;
}

/** The whole name; undefined for a number or a suffix that no name has. */
export function joinXattrName(nameIndex: number, suffix: ByteString): ByteString | undefined {
  const prefix = PREFIXES.find((candidate) => candidate.nameIndex === nameIndex);
  if (prefix === undefined || prefix.isWholeName !== (suffix === "")) return undefined;
  return prefix.text + suffix;
}
