/** The registry that everybody runs, where it is installed. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { spawn } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { COMMANDS } from "../../../cli/commands.ts";
import { runFake } from "../../cli/fake_io.ts";
import { mustRun, runCommand } from "../../oracle/command.ts";
import { notRun } from "../../oracle/notice.ts";
import { withDirectory } from "../helpers.ts";

const FIXTURE = fileURLToPath(new URL("../../../fixtures/oci-tiny", import.meta.url));
const PART = "pulling from docker-registry";
const NEEDED = [["docker-registry", "--version"], ["skopeo", "--version"]] as const;

/** What is missing; undefined when everything is there. */
function missingProgram(): string | undefined {
  return NEEDED.find(([program, word]) => {
    try {
      return runCommand(program, [word]).status !== 0;
    } catch {
      return true;
    }
  })?.[0];
}

function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer();
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address() as AddressInfo;
      server.close(() => resolve(port));
    });
  });
}

async function untilItAnswers(host: string, hasEnded: () => boolean): Promise<void> {
  for (;;) {
    if (hasEnded()) throw new Error("docker-registry ended early");
    try {
      const answer = await fetch(`http://${host}/v2/`);
      await answer.body?.cancel();
      return;
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}

/** Runs a test with a registry that keeps its content in a directory of its own. */
async function withDockerRegistry(
  test: (host: string, directory: string) => Promise<void>,
  users?: string,
): Promise<void> {
  const missing = missingProgram();
  if (missing !== undefined) return notRun(PART, `${missing} is not installed`);
  await withDirectory(async (directory) => {
    const host = `127.0.0.1:${await freePort()}`;
    const storage = join(directory, "storage");
    mkdirSync(storage);
    const passwords = join(directory, "htpasswd");
    if (users !== undefined) writeFileSync(passwords, users);
    const config = {
      version: "0.1",
      log: { level: "error", accesslog: { disabled: true } },
      storage: { filesystem: { rootdirectory: storage } },
      http: { addr: host },
      ...users === undefined ? {} : { auth: { htpasswd: { realm: "x", path: passwords } } },
    };
    const file = join(directory, "config.yml");
    writeFileSync(file, JSON.stringify(config)); // which is YAML as well
    const child = spawn("docker-registry", ["serve", file], { stdio: "ignore" });
    const ended = new Promise<void>((resolve) => child.on("close", () => resolve()));
    let hasEnded = false;
    ended.then(() => hasEnded = true);
    try {
      await untilItAnswers(host, () => hasEnded);
      await test(host, directory);
    } finally {
      child.kill();
      await ended;
    }
  });
}

function push(host: string, name: string, ...more: string[]): void {
  mustRun("skopeo", [
    "copy",
    "-q",
    "--dest-tls-verify=false",
    ...more,
    `oci:${FIXTURE}`,
    `docker://${host}/${name}`,
  ]);
}

async function bless(env: Record<string, string>, ...words: string[]) {
  return await runFake(["bless", ...words], COMMANDS, { env: { HOME: "/nonexistent", ...env } });
}

Deno.test("docker:// pulls from docker-registry what skopeo pushed, byte for byte", async () => {
  await withDockerRegistry(async (host, directory) => {
    push(host, "team/tiny:v1");
    const [pulled, local] = [join(directory, "pulled"), join(directory, "local")];
    const first = await bless({}, `docker://${host}/team/tiny:v1`, "-o", pulled, "--json");
    assertEquals([first.code, first.stderr], [0, ""]);
    const report = JSON.parse(first.stdout);
    await bless({}, `oci:${FIXTURE}`, "-o", local);
    assert(readFileSync(pulled).equals(readFileSync(local)));
    const byDigest = `docker://${host}/team/tiny@${report.manifestDigest}`;
    const again = await bless({}, byDigest, "-o", pulled, "--force");
    assertEquals(again.code, 0, again.stderr);
    assert(readFileSync(pulled).equals(readFileSync(local)));
  });
});

Deno.test("docker:// pulls Docker's manifests from docker-registry", async () => {
  await withDockerRegistry(async (host, directory) => {
    push(host, "tiny:v2s2", "--format", "v2s2");
    const image = join(directory, "image");
    const { code, stdout } = await bless({}, `docker://${host}/tiny:v2s2`, "-o", image, "--json");
    assertEquals(code, 0);
    assertEquals(JSON.parse(stdout).layers.length, 3);
  });
});

Deno.test("docker:// says of docker-registry what is missing there", async () => {
  await withDockerRegistry(async (host, directory) => {
    const image = join(directory, "image");
    const { code, stderr } = await bless({}, `docker://${host}/no/such`, "-o", image);
    assertEquals(code, 3);
    assertStringIncludes(stderr, "does not have it: MANIFEST_UNKNOWN");
  });
});

/** `me` with the password `hunter22`, as htpasswd -Bbn writes it. */
const USERS = "me:$2y$05$MZwP4RlXycvZSStcK.tjw.Wu4mSpLRk5W1Ax7Klk5.m7YpVCbJPkq\n";

Deno.test("docker:// logs in to docker-registry with what skopeo login wrote", async () => {
  await withDockerRegistry(async (host, directory) => {
    const authFile = join(directory, "auth.json");
    push(host, "tiny:v1", "--dest-creds", "me:hunter22");
    const words = ["login", "--tls-verify=false", "--authfile", authFile, "-u", "me"];
    mustRun("skopeo", [...words, "-p", "hunter22", host]);
    const image = join(directory, "image");
    const source = `docker://${host}/tiny:v1`;
    const named = await bless({}, source, "-o", image, "--authfile", authFile);
    assertEquals(named.code, 0, named.stderr);
    const found = await bless({ REGISTRY_AUTH_FILE: authFile }, source, "-o", image, "--force");
    assertEquals(found.code, 0, found.stderr);
    const anonymous = await bless({}, source, "-o", image, "--force");
    assertEquals(anonymous.code, 4);
    assertStringIncludes(anonymous.stderr, "asks for a user name and a password: found none");
    assertStringIncludes(anonymous.stderr, "--authfile");
    writeFileSync(authFile, JSON.stringify({ auths: { [host]: { auth: btoa("me:wrong99") } } }));
    const wrong = await bless({}, source, "-o", image, "--force", "--authfile", authFile);
    assertEquals(wrong.code, 4);
    assertStringIncludes(wrong.stderr, "refuses access (status 401)");
    assert(!wrong.stderr.includes("wrong99"));
  }, USERS);
});
