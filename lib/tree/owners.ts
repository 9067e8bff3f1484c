/**
 * Maps owners and groups to other ids, as user namespaces need (user_namespaces(7), "User and group ID mappings").
 *
 * @module
 */
import { InputError, optionError } from "../errors.ts";
import { ACL_TAG } from "../ext4/format/acl.ts";
import type { Xattr } from "../model/node.ts";
import type { TarEntry } from "../tar/entry.ts";
import { describeEntry } from "./layer.ts";
import { isMarkerPath } from "./whiteouts.ts";

/** A range of ids and where it maps to. */
export interface IdRange {
  /** The first id in the image. */
  readonly from: number;
  /** The first id it maps to. */
  readonly to: number;
  /** The number of consecutive ids. */
  readonly count: number;
}

/** Maps for owners and groups; ids without a map are unchanged. */
export interface IdMaps {
  /** For owners. */
  readonly uidMap?: readonly IdRange[] | undefined;
  /** For groups. */
  readonly gidMap?: readonly IdRange[] | undefined;
}

/** An owner and a group. */
export interface NodeOwner {
  /** The owner's id. */
  readonly uid: number;
  /** The group's id. */
  readonly gid: number;
}

/** The highest id means "no id" (chown(2)). */
const ID_COUNT = 2 ** 32 - 1;

/**
 * Checks that the ids in the maps are valid and that ranges do not overlap on either side.
 *
 * @throws {UsageError} if a map is invalid
 */
export function checkIdMaps(maps: IdMaps): void {
  for (const option of ["uidMap", "gidMap"] as const) {
    const ranges = maps[option] ?? [];
    for (const range of ranges) {
      const { from, to, count } = range;
      const isRange = [from, to, count].every((value) =>
        Number.isSafeInteger(value) && value >= 0
      ) &&
        count > 0 && Math.max(from, to) + count <= ID_COUNT;
      if (!isRange) throw optionError(option, `${rangeText(range)} is not a range of ids`);
    }
    for (const side of ["from", "to"] as const) {
      const sorted = [...ranges].sort((a, b) => a[side] - b[side]);
      const at = sorted.findIndex((range, i) => {
        const next = sorted[i + 1];
        return next !== undefined && range[side] + range.count > next[side];
      });
      if (at < 0) continue;
      const [one, other] = [sorted[at]!, sorted[at + 1]!].map(rangeText);
      const why = side === "from" ? "map the same ids" : "lead to the same ids";
      throw optionError(option, `the ranges ${one} and ${other} ${why}`);
    }
  }
}

/** Formats a range as `FROM:TO:COUNT`. */
export function rangeText({ from, to, count }: IdRange): string {
  return `${from}:${to}:${count}`;
}

/** Whether any id is mapped. */
export function hasIdMaps({ uidMap = [], gidMap = [] }: IdMaps): boolean {
  return uidMap.length + gidMap.length > 0;
}

/** The mapper for the maps; undefined if they map nothing. */
export function ownerMapper(maps: IdMaps): OwnerMapper | undefined {
  return hasIdMaps(maps) ? new OwnerMapper(maps) : undefined;
}

/** Formats maps as lines for digests: equal maps produce equal lines. */
export function idMapLines({ uidMap = [], gidMap = [] }: IdMaps): string[] {
  const linesOf = (name: string, ranges: readonly IdRange[]) =>
    [...ranges].sort((a, b) => a.from - b.from).map((range) => `${name} ${rangeText(range)}`);
  return [...linesOf("uid-map", uidMap), ...linesOf("gid-map", gidMap)];
}

const CAPABILITY = "security.capability";
const ACLS: ReadonlySet<string> = new Set(["system.posix_acl_access", "system.posix_acl_default"]);
/** The formats of file capabilities without and with a root id (include/uapi/linux/capability.h). */
const CAP_REVISION_2 = 0x02000000;
const CAP_REVISION_3 = 0x03000000;
const CAP_REVISION_MASK = 0xff000000;
const CAP_SIZE_2_BYTES = 20;
const CAP_SIZE_3_BYTES = 24;

/**
 * Maps the ids in entries: owners, groups, ids in ACLs, and the root id of file capabilities.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { OwnerMapper } from "./owners.ts";
 * const mapper = new OwnerMapper({ uidMap: [{ from: 0, to: 100_000, count: 65_536 }] });
 * assertEquals(mapper.owner({ uid: 7, gid: 8 }, "a file"), { uid: 100_007, gid: 8 });
 * ```
 */
