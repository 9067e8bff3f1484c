/**
 * `blessfs man`.
 *
 * @module
 */
import type { Command } from "../command.ts";
import { renderManPage } from "../man_page.ts";
import { renderCliMarkdown } from "../markdown.ts";

/** The command, which has to know all the others. */
export function manCommand(commands: () => readonly Command[]): Command {
  return {
    name: "man",
    summary: "print the manual page",
    examples: [
      { purpose: "Read the manual", line: "blessfs man | man -l -" },
      { purpose: "Install it", line: "blessfs man > /usr/local/share/man/man1/blessfs.1" },
    ],
    positionals: [],
    options: [{
      name: "format",
      value: "FORMAT",
      choices: ["roff", "markdown"],
      defaultText: "roff",
      summary: "roff is for man(1), markdown is docs/CLI.md",
    }],
    async run(args, io) {
      const render = args.value("format") === "markdown" ? renderCliMarkdown : renderManPage;
      await io.stdout.write(render(commands()));
    },
  };
}
