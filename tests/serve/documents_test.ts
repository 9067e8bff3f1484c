/** What docs/SERVE.md tells people to type does what it says. */
import { assertEquals } from "@std/assert";
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { hasCommand } from "../oracle/command.ts";
import { notRun } from "../oracle/notice.ts";
import { SERVE } from "../../cli/table/serve.ts";
import { furnish, shellBlocks } from "../tools/documents.ts";
import { environment } from "../cli/program.ts";
import { inDirectory } from "./serving.ts";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));

Deno.test("the shell blocks of docs/SERVE.md do what they say, one after the other", async () => {
  const missing = ["curl", "jq"].find((program) => !hasCommand(program));
  if (missing !== undefined) return notRun("the examples of docs/SERVE.md", `no ${missing}`);
  await inDirectory((directory) => {
    furnish(directory, ROOT);
    const blocks = shellBlocks(readFileSync(`${ROOT}docs/SERVE.md`, "utf8"))
      .filter((block) => block.notRun === undefined);
    const script = [
      "set -euo pipefail",
      "trap 'kill $(jobs -p) 2> /dev/null || true' EXIT",
      ...blocks.map((block) => `echo "=== line ${block.line}"\n${block.text}`),
      "echo '=== done'",
    ].join("\n");
    const run = spawnSync("bash", ["-c", script], {
      cwd: directory,
      encoding: "utf8",
      env: { ...environment(), PATH: `${directory}/bin:${environment()["PATH"]}` },
      timeout: 120_000,
    });
    assertEquals(
      [run.status, run.stdout.includes("=== done")],
      [0, true],
      `${run.stdout}\n${run.stderr}`,
    );
    return Promise.resolve();
  });
});

Deno.test("the unit and the manifests of docs/FLEET.md use options that there are", () => {
  const text = readFileSync(`${ROOT}docs/FLEET.md`, "utf8");
  const blocks = [...text.matchAll(/^```(ini|yaml)\n(.*?)^```$/gms)];
  assertEquals(blocks.map(([, kind]) => kind), ["ini", "yaml"]);
  for (const [block] of blocks) {
    const used = [...block.matchAll(/(?<=[\s])--([a-z][a-z-]*)/g)].map(([, name]) => name!);
    const known = SERVE.options.map(({ name }) => name);
    assertEquals(used.filter((name) => !known.includes(name)), []);
    for (const name of ["listen", "images", "state", "store", "token-file"]) {
      assertEquals(used.includes(name), true, name);
    }
  }
  // What a pod waits for is longer than what the server waits for.
  const seconds = (pattern: RegExp) => Number(pattern.exec(text)![1]);
  assertEquals(seconds(/terminationGracePeriodSeconds: (\d+)/) > seconds(/--drain=(\d+)/), true);
  assertEquals(seconds(/TimeoutStopSec=(\d+)/) > seconds(/--drain (\d+)/), true);
});
