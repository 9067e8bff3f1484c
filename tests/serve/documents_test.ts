/** What docs/SERVE.md tells people to type does what it says. */
import { assertEquals } from "@std/assert";
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { hasCommand } from "../oracle/command.ts";
import { notRun } from "../oracle/notice.ts";
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
