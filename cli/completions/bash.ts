/**
 * The completion script for bash (3.2 and later, without the bash-completion package).
 *
 * @module
 */
import { SOURCE_FORMS } from "../source_forms.ts";
import type { Completable, ShellCommand, ShellModel } from "./model.ts";
import { quoted } from "./model.ts";

/**
 * The script. bash cuts words at `:` and `=` (COMP_WORDBREAKS), so `oci:/dir` comes in three words; the loop counts
 * such pieces as one.
 */
export function bashCompletions(model: ShellModel): string {
  const commands = [...model.commands].sort((a, b) =>
    b.name.split(" ").length - a.name.split(" ").length
  );
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
${commands.map((command) => commandPattern(command)).join("\n")}
  esac
  if [[ -n $pending ]]; then
    case "$command $pending" in
${valueCases(model).join("\n")}
    esac
    return
  fi
  if [[ $cur == -* && -z $ended ]]; then
    case $command in
${model.commands.map((command) => optionCase(command.name, command)).join("\n")}
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
${model.commands.flatMap(operandCases).join("\n")}
  esac
}

complete -F _blessfs blessfs
`;
}

function commandPattern({ name }: ShellCommand): string {
  return `    ${quoted(`${name} `)}*) command=${quoted(name)} index=${name.split(" ").length} ;;`;
}

function optionCase(name: string, command: ShellCommand): string {
  const spellings = command.options.flatMap((option) => option.spellings).join(" ");
  return `      ${quoted(name)}) _blessfs_words ${quoted(spellings)} ;;`;
}

function valueCases(model: ShellModel): string[] {
  const common = model.commonOptions.map((option) => ({ option, before: "*" }));
  const own = model.commands.flatMap((command) =>
    command.options.filter((option) =>
      !model.commonOptions.some((other) => other.spellings[0] === option.spellings[0])
    )
      .map((option) => ({ option, before: quoted(command.name) }))
  );
  return [...own, ...common].flatMap(({ option, before }) => {
    const action = actionOf(option);
    if (!option.takesValue || action === "") return [];
    const patterns = option.spellings.map((spelling) => `${before}' ${spelling}'`).join("|");
    return [`      ${patterns}) ${action} ;;`];
  });
}

function operandCases(command: ShellCommand): string[] {
  return command.operands.flatMap((operand, at) => {
    const second = at === 0 && command.secondWords.length > 0
      ? `_blessfs_words ${quoted(command.secondWords.join(" "))}`
      : "";
    const action = [actionOf(operand), second].filter((part) => part !== "").join("; ");
    if (action === "") return [];
    const position = operand.repeated ? `' '*` : `' ${at}'`;
    return [`    ${quoted(command.name)}${position}) ${action} ;;`];
  });
}

function actionOf(completable: Completable): string {
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
