import { assertEquals, assertStrictEquals } from "@std/assert";
import { COMMANDS } from "../../../cli/commands/index.ts";
import { loadCommands } from "../../../cli/commands/load.ts";
import { verifyCommand } from "../../../cli/commands/verify.ts";

Deno.test("loadCommands gives verify alone to a plain line that begins with it", async () => {
  assertEquals(await loadCommands(["verify", "a.ext4", "--json"]), [verifyCommand]);
  assertEquals(await loadCommands(["verify", "-q", "a.ext4", "help"]), [verifyCommand]);
});

Deno.test("loadCommands gives all commands to every other line, and to help", async () => {
  for (
    const words of [
      [],
      ["--version"],
      ["inspect", "verify"],
      ["--json", "verify", "a.ext4"],
      ["verify"],
      ["verify", "--json"],
      ["verify", "--help"],
      ["verify", "-qh", "a.ext4"],
      ["verify", "a.ext4", "--grid", "64K"],
      ["verify", "a.ext4", "--output", "b"],
      ["verfy"],
    ]
  ) assertStrictEquals(await loadCommands(words), COMMANDS, words.join(" "));
});
