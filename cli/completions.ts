/**
 * The completion scripts for bash, zsh and fish. What the three need to know is worked out once from the table.
 *
 * @module
 */
import type { Command, Completion, OptionSpec, PositionalSpec } from "./command.ts";
import { COMMON_OPTIONS, optionsOf, spelling } from "./command.ts";
import { SOURCE_FORMS, TOPICS } from "./help.ts";

/** A value or an operand that can be completed. */
export interface Completable {
  /** Words to offer. */
  readonly words: readonly string[];
  readonly completion: Completion;
}

/** An option as a shell sees it. */
export interface ShellOption extends Completable {
  /** With dashes: `-o`, `--output`. */
  readonly spellings: readonly string[];
  readonly summary: string;
  readonly takesValue: boolean;
  readonly valueName: string;
  readonly repeatable: boolean;
}

/** An operand as a shell sees it. */
export interface ShellOperand extends Completable {
  readonly name: string;
  readonly repeated: boolean;
}

/** One name of a command: the command itself or an alias. */
export interface ShellCommand {
  readonly name: string;
  readonly summary: string;
  readonly options: readonly ShellOption[];
  readonly operands: readonly ShellOperand[];
  /** Second words that may follow this name in place of an operand. */
  readonly secondWords: readonly string[];
}

/** Everything that a completion script is made from. */
export interface ShellModel {
  readonly commands: readonly ShellCommand[];
  /** The words that may come first, with their meaning. */
  readonly firstWords: readonly (readonly [word: string, summary: string])[];
  readonly commonOptions: readonly ShellOption[];
  /** Every spelling of an option that takes a value. */
  readonly valueSpellings: readonly string[];
}

/** Works the model out. */
export function shellModel(commands: readonly Command[]): ShellModel {
  const helpWords = [...commands.map((command) => command.name.split(" ")[0]!), ...TOPICS];
  const entries = commands.flatMap((command) =>
    [command.name, ...command.aliases ?? []].map((name): ShellCommand => ({
      name,
      summary: command.summary,
      options: optionsOf(command).map(shellOption),
      operands: command.positionals.map((spec) => shellOperand(spec, helpWords)),
      secondWords: commands.filter((other) => other.name.startsWith(`${name} `))
        .map((other) => other.name.slice(name.length + 1)),
    }))
  );
  const firstWords = new Map<string, string>();
  for (const { name, summary } of entries) {
    const [first = ""] = name.split(" ");
    if (!firstWords.has(first)) firstWords.set(first, summary);
  }
  const options = [...commands.flatMap((command) => command.options), ...COMMON_OPTIONS].map(
    shellOption,
  );
  const valueSpellings = options.filter((option) => option.takesValue).flatMap((option) =>
    option.spellings
  );
  return {
    commands: entries,
    firstWords: [...firstWords],
    commonOptions: COMMON_OPTIONS.map(shellOption),
    valueSpellings: [...new Set(valueSpellings)],
  };
}

function shellOption(option: OptionSpec): ShellOption {
  const short = option.short === undefined ? [] : [`-${option.short}`];
  return {
    spellings: [...short, spelling(option)],
    summary: option.summary,
    takesValue: option.value !== undefined,
    valueName: option.value ?? "",
    repeatable: option.list ?? false,
    words: option.choices ?? [],
    completion: option.completion ?? "none",
  };
}

function shellOperand(spec: PositionalSpec, helpWords: readonly string[]): ShellOperand {
  return {
    name: spec.name,
    repeated: spec.repeated ?? false,
    words: spec.choices ?? (spec.completion === "command" ? [...new Set(helpWords)] : []),
    completion: spec.completion ?? "none",
  };
}

