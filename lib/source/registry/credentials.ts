/**
 * Credentials: the files written by `docker login` and `podman login`, the helpers that store passwords, and keeping
 * secrets out of messages.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { spawn } from "node:child_process";
import { accessSync, closeSync, constants, fstatSync, openSync, readSync, statSync } from "node:fs";
import { homedir } from "node:os";
import { delimiter, join } from "node:path";
import * as v from "valibot";
import { abortError, type ErrorDetails, InputError, IoError } from "../../errors.ts";
import { ioErrorFrom } from "../../io/system_error.ts";
import { checkJson, displayText, fields, parseJson } from "../json.ts";
import type { ImageReference } from "../source_name.ts";
import type { RegistryTiming } from "./http.ts";

/** A client's proof of identity. */
export type Credentials =
  | { readonly kind: "password"; readonly username: string; readonly password: string }
  /** Exchanged for tokens; OAuth calls it a refresh token. */
  | { readonly kind: "identityToken"; readonly token: string }
  /** Sent to the registry unchanged. */
  | { readonly kind: "registryToken"; readonly token: string };

/** The header for a name and a password (RFC 7617). */
export function basicAuthorization(username: string, password: string): string {
  return `Basic ${Buffer.from(`${username}:${password}`, "utf8").toString("base64")}`;
}

/** Whether a value is valid as a token in a header. */
export function isToken(value: unknown): value is string {
  return typeof value === "string" && value.length <= 1 << 16 && /^[\x21-\x7e]+$/.test(value);
}

/** Remembers secrets and removes them from other parties' texts, such as a server error that repeats its input. */
export class Secrets {
  readonly #values = new Set<string>();

  add(value: string): void {
    // The gaps left by shorter ones would reveal them.
    if (value.length >= 4) this.#values.add(value);
  }

