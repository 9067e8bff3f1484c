/**
 * Lists of the files that a boot reads, in the order in which it does: plain paths, and what strace, fatrace and others
 * write.
 *
 * @module
 */
import { type ByteString, byteStringFromBytes, byteStringFromText } from "../bytes/byte_string.ts";
import { InputError, limitError } from "../errors.ts";

/** How a list is written. */
export type HotListFormat = "paths" | "json" | "strace" | "fatrace";

/** One line of a list. */
export interface HotListEntry {
  /** As it is written; relative paths begin at the root. */
  readonly path: ByteString;
  /** A directory stands for all files below it. A trace names directories that were merely listed. */
  readonly takesTree: boolean;
}

/** A list that was read. */
export interface HotList {
  /** How it is written. */
  readonly format: HotListFormat;
  /** In its order; a path may come more than once. */
  readonly entries: readonly HotListEntry[];
}

/** More than any boot reads, and no burden. */
const LIST_BYTES_MAX = 256 << 20;
const ENTRIES_MAX = 1 << 20;
/** Of so much of a list its format is told. */
const LOOKED_AT_LINES = 50;
const SHOWN_CHARACTERS = 60;

/** A call of strace, behind the process and the time: name, and the first argument for those that have a directory. */
const STRACE_CALL =
  /\b(?:(openat2?|execveat)\((AT_FDCWD|-?\d+)(?:<((?:[^<>\\]|\\.)*)>)?, |(open|execve)\()"((?:[^"\\]|\\.)*)"(\.\.\.)?(.*)$/;
/** `[12:34:56.789 ]program(pid): EVENTS[ ]/path`, fatrace(1). */
const FATRACE_LINE =
  /^(?:\d\d:\d\d:\d\d\.\d+ )?.*?\(\d+\)(?:\s*\[[^\]]*\])?: ([A-Z+<>]+)\s+(\/.*)$/;
/** Events of fatrace by which a file is read, or opened to be. */
const FATRACE_READS = /[ROC]/;

/**
 * Reads a list. Its format is told by its lines; empty lines and those that begin with `#` are passed over.
 *
 * @param name of the list, in errors
 * @throws {InputError} when it is not text, has a line that cannot be understood, or names no file
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { parseHotList } from "./hot_list.ts";
 * const line = '12 openat(AT_FDCWD, "/etc/passwd", O_RDONLY) = 3\n';
 * const { format, entries } = parseHotList(new TextEncoder().encode(line), "trace");
 * assertEquals([format, entries[0]?.path], ["strace", "/etc/passwd"]);
 * ```
 */
export function parseHotList(bytes: Uint8Array, name: string): HotList {
  if (bytes.length > LIST_BYTES_MAX) {
    throw limitError(name, `is ${bytes.length} bytes long: at most ${LIST_BYTES_MAX} are read`, {
      name: "hotListBytes",
      expected: LIST_BYTES_MAX,
      actual: bytes.length,
      isFixed: true,
    });
  }
  checkText(bytes, name);
  const text = byteStringFromBytes(bytes).replace(/^\xef\xbb\xbf/, "");
  const list = /^\s*(?:\[\s*["\]{]|\{\s*")/.test(text)
    ? readJson(bytes, name)
    : readLines(text, name);
  if (list.entries.length === 0) throw new InputError(name, "names no file");
  if (list.entries.length > ENTRIES_MAX) {
    throw limitError(name, `names more than ${ENTRIES_MAX} files`, {
      name: "hotListEntries",
      expected: ENTRIES_MAX,
      actual: list.entries.length,
      isFixed: true,
    });
  }
  return list;
}

function checkText(bytes: Uint8Array, name: string): void {
  const zero = bytes.indexOf(0);
  if (zero < 0) return;
  throw new InputError(name, `is binary, with a zero byte at ${zero}: wanted a list of paths`, {
    hint: "write it as text: paths, or what `strace -f -e trace=openat` and `fatrace` print",
  });
}

/** `["/path", ...]`, what `soci create` takes as its list of files to prefetch. */
function readJson(bytes: Uint8Array, name: string): HotList {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch {
    throw new InputError(name, "begins like JSON, and is not JSON");
  }
  if (!Array.isArray(value)) throw new InputError(name, "wanted a JSON array of paths");
  const entries = value.map((path: unknown, i): HotListEntry => {
    if (typeof path !== "string" || path.trim() === "") {
      throw new InputError(name, `entry ${i}: wanted a path, found ${JSON.stringify(path)}`);
    }
    return { path: byteStringFromText(path.trim()), takesTree: true };
  });
  return { format: "json", entries };
}

function readLines(text: string, name: string): HotList {
  const lines = text.split("\n").map((line) => line.replace(/\r$/, ""));
  const format = formatOf(lines);
  const unfinished = new Map<string, ByteString>();
  const entries = lines.flatMap((line, i): readonly HotListEntry[] => {
    if (line.trim() === "" || line.startsWith("#")) return [];
    if (format === "strace") {
      return straceEntries(line, unfinished).map((path) => ({ path, takesTree: false }));
    }
    if (format === "fatrace") {
      return fatraceEntries(line, `${name}:${i + 1}`).map((path) => ({ path, takesTree: false }));
    }
    return [{ path: line.trim().replace(/\/\*$/, "/"), takesTree: true }];
  });
  return { format, entries };
}

/** A path may look odd, but not like either trace. */
function formatOf(lines: readonly string[]): HotListFormat {
  const looked = lines.filter((line) => line.trim() !== "" && !line.startsWith("#"))
    .slice(0, LOOKED_AT_LINES);
  if (looked.some((line) => !line.startsWith("/") && STRACE_CALL.test(line))) return "strace";
  if (looked.some((line) => !line.startsWith("/") && FATRACE_LINE.test(line))) return "fatrace";
  return "paths";
}

/**
 * The path of a call that succeeded. Lines of other calls, of signals and of ends are passed over. Of a call that another
 * process interrupts, the path comes first, and later whether it succeeded.
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
  // strace shortens long paths unless it is told -s; what is cut off names nothing.
  if (cut !== undefined) return [];
  const path = unescaped(quoted);
  const isRelative = !path.startsWith("/");
  // Below a directory that the trace does not name, the path says nothing.
  if (
    isRelative && annotated === undefined && descriptor !== undefined && descriptor !== "AT_FDCWD"
  ) {
    return [];
  }
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

/** What strace writes of bytes that cannot be printed: `\n`, `\"`, `\\`, octal digits, `\x` with two hexadecimal ones. */
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
    // A file that is gone has no path, only its device and inode.
    if (/\(\d+\)(?:\s*\[[^\]]*\])?: [A-Z+<>]+\s+(?:device|\?)/.test(line)) return [];
    const shown = JSON.stringify(line.slice(0, SHOWN_CHARACTERS));
    throw new InputError(where, `wanted a line of fatrace, found ${shown}`);
  }
  const [, events = "", path = ""] = match;
  return FATRACE_READS.test(events) ? [path.replace(/ \(deleted\)$/, "")] : [];
}
