/**
 * Lists of the files read during boot, in order: plain paths, or the output of strace, fatrace and similar tools.
 *
 * @module
 */
import * as v from "valibot";
import { type ByteString, byteStringFromBytes, byteStringFromText } from "../bytes/byte_string.ts";
import { InputError, limitError } from "../errors.ts";
import { readJson } from "./json.ts";

/** The format of a list. */
export type HotListFormat = "paths" | "json" | "strace" | "fatrace";

/** One line of a list. */
export interface HotListEntry {
  /** As written; relative paths start at the root. */
  readonly path: ByteString;
  /** Whether a directory stands for all files below it. In a trace, it was merely listed. */
  readonly takesTree: boolean;
}

/** A parsed list. */
export interface HotList {
  /** Recognised from its lines. */
  readonly format: HotListFormat;
  /** In list order; paths may be repeated. */
  readonly entries: readonly HotListEntry[];
}

/** More than any boot reads. */
const LIST_BYTES_MAX = 256 << 20;
const ENTRIES_MAX = 1 << 20;
/** How many lines are read to recognise the format. */
const SAMPLED_LINES = 50;
const SHOWN_CHARACTERS = 60;

/** A strace call, after the process and the time: its name, and the first argument if the call has a directory. */
const STRACE_CALL =
  /\b(?:(openat2?|execveat)\((AT_FDCWD|-?\d+)(?:<((?:[^<>\\]|\\.)*)>)?, |(open|execve)\()"((?:[^"\\]|\\.)*)"(\.\.\.)?(.*)$/;
/** `[12:34:56.789 ]program(pid): EVENTS[ ]/path`, fatrace(1). */
const FATRACE_LINE =
  /^(?:\d\d:\d\d:\d\d\.\d+ )?.*?\(\d+\)(?:\s*\[[^\]]*\])?: ([A-Z+<>]+)\s+(\/.*)$/;
/** The fatrace events for reading a file, or opening it. */
const FATRACE_READS = /[ROC]/;

/**
 * Parses a list. Its lines determine the format; empty lines and lines that begin with `#` are ignored.
 *
 * @param name the list's name in errors
 * @throws {InputError} if it is not text, has a line that cannot be parsed, or names no file
 */