  hide(text: string): string {
    let shown = text;
    for (const value of this.#values) shown = shown.replaceAll(value, "***");
    return shown;
  }
}

/** A text in a document of secrets. If it is empty or not a string, it counts as absent. */
export const SECRET_TEXT = v.fallback(v.optional(v.pipe(v.string(), v.nonEmpty())), undefined);

/** Reads a document that contains secrets: unlike for other documents, errors show no values. */
export function readSecrets<S extends v.GenericSchema>(
  schema: S,
  bytes: Uint8Array,
  what: string,
): v.InferOutput<S> {
  return checkJson(schema, parseJson(bytes, what), { what, field: "", isSecret: true });
}

const CREDENTIAL_FILE = fields({
  credHelpers: v.fallback(v.optional(v.record(v.string(), v.unknown())), undefined),
  auths: v.fallback(v.optional(v.record(v.string(), v.unknown())), undefined),
  credsStore: SECRET_TEXT,
});
const HELPER_NAME = v.string("the name of a helper");
/** Some programs write null for an entry without content. */
const ENTRY = v.nullable(fields({
  registrytoken: SECRET_TEXT,
  identitytoken: SECRET_TEXT,
  auth: SECRET_TEXT,
  username: SECRET_TEXT,
  password: SECRET_TEXT,
}));
const HELPER_OUTPUT = fields({ Username: SECRET_TEXT, Secret: SECRET_TEXT });

export const CREDENTIAL_FILE_BYTES = 1 << 20;

/** Content read from pipes, which can be read only once, by the object that represents a run over several images. */
const pipeContents = new WeakMap<object, Map<string, Uint8Array>>();

/** The files of podman and docker, in order. */
function usualFiles(environment: HelperContext["environment"]): string[] {
  const { REGISTRY_AUTH_FILE, XDG_RUNTIME_DIR: runtime, HOME = "" } = environment;
  if (REGISTRY_AUTH_FILE) return [REGISTRY_AUTH_FILE];
  const home = HOME || homedir();
  const config = environment["XDG_CONFIG_HOME"] || join(home, ".config");
  const docker = environment["DOCKER_CONFIG"] || join(home, ".docker");
  return [
    ...runtime ? [join(runtime, "containers", "auth.json")] : [],
    join(config, "containers", "auth.json"),
    join(docker, "config.json"),
  ];
}

/**
 * Finds the credentials for a repository in the given file, or in the first of the usual ones that has some. Errors show no
 * secrets.
 *
 * @param run the same object for all calls that share the content of a pipe
 */
export async function findCredentials(
  reference: ImageReference,
  authFile: string | undefined,
  context: HelperContext,
  run: object = {},
): Promise<Credentials | undefined> {
  const paths = authFile === undefined ? usualFiles(context.environment) : [authFile];
  for (const path of paths) {
    const bytes = pipeContents.get(run)?.get(path) ?? readIfThere(path, run);
    if (bytes === undefined && authFile !== undefined) {
      const why = "does not exist: wanted a file of credentials";
      throw new InputError(displayText(path), why, { code: "notFound" });
    }
    // podman creates the file before it has anything to write.
    const found = bytes?.length && await lookUp(bytes, displayText(path), reference, context);
    if (found) return found;
  }
  return undefined;
}

async function lookUp(
  bytes: Uint8Array,
  what: string,
  reference: ImageReference,
  context: HelperContext,
): Promise<Credentials | undefined> {
  const { credHelpers, auths, credsStore } = readSecrets(CREDENTIAL_FILE, bytes, what);
  const keys = credentialKeys(reference);
  const at = (part: string, key: string) => ({ what, field: `${part}."${key}"`, isSecret: true });
  for (const [key, value] of entriesFor(credHelpers, keys)) {
    const helper = checkJson(HELPER_NAME, value, at("credHelpers", key));
    const found = await tryCredentialHelper(helper, key, context);
    if (found) return found;
  }
  for (const [key, value] of entriesFor(auths, keys)) {
    const entry = checkJson(ENTRY, value, at("auths", key));
    const found = entry && readEntry(entry, `${what}: auths."${displayText(key)}"`);
    if (found) return found;
  }
  if (credsStore === undefined) return undefined;
  const server = reference.registry === DOCKER_HUB ? DOCKER_HUB_KEY : reference.registry;
  return await tryCredentialHelper(credsStore, server, context);
}

/** docker.io is only a name; the actual registry is the last of these. */
export const DOCKER_HUB_HOSTS = ["docker.io", "index.docker.io", "registry-1.docker.io"] as const;
const [DOCKER_HUB] = DOCKER_HUB_HOSTS;
/** The key that docker uses to ask helpers for docker.io's credentials. */
const DOCKER_HUB_KEY = "https://index.docker.io/v1/";

/** The keys that may have credentials for a repository, most specific first, as podman looks them up. */
export function credentialKeys({ registry, repository }: ImageReference): string[] {
  const hosts = registry === DOCKER_HUB ? DOCKER_HUB_HOSTS : [registry];
  const parts = repository.split("/");
  return Array.from({ length: parts.length + 1 }, (_, dropped) => {
    const below = parts.slice(0, parts.length - dropped);
    return hosts.map((host) => [host, ...below].join("/"));
  }).flat();
}

/**
 * The forms of a key in a credentials file, as `credentialKeys` writes them. Docker's keys may have a scheme and a path,
 * which it ignores: only the host counts.
 */
export function plainCredentialKeys(key: string): string[] {
  const bare = key.replace(/^https?:\/\//, "");
  const plain = bare.replace(/(?:\/v[12])?\/*$/, "");
  if (bare === key) return [bare.endsWith("/") ? plain : bare];
  return [...new Set([plain, plain.split("/", 1)[0]!])];
}

/** The matching entries, most specific first. */
function entriesFor(
  entries: Readonly<Record<string, unknown>> = {},
  keys: readonly string[],
): (readonly [key: string, value: unknown])[] {
  const written = Object.keys(entries);
  return keys.flatMap((wanted) => {
    // An identical name takes precedence over an equivalent one.
    const same = written.filter((key) => key === wanted);
    const alike = written.filter((key) =>
      key !== wanted && plainCredentialKeys(key).includes(wanted)
    );
    return [...same, ...alike].map((key) => [key, entries[key]] as const);
  });
}

function readEntry(
  entry: NonNullable<v.InferOutput<typeof ENTRY>>,
  what: string,
): Credentials | undefined {
  for (const kind of ["registryToken", "identityToken"] as const) {
    const field = kind.toLowerCase() as Lowercase<typeof kind>;
    const token = entry[field];
    if (token === undefined) continue;
    if (!isToken(token)) throw new InputError(what, `its ${field} is not a token`);
    return { kind, token };
  }
  const { username, password } = entry;
  // base64(1) inserts line breaks, which Go's decoder ignores.
  const auth = entry.auth?.replace(/[\r\n]/g, "");
  if (auth === undefined) {
    if (username === undefined || password === undefined) return undefined;
    return { kind: "password", username, password };
  }
  const text = Buffer.from(auth, "base64").toString("utf8");
  const colon = text.indexOf(":");
  if (!/^[A-Za-z0-9+/=_-]+$/.test(auth) || colon < 0) {
    throw new InputError(what, "has an auth that is not USER:PASSWORD in base64");
  }
  // Docker pads what it encodes.
  const decoded = text.slice(colon + 1).replace(/\0+$/, "");
  return { kind: "password", username: text.slice(0, colon), password: decoded };
}

/** Reads a small file or a pipe whole; undefined if it does not exist. */
function readIfThere(path: string, run: object): Uint8Array | undefined {
  const buffer = new Uint8Array(CREDENTIAL_FILE_BYTES + 1);
  let lengthBytes = 0;
  let isPipe: boolean;
  try {
    const descriptor = openSync(path, "r");
    try {
      isPipe = fstatSync(descriptor).isFIFO();
      let count: number;
      do {
        count = readSync(descriptor, buffer, lengthBytes, buffer.length - lengthBytes, null);
        lengthBytes += count;
      } while (count > 0 && lengthBytes < buffer.length);
    } finally {
      closeSync(descriptor);
    }
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ENOTDIR") return undefined;
    throw ioErrorFrom(path, "cannot be read", error);
  }
  if (lengthBytes > CREDENTIAL_FILE_BYTES) {
    const why =
      `is longer than ${CREDENTIAL_FILE_BYTES} bytes, the most that is read of a file of ` +
      "credentials";
    throw new InputError(displayText(path), why, { code: "limitExceeded" });
  }
  const bytes = buffer.slice(0, lengthBytes);
  if (isPipe) pipeContents.set(run, (pipeContents.get(run) ?? new Map()).set(path, bytes));
  return bytes;
}

/** A helper that asks the user may take some time. */
const HELPER_MILLISECONDS = 60_000;
const OUTPUT_BYTES = 64 << 10;
const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;
const TOKEN_USERNAME = "<token>";
const REMEDY: ErrorDetails = {
  hint: "a file of credentials that holds only {} names no helper",
  remedies: [{ option: "authFile", change: "set", to: "do without the helper" }],
};

export interface HelperContext {
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly timing: RegistryTiming;
  readonly signal: AbortSignal | undefined;
  /** Called for helpers that are missing or fail, which are then skipped; without it they are errors. */
  readonly onFault?: ((fault: string) => void) | undefined;
}

/** Asks a helper; a missing or failing one is skipped if `onFault` is given. */
async function tryCredentialHelper(
  name: string,
  server: string,
  context: HelperContext,
): Promise<Credentials | undefined> {
  try {
    return await askCredentialHelper(name, server, context);
  } catch (error) {
    const isFault = error instanceof IoError || error instanceof InputError;
    if (!isFault || context.onFault === undefined) throw error;
    context.onFault(error.message);
    return undefined;
  }
}

/** Asks the helper `docker-credential-NAME`; undefined if it has no credentials for the server. */
export async function askCredentialHelper(
  name: string,
  server: string,
  context: HelperContext,
): Promise<Credentials | undefined> {
  if (!NAME.test(name)) {
    const shown = displayText(name.slice(0, 80));
    throw new InputError(`credential helper "${shown}"`, "is not a valid name");
  }
  const program = `docker-credential-${name}`;
  const what = `credential helper ${program}`;
  const path = findProgram(program, context.environment["PATH"] ?? "");
  if (path === undefined) {
    throw new IoError(what, "is not on the PATH", { ...REMEDY, code: "missingProgram" });
  }
  const { exitCode, output } = await runHelper(path, what, server, context);
  if (exitCode !== 0) {
    if (/credentials not found/i.test(output.toString())) return undefined;
    // Its output may contain anything, so it is not shown.
    throw new IoError(what, `fails with exit code ${exitCode}`, REMEDY);
  }
  const { Username: username = "", Secret: secret } = readSecrets(
    HELPER_OUTPUT,
    output,
    `${what}: its output`,
  );
  if (secret === undefined) return undefined;
  if (username !== TOKEN_USERNAME) return { kind: "password", username, password: secret };
  if (!isToken(secret)) throw new InputError(`${what}: its output`, "has an invalid token");
  return { kind: "identityToken", token: secret };
}

function findProgram(program: string, path: string): string | undefined {
  return path.split(delimiter).filter((directory) => directory !== "")
    .map((directory) => join(directory, program))
    .find((file) => {
      try {
        accessSync(file, constants.X_OK);
        return statSync(file).isFile();
      } catch {
        return false;
      }
    });
}

function runHelper(
  path: string,
  what: string,
  server: string,
  { environment, timing, signal }: HelperContext,
): Promise<{ readonly exitCode: number; readonly output: Buffer }> {
  return new Promise((resolve, reject) => {
    const stdio = ["pipe", "pipe", "ignore"] as ["pipe", "pipe", "ignore"];
    const child = spawn(path, ["get"], { env: { ...environment }, stdio });
    const pieces: Uint8Array[] = [];
    let lengthBytes = 0;
    const settle = (error?: Error) => {
      disarm();
      signal?.removeEventListener("abort", onAbort);
      if (!error) return;
      child.kill("SIGKILL");
      // A child of the helper may hold the other end.
      child.stdout.destroy();
      reject(error);
    };
    const onAbort = () => settle(abortError(signal!));
    const disarm = timing.alarm(HELPER_MILLISECONDS, () => {
      const why = `gives no answer within ${HELPER_MILLISECONDS / 1000} seconds`;
      settle(new IoError(what, why, REMEDY));
    });
    signal?.addEventListener("abort", onAbort, { once: true });
    child.on("error", () => {
      settle(new IoError(what, "cannot be run", { ...REMEDY, code: "missingProgram" }));
    });
    child.stdout.on("data", (piece: Uint8Array) => {
      lengthBytes += piece.length;
      pieces.push(piece);
      if (lengthBytes <= OUTPUT_BYTES) return;
      const why = `its output is longer than ${OUTPUT_BYTES} bytes`;
      settle(new InputError(what, why, { code: "limitExceeded" }));
    });
    child.on("close", (code: number | null) => {
      settle();
      resolve({ exitCode: code ?? -1, output: Buffer.concat(pieces) });
    });
    // It may exit without reading.
    child.stdin.on("error", () => {});
    child.stdin.end(`${server}\n`);
    if (signal?.aborted) onAbort();
  });
}