/** A text as one word of a POSIX shell. */
function quoted(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

/** The patterns of a `case` that find the command, longer names first; in bash and zsh. */
function commandPatterns({ commands }: ShellModel): string {
  const names = commands.map(({ name }) => name)
    .sort((a, b) => b.split(" ").length - a.split(" ").length);
  return names.map((name) =>
    `    ${quoted(`${name} `)}*) command=${quoted(name)} index=${name.split(" ").length} ;;`
  ).join("\n");
}

/**
 * The script. bash cuts words at `:` and `=` (COMP_WORDBREAKS), so `oci:/dir` comes in three words; the loop counts
 * such pieces as one.
 */
export function bashCompletions(model: ShellModel): string {
  return `# bash completion for blessfs. To use it: source <(blessfs completions bash)
_blessfs_words() {
  local IFS=$' \\t\\n'
  COMPREPLY+=($(compgen -W "$1" -- "$cur"))
}

_blessfs_files() {
  local IFS=$'\\n'
  COMPREPLY+=($(compgen "$1" -- "$cur"))
  type compopt &>/dev/null && compopt -o filenames 2>/dev/null
}

_blessfs_source() {
  if [[ $cur == *:* ]]; then
    local form=\${cur%%:*}: path
    cur=\${cur#*:}
    local IFS=$'\\n'
    for path in $(compgen -f -- "$cur"); do COMPREPLY+=("$form$path"); done
    return
  fi
  _blessfs_words ${quoted(SOURCE_FORMS.map((form) => form.prefix).join(" "))}
  if ((\${#COMPREPLY[@]} == 0)); then
    _blessfs_files -f
  else
    local IFS=$'\\n'
    COMPREPLY+=($(compgen -f -- "$cur"))
    ((\${#COMPREPLY[@]} == 1)) && type compopt &>/dev/null && compopt -o nospace 2>/dev/null
  fi
}

_blessfs() {
  local cur=\${COMP_WORDS[COMP_CWORD]} word pending= glued= ended= i command= index=0
  local -a operands=()
  COMPREPLY=()
  for ((i = 1; i < COMP_CWORD; i++)); do
    word=\${COMP_WORDS[i]}
    if [[ $word == = && -n $pending ]]; then continue; fi
    if [[ $word == :* ]]; then glued=1; continue; fi
    if [[ -n $glued ]]; then glued=; continue; fi
    if [[ -n $pending ]]; then pending=; continue; fi
    if [[ -n $ended ]]; then operands+=("$word"); continue; fi
    case $word in
      --) ended=1 ;;
      ${model.valueSpellings.join("|")}) pending=$word ;;
      -*) ;;
      *) operands+=("$word") ;;
    esac
  done
  if [[ $cur == :* ]]; then cur=\${cur#:}; glued=1; fi
  if [[ $cur == = && -n $pending ]]; then cur=; fi
  if [[ -n $glued ]]; then _blessfs_files -f; return; fi
  case "\${operands[0]} \${operands[1]} " in
${commandPatterns(model)}
  esac
  if [[ -n $pending ]]; then
    case "$command $pending" in
${bashValueCases(model).join("\n")}
    esac
    return
  fi
  if [[ $cur == -* && -z $ended ]]; then
    case $command in
${model.commands.map((command) => bashOptionCase(command.name, command)).join("\n")}
      *) _blessfs_words ${
    quoted(model.commonOptions.flatMap((option) => option.spellings).join(" "))
  } ;;
    esac
    return
  fi
  if [[ -z $command ]]; then
    ((\${#operands[@]} == 0)) && _blessfs_words ${
    quoted(model.firstWords.map(([word]) => word).join(" "))
  }
    return
  fi
  case "$command $((\${#operands[@]} - index))" in
${model.commands.flatMap(bashOperandCases).join("\n")}
  esac
}

complete -F _blessfs blessfs
`;
}

function bashOptionCase(name: string, command: ShellCommand): string {
  const spellings = command.options.flatMap((option) => option.spellings).join(" ");
  return `      ${quoted(name)}) _blessfs_words ${quoted(spellings)} ;;`;
}

function bashValueCases(model: ShellModel): string[] {
  const common = model.commonOptions.map((option) => ({ option, before: "*" }));
  const own = model.commands.flatMap((command) =>
    command.options.filter((option) =>
      !model.commonOptions.some((other) => other.spellings[0] === option.spellings[0])
    )
      .map((option) => ({ option, before: quoted(command.name) }))
  );
  return [...own, ...common].flatMap(({ option, before }) => {
    const action = bashAction(option);
    if (!option.takesValue || action === "") return [];
    const patterns = option.spellings.map((spelling) => `${before}' ${spelling}'`).join("|");
    return [`      ${patterns}) ${action} ;;`];
  });
}

function bashOperandCases(command: ShellCommand): string[] {
  return command.operands.flatMap((operand, at) => {
    const second = at === 0 && command.secondWords.length > 0
      ? `_blessfs_words ${quoted(command.secondWords.join(" "))}`
      : "";
    const action = [bashAction(operand), second].filter((part) => part !== "").join("; ");
    if (action === "") return [];
    const position = operand.repeated ? `' '*` : `' ${at}'`;
    return [`    ${quoted(command.name)}${position}) ${action} ;;`];
  });
}

function bashAction(completable: Completable): string {
  if (completable.words.length > 0) return `_blessfs_words ${quoted(completable.words.join(" "))}`;
  switch (completable.completion) {
    case "file":
      return "_blessfs_files -f";
    case "directory":
      return "_blessfs_files -d";
    case "source":
      return "_blessfs_source";
    default:
      return "";
  }
}

/** The script; a file `_blessfs` in a directory of `$fpath`, or sourced after compinit. */
export function zshCompletions(model: ShellModel): string {
  return `#compdef blessfs
# zsh completion for blessfs. To use it: blessfs completions zsh > "\${fpath[1]}/_blessfs"
_blessfs_source() {
  if compset -P ${quoted(formPattern("file"))}; then _files
  elif compset -P ${quoted(formPattern("directory"))}; then _files -/
  elif compset -P 'docker://'; then _message 'REGISTRY/REPO[:TAG][@DIGEST]'
  else
    local -a forms=(${SOURCE_FORMS.map((form) => form.prefix).join(" ")})
    _alternative 'forms:form of source:compadd -S "" -a forms' 'files:file:_files'
  fi
}

_blessfs_first_word() {
  local -a words_and_meanings=(
${model.firstWords.map(([word, summary]) => `    ${quoted(`${word}:${summary}`)}`).join("\n")}
  )
  _describe -t commands command words_and_meanings
}

_blessfs() {
  local command= pending= ended= i index=0
  local -a operands=() places=()
  for ((i = 2; i < CURRENT; i++)); do
    if [[ -n $pending ]]; then pending=; continue; fi
    if [[ -z $ended ]]; then
      case $words[i] in
        --) ended=1; continue ;;
        ${model.valueSpellings.join("|")}) pending=1; continue ;;
        -*) continue ;;
      esac
    fi
    operands+=("$words[i]") places+=($i)
  done
  case "$operands[1] $operands[2] " in
${commandPatterns(model)}
  esac
  # The name is taken out, so that _arguments counts operands from the first one.
  for ((i = index; i > 0; i--)); do
    words[$places[i]]=()
    ((CURRENT--))
  done
  case $command in
${model.commands.map((command) => zshCommandCase(command)).join("\n")}
    *)
      _arguments -s -S : \\
${specLines([...model.commonOptions.map(zshOption), quoted("1:command:_blessfs_first_word")])}
      ;;
  esac
}

if [[ $funcstack[1] == _blessfs ]]; then _blessfs "$@"; else compdef _blessfs blessfs; fi
`;
}

function formPattern(completion: "file" | "directory"): string {
  const names = SOURCE_FORMS.filter((form) => form.completion === completion).map((form) =>
    form.prefix.slice(0, -1)
  );
  return `(${names.join("|")}):`;
}

function zshCommandCase(command: ShellCommand): string {
  const operands = command.operands.map((operand, at) => {
    const action = at === 0 && command.secondWords.length > 0
      ? `{_alternative "words:kind:(${command.secondWords.join(" ")})" "operands:${operand.name}:${
        zshAction(operand)
      }"}`
      : zshAction(operand);
    return quoted(`${operand.repeated ? "*" : at + 1}:${zshEscaped(operand.name)}:${action}`);
  });
  return `    ${quoted(command.name)})
      _arguments -s -S : \\
${specLines([...command.options.map(zshOption), ...operands])}
      ;;`;
}

function specLines(specs: readonly string[]): string {
  return specs.map((spec) => `        ${spec}`).join(" \\\n");
}

function zshOption(option: ShellOption): string {
  const others = option.repeatable ? "*" : `(${option.spellings.join(" ")})`;
  const value = option.takesValue ? `:${zshEscaped(option.valueName)}:${zshAction(option)}` : "";
  const tail = quoted(`[${zshEscaped(option.summary)}]${value}`);
  const names = option.spellings.map((name) => {
    if (!option.takesValue) return name;
    return name.startsWith("--") ? `${name}=` : `${name}+`;
  });
  const shown = names.length === 1 ? quoted(names[0]!) : `{${names.join(",")}}`;
  return `${quoted(others)}${shown}${tail}`;
}

function zshEscaped(text: string): string {
  return text.replace(/[\\[\]:]/g, (character) => `\\${character}`);
}

function zshAction(completable: Completable): string {
  if (completable.words.length > 0) return `(${completable.words.map(zshEscaped).join(" ")})`;
  switch (completable.completion) {
    case "file":
      return "_files";
    case "directory":
      return "_files -/";
    case "source":
      return "_blessfs_source";
    default:
      return " ";
  }
}

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
    model.firstWords.map(([word, summary]) =>
      fishLine("'__blessfs_at \"\" 0'", `-a ${word}`, summary)
    )
      .join("\n")
  }
