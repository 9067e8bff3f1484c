/**
 * Operating system errors, with the same wording under Deno, Bun and Node. Deno omits the code of some errors (EFBIG) and
 * words others differently.
 *
 * @module
 */
import { constants } from "node:os";
import { byteStringFromText, displayName } from "../bytes/byte_string.ts";
import { BlessfsError, IoError } from "../errors.ts";

const codeByNumber = new Map<number, string>();
for (const [code, number] of Object.entries(constants.errno)) {
  if (!codeByNumber.has(number)) codeByNumber.set(number, code);
}

const TEXTS: Readonly<Record<string, string>> = {
  EACCES: "permission denied",
  EDQUOT: "the disk quota is used up",
  EEXIST: "already exists",
  EFBIG: "the file is too large for the file system or for the limit of this process",
  EINVAL: "the operating system refuses these arguments",
  EIO: "the device reports an input/output error",
  EISDIR: "is a directory",
  ELOOP: "too many symbolic links in the path",
  EMFILE: "too many open files",
  ENAMETOOLONG: "the name is too long",
  ENFILE: "too many open files in the system",
  ENODEV: "the device is gone",
  ENOENT: "no such file or directory",
  ENOSPC: "no space left on the device",
  ENOTDIR: "a part of the path is not a directory",
  ENXIO: "the device is gone",
  EPERM: "the operation is not permitted",
  EPIPE: "the reader has closed the pipe",
  EROFS: "the file system is read-only",
  ETXTBSY: "the file is being executed",
};

const HINTS: Readonly<Record<string, string>> = {
  EACCES: "check the permissions of the file and of the directories above it",
  EDQUOT: "free some space, or name an output on another file system",
  EFBIG: "raise the limit (`ulimit -f`), or name an output on another file system",
  EIO: "the storage may be failing: look at the kernel's log",
  EMFILE: "raise the limit on open files (`ulimit -n`)",
  ENOSPC: "free some space, or name an output on another file system",
  EROFS: "name an output on a file system that can be written",
};

/** An operating system error. */
export interface SystemErrorFacts {
  /** The errno name, such as `ENOSPC`. */
  readonly code: string;
  /** The error in plain words. */
  readonly text: string;
  /** What the user can do, if there is general advice. */
  readonly hint: string | undefined;
}

/** The facts of an operating system error; undefined for any other error. */
export function systemErrorFacts(error: unknown): SystemErrorFacts | undefined {
  if (!(error instanceof Error) || error instanceof BlessfsError) return undefined;
  const code = errnoName(error);
  if (code === undefined) return undefined;
  return { code, text: TEXTS[code] ?? error.message, hint: HINTS[code] };
}

/** A local path, made safe for a terminal or a log. */
export function displayPath(path: string): string {
  return displayName(byteStringFromText(path));
}

/**
 * The IoError for a failed call on `path`.
 *
 * @param doing what failed, such as `cannot write at offset 4096`; undefined if the cause is enough
 */
export function ioErrorFrom(path: string, doing: string | undefined, cause: unknown): IoError {
  const facts = systemErrorFacts(cause);
  const reason = facts?.text ?? (cause instanceof Error ? cause.message : String(cause));
  const shown = displayPath(path);
  return new IoError(shown, doing === undefined ? reason : `${doing}: ${reason}`, {
    ...(facts?.hint === undefined ? {} : { hint: facts.hint }),
    data: { path: shown, code: facts?.code ?? null },
    cause,
  });
}

function errnoName(error: Error): string | undefined {
  const code = (error as { code?: unknown }).code;
  if (typeof code === "string" && /^E[A-Z0-9]+$/.test(code)) return code;
  const number = /\(os error (\d+)\)/.exec(error.message)?.[1];
  return number === undefined ? undefined : codeByNumber.get(Number(number));
}
