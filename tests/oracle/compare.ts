/**
 * Finds the first difference between two views of a tree: paths, types, modes, owners, link counts, which names share
 * an inode, times, symlink targets, device numbers, extended attributes, sizes, and every byte of every file.
 *
 * @module
 */
import type { ByteString } from "../../lib/bytes/byte_string.ts";
import { displayName } from "../../lib/bytes/byte_string.ts";
import type { Xattr } from "../../lib/model/node.ts";
import type { ObservedContent, ObservedName } from "./observed.ts";
import { UnreadableError } from "./observed.ts";

/** Where two trees differ first. */
export interface Difference {
  readonly path: ByteString;
  readonly field: string;
  readonly found: string;
  readonly wanted: string;
}

export interface CompareOptions {
  /** A field of a path that is not compared, because something else than the image made it differ. */
  readonly ignore?: (path: ByteString, field: string) => boolean;
  /** Whether what is no hole must be the same ranges too, not only read the same. */
  readonly sameHoles?: boolean;
}

/** How much was compared: so that a comparison of nothing is never taken for a good one. */
export interface ComparedCounts {
  nameCount: number;
  contentBytes: number;
}

const CHUNK_BYTES = 1024 * 1024;
/** Longest file that ext4 may keep in the inode, where it has no holes whatever its content. */
const INLINE_BYTES_MAX = 256;

/** The first difference of `found` from `wanted`; undefined when there is none. */
export function firstDifference(
  found: Generator<ObservedName>,
  wanted: Generator<ObservedName>,
  options: CompareOptions = {},
  counts: ComparedCounts = { nameCount: 0, contentBytes: 0 },
): Difference | undefined {
  const foundGroups = new Map<unknown, ByteString>();
  const wantedGroups = new Map<unknown, ByteString>();
  try {
    for (;;) {
      const a = found.next();
      const b = wanted.next();
      if (a.done && b.done) return undefined;
      const presence = comparePresence(a.value ?? undefined, b.value ?? undefined);
      if (presence) return presence;
      counts.nameCount++;
      const difference = compareAttributes(a.value!, b.value!, options) ??
        compareGroups(a.value!, b.value!, foundGroups, wantedGroups) ??
        compareContent(a.value!, b.value!, options, counts);
      if (difference) return difference;
    }
  } catch (error) {
    if (!(error instanceof UnreadableError)) throw error;
    return { path: error.path, field: error.field, found: error.message, wanted: "readable" };
  } finally {
    found.return(undefined);
    wanted.return(undefined);
  }
}

/** A difference in one line. */
export function describeDifference({ path, field, found, wanted }: Difference): string {
  return `${displayName(path === "" ? "/" : path)}: ${field}: found ${found}, wanted ${wanted}`;
}

function comparePresence(
  found: ObservedName | undefined,
  wanted: ObservedName | undefined,
): Difference | undefined {
  if (found?.path === wanted?.path) return undefined;
  const missing = found === undefined ||
    (wanted !== undefined && walkKey(wanted.path) < walkKey(found.path));
  return missing
    ? { path: wanted!.path, field: "path", found: "nothing", wanted: wanted!.kind }
    : { path: found.path, field: "path", found: found.kind, wanted: "nothing" };
}

/** Paths in the order of a walk compare as these strings do: no name has a NUL. */
function walkKey(path: ByteString): string {
  return path.replaceAll("/", "\0");
}

function compareAttributes(
  found: ObservedName,
  wanted: ObservedName,
  options: CompareOptions,
): Difference | undefined {
  const shownFound = showFields(found);
  const shownWanted = showFields(wanted);
  for (const field of new Set([...shownFound.keys(), ...shownWanted.keys()])) {
    const difference = {
      path: wanted.path,
      field: displayName(field),
      found: shownFound.get(field) ?? "nothing",
      wanted: shownWanted.get(field) ?? "nothing",
    };
    if (difference.found === difference.wanted) continue;
    if (!options.ignore?.(wanted.path, field)) return difference;
  }
  return undefined;
}

/** Every attribute as text that is equal only where the attribute is. */
function showFields(name: ObservedName): Map<string, string> {
  const fields = new Map<string, string>([
    ["type", name.kind],
    ["mode", `0${name.mode.toString(8)}`],
    ["uid", String(name.uid)],
    ["gid", String(name.gid)],
    ["links", String(name.linkCount)],
    ["mtime", showTime(name)],
    ["size", String(name.sizeBytes)],
    ["target", JSON.stringify(name.target)],
    ["device", `${name.deviceMajor}:${name.deviceMinor}`],
  ]);
  for (const xattr of name.xattrs) {
    fields.set(`xattr ${xattr.name}`, showXattrValue(xattr));
  }
  return fields;
}

