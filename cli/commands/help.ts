/**
 * `blessfs help [COMMAND|TOPIC]`.
 *
 * @module
 */
import { UsageError } from "../../lib/errors.ts";
import { findCommand } from "../arguments.ts";
import type { Command } from "../command.ts";
import { safeLine } from "../errors_output.ts";
import { commandHelp, mainHelp, topicHelp, TOPICS } from "../help.ts";
import { suggestionHint } from "../suggest.ts";

/** The command, which has to know all the others. */
export function helpCommand(commands: () => readonly Command[]): Command {
  return {
    name: "help",
    summary: "show help on a command or a topic",
    examples: [
      { purpose: "Show examples and options of a command", line: "blessfs help bless" },
      { purpose: "Show what the exit codes mean", line: "blessfs help exit-codes" },
    ],
    positionals: [{
      name: "COMMAND|TOPIC",
      summary: `a command, or one of the topics ${TOPICS.join(", ")}`,
      least: 0,
      repeated: true,
      completion: "command",
    }],
    options: [],
    async run(args, io) {
      const words = args.positionals("COMMAND|TOPIC");
      await io.stdout.write(helpOn(words, commands()));
    },
  };
}

function helpOn(words: readonly string[], commands: readonly Command[]): string {
  const [first] = words;
  if (first === undefined) return mainHelp(commands);
  const topic = words.length === 1 ? topicHelp(first) : undefined;
  if (topic !== undefined) return topic;
  const { command } = findCommand(words, commands);
  if (command !== undefined) return commandHelp(command, commands);
  const known = [...commands.flatMap(({ name, aliases }) => [name, ...aliases ?? []]), ...TOPICS];
  const typed = words.join(" ");
  throw new UsageError(
    "blessfs help",
    `\`${safeLine(typed)}\` is no command and no topic`,
    suggestionHint(typed, known),
  );
}
