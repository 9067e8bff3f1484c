/**
 * Decides what a fault means. The walkers of this folder find faults and pass each to a judge: the one for reading
 * throws for what the kernel refuses and counts the rest as warnings; others collect all faults and continue.
 *
 * @module
 */
import { InputError } from "../../errors.ts";
import type { Warnings } from "../../warnings.ts";

/** The kind of structure that has a fault. */
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

/** A location in the image. Blocks are physical, offsets are bytes from the start of the image. */
export interface Location {
  /** The block group. */
  readonly group?: number | undefined;
  /** The inode's number. */
  readonly inode?: number | undefined;
  /** The physical block. */
  readonly block?: number | undefined;
  /** Bytes from the start of the image. */
  readonly offset?: number | undefined;
}

/** Every code of a finding, with its meaning. A test compares docs/ERRORS.md with it. */
export const FINDING_CODES = {
  badChecksum: "A checksum does not match the data that it covers.",
  badFormat: "A structure cannot be decoded.",
  badValue: "A field does not have the value that the rest of the image requires.",
  notFound: "Something that is referred to or needed does not exist.",
  outOfBounds: "A block, an inode or a range is past the end of its container.",
  usedTwice: "A block has two owners, or two pointers lead to the same place.",
  unexpected: "Something exists that must not, or is in an invalid state.",
} as const;

/** The kind of a fault. */
export type FindingCode = keyof typeof FINDING_CODES;

/** One fault. */
export interface Finding extends Location {
  /** The kind of fault. */
  readonly code: FindingCode;
  /** The faulty structure. */
  readonly structure: Structure;
  /** What is wrong, in a few words. */
  readonly problem: string;
  /** The value found. */
  readonly found?: string | number | undefined;
  /** The value wanted. */
  readonly wanted?: string | number | undefined;
  /** `note`: worth knowing, but neither e2fsck nor the kernel objects. Undefined for damage. */
  readonly severity?: "note" | undefined;
}

/** Details of a fault besides its problem. */
export interface FaultDetails extends Pick<Finding, "found" | "wanted" | "severity"> {
  /** The kind of fault; by default derived from the values and the problem. */
  readonly code?: FindingCode | undefined;
  /** Whether the kernel tolerates it. */
  readonly isReadable?: boolean | undefined;
  /** In a warning, what happened to the tolerated fault; by default "it was read anyway". */
  readonly outcome?: string | undefined;
}

/** A structure's name and location, for messages: `extent tree (inode 12, block 99)`. */
export function describeLocation(structure: Structure, location: Location): string {
  const { group, inode, block, offset } = location;
  const isInode = structure === "inode" && inode !== undefined;
  const parts = [
    ...group === undefined ? [] : [`group ${group}`],
    ...inode === undefined || isInode ? [] : [`inode ${inode}`],
    ...block === undefined ? [] : [`block ${block}`],
    ...offset === undefined ? [] : [`byte ${offset}`],
  ];
  const name = isInode ? `inode ${inode}` : structure;
  return parts.length === 0 ? name : `${name} (${parts.join(", ")})`;
}

/** The problem in one line: `eh_depth: found 3, wanted 1`. */
export function describeProblem({ problem, found, wanted }: Finding): string {
  // Messages of decoders already contain their numbers.
  const isNew = (value: string | number | undefined) =>
    value !== undefined && !problem.includes(`${value}`);
  const values = [
    ...isNew(found) ? [`found ${found}`] : [],
    ...isNew(wanted) ? [`wanted ${wanted}`] : [],
  ];
  return values.length === 0 ? problem : `${problem}: ${values.join(", ")}`;
}

/** Codes of common problems, by their wording; the values decide the others. */
const CODES_BY_WORDS: readonly (readonly [RegExp, FindingCode])[] = [
  [/past the end|behind the bits/, "outOfBounds"],
  [/two owners|^second /, "usedTwice"],
  [/^no |^hole |has no |cannot be read|does not lead/, "notFound"],
];

function codeOf(problem: string, { wanted }: Pick<Finding, "wanted">): FindingCode {
  for (const [words, code] of CODES_BY_WORDS) if (words.test(problem)) return code;
  return wanted === undefined ? "unexpected" : "badValue";
}

/** Receives faults. */
export abstract class Judge {
  /** Decides on one fault; the walker continues if this returns. */
  protected abstract judge(finding: Finding, isReadable: boolean, outcome: string): void;

  /** Reports a fault. */
  report(
    structure: Structure,
    location: Location,
    problem: string,
    details: FaultDetails = {},
  ): void {
    const { isReadable = false, outcome = "it was read anyway", code, ...values } = details;
    const kind = code ?? codeOf(problem, values);
    this.judge({ code: kind, structure, ...location, problem, ...values }, isReadable, outcome);
  }

  /** Reports a number unless it has the wanted value; returns whether it has. */
  expect(
    structure: Structure,
    location: Location,
    problem: string,
    found: number,
    wanted: number,
    details: FaultDetails = {},
  ): boolean {
    if (found === wanted) return true;
    this.report(structure, location, problem, { ...details, found, wanted });
    return false;
  }

  /** Same as expect() for a checksum, which is shown in hexadecimal. */
  expectChecksum(
    structure: Structure,
    location: Location,
    found: number,
    wanted: number,
    details: Pick<FaultDetails, "isReadable"> = {},
  ): boolean {
    if (found === wanted) return true;
    const values = { found: hex(found), wanted: hex(wanted) };
    this.report(structure, location, "checksum", { ...details, code: "badChecksum", ...values });
    return false;
  }

