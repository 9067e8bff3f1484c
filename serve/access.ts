/**
 * Access control: tokens, hosts, sources and options.
 *
 * @module
 */
import { createHash, timingSafeEqual } from "node:crypto";
import { existsSync, realpathSync } from "node:fs";
import { isAbsolute, normalize, sep } from "node:path";
import { BlessfsError } from "../lib/errors.ts";
import { parseReference, parseSourceName, type SourceName } from "../lib/source/source_name.ts";
import { RequestError } from "./faults.ts";
import type { OptionValue } from "./schemas.ts";

/** Compares a token with the valid ones in a time that reveals nothing about them. */
export class Tokens {
  readonly #digests: readonly Uint8Array[];

  /** @param tokens the valid tokens; if there are none, everybody is let in */
  constructor(tokens: readonly string[]) {
    this.#digests = tokens.map(digest);
  }

  get isOpen(): boolean {
    return this.#digests.length === 0;
  }

  accepts(token: string | undefined): boolean {
    if (this.isOpen) return true;
    const given = digest(token ?? "");
    let found = false;
    // Compare with all of them, even after a match.
    for (const known of this.#digests) found = timingSafeEqual(known, given) || found;
    return found;
  }
}

function digest(text: string): Uint8Array {
  return createHash("sha256").update(text).digest();
}

/** The token from an Authorization header, or from the page's cookie. */
export function tokenOf(
  authorization: string | undefined,
  cookie: string | undefined,
): string | undefined {
  const bearer = /^Bearer +(\S+)$/i.exec(authorization ?? "")?.[1];
  if (bearer !== undefined) return bearer;
  const value = /(?:^|;\s*)blessfs_token=([^;]*)/.exec(cookie ?? "")?.[1];
  try {
    return value === undefined ? undefined : decodeURIComponent(value);
  } catch {
    return undefined;
  }
}

/**
 * Whether a Host header names this machine. A page of another site can point its name here (DNS rebinding), but it
 * cannot change the host that the browser sends.
 */
export function isLoopbackHost(host: string | undefined): boolean {
  return /^(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])(?::\d+)?$/i.test(host ?? "");
}

export interface SourcePolicy {
  /** Files and directories must lie below one of these; undefined if the operator named none. */
  readonly roots: readonly string[] | undefined;
  /** Whether clients may name any file if there are no roots, because they could read the files anyway. */
  readonly trustsClients: boolean;
  /** The allowed registries; undefined for all. */
  readonly registries: readonly string[] | undefined;
}

const ALLOW_HINT = "the server's operator can allow a directory with --allow-source";

/**
 * Checks a source.
 *
 * @returns the source to bless; for one below a root, with all symbolic links in its path resolved
 * @throws {RequestError} with a message that reveals nothing about files outside the roots, and no credentials
 */
export function checkSource(source: string, policy: SourcePolicy): string {
  // deno-lint-ignore no-control-regex
  if (/[\x00-\x1f\x7f]/.test(source)) {
    throw new RequestError(400, "invalid_source", "source: has a control character in it");
  }
  if (/^[a-z+-]+:\/\/[^/]*@[^/]*\//i.test(source)) {
    throw new RequestError(400, "credentials_in_source", "source: has credentials in it", {
      hint: "credentials come from the server's auth file or credential helper",
    });
  }
  const name = understood(() => parseSourceName(source, existsSync));
  if (name.kind === "docker") return checkRegistry(source, name.reference, policy);
  if (name.kind === "stdin") {
    throw new RequestError(400, "invalid_source", "source: standard input is the server's own");
  }
  const { roots, trustsClients } = policy;
  if (roots === undefined && !trustsClients) {
    throw new RequestError(403, "source_not_allowed", "source: only docker:// is allowed", {
      hint: ALLOW_HINT,
    });
  }
  if (!("path" in name)) {
    if (roots === undefined) return source;
    throw new RequestError(403, "source_not_allowed", "source: is not below an allowed directory", {
      hint: ALLOW_HINT,
    });
  }
  if (!isAbsolute(name.path)) {
    throw new RequestError(400, "invalid_source", "source: wanted an absolute path", {
      hint: "write it as KIND:/PATH",
    });
  }
  return roots === undefined ? source : insideRoots(name, roots);
}

function understood<T>(parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    if (!(error instanceof BlessfsError)) throw error;
    throw new RequestError(400, "invalid_source", error.message, { hint: error.hint });
  }
}

