/**
 * The sources of this repository, as the tidy tests look at them.
 *
 * @module
 */
import { parse, type Syntax } from "./syntax.ts";

/** The root of the repository, with a slash at its end. */
export const ROOT = new URL("../../", import.meta.url);

const SKIPPED_DIRECTORIES = new Set([".git", "node_modules", "dist", "coverage", "fixtures"]);

/** One source file. */
export interface Source extends Syntax {
  /** Relative to the root, with slashes. */
  readonly path: string;
}

/** The paths of all files below a directory, in order; relative to the root. */
export function listFiles(directory: string): string[] {
  const found: string[] = [];
  let entries: Deno.DirEntry[];
  try {
    entries = [...Deno.readDirSync(new URL(directory, ROOT))];
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
  for (const entry of entries) {
    if (entry.isFile) found.push(directory + entry.name);
    if (entry.isDirectory && !SKIPPED_DIRECTORIES.has(entry.name)) {
      found.push(...listFiles(`${directory}${entry.name}/`));
    }
  }
  return found.sort();
}

const parsed = new Map<string, Source>();

/** All TypeScript sources below some directories (`lib/`, ...), in the order of their paths. */
export function readSources(...directories: readonly string[]): Source[] {
  return directories
    .flatMap(listFiles)
    .filter((path) => path.endsWith(".ts"))
    .map((path) => {
      let source = parsed.get(path);
      if (source === undefined) {
        source = { path, ...parse(Deno.readTextFileSync(new URL(path, ROOT))) };
        parsed.set(path, source);
      }
      return source;
    });
}

/** The files of this repository that a source imports; relative to the root. */
export function localImportsOf(source: Source): string[] {
  const base = new URL(source.path, ROOT);
  return source.imports
    .filter((specifier) => specifier.startsWith("."))
    .map((specifier) => new URL(specifier, base).pathname.slice(ROOT.pathname.length));
}
