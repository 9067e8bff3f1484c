import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { Buffer } from "node:buffer";
import { spawn, spawnSync } from "node:child_process";
import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import process from "node:process";
import * as v from "valibot";
import { InputError, InterruptedError, IoError } from "../../../lib/errors.ts";
import { fields } from "../../../lib/source/json.ts";
import { parseReference } from "../../../lib/source/source_name.ts";
import {
  askCredentialHelper,
  basicAuthorization,
  CREDENTIAL_FILE_BYTES,
  credentialKeys,
  type Credentials,
  findCredentials,
  isToken,
  plainCredentialKeys,
  readSecrets,
  SECRET_TEXT,
  Secrets,
} from "../../../lib/source/registry/credentials.ts";
import { withDirectory } from "../helpers.ts";
import { TestTiming } from "./fake_registry.ts";

Deno.test("basicAuthorization encodes as RFC 7617 has it", () => {
  assertEquals(
    basicAuthorization("Aladdin", "open sesame"),
    "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==",
  );
  assertEquals(basicAuthorization("test", "123£"), "Basic dGVzdDoxMjPCow==");
});

Deno.test("isToken wants what a header can hold", () => {
  for (const token of ["a", "eyJ.x-_~+/=="]) assert(isToken(token));
  for (const wrong of ["", "a b", "a\r\nX: y", "ä", 7, undefined, "a".repeat(1 << 17)]) {
    assert(!isToken(wrong));
  }
});

Deno.test("Secrets takes what it knows out of a text", () => {
  const secrets = new Secrets();
  secrets.add("hunter22");
  secrets.add("a");
  assertEquals(
    secrets.hide("the password hunter22 (hunter22) was a wrong one"),
    [
      "the password *** (***) was a wrong one",
    ][0]!,
  );
});

Deno.test("readSecrets shows nothing of a document that is wrong", () => {
  const schema = fields({ a: v.object({ b: v.number("a number") }, "an object") });
  const read = (text: string) => readSecrets(schema, new TextEncoder().encode(text), "config.json");
  const wrong = {
    '{"auth": "c2VjcmV0"': "is not valid JSON",
    '"c2VjcmV0"': "the document is not valid: wanted an object",
    "[1]": "the document is not valid: wanted an object",
    "null": "the document is not valid: wanted an object",
    "": "is not valid JSON",
    '{"a": "c2VjcmV0"}': "a is not valid: wanted an object",
    '{"a": {"b": "c2VjcmV0"}}': "a.b is not valid: wanted a number",
  };
  for (const [text, why] of Object.entries(wrong)) {
    const error = assertThrows(() => read(text), InputError);
    assertEquals([error.message, error.cause], [`config.json: ${why}`, undefined]);
  }
  assertThrows(() => read('{"a":'.repeat(100_000)), InputError, "nests more than");
  const bytes = new Uint8Array([0x7b, 0xff]);
  assertThrows(() => readSecrets(schema, bytes, "x"), InputError, "not valid JSON");
});

Deno.test("SECRET_TEXT reads own strings that are not empty", () => {
  const entries = { a: SECRET_TEXT, c: SECRET_TEXT, d: SECRET_TEXT, e: SECRET_TEXT };
  const schema = fields({ ...entries, toString: SECRET_TEXT });
  const bytes = new TextEncoder().encode('{"a":"b","c":1,"d":""}');
  const read = readSecrets(schema, bytes, "x");
  assertEquals([read.a, read.c, read.d, read.e, read.toString], ["b", ...Array(4)]);
});

/** Looks a repository up in files of one directory; helpers are looked for there as well. */
async function find(
  reference: string,
  files: Readonly<Record<string, unknown>>,
  environment: Readonly<Record<string, string>> = {},
  authFile?: string,
): Promise<Credentials | undefined> {
  return await withDirectory(async (directory) => {
    for (const [name, content] of Object.entries(files)) {
      const path = join(directory, name);
      mkdirSync(dirname(path), { recursive: true });
      writeFileSync(path, typeof content === "string" ? content : JSON.stringify(content));
      if (name.startsWith("docker-credential-")) chmodSync(path, 0o755);
    }
    const at = (path: string) => path.replace("$D", directory);
    const full = {
      HOME: directory,
      PATH: `${directory}:${process.env["PATH"]}`,
      ...Object.fromEntries(Object.entries(environment).map(([k, v]) => [k, at(v)])),
    };
    const file = authFile === undefined ? undefined : at(authFile);
    const context = { environment: full, timing: new TestTiming(), signal: undefined };
    return await findCredentials(parseReference(reference), file, context);
  });
}

