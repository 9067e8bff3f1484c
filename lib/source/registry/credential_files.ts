/**
 * The files that `docker login` and `podman login` write, and which of them are looked at.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { InputError } from "../../errors.ts";
import { ioErrorFrom } from "../../io/system_error.ts";
import { displayText } from "../json.ts";
import type { ImageReference } from "../reference.ts";
import { askCredentialHelper, type HelperContext } from "./credential_helper.ts";
import { credentialKeys, helperServer, plainCredentialKey } from "./endpoint.ts";
import {
  asSecretObject,
  type Credentials,
  isToken,
  parseSecretObject,
  type SecretObject,
  secretText,
} from "./secrets.ts";

/** How big a file of credentials may be. */
export const CREDENTIAL_FILE_BYTES = 1 << 20;

/**
 * What came out of pipes, which give it once, for those who ask for several images in one run. It goes with the object
 * that stands for the run.
 */
const pipeContents = new WeakMap<object, Map<string, Uint8Array>>();

/** A file to look at. */
export interface CredentialPlace {
  readonly path: string;
  /** Whether it is an error that it does not exist. */
  readonly isWanted: boolean;
}

/**
 * The files to look at, in order. One that the user names is the only one.
 *
 * @param authFile the file that was named for this run
 */
export function credentialPlaces(
  authFile: string | undefined,
  environment: Readonly<Record<string, string | undefined>>,
): CredentialPlace[] {
  if (authFile !== undefined) return [{ path: authFile, isWanted: true }];
  const named = environment["REGISTRY_AUTH_FILE"];
  if (named) return [{ path: named, isWanted: false }];
  const home = environment["HOME"] || homedir();
  const runtime = environment["XDG_RUNTIME_DIR"];
  const config = environment["XDG_CONFIG_HOME"] || join(home, ".config");
  const docker = environment["DOCKER_CONFIG"] || join(home, ".docker");
  const paths = [
    ...runtime ? [join(runtime, "containers", "auth.json")] : [],
    join(config, "containers", "auth.json"),
    join(docker, "config.json"),
  ];
  return paths.map((path) => ({ path, isWanted: false }));
}

/**
 * Finds the credentials for a repository in the first file that has some.
 *
 * @param run whatever is the same for all that may have to share what is in a pipe
 * @returns undefined when there are none
 * @throws {InputError} when a file or a helper's output is malformed; no secret is shown
 * @throws {IoError} when a file cannot be read or a helper fails
 */
export async function findCredentials(
  reference: ImageReference,
  places: readonly CredentialPlace[],
  context: HelperContext,
  run: object = {},
): Promise<Credentials | undefined> {
  for (const { path, isWanted } of places) {
    const bytes = pipeContents.get(run)?.get(path) ?? readIfThere(path, run);
    if (bytes) {
      const found = await lookUp(bytes, displayText(path), reference, context);
      if (found) return found;
    } else if (isWanted) {
      throw new InputError(displayText(path), "does not exist: wanted a file of credentials");
    }
  }
  return undefined;
}

async function lookUp(
  bytes: Uint8Array,
  what: string,
  reference: ImageReference,
  context: HelperContext,
): Promise<Credentials | undefined> {
  // podman creates the file before it has anything to write.
  if (bytes.length === 0) return undefined;
  const file = parseSecretObject(bytes, what);
  const keys = credentialKeys(reference);
  for (const [key, helper] of entriesFor(file, "credHelpers", keys)) {
    if (typeof helper !== "string") {
      throw new InputError(what, `credHelpers."${displayText(key)}" is no name of a helper`);
    }
    const found = await askCredentialHelper(helper, key, context);
    if (found) return found;
  }
  for (const [key, entry] of entriesFor(file, "auths", keys)) {
    const object = asSecretObject(entry);
    if (!object) throw new InputError(what, `auths."${displayText(key)}" is no object`);
    const found = readEntry(object, `${what}: auths."${displayText(key)}"`);
    if (found) return found;
  }
  const store = secretText(file, "credsStore");
  if (store === undefined) return undefined;
  return await askCredentialHelper(store, helperServer(reference.registry), context);
}

/** The entries of a part of the file that suit, the most special first. */
function entriesFor(
  file: SecretObject,
  part: string,
  keys: readonly string[],
): (readonly [key: string, value: unknown])[] {
  const object = Object.hasOwn(file, part) ? asSecretObject(file[part]) : undefined;
  if (!object) return [];
  const written = Object.keys(object);
  return keys.flatMap((wanted) => {
    // The very same name counts more than one that only means it.
    const same = written.filter((key) => key === wanted);
    const alike = written.filter((key) => key !== wanted && plainCredentialKey(key) === wanted);
    return [...same, ...alike].map((key) => [key, object[key]] as const);
  });
}

function readEntry(entry: SecretObject, what: string): Credentials | undefined {
  for (
    const [field, kind] of [["registrytoken", "registryToken"], [
      "identitytoken",
      "identityToken",
    ]] as const
  ) {
    const token = secretText(entry, field);
    if (token === undefined) continue;
    if (!isToken(token)) throw new InputError(what, `has an ${field} that is no token`);
    return { kind, token };
  }
  const auth = secretText(entry, "auth");
  if (auth === undefined) {
    const [username, password] = [secretText(entry, "username"), secretText(entry, "password")];
    if (username === undefined || password === undefined) return undefined;
    return { kind: "password", username, password };
  }
  const text = Buffer.from(auth, "base64").toString("utf8");
  const colon = text.indexOf(":");
  if (!/^[A-Za-z0-9+/=_-]+$/.test(auth) || colon < 0) {
    throw new InputError(what, "has an auth that is not USER:PASSWORD in base64");
  }
  // Docker pads what it encodes.
  const password = text.slice(colon + 1).replace(/\0+$/, "");
  return { kind: "password", username: text.slice(0, colon), password };
}

/** A small file or a pipe, whole; undefined when it is not there. */
function readIfThere(path: string, run: object): Uint8Array | undefined {
  const buffer = new Uint8Array(CREDENTIAL_FILE_BYTES + 1);
  let lengthBytes = 0;
  let isPipe: boolean;
  try {
    const descriptor = openSync(path, "r");
    try {
      isPipe = fstatSync(descriptor).isFIFO();
      for (;;) {
        const count = readSync(descriptor, buffer, lengthBytes, buffer.length - lengthBytes, null);
        lengthBytes += count;
        if (count === 0 || lengthBytes === buffer.length) break;
      }
    } finally {
      closeSync(descriptor);
    }
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ENOTDIR") return undefined;
    throw ioErrorFrom(path, "cannot be read", error);
  }
  if (lengthBytes <= CREDENTIAL_FILE_BYTES) {
    const bytes = buffer.subarray(0, lengthBytes);
    if (isPipe) keepForOthers(path, bytes, run);
    return bytes;
  }
  throw new InputError(
    displayText(path),
    `is longer than the ${CREDENTIAL_FILE_BYTES} bytes that are read of a file of credentials`,
  );
}

function keepForOthers(path: string, bytes: Uint8Array, run: object): void {
  const contents = pipeContents.get(run) ?? new Map<string, Uint8Array>();
  pipeContents.set(run, contents.set(path, bytes.slice()));
}
