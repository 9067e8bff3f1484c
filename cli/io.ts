/**
 * Everything a command may touch outside of itself, so that it runs in a test as it runs in a shell.
 *
 * @module
 */
import type { Progress } from "../lib/progress.ts";
import type { WarningSummary } from "../lib/warnings.ts";
import type { Style } from "./style.ts";

/** Standard output: results and nothing else. */
export interface ResultStream {
  readonly isTerminal: boolean;
  /** Takes text or bytes; await it, so that a slow reader slows the writer. */
  write(data: string | Uint8Array): void | Promise<void>;
  /** Brings what is held back to the reader. */
  flush(): Promise<void>;
  /** Writes past the buffer, for image bytes; `bytes` may be used again afterwards. */
  writeThrough(bytes: Uint8Array): Promise<void>;
}

/** Standard error: progress, warnings and errors. Written at once; failures to write are not told. */
export interface NoticeStream {
  readonly isTerminal: boolean;
  /** The width of the terminal now; undefined when it is not known. */
  columns(): number | undefined;
  write(text: string): void;
}

/** Standard input, for the arguments that may be `-`. */
export interface InputStream {
  readonly isTerminal: boolean;
  chunks(): AsyncIterable<Uint8Array>;
}

/** What the process gives to the program. */
export interface ProcessIo {
  readonly stdin: InputStream;
  readonly stdout: ResultStream;
  readonly stderr: NoticeStream;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly cwd: string;
  /** Aborted by the first SIGINT, SIGTERM or SIGHUP, with an InterruptedError as its reason. */
  readonly signal: AbortSignal;
  /** Milliseconds of a clock that never goes back; only for reports and progress. */
  now(): number;
}

/** What the program gives to a command, with the options that all commands share already applied. */
export interface CommandIo extends ProcessIo {
  /** `--quiet`: errors only. */
  readonly quiet: boolean;
  /** `--json`: one document on standard output. */
  readonly json: boolean;
  /** Draws on a terminal, or nothing. */
  readonly progress: Progress;
  /** Colours of standard output. */
  readonly style: Style;
  /** Shows warnings on standard error, unless `--quiet` or `--json` (where they belong in the document). */
  warn(warnings: readonly WarningSummary[]): void;
  /** Prints the one JSON document. */
  writeJson(document: unknown): Promise<void>;
}