function checkRegistry(source: string, reference: string, { registries }: SourcePolicy): string {
  const { registry } = understood(() => parseReference(reference));
  if (registries === undefined || registries.includes(registry)) return source;
  throw new RequestError(403, "source_not_allowed", "source: this registry is not allowed", {
    hint: "the server's operator can allow it with --allow-registry",
  });
}

function insideRoots(
  name: Extract<SourceName, { readonly path: string }>,
  roots: readonly string[],
): string {
  const refusal = new RequestError(
    403,
    "source_not_allowed",
    "source: is not below an allowed directory",
    { hint: ALLOW_HINT },
  );
  // Check the path as written first, so that the answer does not reveal whether a file outside the roots exists.
  if (!roots.some((root) => isBelow(normalize(name.path), root))) throw refusal;
  let path: string;
  try {
    path = realpathSync.native(name.path);
  } catch {
    throw new RequestError(404, "not_found", "source: there is no such file or directory");
  }
  if (!roots.some((root) => isBelow(path, realpathSync.native(root)))) throw refusal;
  const reference = "reference" in name && name.reference !== undefined ? `:${name.reference}` : "";
  return name.kind === "path" ? path : `${name.kind}:${path}${reference}`;
}

function isBelow(path: string, root: string): boolean {
  const plain = root.length > 1 && root.endsWith(sep) ? root.slice(0, -1) : root;
  return path === plain || path.startsWith(plain.endsWith(sep) ? plain : plain + sep);
}

export interface OptionRule {
  readonly name: string;
  readonly kind: "flag" | "value" | "list";
  /** A flag that is on by default and can be turned off with false. */
  readonly isOn: boolean;
  /** The allowed words; undefined for any. */
  readonly choices: readonly string[] | undefined;
}

/**
 * Checks options against the rules and normalises them: sizes in bytes, sorted by name.
 *
 * @throws {RequestError} for an unknown option, or a value of the wrong kind
 */
export function canonicalOptions(
  options: Readonly<Record<string, OptionValue>>,
  rules: readonly OptionRule[],
): Record<string, OptionValue> {
  const entries = Object.entries(options).map(([name, value]) => {
    const rule = rules.find((known) => known.name === name);
    if (rule === undefined) {
      throw new RequestError(400, "unknown_option", `options: there is no option "${name}" here`, {
        hint: `there are ${rules.map((known) => known.name).join(", ")}`,
      });
    }
    return [name, canonicalValue(rule, value)] as const;
  });
  return Object.fromEntries(
    entries.filter(([, value]) => value !== undefined)
      .sort(([a], [b]) => a < b ? -1 : 1) as [string, OptionValue][],
  );
}

function canonicalValue(rule: OptionRule, value: OptionValue): OptionValue | undefined {
  const wrong = (wanted: string) =>
    new RequestError(400, "invalid_option", `options.${rule.name}: wanted ${wanted}`);
  if (rule.kind === "flag") {
    if (typeof value !== "boolean") throw wrong("true or false");
    return value === rule.isOn ? undefined : value;
  }
  if (rule.kind === "list") {
    const list = Array.isArray(value) ? value : [String(value)];
    if (typeof value === "boolean") throw wrong("a list");
    return list.map((item) => checkText(item, wrong));
  }
  if (typeof value === "boolean" || Array.isArray(value)) throw wrong("a text or a number");
  const text = checkText(String(value), wrong);
  if (rule.choices !== undefined && !rule.choices.includes(text)) {
    throw wrong(rule.choices.join(", "));
  }
  return bytesOf(text) ?? text;
}

function checkText(text: string, wrong: (wanted: string) => RequestError): string {
  // deno-lint-ignore no-control-regex
  if (/[\x00-\x1f\x7f]/.test(text)) throw wrong("a text without control characters");
  return text;
}

/** Normalises sizes: `64K` and `65536` are the same. */
function bytesOf(text: string): string | undefined {
  const match = /^(\+?)(\d{1,6})([KMGT])(?:i?B)?$/i.exec(text);
  if (match === null) return undefined;
  const power = "KMGT".indexOf(match[3]!.toUpperCase()) + 1;
  return `${match[1]}${Number(match[2]) * 1024 ** power}`;
}

export function optionWords(
  options: Readonly<Record<string, OptionValue>>,
  rules: readonly OptionRule[],
): string[] {
  return Object.entries(options).flatMap(([name, value]) => {
    if (typeof value === "boolean") {
      const isOn = rules.find((rule) => rule.name === name)?.isOn ?? false;
      return value === isOn ? [] : [value ? `--${name}` : `--no-${name}`];
    }
    return (Array.isArray(value) ? value : [String(value)]).map((item) => `--${name}=${item}`);
  });
}
