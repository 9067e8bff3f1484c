import { assert, assertEquals, assertRejects } from "@std/assert";
import { chmodSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { InputError, InterruptedError, IoError } from "../../../lib/errors.ts";
import { askCredentialHelper } from "../../../lib/source/registry/credential_helper.ts";
import type { Credentials } from "../../../lib/source/registry/secrets.ts";
import { withDirectory } from "../helpers.ts";
import { TestTiming } from "./fake_registry.ts";

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
    "a token that is none",
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
    await assertRejects(() => ask({ script: "", name }), InputError, "is not a name");
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
