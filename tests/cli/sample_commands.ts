/** A table with every kind of option and operand, for tests of what is made from tables. */
import type { Command, CommandIo, ParsedArguments } from "../../cli/command.ts";
import { JSON_OPTION } from "../../cli/command.ts";

/** What `run` of a sample command does; set by a test. */
export const behaviour: { run: (args: ParsedArguments, io: CommandIo) => Promise<0 | 1 | void> } = {
  run: () => Promise.resolve(),
};

function sample(command: Partial<Command> & { name: string }): Command {
  return {
    summary: `does ${command.name}`,
    examples: [[`Do ${command.name}`, `blessfs ${command.name} X`]],
    positionals: [],
    options: [],
    load: () => Promise.resolve((args, io) => behaviour.run(args, io)),
    ...command,
  };
}

const OUTPUT = {
  name: "output",
  short: "o",
  value: "FILE",
  summary: "where it goes",
  completion: "file",
} as const;

export const SAMPLE_COMMANDS: readonly Command[] = [
  sample({
    name: "bless merged",
    aliases: ["bless"],
    positionals: [{ name: "SOURCE", summary: "what to bless", completion: "source" }],
    options: [
      { ...OUTPUT, required: true },
      { name: "size", value: "SIZE", summary: "how large [it] gets: bytes" },
      {
        name: "backups",
        value: "WHICH",
        choices: ["sparse", "none"],
        summary: "backup superblocks",
      },
      {
        name: "packing",
        value: "RULE",
        choices: ["resync", "tight"],
        open: true,
        summary: "how it's packed",
      },
      { name: "checksum", on: true, summary: "no checksums" },
      { name: "force", short: "f", summary: "replace" },
      JSON_OPTION,
    ],
  }),
  sample({
    name: "bless layered",
    positionals: [{ name: "SOURCE", summary: "what to bless", completion: "source" }],
    options: [{ ...OUTPUT, completion: "directory" }],
  }),
  sample({
    name: "probe",
    aliases: ["dedup-probe"],
    positionals: [{
      name: "SOURCE",
      summary: "images",
      least: 2,
      repeated: true,
      completion: "source",
    }],
    options: [{ name: "grid", value: "LIST", list: true, summary: "block sizes" }, JSON_OPTION],
  }),
  sample({
    name: "cat",
    positionals: [
      { name: "IMAGE", summary: "an image", completion: "file" },
      { name: "PATH", summary: "a path in it", least: 0 },
    ],
  }),
  sample({
    name: "completions",
    positionals: [{ name: "SHELL", summary: "a shell", choices: ["bash", "zsh"] }],
  }),
];
