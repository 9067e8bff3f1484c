/**
 * Where a registry is reached, and the names that its credentials are kept under.
 *
 * @module
 */
import { UsageError } from "../../errors.ts";
import { type CertificateFiles, isLoopback } from "../../io/http_fetch.ts";
import { displayText } from "../json.ts";
import type { ImageReference } from "../reference.ts";
import type { RegistryTiming } from "./http.ts";

/** docker.io is a name; the registry behind it is here. */
const DOCKER_HUB = "docker.io";
const DOCKER_HUB_HOST = "registry-1.docker.io";
/** The name that docker keeps docker.io's credentials under. */
const DOCKER_HUB_KEY = "https://index.docker.io/v1/";
const DOCKER_HUB_NAMES = [DOCKER_HUB, "index.docker.io", DOCKER_HUB_HOST];

/**
 * The addresses to try, in order. Plain http is tried on loopback alone, behind https, unless it is asked for; then
 * https is not tried.
 *
 * @throws {UsageError} when the host cannot be one
 */
export function registryAddresses(registry: string, plainHttp: boolean): URL[] {
  const host = registry === DOCKER_HUB ? DOCKER_HUB_HOST : registry;
  const schemes = plainHttp ? ["http"] : isLoopback(host) ? ["https", "http"] : ["https"];
  return schemes.map((scheme) => {
    const address = `${scheme}://${host}/`;
    if (URL.canParse(address)) return new URL(address);
    throw new UsageError(`registry "${displayText(registry)}"`, "is not a host");
  });
}

/** A path of the registry's API for the repository. Its parts are checked by the grammar of references. */
export function apiPath(
  { repository }: ImageReference,
  kind: "manifests" | "blobs",
  id: string,
): string {
  return `/v2/${repository}/${kind}/${id}`;
}

/** The names that credentials for a repository may stand under, the most specific first, as podman looks them up. */
export function credentialKeys({ registry, repository }: ImageReference): string[] {
  const hosts = registry === DOCKER_HUB ? DOCKER_HUB_NAMES : [registry];
  const parts = repository.split("/");
  const keys: string[] = [];
  for (let count = parts.length; count >= 0; count--) {
    for (const host of hosts) keys.push([host, ...parts.slice(0, count)].join("/"));
  }
  return keys;
}

/**
 * The forms of a key of a file of credentials as `credentialKeys` writes them. Docker's may have a scheme and a path, which
 * say nothing: it takes the host alone.
 */
export function plainCredentialKeys(key: string): string[] {
  const bare = key.replace(/^https?:\/\//, "");
  const plain = bare.replace(/(?:\/v[12])?\/*$/, "");
  if (bare === key) return [bare.endsWith("/") ? plain : bare];
  return [...new Set([plain, plain.split("/", 1)[0]!])];
}

/** What a credential helper is asked for. */
export function helperServer(registry: string): string {
  return registry === DOCKER_HUB ? DOCKER_HUB_KEY : registry;
}

/** How registries are reached. */
export interface RegistryOptions extends CertificateFiles {
  /** Where directories of certificates lie, each named after its registry; default: those of docker and podman. */
  readonly certificateDirectories?: readonly string[] | undefined;
  /** Speak http, not https. Without it, http is only tried on loopback, when https fails. */
  readonly plainHttp?: boolean | undefined;
  /** The only file that credentials are looked for in, as docker and podman write them; default: theirs. */
  readonly authFile?: string | undefined;
  /** Where files of credentials and their helpers are looked for; default: the process's environment. */
  readonly environment?: Readonly<Record<string, string | undefined>>;
  /** A directory that layers are kept in when they have been read, and read from when they are needed again. */
  readonly blobCache?: string | undefined;
  /** Replaces the clock. */
  readonly timing?: RegistryTiming | undefined;
}
