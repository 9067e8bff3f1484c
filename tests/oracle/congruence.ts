/**
 * Where the kernel says that payload lies: every extent of an aligned file has physical = logical (mod grid), and,
 * where the packing isolates them, no other file shares a grid cell with one.
 *
 * @module
 */
import type { ByteString } from "../../lib/bytes/byte_string.ts";
import { byteStringFromText, displayName } from "../../lib/bytes/byte_string.ts";
import { kindOf } from "./directory_view.ts";
import type { MappedExtent } from "./libc.ts";
import {
  closeDescriptor,
  mappedExtents,
  openDirectory,
  openNameAt,
  readNames,
  statusAt,
} from "./libc.ts";

/** The rule that an image was laid out by. */
export interface AlignmentRule {
  readonly gridBytes: number;
  /** Files of at least this size are aligned. */
  readonly thresholdBytes: number;
  /** Whether aligned files have their cells to themselves. */
  readonly isolates: boolean;
}

/** A file and where its content lies. */
export interface MappedFile {
  readonly path: ByteString;
  readonly sizeBytes: number;
  readonly extents: readonly MappedExtent[];
}

/** Throws unless the files of a mounted image lie as the rule asks; returns how many are aligned. */
export function assertGridCongruent(mountPoint: string, rule: AlignmentRule): number {
  const fault = congruenceFault(mapFiles(mountPoint), rule);
  if (typeof fault === "string") throw new Error(fault);
  return fault;
}

/** The first file that breaks the rule, in words; else the number of aligned files. */
export function congruenceFault(
  files: readonly MappedFile[],
  { gridBytes, thresholdBytes, isolates }: AlignmentRule,
): string | number {
  const isAligned = (file: MappedFile) => file.sizeBytes >= thresholdBytes;
  const cellOwners = new Map<number, MappedFile>();
  let alignedCount = 0;
  for (const file of files) {
    if (!isAligned(file)) continue;
    if (file.extents.length > 0) alignedCount++;
    for (const extent of file.extents) {
      if ((extent.diskOffset - extent.fileOffset) % gridBytes !== 0) {
        return `${
          displayName(file.path)
        }: bytes ${extent.fileOffset} on lie at ${extent.diskOffset}` +
          `: not the same modulo the grid of ${gridBytes}`;
      }
      for (const cell of cellsOf(extent, gridBytes)) cellOwners.set(cell, file);
    }
  }
  return (isolates ? sharingFault(files, cellOwners, gridBytes) : undefined) ?? alignedCount;
}

function sharingFault(
  files: readonly MappedFile[],
  cellOwners: ReadonlyMap<number, MappedFile>,
  gridBytes: number,
): string | undefined {
  for (const file of files) {
    for (const extent of file.extents) {
      for (const cell of cellsOf(extent, gridBytes)) {
        const owner = cellOwners.get(cell);
        if (owner === undefined || owner === file) continue;
        return `${displayName(file.path)}: shares grid cell ${cell} with ${
          displayName(owner.path)
        }`;
      }
    }
  }
  return undefined;
}

function* cellsOf({ diskOffset, lengthBytes }: MappedExtent, gridBytes: number): Generator<number> {
  const end = Math.ceil((diskOffset + lengthBytes) / gridBytes);
  for (let cell = Math.floor(diskOffset / gridBytes); cell < end; cell++) yield cell;
}

/** Every inode of a regular file in a directory tree, once. */
export function mapFiles(path: string): MappedFile[] {
  const files: MappedFile[] = [];
  const seen = new Set<string>();
  const visit = (descriptor: number, parent: ByteString): void => {
    for (const name of readNames(descriptor)) {
      const status = statusAt(descriptor, name);
      const kind = kindOf(status);
      if ((kind !== "file" && kind !== "directory") || seen.has(status.identity)) continue;
      seen.add(status.identity);
      const child = openNameAt(descriptor, name, kind === "directory");
      try {
        if (kind === "directory") visit(child, `${parent}/${name}`);
        else {
          const extents = mappedExtents(child);
          files.push({ path: `${parent}/${name}`, sizeBytes: status.sizeBytes, extents });
        }
      } finally {
        closeDescriptor(child);
      }
    }
  };
  const root = openDirectory(byteStringFromText(path));
  try {
    visit(root, "");
  } finally {
    closeDescriptor(root);
  }
  return files;
}