function auth(name: string, password = "secret"): { auth: string } {
  return { auth: Buffer.from(`${name}:${password}`).toString("base64") };
}

/** The user's name that is found; undefined when none is. */
async function userOf(...args: Parameters<typeof find>): Promise<string | undefined> {
  const found = await find(...args);
  return found?.kind === "password" ? found.username : found?.kind;
}

const DOCKER = ".docker/config.json";
const PODMAN = ".config/containers/auth.json";

Deno.test("findCredentials reads what docker login writes", async () => {
  const found = await find("r.example.com:5000/app", {
    [DOCKER]: { auths: { "r.example.com:5000": auth("me", "a:b c\u00e9") } },
  });
  assertEquals(found, { kind: "password", username: "me", password: "a:b c\u00e9" });
  assertEquals(await find("other.example.com/app", { [DOCKER]: { auths: {} } }), undefined);
  assertEquals(await find("r.example.com/app", {}), undefined);
  assertEquals(await find("r.example.com/app", { [DOCKER]: "" }), undefined);
});

Deno.test("findCredentials knows docker.io under its names", async () => {
  for (const key of ["https://index.docker.io/v1/", "docker.io", "index.docker.io"]) {
    assertEquals(await userOf("debian", { [DOCKER]: { auths: { [key]: auth("me") } } }), "me", key);
  }
});

Deno.test("findCredentials takes a host under no other host's name", async () => {
  const auths = {
    "example.com": auth("a"),
    "r.example.com:5001": auth("b"),
    "r.example.com/team2": auth("c"),
    "xr.example.com": auth("d"),
  };
  assertEquals(await userOf("r.example.com:5000/team/app", { [DOCKER]: { auths } }), undefined);
  assertEquals(await userOf("r.example.com/team/app", { [DOCKER]: { auths } }), undefined);
});

Deno.test("findCredentials takes podman's most special key", async () => {
  const auths = {
    "r.example.com": auth("host"),
    "r.example.com/team": auth("team"),
    "r.example.com/team/app": auth("app"),
  };
  const files = { [PODMAN]: { auths } };
  assertEquals(await userOf("r.example.com/team/app", files), "app");
  assertEquals(await userOf("r.example.com/team/app2", files), "team");
  assertEquals(await userOf("r.example.com/team2/app", files), "host");
});

Deno.test("findCredentials prefers the very name to one that means the same", async () => {
  const auths = { "https://r.example.com/v1/": auth("old"), "r.example.com": auth("new") };
  assertEquals(await userOf("r.example.com/app", { [DOCKER]: { auths } }), "new");
});

Deno.test("findCredentials reads tokens before passwords", async () => {
  const entry = { ...auth("me"), identitytoken: "identity" };
  const read = (value: unknown) => {
    return find("r.example.com/a", { [DOCKER]: { auths: { "r.example.com": value } } });
  };
  assertEquals(await read(entry), { kind: "identityToken", token: "identity" });
  assertEquals(await read({ ...entry, registrytoken: "t" }), { kind: "registryToken", token: "t" });
  assertEquals(await read({ username: "u", password: "p" }), {
    kind: "password",
    username: "u",
    password: "p",
  });
  assertEquals(await read({}), undefined);
});

Deno.test("findCredentials looks into the files in order", async () => {
  const file = (name: string) => ({ auths: { "r.example.com": auth(name) } });
  const files = {
    "named.json": file("named"),
    "run/containers/auth.json": file("runtime"),
    [PODMAN]: file("podman"),
    [DOCKER]: file("docker"),
    "elsewhere/config.json": file("elsewhere"),
    "xdg/containers/auth.json": file("xdg"),
    "none.json": "{}",
  };
  const user = (environment: Record<string, string>, authFile?: string) =>
    userOf("r.example.com/a", files, environment, authFile);
  assertEquals(await user({}), "podman");
  assertEquals(await user({ XDG_RUNTIME_DIR: "$D/run" }), "runtime");
  assertEquals(await user({ XDG_CONFIG_HOME: "$D/xdg" }), "xdg");
  assertEquals(
    await user({ XDG_CONFIG_HOME: "$D/no", DOCKER_CONFIG: "$D/elsewhere" }),
    "elsewhere",
  );
  assertEquals(await user({ XDG_CONFIG_HOME: "$D/no" }), "docker");
  assertEquals(await user({ REGISTRY_AUTH_FILE: "$D/named.json" }), "named");
  assertEquals(await user({ REGISTRY_AUTH_FILE: "$D/missing.json" }), undefined);
  assertEquals(await user({}, "$D/named.json"), "named");
  assertEquals(await user({ REGISTRY_AUTH_FILE: "$D/named.json" }, "$D/none.json"), undefined);
  await assertRejects(() => user({}, "$D/missing.json"), InputError, "does not exist");
  await assertRejects(() => user({}, "$D"), IoError, "cannot be read");
});

