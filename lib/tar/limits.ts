/**
 * What a tar may ask of this program, and how messages name a location in a tar. Length fields allocate nothing
 * field; the limits bound what can add up.
 *
 * @module
 */
import { type ByteString, displayName } from "../bytes/byte_string.ts";
import { InputError, limitError } from "../errors.ts";

/** Limits of one tar. */
export interface TarLimits {
  /** Entries that reach the tree. */
  readonly layerEntries: number;
  /** Headers of any kind, with those that only extend or are skipped. */
  readonly layerHeaders: number;
  /** Data of one extended header (PAX, GNU long name). */
  readonly extendedHeaderBytes: number;
  /** Data of all extended headers together. */
  readonly extendedHeaderTotalBytes: number;
  /**
   * What entries hold in memory beside their names: extended attributes, each counted as 128 bytes more than it is long, and
   * of paths and targets what is longer than 256 bytes.
   */
  readonly attributeBytes: number;
  /** A path, or the target of a hard link. */
  readonly pathBytes: number;
  /** Components of a path. */
  readonly pathDepth: number;
  /** One component of a path. */
  readonly nameBytes: number;
  /** The target of a symbolic link. */
  readonly symlinkTargetBytes: number;
  /** The length of a file, holes included. */
  readonly fileSizeBytes: number;
  /** Segments of one sparse file. */
  readonly sparseSegments: number;
  /** Segments and data runs beyond the first of each file, of all files together: what memory they take. */
  readonly extraPayloadPieces: number;
}

/** The limits used where none are given. */
export const DEFAULT_TAR_LIMITS: TarLimits = {
  // A file takes a kibibyte and a half of memory while its image is made, a directory nearly three.
  layerEntries: 2 ** 20,
  layerHeaders: 2 ** 23,
  // As Go's archive/tar.
  extendedHeaderBytes: 2 ** 20,
  extendedHeaderTotalBytes: 2 ** 29,
  attributeBytes: 2 ** 27,
  pathBytes: 2 ** 16,
  pathDepth: 1024,
  // ext4 has room for 255; a whiteout's name is 4 longer than the name it removes.
  nameBytes: 259,
  // PATH_MAX without its NUL.
  symlinkTargetBytes: 4095,
  // ext4 with blocks of 4096: block numbers of a file have 32 bits, and the last is not used.
  fileSizeBytes: (2 ** 32 - 1) * 4096,
  sparseSegments: 2 ** 18,
  extraPayloadPieces: 2 ** 22,
};

/** Limits that ext4 sets. More would be read, but could not be stored. */
export const FIXED_TAR_LIMITS: ReadonlySet<keyof TarLimits> = new Set([
  "nameBytes",
  "symlinkTargetBytes",
  "fileSizeBytes",
]);

/** A header of a tar, for messages. */
export interface TarLocation {
  /** What the tar is called. */
  readonly tarName: string;
  /** Where the header lies in the uncompressed tar. */
  readonly headerOffset: number;
  /** The entry's path, as far as it is known; empty when not. */
  readonly path: ByteString;
}

/** Longer paths are shortened in messages. */
const SHOWN_PATH_BYTES = 200;

/** The location in words: the tar, the path, the offset. Safe to print. */
export function describeLocation(location: TarLocation): string {
  return `${location.tarName}: ${nameOf(location.path)} at offset ${location.headerOffset}`;
}

/**
 * The error for something wrong at a location: an InputError whose message names the tar, the path and the offset, and whose
 * data has them too. `why` says what was found and what was wanted.
 */
export function tarFault(
  location: TarLocation,
  why: string,
  data: Readonly<Record<string, string | number>> = {},
): InputError {
  return new InputError(describeLocation(location), why, {
    data: { ...locationData(location), ...data },
  });
}

function locationData(
  { tarName, path, headerOffset }: TarLocation,
): Record<string, string | number> {
  return { tar: tarName, path: displayName(path), headerOffset };
}

/** The error for something that goes beyond a limit. */
export function limitFault(
  location: TarLocation,
  what: string,
  limitName: keyof TarLimits,
  found: number,
  limit: number,
): InputError {
  return limitError(
    describeLocation(location),
    `${what} is ${found}, more than the limit of ${limit}`,
    {
      name: limitName,
      expected: limit,
      actual: found,
      data: locationData(location),
      isFixed: FIXED_TAR_LIMITS.has(limitName),
    },
  );
}

/** A byte string for a message: quoted, cut short, safe to print. */
export function quoted(text: ByteString): string {
  return text.length <= SHOWN_PATH_BYTES
    ? `"${displayName(text)}"`
    : `"${displayName(text.slice(0, SHOWN_PATH_BYTES))}..."`;
}

function nameOf(path: ByteString): string {
  return path === "" ? "header" : quoted(path);
}
