/**
 * How sources are written: `KIND:PATH[:REF]`, `docker://REFERENCE`, `KIND:NAME`, `-`, or a bare path.
 *
 * @module
 */
import { UsageError } from "../errors.ts";
import { displayText } from "./json.ts";
import { parseReference } from "./reference.ts";
import type { SourceKind } from "./types.ts";

/** A source as it was written, taken apart. */
export type SourceName =
  | ReferencedName
  | { readonly kind: "dir" | "tar" | "rootfs"; readonly path: string }
  | ({ readonly kind: "ext4" } & ImageName)
  | { readonly kind: "docker" | "docker-daemon" | "containers-storage"; readonly reference: string }
  | { readonly kind: "path"; readonly path: string }
  | { readonly kind: "stdin" };

/** A source that may hold several images, and which of them is meant. */
export interface ReferencedName {
  readonly kind: "oci" | "oci-archive" | "docker-archive";
  readonly path: string;
  readonly reference: string | undefined;
}

/** Where an ext4 image is: a file, or a partition of the disk in a file. */
export interface ImageName {
  readonly path: string;
  /** From 1 on; undefined for the whole file. */
  readonly partition: number | undefined;
}

const KINDS_WITH_REFERENCE = ["oci", "oci-archive", "docker-archive"] as const;
const KINDS_WITH_PATH = ["dir", "tar", "rootfs"] as const;
const KINDS_OF_NAMES = ["docker-daemon", "containers-storage"] as const;

/** The kinds of sources that may stand before a colon. */
export const SOURCE_KINDS: readonly SourceKind[] = [
  ...KINDS_WITH_REFERENCE,
  "docker",
  ...KINDS_OF_NAMES,
  ...KINDS_WITH_PATH,
  "ext4",
];

/**
 * Takes a source apart. Nothing is read; `exists` only decides between the readings of a path with colons in it.
 *
 * @param exists whether something is at a path
 * @throws {UsageError} when it is invalid
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { parseSourceName } from "./source_name.ts";
 * assertEquals(parseSourceName("oci:images/base:latest", () => false), {
 *   kind: "oci",
 *   path: "images/base",
 *   reference: "latest",
 * });
 * ```
 */
export function parseSourceName(source: string, exists: (path: string) => boolean): SourceName {
  if (source === "-") return { kind: "stdin" };
  if (source === "") throw new UsageError("source", "is empty");
  if (source.includes("\0")) throw new UsageError("source", "has a NUL character in it");
  if (source.startsWith("docker://")) {
    return { kind: "docker", reference: nonEmpty(source.slice(9), source) };
  }
  const kind = source.slice(0, Math.max(0, source.indexOf(":")));
  const rest = source.slice(kind.length + 1);
  if (kind === "ext4") return { kind, ...splitPartition(nonEmpty(rest, source), exists) };
  const withPath = KINDS_WITH_PATH.find((known) => known === kind);
  if (withPath) return { kind: withPath, path: nonEmpty(rest, source) };
  const withReference = KINDS_WITH_REFERENCE.find((known) => known === kind);
  if (withReference) return { kind: withReference, ...splitReference(rest, source, exists) };
  const ofNames = KINDS_OF_NAMES.find((known) => known === kind);
  if (ofNames) return { kind: ofNames, reference: nonEmpty(rest, source) };
  if (kind === "docker") {
    throw new UsageError(`source "${displayText(source)}"`, "a registry is written docker://");
  }
  if (/^[a-z][a-z0-9+-]*$/.test(kind) && !exists(source)) {
    const kinds = `the kinds are ${SOURCE_KINDS.join(", ")}; a path may be written as ./PATH`;
    throw new UsageError(
      `source "${displayText(source)}"`,
      `"${kind}:" is not a kind of source, and there is no such file`,
      { hint: likelySource(source, exists) ?? kinds },
    );
  }
  const image = splitPartition(source, exists);
  if (image.partition !== undefined && exists(image.path)) return { kind: "ext4", ...image };
  return { kind: "path", path: source };
}

/**
 * An ext4 image as it is written where nothing else is possible: `FILE`, `FILE#PARTITION`, either behind `ext4:`.
 *
 * @param exists whether something is at a path
 * @throws {UsageError} when it is invalid
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { parseImageName } from "./source_name.ts";
 * assertEquals(parseImageName("ext4:disk.img#2", () => false), { path: "disk.img", partition: 2 });
 * ```
 */
export function parseImageName(image: string, exists: (path: string) => boolean): ImageName {
  const isMarked = image.startsWith("ext4:") && !exists(image);
  return splitPartition(nonEmpty(isMarked ? image.slice(5) : image, image), exists);
}

/** A number sign and digits at the end name a partition, unless there is a file of that whole name. */
function splitPartition(text: string, exists: (path: string) => boolean): ImageName {
  const match = /^(.+)#(\d{1,4})$/s.exec(text);
  if (match === null || exists(text)) return { path: text, partition: undefined };
  return { path: match[1]!, partition: Number(match[2]) };
}

/** The reference begins behind the first colon whose left side exists; if none does, behind the first. */
function splitReference(
  rest: string,
  source: string,
  exists: (path: string) => boolean,
): { readonly path: string; readonly reference: string | undefined } {
  const colons = [...rest.matchAll(/:/g)].map(({ index }) => index);
  const split = colons.find((at) => at > 0 && exists(rest.slice(0, at)));
  const at = split ?? (exists(rest) ? undefined : colons[0]);
  if (at === undefined) return { path: nonEmpty(rest, source), reference: undefined };
  return {
    path: nonEmpty(rest.slice(0, at), source),
    reference: nonEmpty(rest.slice(at + 1), source),
  };
}

function nonEmpty(text: string, source: string): string {
  if (text === "") throw new UsageError(`source "${displayText(source)}"`, "a part of it is empty");
  return text;
}

/**
 * What was probably meant by a source that is not there: an image in a layout, or one in a registry.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { likelySource } from "./source_name.ts";
 * const hint = "for an image in a registry, write docker://team/app:1.2";
 * assertEquals(likelySource("team/app:1.2", () => false), hint);
 * ```
 */
export function likelySource(
  source: string,
  exists: (path: string) => boolean,
): string | undefined {
  const colon = source.lastIndexOf(":");
  if (colon > 0 && exists(source.slice(0, colon))) {
    return `for an image of a layout, write oci:${displayText(source)}`;
  }
  const named = source.replace(/^(?:https?:\/\/|docker:)/, "");
  const isFile = /^[./]|\.(?:ext[234]|img|raw|tar|t?gz|t?xz|zst|caibx)$/i.test(named);
  if (isFile || !isReference(named)) return undefined;
  return `for an image in a registry, write docker://${displayText(named)}`;
}

function isReference(text: string): boolean {
  try {
    parseReference(text);
    return true;
  } catch {
    return false;
  }
}
