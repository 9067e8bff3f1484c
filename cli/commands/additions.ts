/**
 * Reads the options that add something on top of a source.
 *
 * @module
 */
import { UsageError } from "../../lib/errors.ts";
import type { Addition, AddPath } from "../../lib/source/types.ts";
import type { SourceOptions } from "../../lib/source/source.ts";
import type { IdRange } from "../../lib/tree/owners.ts";
import type { CommandIo, ParsedArguments } from "../command.ts";
import { safeLine } from "../errors.ts";
import { ADDITION_NAMES } from "../table/options.ts";
import { choiceError, parseCount } from "../values.ts";
import { sourceDateEpoch } from "./sources.ts";

interface ParsedAdditions {
  readonly options: Pick<SourceOptions, "additions" | "timestamp" | "uidMap" | "gidMap">;
  /** Local files and directories, which must not be outputs. */
  readonly paths: readonly string[];
}

/**
 * Reads the additions in the order given.
 *
 * @param sources the sources the additions go on top of
 * @throws {UsageError} for one that cannot be read, and when standard input would be used twice
 */
export function parseAdditions(
  args: ParsedArguments,
  io: CommandIo,
  sources: readonly string[],
): ParsedAdditions {
  const additions = args.inOrder(ADDITION_NAMES).map(({ name, value }): Addition =>
    name === "add"
      ? parseAdd(value)
      : name === "exclude"
      ? { kind: "exclude", pattern: value }
      : { kind: "tar", path: value }
  );
  const paths = additions.flatMap((addition) =>
    addition.kind === "exclude" ? [] : addition.kind === "tar" ? [addition.path] : [addition.host]
  );
  const [uidMap, gidMap] = ["uid-map", "gid-map"].map((name) =>
    args.values(name)?.map((text) => parseIdRange(text, `--${name}`))
  );
  const readers = [...sources, ...paths].filter((path) => path === "-");
  if (paths.includes("-") && readers.length > 1) {
    throw new UsageError("-", "only one thing can be read from standard input");
  }
  return {
    options: {
      ...uidMap === undefined ? {} : { uidMap },
      ...gidMap === undefined ? {} : { gidMap },
      ...additions.length === 0 ? {} : { additions, timestamp: sourceDateEpoch(io) },
    },
    paths: paths.filter((path) => path !== "-"),
  };
}

/** Reads `FROM:TO:COUNT`; the library checks whether ranges overlap. */
function parseIdRange(text: string, what: string): IdRange {
  const parts = text.split(":");
  if (parts.length !== 3) {
    throw new UsageError(what, `\`${safeLine(text)}\`: wanted FROM:TO:COUNT`, {
      hint: `for example \`${what} 0:100000:65536\``,
    });
  }
  const [from, to, count] = parts.map((part, i) =>
    parseCount(part, what, i === 2 ? 1 : 0, ID_MAX + 1)
  );
  return { from: from!, to: to!, count: count! };
}

const ATTRIBUTES = ["mode", "uid", "gid"];
/** The largest id; the next one means "no id" (chown(2)). */
const ID_MAX = 2 ** 32 - 2;
const FORM = "HOST:GUEST[:mode=MODE,uid=UID,gid=GID]";

/**
 * Reads `HOST:GUEST[:mode=MODE,uid=UID,gid=GID]`. HOST may contain colons: GUEST begins after the last one that is
 * followed by a slash.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { parseAdd } from "./additions.ts";
 * assertEquals(parseAdd("a:b:/sbin/init:mode=755"), {
 *   kind: "path", host: "a:b", guest: "/sbin/init", mode: 0o755,
 * });
 * ```
 */
export function parseAdd(text: string): AddPath {
  const attributes = /:((?:mode|uid|gid)=[^:/]*)$/.exec(text)?.[1];
  const paths = attributes === undefined ? text : text.slice(0, -attributes.length - 1);
  const slashed = paths.lastIndexOf(":/");
  const colon = slashed >= 0 ? slashed : paths.lastIndexOf(":");
  const [host, guest] = [paths.slice(0, Math.max(colon, 0)), paths.slice(colon + 1)];
  if (colon < 0 || host === "" || guest === "") {
    throw new UsageError("--add", `\`${safeLine(text)}\`: wanted ${FORM}`, {
      hint: "for example `--add ./init:/sbin/init:mode=0755`",
    });
  }
  return { kind: "path", host, guest, ...parseAttributes(attributes) };
}

function parseAttributes(text: string | undefined): Pick<AddPath, "mode" | "uid" | "gid"> {
  const found: { mode?: number; uid?: number; gid?: number } = {};
  for (const item of text?.split(",") ?? []) {
    const [name = "", value, ...more] = item.split("=");
    if (!ATTRIBUTES.includes(name) || value === undefined || more.length > 0) {
      throw choiceError(safeLine(item), "--add", "mode=MODE, uid=UID or gid=GID", ATTRIBUTES);
    }
    if (name in found) throw new UsageError("--add", `${name} is given more than once`);
    if (name === "mode") found.mode = parseMode(value);
    else found[name as "uid" | "gid"] = parseCount(value, `--add ${name}`, 0, ID_MAX);
  }
  return found;
}

function parseMode(text: string): number {
  if (/^[0-7]{3,5}$/.test(text) && parseInt(text, 8) <= 0o7777) return parseInt(text, 8);
  throw new UsageError("--add mode", `\`${safeLine(text)}\`: wanted octal digits such as 0755`);
}