Deno.test("credentialKeys goes from the repository to the host", () => {
  assertEquals(credentialKeys(parseReference("r.example.com:5/a/b:v1")), [
    "r.example.com:5/a/b",
    "r.example.com:5/a",
    "r.example.com:5",
  ]);
  assertEquals(credentialKeys(parseReference("debian")).slice(-3), [
    "docker.io",
    "index.docker.io",
    "registry-1.docker.io",
  ]);
});

Deno.test("plainCredentialKeys takes off what docker writes around a host", () => {
  const keys = {
    "https://index.docker.io/v1/": "index.docker.io",
    "http://r.example.com": "r.example.com",
    "https://r.example.com/v2/": "r.example.com",
    "r.example.com/": "r.example.com",
    "r.example.com/team/v1": "r.example.com/team/v1",
    "r.example.com": "r.example.com",
  };
  for (const [key, plain] of Object.entries(keys)) assertEquals(plainCredentialKeys(key), [plain]);
  assertEquals(plainCredentialKeys("https://r.example.com:5/team/app"), [
    "r.example.com:5/team/app",
    "r.example.com:5",
  ]);
});

/** A helper that knows one server. */
function helper(server: string, user: string): string {
  return `#!/bin/sh
read -r asked
[ "$asked" = '${server}' ] || { echo credentials not found in native keychain; exit 1; }
echo '{"Username":"${user}","Secret":"s"}'
`;
}

Deno.test("findCredentials finds the credentials of a pipe for all images of a run", async () => {
  await withDirectory(async (directory) => {
    const path = join(directory, "pipe");
    assertEquals(spawnSync("mkfifo", [path]).status, 0);
    const text = JSON.stringify({ auths: { "a.example": auth("me"), "b.example": auth("you") } });
    const writer = spawn("sh", ["-c", 'printf %s "$1" > "$2"', "sh", text, path]);
    const closed = new Promise((resolve) => writer.on("close", resolve));
    const context = { environment: {}, timing: new TestTiming(), signal: undefined };
    const run = {};
    for (const [host, username] of [["a.example", "me"], ["b.example", "you"]] as const) {
      const found = await findCredentials(parseReference(`${host}/x`), path, context, run);
      assertEquals(found, { kind: "password", username, password: "secret" });
    }
    await closed;
  });
});

Deno.test("findCredentials asks helpers: the host's own first, the store last", async () => {
  const files = {
    "docker-credential-own": helper("r.example.com", "own"),
    "docker-credential-store": helper("r.example.com", "stored"),
    "docker-credential-hub": helper("https://index.docker.io/v1/", "hub"),
  };
  const user = (config: unknown, reference = "r.example.com/a") =>
    userOf(reference, { ...files, [DOCKER]: config });
  const auths = { "r.example.com": auth("file") };
  const credHelpers = { "r.example.com": "own" };
  assertEquals(await user({ credHelpers, auths, credsStore: "store" }), "own");
  assertEquals(await user({ auths, credsStore: "store" }), "file");
  assertEquals(await user({ auths: { "r.example.com": {} }, credsStore: "store" }), "stored");
  assertEquals(await user({ credsStore: "hub" }, "debian"), "hub");
  const hubKey = { "https://index.docker.io/v1/": "hub" };
  assertEquals(await user({ credHelpers: hubKey }, "debian"), "hub");
  assertEquals(await user({ credsStore: "store" }, "other.example.com/a"), undefined);
  await assertRejects(() => user({ credsStore: "gone" }), IoError, "is not on the PATH");
});

Deno.test("findCredentials refuses what is malformed and shows none of it", async () => {
  const long = "hunter22".repeat(CREDENTIAL_FILE_BYTES / 8);
  const wrong = [
    '{"auths": {"r.example.com": {"auth": "hunter22"}',
    { auths: { "r.example.com": "hunter22" } },
    { auths: { "r.example.com": { auth: "hunter22" } } },
    { auths: { "r.example.com": { auth: "{hunter22}" } } },
    { auths: { "r.example.com": { identitytoken: "hunter22 \u001b" } } },
    { credHelpers: { "r.example.com": ["hunter22"] } },
    JSON.stringify(long),
  ];
  for (const config of wrong) {
    const error = await assertRejects(
      () => find("r.example.com/a", { [DOCKER]: config }),
      InputError,
      DOCKER,
    );
    assert(!error.message.includes("hunter") && error.cause === undefined, error.message);
  }
});

