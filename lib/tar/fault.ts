/**
 * How messages name a place in a tar.
 *
 * @module
 */
import type { ByteString } from "../bytes/byte_string.ts";
import { displayName } from "../bytes/byte_string.ts";
import { InputError, limitError } from "../errors.ts";
import { FIXED_TAR_LIMITS, type TarLimits } from "./limits.ts";

/** A header of a tar, for messages. */
export interface TarPlace {
  /** What the tar is called. */
  readonly tarName: string;
  /** Where the header lies in the uncompressed tar. */
  readonly headerOffset: number;
  /** The entry's path, as far as it is known; empty when not. */
  readonly path: ByteString;
}

/** Longer paths are shortened in messages. */
const SHOWN_PATH_BYTES = 200;

/** The place in words: the tar, the path, the offset. Safe to print. */
export function describePlace(place: TarPlace): string {
  return `${place.tarName}: ${nameOf(place.path)} at offset ${place.headerOffset}`;
}

/**
 * The error for something wrong at a place: an InputError whose message names the tar, the path and the offset, and whose
 * data has them too. `why` says what was found and what was wanted.
 */
export function tarFault(
  place: TarPlace,
  why: string,
  data: Readonly<Record<string, string | number>> = {},
): InputError {
  return new InputError(describePlace(place), why, {
    data: { ...placeData(place), ...data },
  });
}

function placeData({ tarName, path, headerOffset }: TarPlace): Record<string, string | number> {
  return { tar: tarName, path: displayName(path), headerOffset };
}

/** The error for something that goes beyond a limit. */
export function limitFault(
  place: TarPlace,
  what: string,
  limitName: keyof TarLimits,
  found: number,
  limit: number,
): InputError {
  return limitError(
    describePlace(place),
    `${what} is ${found}, more than the limit of ${limit}`,
    {
      name: limitName,
      expected: limit,
      actual: found,
      data: placeData(place),
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
