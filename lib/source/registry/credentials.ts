/**
 * Credentials: the files that `docker login` and `podman login` write, the helpers that keep passwords, and keeping secrets out
 * of what people get to read.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { spawn } from "node:child_process";
import { accessSync, closeSync, constants, fstatSync, openSync, readSync, statSync } from "node:fs";
import { homedir } from "node:os";
import { delimiter, join } from "node:path";
import { abortError, type ErrorDetails, InputError, IoError } from "../../errors.ts";
import { ioErrorFrom } from "../../io/system_error.ts";
import { displayText, parseJson } from "../json.ts";
import type { ImageReference } from "../reference.ts";
import { credentialKeys, helperServer, plainCredentialKeys } from "./endpoint.ts";
import type { RegistryTiming } from "./http.ts";

/** What proves who asks. */
export type Credentials =
  | { readonly kind: "password"; readonly username: string; readonly password: string }
  /** Is exchanged for tokens; OAuth calls it a refresh token. */
  | { readonly kind: "identityToken"; readonly token: string }
  /** Is shown to the registry as it is. */
  | { readonly kind: "registryToken"; readonly token: string };

/** The header for a name and a password. RFC 7617. */
export function basicAuthorization(username: string, password: string): string {
  return `Basic ${Buffer.from(`${username}:${password}`, "utf8").toString("base64")}`;
}

/** Whether a value can stand in a header as a token. */
export function isToken(value: unknown): value is string {
  return typeof value === "string" && value.length <= 1 << 16 && /^[\x21-\x7e]+$/.test(value);
}

/** Remembers secrets and takes them out of texts of others, such as the error of a server that shows what it got. */
export class Secrets {
  readonly #values = new Set<string>();

  add(value: string): void {
    // Shorter ones would only tell, by the gaps, what they are.
    if (value.length >= 4) this.#values.add(value);
  }

  hide(text: string): string {
    let shown = text;
    for (const value of this.#values) shown = shown.replaceAll(value, "***");
    return shown;
  }
}

/** An object of JSON whose fields were not looked at. */
export type SecretObject = Readonly<Record<string, unknown>>;

/**
 * Parses a document that holds secrets. Unlike for other documents, no error shows any part of it.
 *
 * @throws {InputError} when it is not a JSON object
 */
export function parseSecretObject(bytes: Uint8Array, what: string): SecretObject {
  const object = asSecretObject(parseJson(bytes, what));
  if (!object) throw new InputError(what, "is not a JSON object");
  return object;
}

/** The value if it is an object. */
export function asSecretObject(value: unknown): SecretObject | undefined {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return undefined;
  return value as SecretObject;
}

/** A field of the document itself that is a string and not empty. */
export function secretText(object: SecretObject, key: string): string | undefined {
  const value = Object.hasOwn(object, key) ? object[key] : undefined;
  return typeof value === "string" && value !== "" ? value : undefined;
}

/** How big a file of credentials may be. */
export const CREDENTIAL_FILE_BYTES = 1 << 20;

/**
 * What came out of pipes, which give it once, for those who ask for several images in one run. It goes with the object
 * that stands for the run.
 */
const pipeContents = new WeakMap<object, Map<string, Uint8Array>>();

/** A file to look at. */
export interface CredentialFile {
  readonly path: string;
  /** Whether it is an error that it does not exist. */
  readonly isWanted: boolean;
}

/**
 * The files to look at, in order. One that the user names is the only one.
 *
 * @param authFile the file that was named for this run
 */
export function credentialFiles(
  authFile: string | undefined,
  environment: Readonly<Record<string, string | undefined>>,
): CredentialFile[] {
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
  places: readonly CredentialFile[],
  context: HelperContext,
  run: object = {},
): Promise<Credentials | undefined> {
  for (const { path, isWanted } of places) {
    const bytes = pipeContents.get(run)?.get(path) ?? readIfThere(path, run);
    if (bytes) {
      const found = await lookUp(bytes, displayText(path), reference, context);
      if (found) return found;
    } else if (isWanted) {
      throw new InputError(displayText(path), "does not exist: wanted a file of credentials", {
        code: "notFound",
      });
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
      throw new InputError(
        what,
        `credHelpers."${displayText(key)}" is not a valid name of a helper`,
      );
    }
    const found = await tryCredentialHelper(helper, key, context);
    if (found) return found;
  }
  for (const [key, entry] of entriesFor(file, "auths", keys)) {
    // Some programs keep nothing so.
    if (entry === null) continue;
    const object = asSecretObject(entry);
    if (!object) throw new InputError(what, `auths."${displayText(key)}" is not an object`);
    const found = readEntry(object, `${what}: auths."${displayText(key)}"`);
    if (found) return found;
  }
  const store = secretText(file, "credsStore");
  if (store === undefined) return undefined;
  return await tryCredentialHelper(store, helperServer(reference.registry), context);
}

/** The entries of a part of the file that suit, the most specific first. */
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
    const alike = written.filter((key) =>
      key !== wanted && plainCredentialKeys(key).includes(wanted)
    );
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
    if (!isToken(token)) throw new InputError(what, `has an ${field} that is not a token`);
    return { kind, token };
  }
  // base64(1) breaks lines, and Go's decoder passes over the breaks.
  const auth = secretText(entry, "auth")?.replace(/[\r\n]/g, "");
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
    { code: "limitExceeded" },
  );
}

