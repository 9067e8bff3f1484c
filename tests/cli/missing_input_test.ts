import { assertEquals, assertStringIncludes } from "@std/assert";
import { existsSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { COMMANDS } from "../../cli/commands.ts";
import { EXIT } from "../../cli/errors.ts";
import { withTemporaryDirectory } from "../oracle/command.ts";
import { runFake } from "./fake_io.ts";

/** How each command is given an input; every command that has one is here. */
const LINES: Readonly<Record<string, (input: string, output: string) => readonly string[][]>> = {
  "bless merged": (input, output) =>
    ["", "tar:", "oci:", "dir:", "oci-archive:", "docker-archive:", "rootfs:", "ext4:"]
      .map((kind) => ["bless", `${kind}${input}`, "-o", output]),
  "bless layered": (input, output) => [["bless", "layered", `oci:${input}`, "-o", output]],
  chunk: (input, output) => [["chunk", input, "--dry-run", "--create-store", "--store", output]],
  probe: (input) => [["probe", input], ["probe", "--as-is", input], ["probe", "--from", input]],
  verify: (input) => [["verify", input]],
  "verity format": (input, output) => [
    ["verity", "format", input],
    ["verity", "format", input, "--hash-file", output],
  ],
  "verity verify": (input) => [["verity", "verify", input, "--root-hash", "00".repeat(32)]],
  "verity dump": (input) => [["verity", "dump", input]],
  inspect: (input) => [["inspect", input], ["inspect", input, "/"]],
  ls: (input) => [["ls", input]],
  map: (input, output) => [["map", input, "--plot", output]],
  cat: (input) => [["cat", input, "/etc/passwd"]],
  export: (input, output) => [["export", input, "-o", output]],
  diff: (input, output) => [["diff", input, input], ["diff", input, input, "-o", output]],
  checksum: (input) => [["checksum", "--enable", input], ["checksum", "--disable", input]],
};
const INPUTS = new Set(["SOURCE", "IMAGE", "A", "B"]);

async function everyCommand(
  input: string,
  output: string,
  code: number,
  why: string,
): Promise<void> {
  const commands = COMMANDS.filter(({ positionals }) =>
    positionals.some(({ name }) => INPUTS.has(name))
  );
  assertEquals(commands.map(({ name }) => name).sort(), Object.keys(LINES).sort());
  for (const [command, linesOf] of Object.entries(LINES)) {
    for (const words of linesOf(input, output)) {
      const run = await runFake(words, COMMANDS);
      assertEquals([run.code, run.stdout], [code, ""], `${words.join(" ")}: ${run.stderr}`);
      assertStringIncludes(run.stderr, `${input}: ${why}`, command);
      assertEquals(existsSync(output), false, command);
    }
  }
}

Deno.test("every command calls an input that is not there bad input, in the same words", async () => {
  await withTemporaryDirectory(async (directory) => {
    const [missing, output] = [join(directory, "missing"), join(directory, "output")];
    await everyCommand(missing, output, EXIT.input, "does not exist: wanted a");
  });
});

Deno.test("every command tells an input that cannot be opened from one that is not there", async () => {
  await withTemporaryDirectory(async (directory) => {
    const [loop, output] = [join(directory, "loop"), join(directory, "output")];
    symlinkSync(loop, loop);
    await everyCommand(loop, output, EXIT.io, "");
  });
});
