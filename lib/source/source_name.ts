/**
 * How sources are written: `KIND:PATH[:REF]`, `docker://REFERENCE`, `KIND:NAME`, `-`, or a bare path; and how image
 * references are: `[REGISTRY/]REPOSITORY[:TAG][@DIGEST]`, by the grammar of the distribution specification and of docker's
 * reference implementation.
 *
 * @module
 */
import { displayText } from "../bytes/byte_string.ts";
import { UsageError } from "../errors.ts";
import { parseDigest } from "../bytes/digest.ts";
import type { SourceKind } from "./types.ts";

export type SourceName =
  | ReferencedName
  | { readonly kind: "dir" | "tar" | "rootfs"; readonly path: string }
  | ({ readonly kind: "ext4" } & ImageName)
  | { readonly kind: "docker" | "docker-daemon" | "containers-storage"; readonly reference: string }
  | { readonly kind: "path"; readonly path: string }
  | { readonly kind: "stdin" };

/** A source that may contain several images, and the reference to one of them. */
export interface ReferencedName {
  readonly kind: "oci" | "oci-archive" | "docker-archive";
  readonly path: string;
  readonly reference: string | undefined;
}

/** Where an ext4 image is: a file, or a partition of the disk in a file. */
export interface ImageName {
  readonly path: string;
  /** Counted from 1; undefined for the whole file. */
  readonly partition: number | undefined;
}

const KINDS_WITH_REFERENCE = ["oci", "oci-archive", "docker-archive"] as const;
const KINDS_WITH_PATH = ["dir", "tar", "rootfs"] as const;
const KINDS_OF_NAMES = ["docker-daemon", "containers-storage"] as const;

/** The kinds of sources that may precede a colon. */
export const SOURCE_KINDS: readonly SourceKind[] = [
  ...KINDS_WITH_REFERENCE,
  "docker",
  ...KINDS_OF_NAMES,
  ...KINDS_WITH_PATH,
  "ext4",
];

/** Parses a source. Nothing is read: `exists` only decides the meaning of a path with colons. @throws {UsageError} */
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
    const why = `"${kind}:" is not a kind of source, and there is no such file`;
    const hint = likelySource(source, exists) ?? kinds;
    throw new UsageError(`source "${displayText(source)}"`, why, { hint });
  }
  const image = splitPartition(source, exists);
  if (image.partition !== undefined && exists(image.path)) return { kind: "ext4", ...image };
  return { kind: "path", path: source };
}

/**
 * Parses `FILE` or `FILE#PARTITION`, optionally after `ext4:`, where only an ext4 image is possible. @throws {UsageError}
 */
export function parseImageName(image: string, exists: (path: string) => boolean): ImageName {
  const isMarked = image.startsWith("ext4:") && !exists(image);
  return splitPartition(nonEmpty(isMarked ? image.slice(5) : image, image), exists);
}

/** A number sign followed by digits at the end selects a partition, unless a file has that whole name. */
function splitPartition(text: string, exists: (path: string) => boolean): ImageName {
  const match = /^(.+)#(\d{1,4})$/s.exec(text);
  if (match === null || exists(text)) return { path: text, partition: undefined };
  return { path: match[1]!, partition: Number(match[2]) };
}

/** The reference follows the first colon whose left side exists; if none does, the first colon. */
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

/** What a missing source was probably meant to be: an image in a layout, or one in a registry. */
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
  if (isFile || !isValid(() => parseReference(named))) return undefined;
  return `for an image in a registry, write docker://${displayText(named)}`;
}

function isValid(parse: () => unknown): boolean {
  try {
    parse();
    return true;
  } catch {
    return false;
  }
}

/** A parsed reference, with the defaults filled in. */
export interface ImageReference {
  /** Host and port; defaults to `docker.io`. */
  readonly registry: string;
  /** Including the `library/` that may be omitted for docker.io. */
  readonly repository: string;
  /** Defaults to `latest` if there is neither a tag nor a digest. */
  readonly tag: string | undefined;
  readonly digest: string | undefined;
}

const DEFAULT_REGISTRY = "docker.io";
const DEFAULT_TAG = "latest";
const MAX_NAME_CHARACTERS = 255;
const HOST_PART = "[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?";
const IPV6 = "\\[[0-9a-fA-F:]+\\]";
const REGISTRY = new RegExp(`^(?:${HOST_PART}(?:\\.${HOST_PART})*|${IPV6})(?::[0-9]{1,5})?$`);
const REPOSITORY_PART = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*$/;
const TAG = /^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$/;

/** Parses a reference. @throws {UsageError} */
export function parseReference(text: string): ImageReference {
  const hint = "write it as [REGISTRY/]REPOSITORY[:TAG][@DIGEST]";
  const fault = (why: string) =>
    new UsageError(`reference "${displayText(text.slice(0, 400))}"`, why, { hint });
  const at = text.indexOf("@");
  const digest = at < 0 ? undefined : text.slice(at + 1);
  if (digest !== undefined && !isValid(() => parseDigest(digest, "reference"))) {
    // What precedes it may be a password.
    const shown = displayText(digest.slice(0, 200));
    throw new UsageError(`reference "...@${shown}"`, "what follows @ is not a digest", { hint });
  }
  const named = at < 0 ? text : text.slice(0, at);
  // A colon before the last slash belongs to the registry's port.
  const colon = named.indexOf(":", named.lastIndexOf("/") + 1);
  const tag = colon < 0 ? undefined : named.slice(colon + 1);
  if (tag !== undefined && !TAG.test(tag)) throw fault("its tag is not a tag");
  const { registry, repository } = splitRegistry(colon < 0 ? named : named.slice(0, colon));
  if (!REGISTRY.test(registry)) throw fault("its registry is not a host");
  if (!repository.split("/").every((part) => REPOSITORY_PART.test(part))) {
    const lower = /[A-Z]/.test(repository) ? ": names of repositories are in lower case" : "";
    throw fault(`its repository is not a name${lower}`);
  }
  if (registry.length + 1 + repository.length > MAX_NAME_CHARACTERS) {
    throw fault(`its name is longer than ${MAX_NAME_CHARACTERS} characters`);
  }
  return {
    registry,
    repository,
    tag: tag ?? (digest === undefined ? DEFAULT_TAG : undefined),
    digest,
  };
}

export function formatReference({ registry, repository, tag, digest }: ImageReference): string {
  return `${registry}/${repository}` + (tag === undefined ? "" : `:${tag}`) +
    (digest === undefined ? "" : `@${digest}`);
}

/** Whether two names refer to the same image; other texts are compared literally. */
export function sameReference(a: string, b: string): boolean {
  return canonicalName(a) === canonicalName(b);
}

function canonicalName(text: string): string {
  try {
    return formatReference(parseReference(text));
  } catch {
    return text;
  }
}

/** The first part is a host if it looks like one: a repository name has no dot, colon or capital there. */
function splitRegistry(name: string): { readonly registry: string; readonly repository: string } {
  const slash = name.indexOf("/");
  const first = slash < 0 ? "" : name.slice(0, slash);
  const isHost = /[.:]/.test(first) || first === "localhost" || /[A-Z]/.test(first);
  const written = isHost ? first : DEFAULT_REGISTRY;
  const registry = written === "index.docker.io" ? DEFAULT_REGISTRY : written;
  const rest = isHost ? name.slice(slash + 1) : name;
  const official = registry === DEFAULT_REGISTRY && !rest.includes("/");
  return { registry, repository: official ? `library/${rest}` : rest };
}
