/**
 * The completion script for zsh.
 *
 * @module
 */
import { SOURCE_FORMS } from "../source_forms.ts";
import type { Completable, ShellCommand, ShellModel, ShellOption } from "./model.ts";
import { quoted } from "./model.ts";

/** The script; a file `_blessfs` in a directory of `$fpath`, or sourced after compinit. */
export function zshCompletions(model: ShellModel): string {
  const commands = [...model.commands].sort((a, b) =>
    b.name.split(" ").length - a.name.split(" ").length
  );
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
${commands.map(commandPattern).join("\n")}
  esac
  # The name is taken out, so that _arguments counts operands from the first one.
  for ((i = index; i > 0; i--)); do
    words[$places[i]]=()
    ((CURRENT--))
  done
  case $command in
${model.commands.map((command) => commandCase(command)).join("\n")}
    *)
      _arguments -s -S : \\
${specLines([...model.commonOptions.map(optionSpec), quoted("1:command:_blessfs_first_word")])}
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

function commandPattern({ name }: ShellCommand): string {
  return `    ${quoted(`${name} `)}*) command=${quoted(name)} index=${name.split(" ").length} ;;`;
}

function commandCase(command: ShellCommand): string {
  const operands = command.operands.map((operand, at) => {
    const action = at === 0 && command.secondWords.length > 0
      ? `{_alternative "words:kind:(${command.secondWords.join(" ")})" "operands:${operand.name}:${
        actionOf(operand)
      }"}`
      : actionOf(operand);
    return quoted(`${operand.repeated ? "*" : at + 1}:${escaped(operand.name)}:${action}`);
  });
  return `    ${quoted(command.name)})
      _arguments -s -S : \\
${specLines([...command.options.map(optionSpec), ...operands])}
      ;;`;
}

function specLines(specs: readonly string[]): string {
  return specs.map((spec) => `        ${spec}`).join(" \\\n");
}

function optionSpec(option: ShellOption): string {
  const others = option.repeatable ? "*" : `(${option.spellings.join(" ")})`;
  const value = option.takesValue ? `:${escaped(option.valueName)}:${actionOf(option)}` : "";
  const tail = quoted(`[${escaped(option.summary)}]${value}`);
  const names = option.spellings.map((name) => {
    if (!option.takesValue) return name;
    return name.startsWith("--") ? `${name}=` : `${name}+`;
  });
  const shown = names.length === 1 ? quoted(names[0]!) : `{${names.join(",")}}`;
  return `${quoted(others)}${shown}${tail}`;
}

function escaped(text: string): string {
  return text.replace(/[\\[\]:]/g, (character) => `\\${character}`);
}

function actionOf(completable: Completable): string {
  if (completable.words.length > 0) return `(${completable.words.map(escaped).join(" ")})`;
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
