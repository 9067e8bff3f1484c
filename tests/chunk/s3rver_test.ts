/** A store on an S3 server that others wrote: s3rver of the npm registry, started as a program of its own. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { spawn } from "node:child_process";
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { COMMANDS } from "../../cli/commands.ts";
import { runFake } from "../cli/fake_io.ts";
import { hasCommand } from "../oracle/command.ts";
import { notRun } from "../oracle/notice.ts";
import { withDirectory } from "./helpers.ts";
import { mustRunBeside } from "./programs.ts";

const SOURCE = `oci:${fileURLToPath(new URL("../../fixtures/oci-tiny", import.meta.url))}`;
const SERVER = "npm:s3rver@3.7.1";
const KEY = "S3RVER";
const START_MS = 600_000;

/** Works on a server, or says in one line that it is not here: tests do not fetch it. */
async function withServer(directory: string, work: (url: string) => Promise<void>): Promise<void> {
  const data = join(directory, "data");
  mkdirSync(data);
  const words = ["-d", data, "-p", "0", "--silent", "--configure-bucket", "images"];
  const child = spawn("deno", [
    "run",
    "-A",
    "--no-lock",
    "--no-config",
    "--cached-only",
    SERVER,
    ...words,
  ], {
    stdio: ["ignore", "pipe", "pipe"],
    cwd: directory,
  });
  const ended = new Promise<void>((resolve) => child.on("close", () => resolve()));
  let said = "";
  const address = await new Promise<string | undefined>((resolve) => {
    setTimeout(() => resolve(undefined), START_MS).unref();
    const look = (piece: unknown) => {
      said += `${piece}`;
      const found = /listening on (\S+:\d+)/.exec(said)?.[1];
      if (found !== undefined) resolve(found);
    };
    child.stdout.on("data", look);
    child.stderr.on("data", look);
    child.on("error", () => resolve(undefined));
    void ended.then(() => resolve(undefined));
  });
  try {
    if (address !== undefined) await work(`s3+http://${address}`);
    else notRun("a store on s3rver", `it does not start (deno cache ${SERVER} fetches it)`);
  } finally {
    if (child.exitCode === null && child.pid !== undefined) process.kill(child.pid, "SIGKILL");
    await ended;
  }
}

Deno.test("a blessed image goes to s3rver, is found there again, and desync gets it back", async () => {
  await withDirectory(async (directory) => {
    await withServer(directory, async (url) => {
      const at = (name: string) => join(directory, name);
      const env = { HOME: "/nowhere", AWS_ACCESS_KEY_ID: KEY, AWS_SECRET_ACCESS_KEY: KEY };
      const blessfs = (...words: string[]) => runFake(words, COMMANDS, { env });
      const store = ["--store", `${url}/images/a/chunks`];
      const first = await blessfs(
        "bless",
        SOURCE,
        "-o",
        at("image"),
        ...store,
        "--index",
        at("x.caibx"),
      );
      assertEquals([first.code, first.stderr], [0, ""]);
      const chunk = [
        "chunk",
        at("image"),
        ...store,
        "-o",
        at("y.caibx"),
        "--json",
        "--verify-store",
      ];
      const again = await blessfs(...chunk);
      const report = JSON.parse(again.stdout);
      assertEquals([report.newChunks, report.reusedChunks], [0, report.distinctChunks]);
      assert(readFileSync(at("x.caibx")).equals(readFileSync(at("y.caibx"))));
      const missing = await blessfs(
        "chunk",
        at("image"),
        "--store",
        `${url}/other/x`,
        "-o",
        at("z"),
      );
      assertEquals(missing.code, 4);
      assertStringIncludes(missing.stderr, "there is no such bucket");
      if (!hasCommand("desync")) return;
      const extract = ["extract", "-s", store[1]!, at("x.caibx"), at("copy")];
      await mustRunBeside("desync", extract, { S3_ACCESS_KEY: KEY, S3_SECRET_KEY: KEY });
      assert(readFileSync(at("copy")).equals(readFileSync(at("image"))));
    });
  });
});
