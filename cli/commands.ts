/**
 * The table of all commands. Parsing, help, completions, the manual and docs/CLI.md are generated from it; a command's
 * code is loaded when it runs.
 *
 * To add a command: write cli/commands/NAME.ts with an exported `run`, describe it in cli/table/, and add it here. An
 * option shared by several commands must be of the same kind in all of them, because options may come before the
 * command's name; the tests check this. Then update docs/CLI.md: `deno run -A cli/main.ts man --format markdown >
 * docs/CLI.md`.
 *
 * @module
 */
import { type Command, command, examples, operand, option } from "./command.ts";
import { TOPICS } from "./help.ts";
import { BLESS_LAYERED, BLESS_MERGED, DIFF, EXPORT } from "./table/bless.ts";
import { CAT, CHECKSUM, INSPECT, LS, MAP, PROBE, VERIFY } from "./table/images.ts";
import { CHUNK, PRUNE, RESTORE, STORE_VERIFY } from "./table/stores.ts";
import { SERVE } from "./table/serve.ts";
import { VERITY_DUMP, VERITY_FORMAT, VERITY_VERIFY } from "./table/verity.ts";

const COMPLETIONS = command({
  name: "completions",
  summary: "print the completion script for a shell",
  examples: examples(`
    # Complete in this bash
    source <(blessfs completions bash)
    # Complete in every zsh
    blessfs completions zsh > "\${fpath[1]}/_blessfs"
    # Complete in every fish
    blessfs completions fish > ~/.config/fish/completions/blessfs.fish
  `),
  positionals: [operand("SHELL", "what the script is for", { choices: ["bash", "zsh", "fish"] })],
  options: () => [],
  load: async () => (await import("./manual.ts")).runCompletions,
});

const MAN = command({
  name: "man",
  summary: "print the manual page",
  examples: examples(`
    # Read the manual
    blessfs man | man -l -
    # Install it
    blessfs man > /usr/local/share/man/man1/blessfs.1
  `),
  positionals: [],
  options: () => [
    option("--format FORMAT", "roff is for man(1), markdown is docs/CLI.md", {
      choices: ["roff", "markdown"],
      default: "roff",
    }),
  ],
  load: async () => (await import("./manual.ts")).runMan(COMMANDS),
});

const HELP = command({
  name: "help",
  summary: "show help on a command or a topic",
  examples: examples(`
    # Show examples and options of a command
    blessfs help bless
    # Show what the exit codes mean
    blessfs help exit-codes
  `),
  positionals: [
    operand("[COMMAND|TOPIC...]", `a command, or one of the topics ${TOPICS.join(", ")}`, {
      completion: "command",
    }),
  ],
  options: () => [],
  load: async () => (await import("./manual.ts")).runHelp(COMMANDS),
});

export const COMMANDS: readonly Command[] = [
  BLESS_MERGED,
  BLESS_LAYERED,
  CHUNK,
  RESTORE,
  PRUNE,
  STORE_VERIFY,
  PROBE,
  MAP,
  VERIFY,
  VERITY_FORMAT,
  VERITY_VERIFY,
  VERITY_DUMP,
  INSPECT,
  LS,
  CAT,
  EXPORT,
  DIFF,
  CHECKSUM,
  SERVE,
  COMPLETIONS,
  MAN,
  HELP,
];