${model.commonOptions.map((option) => fishOption(option, undefined)).join("\n")}
${model.commands.flatMap((command) => fishCommand(command, model)).join("\n")}
`;
}

function fishCommand(command: ShellCommand, model: ShellModel): string[] {
  const common = new Set(model.commonOptions.map((option) => option.spellings[0]));
  const condition = (more = "") => fishQuoted(`__blessfs_at "${command.name}"${more}`);
  const options = command.options.filter((option) => !common.has(option.spellings[0]))
    .map((option) => fishOption(option, condition()));
  const operands = command.operands.flatMap((operand, at) => {
    const offer = fishOffer(operand, "-k");
    return offer === ""
      ? []
      : [fishLine(condition(operand.repeated ? "" : ` ${at}`), offer, operand.name)];
  });
  const second = command.secondWords.map((word) =>
    fishLine(condition(" 0"), `-a ${word}`, `${command.name} ${word}`)
  );
  return [...options, ...operands, ...second];
}

function fishOption(option: ShellOption, condition: string | undefined): string {
  const names = option.spellings.map((name) =>
    name.startsWith("--") ? `-l ${name.slice(2)}` : `-s ${name.slice(1)}`
  );
  const value = option.takesValue ? ` ${fishOffer(option, "-x") || "-x"}` : "";
  return fishLine(condition, names.join(" ") + value, option.summary);
}

function fishLine(condition: string | undefined, what: string, summary: string): string {
  const when = condition === undefined ? "" : ` -n ${condition}`;
  return `complete -c blessfs${when} ${what} -d ${fishQuoted(summary)}`;
}

/** What to offer; `mode` is put before a list of words. */
function fishOffer(completable: Completable, mode: "-x" | "-k"): string {
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