export class OwnerMapper {
  readonly #maps: IdMaps;

  constructor(maps: IdMaps) {
    this.#maps = maps;
  }

  /** The owner of directories that no entry describes. */
  get implied(): NodeOwner {
    return this.owner({ uid: 0, gid: 0 }, "/");
  }

  /** @throws {InputError} naming `what`, if an id is not in any range */
  owner({ uid, gid }: NodeOwner, what: string): NodeOwner {
    return { uid: this.#map("uid", uid, () => what), gid: this.#map("gid", gid, () => what) };
  }

  /**
   * Maps all entries of a layer. Entries that do not create files, such as whiteouts, are unchanged.
   *
   * @param layerName for errors
   * @throws {InputError} if an id is not in any range; the message names the file and the id
   */
  entries(
    entries: readonly TarEntry[],
    layerName: string,
    whiteouts: boolean,
  ): readonly TarEntry[] {
    return entries.map((entry) => {
      const isMarker = whiteouts && isMarkerPath(entry.path);
      if (entry.kind === "hardlink" || isMarker) return entry;
      const what = () => describeEntry(entry, layerName);
      return {
        ...entry,
        uid: this.#map("uid", entry.uid, what),
        gid: this.#map("gid", entry.gid, what),
        xattrs: entry.xattrs.length === 0
          ? entry.xattrs
          : entry.xattrs.map((xattr) => this.#xattr(xattr, what)),
      };
    });
  }

  #map(kind: "uid" | "gid", id: number, what: () => string): number {
    const ranges = this.#maps[`${kind}Map`] ?? [];
    if (ranges.length === 0) return id;
    const range = ranges.find(({ from, count }) => id >= from && id - from < count);
    if (range !== undefined) return range.to + (id - range.from);
    throw new InputError(what(), `its ${kind} ${id} is in no range of the map`, {
      code: "unsupported",
      remedies: [{ option: `${kind}Map`, change: "set", to: "map it" }],
      data: { [kind]: id },
    });
  }

  #xattr(xattr: Xattr, what: () => string): Xattr {
    if (xattr.name === CAPABILITY) return { ...xattr, value: this.#capability(xattr.value, what) };
    if (ACLS.has(xattr.name)) return { ...xattr, value: this.#acl(xattr.value, what) };
    return xattr;
  }

  /** Maps an ACL in the system call format; the image writer reports invalid ones. */
  #acl(value: Uint8Array, what: () => string): Uint8Array {
    const mapped = value.slice();
    const view = new DataView(mapped.buffer);
    for (let at = 4; at + 8 <= mapped.length; at += 8) {
      const tag = view.getUint16(at, true);
      const kind = tag === ACL_TAG.USER ? "uid" : tag === ACL_TAG.GROUP ? "gid" : undefined;
      if (kind === undefined) continue;
      view.setUint32(at + 4, this.#map(kind, view.getUint32(at + 4, true), what), true);
    }
    return mapped;
  }

  /**
   * Maps the root id of capabilities, in the form the kernel stores when that root sets them (cap_convert_nscap in
   * security/commoncap.c).
   */
  #capability(value: Uint8Array, what: () => string): Uint8Array {
    if (value.length < 4) return value;
    const magic = new DataView(value.buffer, value.byteOffset).getUint32(0, true);
    const revision = (magic & CAP_REVISION_MASK) >>> 0;
    const isVersion3 = revision === CAP_REVISION_3 && value.length === CAP_SIZE_3_BYTES;
    if (!isVersion3 && (revision !== CAP_REVISION_2 || value.length !== CAP_SIZE_2_BYTES)) {
      return value;
    }
    const root = isVersion3
      ? new DataView(value.buffer, value.byteOffset).getUint32(CAP_SIZE_2_BYTES, true)
      : 0;
    const mappedRoot = this.#map("uid", root, what);
    if (mappedRoot === root) return value;
    const mapped = new Uint8Array(CAP_SIZE_3_BYTES);
    mapped.set(value);
    const view = new DataView(mapped.buffer);
    view.setUint32(0, ((magic & ~CAP_REVISION_MASK) | CAP_REVISION_3) >>> 0, true);
    view.setUint32(CAP_SIZE_2_BYTES, mappedRoot, true);
    return mapped;
  }
}