function showTime({ mtimeSeconds, mtimeNanoseconds }: ObservedName): string {
  return `${mtimeSeconds} s + ${mtimeNanoseconds} ns`;
}

function showXattrValue({ value }: Xattr): string {
  const hex = [...value].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return `${value.length} bytes ${hex}`;
}

/** Names share an inode in both trees or in neither: each group is known by its first name in walk order. */
function compareGroups(
  found: ObservedName,
  wanted: ObservedName,
  foundGroups: Map<unknown, ByteString>,
  wantedGroups: Map<unknown, ByteString>,
): Difference | undefined {
  const foundFirst = firstNameOf(found, foundGroups);
  const wantedFirst = firstNameOf(wanted, wantedGroups);
  if (foundFirst === wantedFirst) return undefined;
  const show = (first: ByteString) =>
    first === wanted.path ? "an inode of its own" : `the inode of ${displayName(first)}`;
  return {
    path: wanted.path,
    field: "hard links",
    found: show(foundFirst),
    wanted: show(wantedFirst),
  };
}

function firstNameOf(name: ObservedName, groups: Map<unknown, ByteString>): ByteString {
  const first = groups.get(name.identity);
  if (first !== undefined) return first;
  groups.set(name.identity, name.path);
  return name.path;
}

function compareContent(
  found: ObservedName,
  wanted: ObservedName,
  options: CompareOptions,
  counts: ComparedCounts,
): Difference | undefined {
  if (wanted.kind !== "file" || found.kind !== "file") return undefined;
  const contents: ObservedContent[] = [];
  try {
    contents.push(found.open());
    contents.push(wanted.open());
    const [a, b] = contents as [ObservedContent, ObservedContent];
    return compareHoles(wanted, a, b, options) ?? compareBytes(wanted.path, a, b, counts);
  } finally {
    for (const content of contents) content.close();
  }
}

function compareHoles(
  { path, sizeBytes }: ObservedName,
  found: ObservedContent,
  wanted: ObservedContent,
  { sameHoles = false }: CompareOptions,
): Difference | undefined {
  if (!sameHoles || sizeBytes <= INLINE_BYTES_MAX) return undefined;
  const [shownFound, shownWanted] = [found, wanted].map(({ dataRanges }) =>
    mergeRanges(dataRanges).map(([start, end]) => `${start}-${end}`).join(",") || "none"
  ) as [string, string];
  if (shownFound === shownWanted) return undefined;
  return { path, field: "data ranges", found: shownFound, wanted: shownWanted };
}

function compareBytes(
  path: ByteString,
  found: ObservedContent,
  wanted: ObservedContent,
  counts: ComparedCounts,
): Difference | undefined {
  for (const [start, end] of mergeRanges([...found.dataRanges, ...wanted.dataRanges])) {
    for (let at = start; at < end; at += CHUNK_BYTES) {
      const length = Math.min(CHUNK_BYTES, end - at);
      const a = new Uint8Array(length);
      const b = new Uint8Array(length);
      found.readAt(a, at);
      wanted.readAt(b, at);
      counts.contentBytes += length;
      const index = firstUnequal(a, b);
      if (index >= 0) {
        const field = `byte ${at + index}`;
        return { path, field, found: showByte(a[index]!), wanted: showByte(b[index]!) };
      }
    }
  }
  return undefined;
}

/** The union of ranges, ascending; ranges that touch become one. */
function mergeRanges(ranges: readonly (readonly [number, number])[]): [number, number][] {
  const merged: [number, number][] = [];
  for (const [start, end] of [...ranges].sort((a, b) => a[0] - b[0])) {
    const last = merged.at(-1);
    if (last && start <= last[1]) last[1] = Math.max(last[1], end);
    else merged.push([start, end]);
  }
  return merged;
}

function firstUnequal(a: Uint8Array<ArrayBuffer>, b: Uint8Array<ArrayBuffer>): number {
  const wholeWords = a.length - (a.length % 8);
  const wordsA = new BigUint64Array(a.buffer, 0, wholeWords / 8);
  const wordsB = new BigUint64Array(b.buffer, 0, wholeWords / 8);
  let word = 0;
  while (word < wordsA.length && wordsA[word] === wordsB[word]) word++;
  for (let i = word * 8; i < a.length; i++) if (a[i] !== b[i]) return i;
  return -1;
}

function showByte(byte: number): string {
  return `0x${byte.toString(16).padStart(2, "0")}`;
}
