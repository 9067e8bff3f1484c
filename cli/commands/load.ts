/**
 * Which modules a command line needs. To load all of them takes longer than it takes to verify a small image.
 *
 * @module
 */
import type { Command } from "../command.ts";

/** Options that are read in the same way, whatever commands there are beside. */
const PLAIN_OPTIONS: readonly string[] = ["--json", "--quiet", "-q"];

/**
 * The commands that a command line is to be read with. For one that verifies images and asks for nothing unusual, that is
 * one command. Help needs all of them, and so does the reading of options, which may be another command's by mistake.
 */
export async function loadCommands(words: readonly string[]): Promise<readonly Command[]> {
  const [name, ...rest] = words;
  const operands = rest.filter((word) => !PLAIN_OPTIONS.includes(word));
  if (
    name === "verify" && operands.length > 0 && operands.every((word) => !word.startsWith("-"))
  ) {
    const { verifyCommand } = await import("./verify.ts");
    return [verifyCommand];
  }
  const { COMMANDS } = await import("./index.ts");
  return COMMANDS;
}
