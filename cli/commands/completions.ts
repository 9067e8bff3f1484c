/**
 * `blessfs completions SHELL`.
 *
 * @module
 */
import type { Command } from "../command.ts";
import { bashCompletions } from "../completions/bash.ts";
import { fishCompletions } from "../completions/fish.ts";
import type { ShellModel } from "../completions/model.ts";
import { shellModel } from "../completions/model.ts";
import { zshCompletions } from "../completions/zsh.ts";

const SHELLS: Readonly<Record<string, (model: ShellModel) => string>> = {
  bash: bashCompletions,
  zsh: zshCompletions,
  fish: fishCompletions,
};

/** The command, which has to know all the others. */
export function completionsCommand(commands: () => readonly Command[]): Command {
  return {
    name: "completions",
    summary: "print the completion script for a shell",
    examples: [
      { purpose: "Complete in this bash", line: "source <(blessfs completions bash)" },
      {
        purpose: "Complete in every zsh",
        line: 'blessfs completions zsh > "${fpath[1]}/_blessfs"',
      },
      {
        purpose: "Complete in every fish",
        line: "blessfs completions fish > ~/.config/fish/completions/blessfs.fish",
      },
    ],
    positionals: [{
      name: "SHELL",
      summary: "what the script is for",
      choices: Object.keys(SHELLS),
    }],
    options: [],
    async run(args, io) {
      await io.stdout.write(SHELLS[args.positional("SHELL")]!(shellModel(commands())));
    },
  };
}