export function parseHotList(bytes: Uint8Array, name: string): HotList {
  const { length } = bytes;
  if (length > LIST_BYTES_MAX) {
    const why = `is ${length} bytes long: at most ${LIST_BYTES_MAX} are read`;
    throw fixedLimit(name, why, "hotListBytes", LIST_BYTES_MAX, length);
  }
  const zero = bytes.indexOf(0);
  if (zero >= 0) {
    throw new InputError(name, `is binary, with a zero byte at ${zero}: wanted a list of paths`, {
      hint: "write it as text: paths, or what `strace -f -e trace=openat` and `fatrace` print",
    });
  }
  const text = byteStringFromBytes(bytes).replace(/^\xef\xbb\xbf/, "");
  const list = /^\s*(?:\[\s*["\]{]|\{\s*")/.test(text)
    ? readPaths(bytes, name)
    : readLines(text, name);
  if (list.entries.length === 0) throw new InputError(name, "names no file");
  if (list.entries.length > ENTRIES_MAX) {
    const why = `names more than ${ENTRIES_MAX} files`;
    throw fixedLimit(name, why, "hotListEntries", ENTRIES_MAX, list.entries.length);
  }
  return list;
}

function fixedLimit(
  what: string,
  why: string,
  name: string,
  expected: number,
  actual: number,
): InputError {
  return limitError(what, why, { name, expected, actual, isFixed: true });
}

/** `["/path", ...]`, the list of files to prefetch that `soci create` accepts. */
const PATHS = v.array(
  v.pipe(v.string("a path"), v.trim(), v.nonEmpty("a path")),
  "a JSON array of paths",
);

function readPaths(bytes: Uint8Array, name: string): HotList {
  const entries = readJson(PATHS, bytes, name)
    .map((path) => ({ path: byteStringFromText(path), takesTree: true }));
  return { format: "json", entries };
}

function readLines(text: string, name: string): HotList {
  const lines = text.split("\n").map((line) => line.replace(/\r$/, ""));
  const format = formatOf(lines);
  const unfinished = new Map<string, ByteString>();
  const entries = lines.flatMap((line, i): readonly HotListEntry[] => {
    if (line.trim() === "" || line.startsWith("#")) return [];
    if (format === "paths") return [{ path: line.trim().replace(/\/\*$/, "/"), takesTree: true }];
    const paths = format === "strace"
      ? straceEntries(line, unfinished)
      : fatraceEntries(line, `${name}:${i + 1}`);
    return paths.map((path) => ({ path, takesTree: false }));
  });
  return { format, entries };
}

/** A path may look odd, but not like a line of either trace. */
function formatOf(lines: readonly string[]): HotListFormat {
  const sample = lines.filter((line) => line.trim() !== "" && !line.startsWith("#"))
    .slice(0, SAMPLED_LINES).filter((line) => !line.startsWith("/"));
  if (sample.some((line) => STRACE_CALL.test(line))) return "strace";
  return sample.some((line) => FATRACE_LINE.test(line)) ? "fatrace" : "paths";
}

/**
 * The path of a successful call. Other calls, signals and exits are ignored. A call interrupted by another process takes
 * two lines: the first has the path, the second the result.
 */
function straceEntries(line: string, unfinished: Map<string, ByteString>): ByteString[] {
  const process = /^\s*(?:\[pid\s+(\d+)\]|(\d+)\s)/.exec(line);
  const pid = process?.[1] ?? process?.[2] ?? "";
  const resumed = /<\.\.\. (?:open|openat2?|execve|execveat) resumed>.*=\s*(-?\d+)/.exec(line);
  if (resumed !== null) {
    const path = unfinished.get(pid);
    unfinished.delete(pid);
    return path === undefined || resumed[1]!.startsWith("-") ? [] : [path];
  }
  const call = STRACE_CALL.exec(line);
  if (call === null) return [];
  const [, , descriptor, annotated, , quoted = "", cut, rest = ""] = call;
  // Without -s, strace truncates long paths, which makes them useless.
  if (cut !== undefined) return [];
  const path = unescaped(quoted);
  const isRelative = !path.startsWith("/");
  // The path is useless below a directory that the trace does not name.
  const isBelow = descriptor !== undefined && descriptor !== "AT_FDCWD";
  if (isRelative && isBelow && annotated === undefined) return [];
  const whole = isRelative && annotated !== undefined ? `${unescaped(annotated)}/${path}` : path;
  if (/<unfinished \.\.\.>\s*$/.test(rest)) {
    unfinished.set(pid, whole);
    return [];
  }
  return /=\s*-1\b/.test(rest) || path === "" ? [] : [whole];
}

const ESCAPES: Readonly<Record<string, string>> = {
  n: "\n",
  t: "\t",
  r: "\r",
  v: "\v",
  f: "\f",
  a: "\x07",
  b: "\b",
};

/** Decodes strace's escapes for unprintable bytes: `\n`, `\"`, `\\`, octal digits, `\x` with two hexadecimal digits. */
function unescaped(text: string): ByteString {
  return text.replace(
    /\\(?:([0-7]{1,3})|x([0-9a-fA-F]{2})|(.))/g,
    (_, octal: string | undefined, hex: string | undefined, letter: string) => {
      if (octal !== undefined) return String.fromCharCode(parseInt(octal, 8) & 0xff);
      if (hex !== undefined) return String.fromCharCode(parseInt(hex, 16));
      return ESCAPES[letter] ?? letter;
    },
  );
}

function fatraceEntries(line: string, where: string): ByteString[] {
  const match = FATRACE_LINE.exec(line);
  if (match === null) {
    // A deleted file has no path, only its device and inode.
    if (/\(\d+\)(?:\s*\[[^\]]*\])?: [A-Z+<>]+\s+(?:device|\?)/.test(line)) return [];
    const shown = JSON.stringify(line.slice(0, SHOWN_CHARACTERS));
    throw new InputError(where, `wanted a line of fatrace, found ${shown}`);
  }
  const [, events = "", path = ""] = match;
  return FATRACE_READS.test(events) ? [path.replace(/ \(deleted\)$/, "")] : [];
}
