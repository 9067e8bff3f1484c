/**
 * The xattrs of an entry, from every kind of PAX record that carries some.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import type { ByteString } from "../bytes/byte_string.ts";
import { bytesFromByteString } from "../bytes/byte_string.ts";
import type { Xattr } from "../model/node.ts";
import { aclFromText } from "./acl_text.ts";
import type { TarPlace } from "./fault.ts";
import { describePlace, quoted, tarFault } from "./fault.ts";
import type { PaxRecords } from "./pax.ts";

/** How the reader tells of what it dropped or changed: `Warnings.add` fits. */
export type WarnCallback = (kind: string, what: string, why: string) => void;

const NO_XATTRS: readonly Xattr[] = [];

/**
 * All xattrs, in byte order of their names, each name once. Where several records give the same xattr, SCHILY.xattr wins
 * over LIBARCHIVE.xattr, and both over SCHILY.acl and RHT.security.selinux. Errors: InputError.
 */
export function xattrsOf(
  records: PaxRecords | undefined,
  place: TarPlace,
  warn: WarnCallback,
): readonly Xattr[] {
  if (
    records === undefined || (!records.schilyXattrs && !records.libarchiveXattrs &&
      !records.aclAccess && !records.aclDefault && !records.selinuxLabel)
  ) return NO_XATTRS;
  const values = new Map<ByteString, Uint8Array>(records.schilyXattrs);
  for (const [key, text] of records.libarchiveXattrs ?? []) {
    const name = decodePercent(key);
    if (!values.has(name)) values.set(name, decodeBase64(key, text, place));
  }
  if (records.selinuxLabel && !values.has("security.selinux")) {
    // libselinux stores the label with its NUL.
    values.set("security.selinux", bytesFromByteString(`${records.selinuxLabel}\0`));
  }
  addAcl(values, "system.posix_acl_access", records.aclAccess, place, warn);
  addAcl(values, "system.posix_acl_default", records.aclDefault, place, warn);
  if (values.has("")) throw tarFault(place, "an xattr has no name");
  for (const name of values.keys()) {
    if (name.includes("\0")) {
      throw tarFault(place, `the xattr ${quoted(name)} has a NUL in its name`);
    }
  }
  return [...values].sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, value]) => ({ name, value }));
}

function addAcl(
  values: Map<ByteString, Uint8Array>,
  name: ByteString,
  text: ByteString | undefined,
  place: TarPlace,
  warn: WarnCallback,
): void {
  if (!text || values.has(name)) return;
  const acl = aclFromText(text);
  switch (acl.kind) {
    case "acl":
      // An access ACL of the three base entries is the mode once more; the kernel keeps none either.
      if (!acl.isMinimal || name !== "system.posix_acl_access") values.set(name, acl.value);
      return;
    case "empty":
      return;
    case "unknownName":
      warn(
        "aclName",
        describePlace(place),
        `its ACL is dropped: it gives ${quoted(acl.name)} by name, with no number`,
      );
      return;
    case "invalid":
      warn("aclInvalid", describePlace(place), `its ACL is dropped: ${acl.why}`);
  }
}

/** The names of LIBARCHIVE.xattr are percent-encoded; a percent sign with no two hex digits stands for itself. */
function decodePercent(name: ByteString): ByteString {
  return name.replace(/%([0-9A-Fa-f]{2})/g, (_, hex) => String.fromCharCode(parseInt(hex, 16)));
}

/** Base64 with or without padding. */
function decodeBase64(key: ByteString, text: ByteString, place: TarPlace): Uint8Array {
  const digits = text.replace(/=+$/, "");
  if (!/^[A-Za-z0-9+/]*$/.test(digits) || digits.length % 4 === 1) {
    throw tarFault(place, `the PAX record ${quoted(`LIBARCHIVE.xattr.${key}`)} is not base64`);
  }
  return Uint8Array.from(Buffer.from(digits, "base64"));
}