  /** Runs a decoder; reports its errors about the input and then returns undefined. */
  attempt<T>(structure: Structure, location: Location, decode: () => T): T | undefined {
    let fault: InputError;
    try {
      return decode();
    } catch (error) {
      fault = inputError(error);
    }
    // Outside the try, since a judge may throw, too.
    this.reportError(structure, location, fault);
    return undefined;
  }

  /** Reports a decoder's error about the input. */
  reportError(
    structure: Structure,
    location: Location,
    fault: InputError,
    details: Pick<FaultDetails, "isReadable" | "outcome"> = {},
  ): void {
    const numberIn = (key: string) => {
      const value = fault.data[key];
      return typeof value === "number" ? value : undefined;
    };
    const [found, wanted] = [numberIn("actual"), numberIn("expected")];
    if (fault.data["checksum"] === true && found !== undefined && wanted !== undefined) {
      this.expectChecksum(structure, location, found, wanted, details);
    } else {
      const values = {
        ...found === undefined ? {} : { found },
        ...wanted === undefined ? {} : { wanted },
      };
      this.report(structure, location, fault.why, { code: "badFormat", ...values, ...details });
    }
  }
}

/** Counts what the kernel tolerates as `damagedMetadata`; throws an InputError for the rest. */
export class ReadingJudge extends Judge {
  readonly #warnings: Warnings;

  constructor(warnings: Warnings) {
    super();
    this.#warnings = warnings;
  }

  protected override judge(finding: Finding, isReadable: boolean, outcome: string): void {
    if (finding.severity === "note") return;
    if (!isReadable) throw errorOf(finding, "");
    const what = describeLocation(finding.structure, finding);
    this.#warnings.add("damagedMetadata", what, `${describeProblem(finding)}; ${outcome}`);
  }
}

/** Throws an InputError for every fault except notes: for changing an image in place. */
export class StrictJudge extends Judge {
  readonly #prefix: string;

  /** @param prefix what precedes the structure in errors, such as the name of the image */
  constructor(prefix: string) {
    super();
    this.#prefix = prefix;
  }

  protected override judge(finding: Finding): void {
    if (finding.severity !== "note") throw errorOf(finding, this.#prefix);
  }
}

/** Collects each distinct message and continues: for inspecting something damaged. */
export class MessageJudge extends Judge {
  readonly #messages = new Set<string>();

  get messages(): readonly string[] {
    return [...this.#messages];
  }

  add(error: InputError): void {
    this.#messages.add(error.message);
  }

  /** The result of `work`; undefined if it throws an InputError, which is kept. Rethrows other errors. */
  look<T>(work: () => T): T | undefined {
    try {
      return work();
    } catch (error) {
      this.add(inputError(error));
      return undefined;
    }
  }

  protected override judge(finding: Finding): void {
    this.add(errorOf(finding, ""));
  }
}

/** Collects findings; beyond a limit they are only counted. */
export class Findings extends Judge {
  readonly #limit: number;
  readonly #kept: Finding[] = [];
  #total = 0;
  #notes = 0;

  /** @param limit how many are kept */
  constructor(limit: number) {
    super();
    this.#limit = limit;
  }

  get total(): number {
    return this.#total;
  }

  get notes(): number {
    return this.#notes;
  }

  get kept(): readonly Finding[] {
    return this.#kept;
  }

  protected override judge(finding: Finding): void {
    this.#total++;
    if (finding.severity === "note") this.#notes++;
    if (this.#kept.length < this.#limit) this.#kept.push(finding);
  }
}

/** The structure name passed to decoders: a finding's location is more precise. */
export const HERE = "here";

/** A number as findings show flags and checksums. */
export function hex(value: number): string {
  return `0x${(value >>> 0).toString(16)}`;
}

/** The mode of an inode as findings show it. */
export function modeText(mode: number): string {
  return `mode 0${mode.toString(8)}`;
}

/** A number as findings show it: text if a JavaScript number cannot hold it exactly. */
export function exactNumber(value: bigint): number | string {
  return value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : `${value}`;
}

function errorOf(finding: Finding, prefix: string): InputError {
  const { structure, found, wanted, inode, block, offset, group } = finding;
  const facts = { group, inode, block, offset, actual: found, expected: wanted };
  const known = Object.entries(facts).flatMap(([key, value]) =>
    value === undefined ? [] : [[key, value] as const]
  );
  return new InputError(
    `${prefix}${describeLocation(structure, finding)}`,
    describeProblem(finding),
    {
      data: Object.fromEntries(known),
    },
  );
}

/** Returns an error if it is about the input; rethrows any other. */
export function inputError(error: unknown): InputError {
  if (error instanceof InputError) return error;
  throw error;
}

/**
 * Prepares an error from reading an image for rethrowing: an InputError that does not begin with the name of the image
 * gets it in front. Any other error is returned unchanged.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { InputError } from "../../errors.ts";
 * import { faultInImage } from "./judge.ts";
 * const fault = faultInImage("a.ext4", new InputError("inode 7", "its checksum is wrong"));
 * assertEquals((fault as Error).message, "a.ext4: inode 7: its checksum is wrong");
 * assertEquals(faultInImage("a.ext4", fault), fault);
 * ```
 */
export function faultInImage(imageName: string, error: unknown): unknown {
  if (!(error instanceof InputError) || error.what === imageName) return error;
  const { code, message, hint, remedies, data, cause } = error;
  return new InputError(imageName, message, {
    code,
    ...hint === undefined ? {} : { hint },
    remedies,
    data,
    cause: cause ?? error,
  });
}
