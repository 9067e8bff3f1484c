/**
 * Takes names out of a tree by patterns in the syntax of .dockerignore files. The last pattern that a name matches decides,
 * and one that begins with `!` keeps the name. A directory goes if nothing that is kept lies in it.
 *
 * @module
 */
import { setImmediate } from "node:timers/promises";
import { type ByteString, textFromByteString } from "../bytes/byte_string.ts";
import { optionError, throwIfAborted } from "../errors.ts";
import { type DirectoryNode, type FileTree, type TreeNode, walkTree } from "../model/node.ts";

/** A pattern, and which paths it matches. */
export interface ExcludePattern {
  /** As it was given. */
  readonly text: string;
  /** Whether it keeps what it matches. */
  readonly keeps: boolean;
  /** Whether it matches a path, or a directory that the path lies in. Paths have no slash in front. */
  readonly matches: (path: string) => boolean;
}

/** What came of it. */
export interface Exclusion {
  /** Names that were taken out; one for each, also below a directory that went. */
  readonly removedNames: number;
  /** Patterns that matched no name. */
  readonly unmatched: readonly string[];
}

/** What of the library is used; its own types say less. */
interface Matcher {
  add(pattern: string): Matcher;
  ignores(path: string): boolean;
}

/**
 * Reads patterns.
 *
 * @throws {UsageError} for one that is empty or not a pattern
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { parsePatterns } from "./exclude.ts";
 * const [pattern] = await parsePatterns(["usr/share/doc"]);
 * assertEquals(pattern?.matches("usr/share/doc/bash/README"), true);
 * assertEquals(pattern?.matches("usr/share"), false);
 * ```
 */
export async function parsePatterns(texts: readonly string[]): Promise<ExcludePattern[]> {
  const { default: dockerignore } = await import("@balena/dockerignore");
  const create = dockerignore as unknown as (options: { ignorecase: boolean }) => Matcher;
  return texts.map((text) => {
    const trimmed = text.trim();
    const keeps = trimmed.startsWith("!");
    const pattern = (keeps ? trimmed.slice(1) : trimmed).trim();
    if (pattern === "" || pattern.startsWith("#")) throw patternFault(text);
    const matcher = create({ ignorecase: false }).add(literal(pattern));
    // It remembers answers in an object, where names such as `constructor` are known before they are asked for.
    Object.assign(matcher, { _cache: Object.create(null) });
    try {
      matcher.ignores("x");
    } catch {
      throw patternFault(text);
    }
    return { text, keeps, matches: (path) => matcher.ignores(path) };
  });
}

function patternFault(text: string): Error {
  return optionError("additions", `\`${text}\` is not a pattern of .dockerignore`, {
    hint: "for example usr/share/doc, **/*.pyc or !usr/share/doc/keep",
  });
}

/** Escapes what regular expressions, but not patterns, give a meaning to. Within brackets nothing has one. */
function literal(pattern: string): string {
  return pattern.replace(
    /\\.|\[[^\]]*\]|[+(){}|^]/gs,
    (found) => found.length === 1 ? `\\${found}` : found,
  );
}

const YIELD_AFTER_NAMES = 512;

/** Takes out of a tree, which is changed in place, what the patterns say. */
export async function excludeFrom(
  tree: FileTree,
  patterns: readonly ExcludePattern[],
  signal?: AbortSignal,
): Promise<Exclusion> {
  const directories = new Map<ByteString, DirectoryNode>();
  const names: { readonly path: ByteString; readonly node: TreeNode }[] = [];
  for (const item of walkTree(tree)) {
    if (item.node.kind === "directory") directories.set(item.path, item.node);
    if (item.path !== "") names.push(item);
  }
  const matched = new Set<ExcludePattern>();
  let removedNames = 0;
  let count = 0;
  // Children before their directories.
  for (const { path, node } of names.reverse()) {
    if (++count % YIELD_AFTER_NAMES === 0) {
      await setImmediate();
      throwIfAborted(signal);
    }
    const text = textFromByteString(path) ?? path;
    let isExcluded = false;
    for (const pattern of patterns) {
      if (!pattern.matches(text.slice(1))) continue;
      matched.add(pattern);
      isExcluded = !pattern.keeps;
    }
    if (!isExcluded || node.kind === "directory" && node.children.size > 0) continue;
    const slash = path.lastIndexOf("/");
    directories.get(path.slice(0, slash))!.children.delete(path.slice(slash + 1));
    removedNames++;
  }
  const unmatched = patterns.filter((pattern) => !matched.has(pattern)).map(({ text }) => text);
  return { removedNames, unmatched };
}
