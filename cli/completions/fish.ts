/**
 * The completion script for fish.
 *
 * @module
 */
import { SOURCE_FORMS } from "../source_forms.ts";
import type { Completable, ShellCommand, ShellModel, ShellOption } from "./model.ts";

/** The script; `~/.config/fish/completions/blessfs.fish`. */
export function fishCompletions(model: ShellModel): string {
  const names = model.commands.map((command) => command.name)
    .sort((a, b) => b.split(" ").length - a.split(" ").length);
  return `# fish completion for blessfs. To use it: blessfs completions fish | source
# Prints the command's name and how many operands follow it, before the cursor.
function __blessfs_state
    set -l operands
    set -l pending
    set -l ended
    for word in (commandline -opc)[2..-1]
        if test -n "$pending"
            set pending
        else if test -n "$ended"
            set -a operands $word
        else
            switch $word
                case --
                    set ended 1
                case ${model.valueSpellings.join(" ")}
                    set pending 1
                case '-*'
                case '*'
                    set -a operands $word
            end
        end
    end
    for name in ${names.map(fishQuoted).join(" ")}
        set -l words (string split ' ' -- $name)
        if test "$operands[1..$(count $words)]" = "$name"
            echo $name
            math (count $operands) - (count $words)
            return
        end
    end
    echo
    count $operands
end

# Whether the command is $argv[1], and the next operand is number $argv[2] where that is given.
function __blessfs_at
    set -l state (__blessfs_state)
    test "$state[1]" = "$argv[1]"; or return 1
    set -q argv[2]; or return 0
    test "$state[2]" = "$argv[2]"
end

function __blessfs_sources
    set -l current (commandline -ct)
    if string match -q '*:*' -- $current
        set -l form (string replace -r ':.*' ':' -- $current)
        for path in (__fish_complete_path (string replace -r '^[^:]*:' '' -- $current))
            echo $form$path
        end
    else
${
    SOURCE_FORMS.map(({ prefix, meaning }) =>
      `        printf '%s\\t%s\\n' ${prefix} ${fishQuoted(meaning)}`
    ).join("\n")
  }
        __fish_complete_path $current
    end
end

complete -c blessfs -f
${
    model.firstWords.map(([word, summary]) => line("'__blessfs_at \"\" 0'", `-a ${word}`, summary))
      .join("\n")
  }
${model.commonOptions.map((option) => optionLine(option, undefined)).join("\n")}
${model.commands.flatMap((command) => commandLines(command, model)).join("\n")}
`;
}

function commandLines(command: ShellCommand, model: ShellModel): string[] {
  const common = new Set(model.commonOptions.map((option) => option.spellings[0]));
  const condition = (more = "") => fishQuoted(`__blessfs_at "${command.name}"${more}`);
  const options = command.options.filter((option) => !common.has(option.spellings[0]))
    .map((option) => optionLine(option, condition()));
  const operands = command.operands.flatMap((operand, at) => {
    const offer = offerOf(operand, "-k");
    return offer === ""
      ? []
      : [line(condition(operand.repeated ? "" : ` ${at}`), offer, operand.name)];
  });
  const second = command.secondWords.map((word) =>
    line(condition(" 0"), `-a ${word}`, `${command.name} ${word}`)
  );
  return [...options, ...operands, ...second];
}

function optionLine(option: ShellOption, condition: string | undefined): string {
  const names = option.spellings.map((name) =>
    name.startsWith("--") ? `-l ${name.slice(2)}` : `-s ${name.slice(1)}`
  );
  const value = option.takesValue ? ` ${offerOf(option, "-x") || "-x"}` : "";
  return line(condition, names.join(" ") + value, option.summary);
}

function line(condition: string | undefined, what: string, summary: string): string {
  const when = condition === undefined ? "" : ` -n ${condition}`;
  return `complete -c blessfs${when} ${what} -d ${fishQuoted(summary)}`;
}

/** What to offer; `mode` is put before a list of words. */
function offerOf(completable: Completable, mode: "-x" | "-k"): string {
  const exclusive = mode === "-x" ? "-x " : "";
  if (completable.words.length > 0) {
    return `${exclusive}-a ${fishQuoted(completable.words.join(" "))}`;
  }
  switch (completable.completion) {
    case "file":
      return mode === "-x" ? "-r -F" : "-F";
    case "directory":
      return `${exclusive}-a '(__fish_complete_directories)'`;
    case "source":
      return `${exclusive}-a '(__blessfs_sources)'`;
    default:
      return "";
  }
}

/** fish knows two escapes between single quotes: of the quote and of the backslash. */
function fishQuoted(text: string): string {
  return `'${text.replace(/[\\']/g, (character) => `\\${character}`)}'`;
}
