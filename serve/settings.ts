/**
 * A server's settings, and which options of `bless` its clients may set.
 *
 * @module
 */
import type { OptionRule, SourcePolicy } from "./access.ts";
import type { ProgramWords } from "./program.ts";

export type ListenAddress =
  | { readonly kind: "unix"; readonly path: string }
  | { readonly kind: "tcp"; readonly host: string; readonly port: number };

export interface ServeSettings {
  readonly listen: ListenAddress;
  readonly images: string;
  /** The chunk store that also receives images. */
  readonly store: string | undefined;
  /** The SQLite file, or the address of a PostgreSQL database. */
  readonly state: string;
  /** This host's name in the database. */
  readonly host: string;
  /** How many jobs run at the same time. */
  readonly workers: number;
  /** How many jobs may wait. */
  readonly queueMax: number;
  /** Limit on the resident memory of one job. */
  readonly jobMemoryBytes: number;
  /** How long one run of a job may take. */
  readonly deadlineMs: number;
  /** How much of that may be spent resolving a source; a registry that stays silent this long is asked again later. */
  readonly resolveMs: number;
  /** How much space registry layers may use while no job needs them. */
  readonly blobBytesMax: number;
  /** How long to wait after each network failure; after the last one the job fails. */
  readonly retryDelaysMs: readonly number[];
  /** How long a host may be silent before its jobs are given to another. */
  readonly leaseMs: number;
  /** How long to wait for running jobs when the server is asked to stop. */
  readonly drainMs: number;
  /** How long to remember jobs that have ended. */
  readonly keepJobsMs: number;
  readonly tokens: readonly string[];
  readonly policy: SourcePolicy;
  /** The options that clients may set. */
  readonly optionRules: readonly OptionRule[];
  /** The registry credentials; undefined for the default files written by login tools. */
  readonly authFile: string | undefined;
  readonly plainHttp: boolean;
  readonly tmpdir: string | undefined;
  /** SOURCE_DATE_EPOCH, which affects the bytes of an image. */
  readonly timestamp: number;
  /** The command line that starts this program. */
  readonly program: ProgramWords;
  readonly version: string;
}

/**
 * Options that only determine the image itself. Those that name local files, lift limits or choose destinations are
 * reserved for the server.
 */
export const CLIENT_OPTIONS: readonly string[] = [
  "align-threshold",
  "backups",
  "chunker",
  "compat",
  "grid",
  "ignore-diffid",
  "ignore-zeros",
  "inline-data",
  "inodes",
  "journal",
  "label",
  "metadata-csum",
  "packing",
  "platform",
  "reserved",
  "size",
  "strict",
  "uuid",
  "verity",
];

/**
 * Options for which clients have fewer choices than the command line: a client cannot name a file here, and the server
 * keeps one file per image.
 */
export const CLIENT_CHOICES: Readonly<Record<string, readonly string[]>> = { verity: ["append"] };
