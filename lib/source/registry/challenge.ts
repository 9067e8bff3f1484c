/**
 * What a registry wants to see before it answers: the WWW-Authenticate header. RFC 9110 section 11.
 *
 * @module
 */

/** One way to authenticate that a server offers. */
export interface Challenge {
  /** In lower case. */
  readonly scheme: string;
  /** Names in lower case. */
  readonly parameters: ReadonlyMap<string, string>;
}

/** Longer headers are cut: nothing in them is worth it. */
const MAX_HEADER_CHARACTERS = 8192;
const TOKEN = "[!#$%&'*+.^_`|~0-9A-Za-z-]+";
const PARAMETER = new RegExp(
  `[\\s,]*(${TOKEN})[ \\t]*=[ \\t]*(?:"((?:[^"\\\\]|\\\\.)*)"|([^\\s,"]+))`,
  "y",
);
const SCHEME = new RegExp(`[\\s,]*(${TOKEN})`, "y");
/** A challenge may carry one opaque value in place of parameters. */
const TOKEN68 = /[ \t]+[A-Za-z0-9._~+\/-]+=*[ \t]*(?=,|$)/y;

/**
 * Takes the header apart; several headers come joined with commas. What cannot be understood ends the list.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { parseChallenges } from "./challenge.ts";
 * const [challenge] = parseChallenges('Bearer realm="https://auth.example.com/token",service="example"');
 * assertEquals(challenge?.scheme, "bearer");
 * assertEquals(challenge?.parameters.get("service"), "example");
 * ```
 */
export function parseChallenges(header: string): Challenge[] {
  const text = header.slice(0, MAX_HEADER_CHARACTERS);
  const challenges: Challenge[] = [];
  let at = 0;
  const match = (pattern: RegExp): RegExpExecArray | undefined => {
    pattern.lastIndex = at;
    const found = pattern.exec(text) ?? undefined;
    if (found) at = pattern.lastIndex;
    return found;
  };
  for (let scheme = match(SCHEME); scheme; scheme = match(SCHEME)) {
    const parameters = new Map<string, string>();
    match(TOKEN68);
    for (let found = match(PARAMETER); found; found = match(PARAMETER)) {
      const [, name, quoted, plain] = found;
      const value = quoted === undefined ? plain! : quoted.replace(/\\(.)/gs, "$1");
      parameters.set(name!.toLowerCase(), value);
    }
    challenges.push({ scheme: scheme[1]!.toLowerCase(), parameters });
  }
  return challenges;
}
