import { assertEquals, assertStringIncludes } from "@std/assert";
import { COMMANDS } from "../../../cli/commands.ts";
import { refuseUnusedOptions } from "../../../cli/commands/sources.ts";
import { readCommandLine } from "../../../cli/arguments.ts";
import { UsageError } from "../../../lib/errors.ts";
import { runFake } from "../fake_io.ts";

const MISSING = "/nonexistent";

function refusal(sources: readonly string[], ...words: string[]): string | undefined {
  const args = readCommandLine(["diff", "a", "b", ...words], COMMANDS).arguments();
  try {
    refuseUnusedOptions(args, sources);
  } catch (error) {
    if (error instanceof UsageError) return error.message;
    throw error;
  }
  return undefined;
}

Deno.test("refuseUnusedOptions wants a source that may state a platform for --platform", () => {
  const platform = ["--platform", "linux/arm64"];
  for (const kind of ["tar", "rootfs", "ext4"]) {
    assertStringIncludes(refusal([`${kind}:x`], ...platform)!, "--platform: has no effect");
    assertEquals(refusal([`${kind}:x`]), undefined);
    assertEquals(refusal([`${kind}:x`, "oci:y"], ...platform), undefined);
  }
  const kinds = ["oci:x", "oci-archive:x", "docker-archive:x", "dir:x", "docker://x", "x", "-"];
  for (const source of kinds) assertEquals(refusal([source], ...platform), undefined, source);
});

Deno.test("refuseUnusedOptions wants a registry for --plain-http and --authfile", () => {
  for (const words of [["--plain-http"], ["--authfile", "auth.json"]]) {
    assertEquals(refusal(["docker://x"], ...words), undefined);
    assertEquals(refusal(["oci:x", "docker://x"], ...words), undefined);
    assertStringIncludes(
      refusal(["oci:x", "y", "-"], ...words)!,
      `${words[0]}: has no effect on a source that is in no registry`,
    );
  }
});

Deno.test("every command with sources refuses options that none of them has a use for", async () => {
  const lines = [
    ["bless", "tar:/nonexistent", "-o", MISSING],
    ["bless", "layered", "tar:/nonexistent", "-o", MISSING],
    ["export", "ext4:/nonexistent", "-o", MISSING],
    ["diff", "ext4:/nonexistent", "rootfs:/nonexistent", "-o", MISSING],
    ["probe", "tar:/nonexistent"],
    ["inspect", "tar:/nonexistent"],
  ];
  // A server gets its sources later.
  const commands = COMMANDS.filter(({ name, options }) =>
    name !== "serve" && options.some(({ name }) => name === "authfile")
  );
  assertEquals(lines.length, commands.length);
  for (const line of lines) {
    for (const words of [["--platform", "linux/arm64"], ["--plain-http"], ["--authfile", "x"]]) {
      const run = await runFake([...line, ...words], COMMANDS);
      assertEquals([run.code, run.stdout], [2, ""], `${line.join(" ")}: ${run.stderr}`);
      assertStringIncludes(run.stderr, `${words[0]}: has no effect on`);
    }
    assertEquals((await runFake(line, COMMANDS)).code, 3, line.join(" "));
  }
});
