/**
 * What verifying an image finds: one record a fault, in the order of the passes, with a bound on how many are kept.
 *
 * @module
 */
import { InputError } from "../../../errors.ts";

/** The kind of structure that a fault is in. */
export type Structure =
  | "image"
  | "superblock"
  | "backup superblock"
  | "group descriptor"
  | "backup group descriptor"
  | "block bitmap"
  | "inode bitmap"
  | "inode table"
  | "inode"
  | "extent tree"
  | "block map"
  | "directory"
  | "directory index"
  | "extended attributes"
  | "attribute block"
  | "attribute value"
  | "resize inode"
  | "journal"
  | "orphan list"
  | "orphan file"
  | "mmp block"
  | "quota file"
  | "layout";

/** Where in the image. Blocks are physical, offsets are bytes from the start of the image. */
export interface Place {
  /** The block group. */
  readonly group?: number;
  /** The inode's number. */
  readonly inode?: number;
  /** The physical block. */
  readonly block?: number;
  /** Bytes from the start of the image. */
  readonly offset?: number;
}

/** One fault. */
export interface Finding extends Place {
  /** What is faulty. */
  readonly structure: Structure;
  /** What is wrong, in a few words. */
  readonly problem: string;
  /** What is there. */
  readonly found?: string | number;
  /** What should be. */
  readonly wanted?: string | number;
}

/** Collects findings; past the bound they are only counted. */
export class Findings {
  readonly #limit: number;
  readonly #kept: Finding[] = [];
  #total = 0;

  /** @param limit how many are kept */
  constructor(limit: number) {
    this.#limit = limit;
  }

  get total(): number {
    return this.#total;
  }

  get kept(): readonly Finding[] {
    return this.#kept;
  }

  add(
    structure: Structure,
    place: Place,
    problem: string,
    values: { readonly found?: string | number; readonly wanted?: string | number } = {},
  ): void {
    this.#total++;
    if (this.#kept.length < this.#limit) {
      this.#kept.push({ structure, ...place, problem, ...values });
    }
  }

  /** Adds a finding when a number is not what it must be; says whether it was. */
  expect(
    structure: Structure,
    place: Place,
    problem: string,
    found: number,
    wanted: number,
  ): boolean {
    if (found === wanted) return true;
    this.add(structure, place, problem, { found, wanted });
    return false;
  }

  /** The same for a checksum, which is shown in hexadecimal. */
  expectChecksum(structure: Structure, place: Place, found: number, wanted: number): boolean {
    if (found === wanted) return true;
    this.add(structure, place, "checksum", { found: hex(found), wanted: hex(wanted) });
    return false;
  }

  /** Runs a strict decoder; what it throws about its input becomes a finding, and the answer undefined. */
  attempt<T>(structure: Structure, place: Place, decode: () => T): T | undefined {
    try {
      return decode();
    } catch (error) {
      if (!(error instanceof InputError)) throw error;
      this.add(structure, place, reasonOf(error), valuesOf(error));
      return undefined;
    }
  }
}

/** What decoders are given as the name of a structure: the place of a finding says it better. */
export const HERE = "here";

/** A number as findings show flags and checksums. */
export function hex(value: number): string {
  return `0x${value.toString(16)}`;
}

/** The message of a decoder without the name of the structure. */
function reasonOf(error: InputError): string {
  const colon = error.message.indexOf(": ");
  return error.message.slice(colon + 2);
}

function valuesOf(error: InputError): { found?: number; wanted?: number } {
  const { actual, expected } = error.data;
  return {
    ...typeof actual === "number" ? { found: actual } : {},
    ...typeof expected === "number" ? { wanted: expected } : {},
  };
}