interface Asked {
  readonly script: string;
  readonly server?: string;
  readonly name?: string;
  readonly timing?: TestTiming;
  readonly signal?: AbortSignal;
}

/** Asks a helper that is a script of sh. */
async function ask(asked: Asked): Promise<Credentials | undefined> {
  return await withDirectory(async (directory) => {
    const program = join(directory, "docker-credential-test");
    writeFileSync(program, `#!/bin/sh\n${asked.script}\n`);
    chmodSync(program, 0o755);
    const PATH = `/nonexistent:${directory}:${process.env["PATH"]}`;
    return await askCredentialHelper(asked.name ?? "test", asked.server ?? "r.example.com", {
      environment: { PATH },
      timing: asked.timing ?? new TestTiming(),
      signal: asked.signal,
    });
  });
}

const ANSWER = '{"ServerURL":"x","Username":"u","Secret":"hunter22"}';

Deno.test("askCredentialHelper asks for a server on standard input", async () => {
  const found = await ask({
    script: `[ "$1" = get ] && [ "$(cat)" = r.example.com:5000 ] && echo '${ANSWER}'`,
    server: "r.example.com:5000",
  });
  assertEquals(found, { kind: "password", username: "u", password: "hunter22" });
});

Deno.test("askCredentialHelper takes a secret of the user <token> for a token", async () => {
  const script = `echo '{"Username":"<token>","Secret":"abc.def"}'`;
  assertEquals(await ask({ script }), { kind: "identityToken", token: "abc.def" });
  const wrong = `echo '{"Username":"<token>","Secret":"hunter 22"}'`;
  const error = await assertRejects(
    () => ask({ script: wrong }),
    InputError,
    "an invalid token",
  );
  assert(!error.message.includes("hunter"));
});

Deno.test("askCredentialHelper finds nothing where the helper says so", async () => {
  const script = "echo credentials not found in native keychain; exit 1";
  assertEquals(await ask({ script }), undefined);
  assertEquals(await ask({ script: `echo '{"Username":"","Secret":""}'` }), undefined);
});

Deno.test("askCredentialHelper shows nothing of what a helper says", async () => {
  for (
    const script of ["echo hunter22; echo hunter22 >&2; exit 3", "echo hunter22", "kill -9 $$"]
  ) {
    const error = await assertRejects(() => ask({ script }), Error, "docker-credential-test");
    assert(error instanceof IoError || error instanceof InputError);
    assert(!`${error.message} ${error.hint} ${error.cause}`.includes("hunter"), error.message);
  }
});

Deno.test("askCredentialHelper wants a name, and a program of that name", async () => {
  for (const name of ["", "../x", "a b", "-x", "a/b", "x".repeat(80)]) {
    await assertRejects(() => ask({ script: "", name }), InputError, "is not a valid name");
  }
  await assertRejects(() => ask({ script: "", name: "missing" }), IoError, "is not on the PATH");
});

Deno.test("askCredentialHelper reads no endless output", async () => {
  await assertRejects(() => ask({ script: "exec yes hunter22" }), InputError, "is longer than");
});

Deno.test("askCredentialHelper does not wait for ever", async () => {
  const timing = new TestTiming();
  const asked = ask({ script: "exec sleep 600", timing });
  const failed = assertRejects(() => asked, IoError, "gives no answer within 60 seconds");
  while (timing.alarmCount === 0) await new Promise((resolve) => setTimeout(resolve, 1));
  timing.ring();
  await failed;
  assertEquals(timing.alarmCount, 0);
});

Deno.test("askCredentialHelper stops when it is told to", async () => {
  const timing = new TestTiming();
  const controller = new AbortController();
  const asked = ask({ script: "exec sleep 600", timing, signal: controller.signal });
  const failed = assertRejects(() => asked, InterruptedError);
  while (timing.alarmCount === 0) await new Promise((resolve) => setTimeout(resolve, 1));
  controller.abort();
  await failed;
  const late = ask({ script: "exec sleep 600", signal: AbortSignal.abort() });
  await assertRejects(() => late, InterruptedError);
});
