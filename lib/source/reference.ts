/**
 * Image references as docker and podman users write them: `[REGISTRY/]REPOSITORY[:TAG][@DIGEST]`.
 * The grammar is that of the distribution specification and of the reference implementation that docker uses.
 *
 * @module
 */
import { UsageError } from "../errors.ts";
import { parseDigest } from "../io/digest.ts";
import { displayText } from "./json.ts";

/** A reference, taken apart, with what goes without saying filled in. */
export interface ImageReference {
  /** Host and port; `docker.io` where none is written. */
  readonly registry: string;
  /** With `library/` where docker.io's users leave it out. */
  readonly repository: string;
  /** `latest` where neither tag nor digest is written. */
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

/**
 * Takes a reference apart.
 *
 * @throws {UsageError} when it is not written as one
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { formatReference, parseReference } from "./reference.ts";
 * assertEquals(formatReference(parseReference("debian")), "docker.io/library/debian:latest");
 * ```
 */
export function parseReference(text: string): ImageReference {
  const fault = (why: string) =>
    new UsageError(`reference "${displayText(text.slice(0, 400))}"`, why, {
      hint: "write it as [REGISTRY/]REPOSITORY[:TAG][@DIGEST]",
    });
  const at = text.indexOf("@");
  const digest = at < 0 ? undefined : text.slice(at + 1);
  if (digest !== undefined && !isDigest(digest)) {
    // In front of it may be a password that somebody put there.
    const shown = displayText(digest.slice(0, 200));
    throw new UsageError(`reference "...@${shown}"`, "what follows @ is not a digest", {
      hint: "write it as [REGISTRY/]REPOSITORY[:TAG][@DIGEST]",
    });
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

function isDigest(text: string): boolean {
  try {
    parseDigest(text, "reference");
    return true;
  } catch {
    return false;
  }
}

/** The reference in full. */
export function formatReference({ registry, repository, tag, digest }: ImageReference): string {
  return `${registry}/${repository}${tag === undefined ? "" : `:${tag}`}${
    digest === undefined ? "" : `@${digest}`
  }`;
}

/** Whether two names mean the same image; anything else is compared as it is. */
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

/** The first part is a host when it looks like one; a repository's name has no dot, colon or capital there. */
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
