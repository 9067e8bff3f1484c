/**
 * The xattrs of an entry, from every kind of PAX record that carries some.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import type { ByteString } from "../bytes/byte_string.ts";
import { bytesFromByteString } from "../bytes/byte_string.ts";
import type { Xattr } from "../model/node.ts";
import type { AclTextResult } from "./acl_text.ts";
import { aclFromText } from "./acl_text.ts";
import type { TarPlace } from "./fault.ts";
import { describePlace, quoted, tarFault } from "./fault.ts";
import type { PaxRecords } from "./pax.ts";

/** How the reader tells of what it dropped or changed: `Warnings.add` fits. */
export type WarnCallback = (kind: string, what: string, why: string) => void;

/** What the records of an entry say beside its header. */
export interface PaxAttributes {
  /** In byte order of their names, each name once. */
  readonly xattrs: readonly Xattr[];
  /** Permissions of the entry's mode by an access ACL's text; undefined when there is none. */
  readonly permissions: number | undefined;
}

const NONE: PaxAttributes = { xattrs: [], permissions: undefined };
const ACCESS_ACL = "system.posix_acl_access";
const DEFAULT_ACL = "system.posix_acl_default";

/**
 * All xattrs. Where several records give the same one, SCHILY.xattr wins over LIBARCHIVE.xattr, and both over SCHILY.acl and
 * RHT.security.selinux. The text of an access ACL also sets the permissions, as the kernel does when tar(1) applies it:
 * bsdtar writes a mode whose group bits are not the ACL's mask. Errors: InputError.
 */
export function paxAttributes(
  records: PaxRecords | undefined,
  place: TarPlace,
  warn: WarnCallback,
): PaxAttributes {
  if (
    records === undefined || (!records.schilyXattrs && !records.libarchiveXattrs &&
      !records.aclAccess && !records.aclDefault && !records.selinuxLabel)
  ) return NONE;
  const values = new Map<ByteString, Uint8Array>(records.schilyXattrs);
  for (const [key, text] of records.libarchiveXattrs ?? []) {
    const name = decodePercent(key);
    if (!values.has(name)) values.set(name, decodeBase64(key, text, place));
  }
  if (records.selinuxLabel && !values.has("security.selinux")) {
    // libselinux stores the label with its NUL.
    values.set("security.selinux", bytesFromByteString(`${records.selinuxLabel}\0`));
  }
  const access = values.has(ACCESS_ACL) ? undefined : readAcl(records.aclAccess, place, warn);
  // An access ACL of the three base entries is the mode once more; the kernel keeps none either.
  if (access && !access.isMinimal) values.set(ACCESS_ACL, access.value);
  const fallback = values.has(DEFAULT_ACL) ? undefined : readAcl(records.aclDefault, place, warn);
  if (fallback) values.set(DEFAULT_ACL, fallback.value);
  return { xattrs: sortedXattrs(values, place), permissions: access?.permissions };
}

function sortedXattrs(values: ReadonlyMap<ByteString, Uint8Array>, place: TarPlace): Xattr[] {
  for (const name of values.keys()) {
    if (name === "") throw tarFault(place, "an xattr has no name");
    if (name.includes("\0")) {
      throw tarFault(place, `the xattr ${quoted(name)} has a NUL in its name`);
    }
  }
  return [...values].sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, value]) => ({ name, value }));
}

/** An ACL's text; undefined when there is none, or when it is dropped, which is told of. */
function readAcl(
  text: ByteString | undefined,
  place: TarPlace,
  warn: WarnCallback,
): Extract<AclTextResult, { kind: "acl" }> | undefined {
  const acl = aclFromText(text ?? "");
  switch (acl.kind) {
    case "acl":
      return acl;
    case "empty":
      return undefined;
    case "unknownName":
      warn(
        "aclName",
        describePlace(place),
        `its ACL is dropped: it gives ${quoted(acl.name)} by name, with no number`,
      );
      return undefined;
    case "invalid":
      warn("aclInvalid", describePlace(place), `its ACL is dropped: ${acl.why}`);
      return undefined;
  }
}

/** The names of LIBARCHIVE.xattr are percent-encoded; a percent sign with no two hex digits stands for itself. */
function decodePercent(name: ByteString): ByteString {
  return name.replace(/%([0-9A-Fa-f]{2})/g, (_, hex) => String.fromCharCode(parseInt(hex, 16)));
}

/** Base64 with or without padding. */
function decodeBase64(key: ByteString, text: ByteString, place: TarPlace): Uint8Array {
  const padding = text.endsWith("==") ? 2 : text.endsWith("=") ? 1 : 0;
  const digits = text.slice(0, text.length - padding);
  const isPadded = padding === 0 || text.length % 4 === 0;
  if (!isPadded || digits.length % 4 === 1 || !/^[A-Za-z0-9+/]*$/.test(digits)) {
    throw tarFault(place, `the PAX record ${quoted(`LIBARCHIVE.xattr.${key}`)} is not base64`);
  }
  return Uint8Array.from(Buffer.from(digits, "base64"));
}
