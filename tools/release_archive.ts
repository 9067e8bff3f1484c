/**
 * The archives of a release. The same files give the same bytes.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { gzipSync } from "node:zlib";
import { byteStringFromText } from "../lib/bytes/byte_string.ts";
import { buildTar } from "../tests/tar/build.ts";
import type { SimpleEntry } from "../tests/tar/build.ts";

/** A file of a release, by its path below the archive's directory. */
export interface ReleaseFile {
  readonly path: string;
  readonly bytes: Uint8Array;
  readonly isExecutable?: boolean;
}

/** RFC 1952, section 2.3: the byte that names the system, and its value for "unknown". */
const GZIP_SYSTEM_OFFSET = 9;
const GZIP_SYSTEM_UNKNOWN = 255;

/** What an archive is called, without `.tar.gz`; also the directory that is in it. */
export function archiveName(version: string, target: string): string {
  return `blessfs-${version}-${target}`;
}

/** A tar of one directory, sorted, owned by root, with one time for everything; then gzip without a name or a time. */
export function makeArchive(
  name: string,
  files: readonly ReleaseFile[],
  mtimeSeconds: number,
): Uint8Array {
  const entries = new Map<string, SimpleEntry>();
  const add = (path: string, rest: Omit<SimpleEntry, "path">) =>
    entries.set(path, { path: byteStringFromText(path), mtime: mtimeSeconds, ...rest });
  add(`${name}/`, {});
  for (const { path, bytes, isExecutable } of files) {
    const folders = path.split("/").slice(0, -1);
    folders.forEach((_, i) => add(`${name}/${folders.slice(0, i + 1).join("/")}/`, {}));
    add(`${name}/${path}`, { data: bytes, mode: isExecutable ? 0o755 : 0o644 });
  }
  const sorted = [...entries.keys()].sort().map((path) => entries.get(path)!);
  const archive = gzipSync(buildTar(sorted), { level: 9 });
  archive[GZIP_SYSTEM_OFFSET] = GZIP_SYSTEM_UNKNOWN;
  return archive;
}

/** What `sha256sum --check` reads. */
export function checksumLines(files: ReadonlyMap<string, Uint8Array>): string {
  return [...files.keys()].sort().map((name) =>
    `${createHash("sha256").update(files.get(name)!).digest("hex")}  ${name}\n`
  ).join("");
}
