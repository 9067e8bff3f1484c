/**
 * Credential helpers: programs that keep passwords where files should not. Docker's credential-helpers protocol:
 * `docker-credential-NAME get`, the server on standard input, a JSON object on standard output.
 *
 * @module
 */
import { spawn } from "node:child_process";
import { accessSync, constants, statSync } from "node:fs";
import { delimiter, join } from "node:path";
import { InputError, IoError } from "../../errors.ts";
import { displayText } from "../json.ts";
import { type Credentials, isToken, parseSecretObject, secretText } from "./secrets.ts";
import { interruption, type RegistryTiming } from "./timing.ts";

/** A helper that asks a person may take some time. */
export const HELPER_MILLISECONDS = 60_000;
const OUTPUT_BYTES = 64 << 10;
const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;
/** The user name by which a helper says that the secret is a token. */
const TOKEN_USERNAME = "<token>";
const HINT =
  "to do without it, name another file of credentials with --authfile; one that holds {} has none";

/** What asking for credentials may use. */
export interface HelperContext {
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly timing: RegistryTiming;
  readonly signal: AbortSignal | undefined;
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
  if (path === undefined) throw new IoError(what, "is not on the PATH", { hint: HINT });
  const { exitCode, output } = await runHelper(path, what, server, context);
  if (exitCode !== 0) {
    if (/credentials not found/i.test(new TextDecoder().decode(output))) return undefined;
    // What it says may hold anything.
    throw new IoError(what, `fails with exit code ${exitCode}`, { hint: HINT });
  }
  const object = parseSecretObject(output, `${what}: its output`);
  const username = secretText(object, "Username");
  const secret = secretText(object, "Secret");
  if (secret === undefined) return undefined;
  if (username !== TOKEN_USERNAME) {
    return { kind: "password", username: username ?? "", password: secret };
  }
  if (!isToken(secret)) throw new InputError(`${what}: its output`, "has a token that is none");
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
    const onAbort = () => settle(interruption(signal!));
    const disarm = timing.alarm(HELPER_MILLISECONDS, () => {
      const why = `gives no answer within ${HELPER_MILLISECONDS / 1000} seconds`;
      settle(new IoError(what, why, { hint: HINT }));
    });
    signal?.addEventListener("abort", onAbort, { once: true });
    child.on("error", () => settle(new IoError(what, "cannot be run", { hint: HINT })));
    child.stdout.on("data", (piece: Uint8Array) => {
      lengthBytes += piece.length;
      pieces.push(piece);
      if (lengthBytes <= OUTPUT_BYTES) return;
      settle(new InputError(what, `its output is longer than ${OUTPUT_BYTES} bytes`));
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
