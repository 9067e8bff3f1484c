/**
 * The settings of a server, and which options of `bless` its clients may set.
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
  /** The chunk store that images go to, too. */
  readonly store: string | undefined;
  /** The file of the state, or the address of a PostgreSQL database. */
  readonly state: string;
  /** The name that this host has in the state. */
  readonly host: string;
  /** Jobs that run at the same time. */
  readonly workers: number;
  /** Jobs that may wait. */
  readonly queueMax: number;
  /** Resident memory of one job. */
  readonly jobMemoryBytes: number;
  /** How long one run of a job may take. */
  readonly deadlineMs: number;
  /** How much of that resolving a source may take: a registry that is silent so long is asked again later. */
  readonly resolveMs: number;
  /** What the layers of registries may take up while no job needs them. */
  readonly blobBytesMax: number;
  /** How long to wait after each failure of the network; after the last one the job fails. */
  readonly retryDelaysMs: readonly number[];
  /** How long a host may be silent before its jobs are given to another. */
  readonly leaseMs: number;
  /** How long running jobs are waited for when the server is asked to stop. */
  readonly drainMs: number;
  /** How long jobs that have ended are remembered. */
  readonly keepJobsMs: number;
  readonly tokens: readonly string[];
  readonly policy: SourcePolicy;
  /** The options that clients may set. */
  readonly optionRules: readonly OptionRule[];
  /** The registry's credentials; undefined for the files that logging in makes. */
  readonly authFile: string | undefined;
  readonly plainHttp: boolean;
  readonly tmpdir: string | undefined;
  /** SOURCE_DATE_EPOCH, which is part of what an image is. */
  readonly timestamp: number;
  /** How this program is started. */
  readonly program: ProgramWords;
  readonly version: string;
}

/**
 * Options that only decide what the image is. Those that name files of this machine, lift limits or say where things go are
 * the server's own.
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

/** Where clients have fewer choices than the command line: a client names no file here, and the server keeps one an image. */
export const CLIENT_CHOICES: Readonly<Record<string, readonly string[]>> = { verity: ["append"] };
