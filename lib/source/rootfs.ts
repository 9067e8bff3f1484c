/**
 * `rootfs:DIR`: a directory tree. It is read with C library calls if they are available, otherwise with tar(1): the
 * runtimes cannot read extended attributes, and some mangle names that are not UTF-8. The output of tar(1) is a pure
 * function of a tree without sparse files: sorted, without access and change times.
 *
 * @module
 */
import { spawn } from "node:child_process";
import { isAbsolute } from "node:path";
import { cwd, env } from "node:process";
import { type ErrorDetails, InputError, invariant, IoError, throwIfAborted } from "../errors.ts";
import { missingInput } from "../io/random_reader.ts";
import type { Warnings } from "../warnings.ts";
import { displayText } from "./json.ts";
import { CHANGED_HINT } from "./directory_files.ts";
import { DirectoryTar } from "./directory_tar.ts";
import { statIfThere } from "../io/paths.ts";
import { systemCalls } from "../io/system_calls.ts";
import { treeImage } from "./tree_image.ts";
import type { OpenedImage, ResolvedOptions, StoredOutput } from "./types.ts";

const TAR_OPTIONS: readonly string[] = [
  "--create",
  "--file=-",
  "--format=posix",
  // The default name of a PAX header contains the process id.
  "--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime",
  // This includes ACLs, as numbers. --acls would add their text, with names of this machine's users, and take half as long
  // again.
  // long again.
  "--xattrs",
  "--xattrs-include=*",
  "--sparse",
  "--numeric-owner",
  "--sort=name",
];
/** How much of a program's output is kept from the beginning and from the end. */
const KEPT_CHARACTERS = 16 << 10;

/** Opens a directory tree as an image of one layer. */
export function openRootfsDirectory(
  source: string,
  directory: string,
  options: ResolvedOptions,
): OpenedImage {
  const name = displayText(directory);
  const stats = statIfThere(directory);
  if (!stats) throw missingInput(directory, "a directory tree");
  if (!stats.isDirectory()) {
    throw new InputError(name, "is not a directory: wanted a directory tree", {
      code: "wrongKind",
      hint: "a tar is written tar:FILE",
    });
  }
  const calls = systemCalls();
  // Not with resolve(), which resolves `..` after a symbolic link to the directory that contains the link.
  const absolute = isAbsolute(directory) ? directory : `${cwd()}/${directory}`;
  return treeImage({
    source,
    kind: "rootfs",
    name,
    stored: {
      ...tarOfHost({ directory, member: ".", name }, options.warnings),
      inPlace: calls &&
        (() => new DirectoryTar(absolute, name, calls, options)),
    },
    sizeBytes: undefined,
    close: () => {},
  });
}

/** What tar(1) reads. */
export interface HostMember {
  readonly directory: string;
  /** The path in the directory: `.` for all of it, or `./NAME`. */
  readonly member: string;
  /** The name in messages; safe to print. */
  readonly name: string;
}

/** A tar of local files. */
export function tarOfHost(host: HostMember, warnings: Warnings): StoredOutput {
  return {
    kind: "output",
    writeTo: (descriptor, signal) => writeTarOf(host, descriptor, signal, warnings),
  };
}

/** Lets tar write to the file itself: piping and copying its output costs as much as the reading. */
async function writeTarOf(
  { directory, member, name }: HostMember,
  descriptor: number,
  signal: AbortSignal | undefined,
  warnings: Warnings,
): Promise<void> {
  const outcome = await runProgram("tar", [...TAR_OPTIONS, `--directory=${directory}`, member], {
    env: { ...env, LC_ALL: "C", TAR_OPTIONS: "" },
    stdout: descriptor,
    signal,
  });
  if (outcome instanceof Error) {
    throw new IoError(name, `tar cannot be run: ${outcome.message}`, {
      code: "missingProgram",
      hint: "directory trees are read through GNU tar: install it",
      cause: outcome,
    });
  }
  if (outcome.exitCode !== 0) throw tarFailed(name, outcome);
  warnOf(outcome.complaints, name, warnings);
}

/** How a program ended, and its standard error: the beginning and end if it is long. */
export interface ProgramOutcome {
  readonly exitCode: number;
  readonly complaints: string;
}

/**
 * Runs a program to completion.
 *
 * @param stdout a descriptor; undefined discards the output
 * @returns an error if it cannot be started
 * @throws {InterruptedError} if the signal is aborted, which kills the program
 */
export async function runProgram(
  program: string,
  args: readonly string[],
  { env, stdout, signal }: {
    readonly env: Readonly<Record<string, string | undefined>>;
    readonly stdout?: number;
    readonly signal: AbortSignal | undefined;
  },
): Promise<ProgramOutcome | NodeJS.ErrnoException> {
  throwIfAborted(signal);
  const child = spawn(program, args, { env, stdio: ["ignore", stdout ?? "ignore", "pipe"] });
  const { stderr } = child;
  invariant(stderr !== null, "what the program says is piped");
  let complaints = "";
  stderr.setEncoding("utf8");
  stderr.on("data", (text: string) => {
    complaints += text;
    if (complaints.length <= 2 * KEPT_CHARACTERS) return;
    complaints = complaints.slice(0, KEPT_CHARACTERS) + complaints.slice(-KEPT_CHARACTERS);
  });
  const ended = new Promise<number | NodeJS.ErrnoException>((resolve) => {
    child.on("error", resolve);
    child.on("close", (code) => resolve(code ?? -1));
  });
  const onAbort = () => child.kill("SIGKILL");
  signal?.addEventListener("abort", onAbort, { once: true });
  const outcome = await ended;
  signal?.removeEventListener("abort", onAbort);
  throwIfAborted(signal);
  return typeof outcome === "number" ? { exitCode: outcome, complaints } : outcome;
}

/** tar reports that it skips sockets, but does not treat that as a failure. */
function warnOf(complaints: string, name: string, warnings: Warnings): void {
  for (const line of complaints.split("\n")) {
    if (line === "") continue;
    const kind = line.endsWith("socket ignored") ? "skippedSocket" : "tarWarning";
    warnings.add(kind, name, displayText(line.replace(/^(?:\S*\/)?tar: /, "")));
  }
}

function tarFailed(name: string, { exitCode, complaints }: ProgramOutcome): IoError {
  const shown = complaints.trim().split("\n").map(displayText).slice(0, 3).join("; ");
  return new IoError(name, `tar failed with exit code ${exitCode}: ${shown}`, {
    ...remedyOf(exitCode, complaints),
  });
}

function remedyOf(exitCode: number, complaints: string): ErrorDetails {
  // If a disk fills up in the middle of a record, tar reports only how much it wrote.
  if (/^(?:\S*\/)?tar: -: (?:Wrote only|Cannot write)/m.test(complaints)) {
    return {
      hint: "the tar is kept in a temporary file, and the disk is full",
      remedies: [{ option: "tmpdir", change: "set", to: "keep it elsewhere" }],
    };
  }
  return {
    hint: exitCode === 1
      ? CHANGED_HINT
      : "everything in the tree must be readable; GNU tar is needed",
  };
}
