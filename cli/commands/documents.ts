/**
 * `blessfs help`, `man` and `completions`: what is made from the table of commands.
 *
 * @module
 */
import { UsageError } from "../../lib/errors.ts";
import { findCommand } from "../arguments.ts";
import type { Command, CommandIo, ParsedArguments, Run } from "../command.ts";
import { BASH_COMPLETIONS, FISH_COMPLETIONS, ZSH_COMPLETIONS } from "../completions.ts";
import { safeLine } from "../errors.ts";
import { commandHelp, mainHelp, topicHelp, TOPICS } from "../help.ts";
import { renderCliMarkdown, renderManPage } from "../manual.ts";
import { suggestionHint } from "../values.ts";

const SHELLS = { bash: BASH_COMPLETIONS, zsh: ZSH_COMPLETIONS, fish: FISH_COMPLETIONS } as const;

/** `blessfs help [COMMAND|TOPIC]`. */
export function runHelp(commands: readonly Command[]): Run {
  return async (args, io) => {
    await io.stdout.write(helpOn(args.positionals("COMMAND|TOPIC"), commands));
  };
}

/** `blessfs man`. */
export function runMan(commands: readonly Command[]): Run {
  return async (args, io) => {
    const render = args.value("format") === "markdown" ? renderCliMarkdown : renderManPage;
    await io.stdout.write(render(commands));
  };
}

/** `blessfs completions SHELL`. */
export async function runCompletions(args: ParsedArguments, io: CommandIo): Promise<void> {
  await io.stdout.write(SHELLS[args.positional("SHELL") as keyof typeof SHELLS]);
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
    `\`${safeLine(typed)}\` is neither a command nor a topic`,
    suggestionHint(typed, known),
  );
}
