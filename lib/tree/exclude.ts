/**
 * Removes names from a tree by patterns in .dockerignore syntax. The last matching pattern decides; one that begins with
 * `!` keeps the name. A directory is removed if nothing inside it is kept.
 *
 * @module
 */
import { setImmediate } from "node:timers/promises";
import { type ByteString, textFromByteString } from "../bytes/byte_string.ts";
import { optionError, throwIfAborted } from "../errors.ts";
import { type DirectoryNode, type FileTree, type TreeNode, walkTree } from "../model/node.ts";

/** A pattern and the test for paths it matches. */
export interface ExcludePattern {
  /** As given. */
  readonly text: string;
  /** Whether matching names are kept. */
  readonly keeps: boolean;
  /** Whether the pattern matches the path or one of its parent directories. Paths have no leading slash. */
  readonly matches: (path: string) => boolean;
}

/** The result of an exclusion. */
export interface Exclusion {
  /** The number of names removed, including every name inside a removed directory. */
  readonly removedNames: number;
  /** Patterns that matched no name. */
  readonly unmatched: readonly string[];
}

/** The part of the library's interface that is used; its own types omit some of it. */
interface Matcher {
  add(pattern: string): Matcher;
  ignores(path: string): boolean;
}

/**
 * Parses patterns.
 *
 * @throws {UsageError} if one is empty or invalid
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
    // The library caches answers in a plain object, which would already contain names such as `constructor`.
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

/** Escapes characters that are special in regular expressions but not in patterns. None are special within brackets. */
function literal(pattern: string): string {
  return pattern.replace(
    /\\.|\[[^\]]*\]|[+(){}|^]/gs,
    (found) => found.length === 1 ? `\\${found}` : found,
  );
}

const YIELD_AFTER_NAMES = 512;

/** Removes whatever the patterns exclude; the tree is changed in place. */
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
  // Children come before their directories.
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
