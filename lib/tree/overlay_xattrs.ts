/**
 * Extended attributes as a lower directory of overlayfs must have them (Linux, Documentation/filesystems/overlayfs.rst,
 * "Nesting overlayfs mounts").
 *
 * @module
 */
import { type ByteString, displayName } from "../bytes/byte_string.ts";
import type { NodeAttributes, Xattr } from "../model/node.ts";
import type { Warnings } from "../warnings.ts";
import { sortXattrs } from "./nodes.ts";

/** What overlayfs keeps for itself, and hides, when it is mounted without `userxattr`. */
const PRIVATE_PREFIX = "trusted.overlay.";

/** Under this prefix it shows what lies there as `trusted.overlay.`, from Linux 6.7 on; before, it hides it. */
const ESCAPED_PREFIX = "trusted.overlay.overlay.";

/** XATTR_NAME_MAX of the kernel. */
const MAX_XATTR_NAME_SIZE_BYTES = 255;

const OPAQUE: Xattr = { name: "trusted.overlay.opaque", value: new Uint8Array([0x79]) };

/**
 * Attributes of the same file in a layer image: `trusted.overlay.X` becomes `trusted.overlay.overlay.X`, so that an
 * image cannot redirect, hide or graft anything with it. `user.overlay.X` stays: without `userxattr` it is an ordinary
 * attribute, and overlayfs would show an escaped one escaped.
 *
 * @param isOpaque adds the mark that hides the directories of that name in lower layers
 * @returns the given object when nothing changes
 */
export function overlayAttributes(
  attributes: NodeAttributes,
  isOpaque: boolean,
  path: () => string,
  warnings: Warnings,
): NodeAttributes {
  if (!isOpaque && !hasPrivateXattrs(attributes)) return attributes;
  const xattrs: Xattr[] = isOpaque ? [OPAQUE] : [];
  for (const { name, value } of attributes.xattrs) {
    const escaped = escapeXattrName(name);
    if (escaped.length <= MAX_XATTR_NAME_SIZE_BYTES) xattrs.push({ name: escaped, value });
    else {
      warnings.add(
        "unsupportedXattr",
        path(),
        `xattr ${displayName(name)} dropped: its escaped name would be longer than ` +
          `${MAX_XATTR_NAME_SIZE_BYTES} bytes`,
      );
    }
  }
  return { ...attributes, xattrs: sortXattrs(xattrs) };
}

/** Whether a layer image cannot have the attributes as they are. */
export function hasPrivateXattrs(attributes: NodeAttributes): boolean {
  return attributes.xattrs.some(({ name }) => name.startsWith(PRIVATE_PREFIX));
}

function escapeXattrName(name: ByteString): ByteString {
  if (!name.startsWith(PRIVATE_PREFIX)) return name;
  return ESCAPED_PREFIX + name.slice(PRIVATE_PREFIX.length);
}