function keepForOthers(path: string, bytes: Uint8Array, run: object): void {
  const contents = pipeContents.get(run) ?? new Map<string, Uint8Array>();
  pipeContents.set(run, contents.set(path, bytes.slice()));
}

/** A helper that asks a person may take some time. */
export const HELPER_MILLISECONDS = 60_000;
const OUTPUT_BYTES = 64 << 10;
const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;
/** The user name by which a helper says that the secret is a token. */
const TOKEN_USERNAME = "<token>";
const REMEDY: ErrorDetails = {
  hint: "a file of credentials that holds only {} names no helper",
  remedies: [{ option: "authFile", change: "set", to: "do without the helper" }],
};

/** What asking for credentials may use. */
export interface HelperContext {
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly timing: RegistryTiming;
  readonly signal: AbortSignal | undefined;
  /** Called for helpers that are missing or fail, which are skipped then; without it they are errors. */
  readonly onFault?: ((fault: string) => void) | undefined;
}

/** Asks a helper; one that is missing or fails is skipped where `onFault` is given. */
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

/**
 * Asks a helper.
 *
 * @param name what stands in a file of credentials, without `docker-credential-`
 * @returns undefined when it knows none for the server
 * @throws {InputError} when the name or the output is wrong
 * @throws {IoError} when the helper cannot be run, fails or takes too long
 */
export async function askCredentialHelper(
  name: string,
  server: string,
  context: HelperContext,
): Promise<Credentials | undefined> {
  if (!NAME.test(name)) {
    throw new InputError(`credential helper "${displayText(name.slice(0, 80))}"`, "is not a name");
  }
  const program = `docker-credential-${name}`;
  const what = `credential helper ${program}`;
  const path = findProgram(program, context.environment["PATH"] ?? "");
  if (path === undefined) {
    throw new IoError(what, "is not on the PATH", { ...REMEDY, code: "missingProgram" });
  }
  const { exitCode, output } = await runHelper(path, what, server, context);
  if (exitCode !== 0) {
    if (/credentials not found/i.test(new TextDecoder().decode(output))) return undefined;
    // What it says may hold anything.
    throw new IoError(what, `fails with exit code ${exitCode}`, REMEDY);
  }
  const object = parseSecretObject(output, `${what}: its output`);
  const username = secretText(object, "Username");
  const secret = secretText(object, "Secret");
  if (secret === undefined) return undefined;
  if (username !== TOKEN_USERNAME) {
    return { kind: "password", username: username ?? "", password: secret };
  }
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

interface HelperRun {
  readonly exitCode: number;
  readonly output: Uint8Array;
}

function runHelper(
  path: string,
  what: string,
  server: string,
  { environment, timing, signal }: HelperContext,
): Promise<HelperRun> {
  return new Promise((resolve, reject) => {
    const child = spawn(path, ["get"], {
      env: { ...environment },
      stdio: ["pipe", "pipe", "ignore"],
    });
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
    child.on(
      "error",
      () => settle(new IoError(what, "cannot be run", { ...REMEDY, code: "missingProgram" })),
    );
    child.stdout.on("data", (piece: Uint8Array) => {
      lengthBytes += piece.length;
      pieces.push(piece);
      if (lengthBytes <= OUTPUT_BYTES) return;
      settle(
        new InputError(what, `its output is longer than ${OUTPUT_BYTES} bytes`, {
          code: "limitExceeded",
        }),
      );
    });
    child.on("close", (code: number | null) => {
      settle();
      const output = new Uint8Array(lengthBytes);
      let at = 0;
      for (const piece of pieces) {
        output.set(piece, at);
        at += piece.length;
      }
      resolve({ exitCode: code ?? -1, output });
    });
    // It may be done without reading.
    child.stdin.on("error", () => {});
    child.stdin.end(`${server}\n`);
    if (signal?.aborted) onAbort();
  });
}
