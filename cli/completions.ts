/**
 * Shell completions. The shell scripts are short: they ask the program what fits at the cursor, through the hidden
 * command `blessfs __complete WORD... CURRENT`.
 *
 * @module
 */
import { findCommand } from "./arguments.ts";
import type { Command, OptionSpec } from "./command.ts";
import { COMMON_OPTIONS, COMPLETE_WORD, optionsOf, spelling } from "./command.ts";
import { SOURCE_FORMS, TOPICS } from "./help.ts";

interface Offer {
  /** Whole words with their meanings; all begin with the current word. */
  readonly words: readonly (readonly [word: string, meaning: string])[];
  /** The kind of paths that the shell should offer as well. */
  readonly paths: "none" | "files" | "directories";
  /** The part of the current word before a path, such as `oci:` or `--output=`. */
  readonly prefix: string;
}

const NOTHING: Offer = { words: [], paths: "none", prefix: "" };

/**
 * The possible completions of `current`.
 *
 * @param before the words before it on the command line, without the program's name
 */
export function completeLine(
  before: readonly string[],
  current: string,
  commands: readonly Command[],
): Offer {
  const known = [...commands.flatMap(({ options }) => options), ...COMMON_OPTIONS];
  const { operands, pending, isEnded } = readBefore(before, known);
  const { command, nameWords } = findCommand(operands, commands);
  const options = command === undefined ? COMMON_OPTIONS : optionsOf(command);
  if (pending !== undefined) {
    return offerOf(options.find(({ name }) => name === pending.name) ?? pending, current, "");
  }
  if (!isEnded && current.startsWith("-")) return offerOption(options, current);
  const named = operands.join(" ");
  const nextWords: [string, string][] = commands.flatMap(({ name, aliases = [], summary }) =>
    [name, ...aliases].filter((text) => named === "" || text.startsWith(`${named} `))
      .map((text): [string, string] => [text.split(" ")[operands.length]!, summary])
  );
  const next = unique(nextWords.filter(([word]) => word.startsWith(current)));
  if (command === undefined) return { ...NOTHING, words: next };
  const at = operands.length - nameWords;
  const spec = command.positionals[at] ?? command.positionals.findLast(({ repeated }) => repeated);
  if (spec === undefined) return { ...NOTHING, words: next };
  const helpWords = commands.map(({ name, summary }): [string, string] => [
    name.split(" ")[0]!,
    summary,
  ]);
  const topics = TOPICS.map((topic): [string, string] => [topic, "a topic of the help"]);
  const offer = offerOf(spec, current, "", unique([...helpWords, ...topics]));
  return at === 0 ? { ...offer, words: [...next, ...offer.words] } : offer;
}

/** An offer in the form the scripts read: the kind of paths and their prefix, then one word per line. */
export function offerText({ words, paths, prefix }: Offer): string {
  return [[paths, prefix], ...words].map((parts) => `${parts.join("\t")}\n`).join("");
}

function readBefore(before: readonly string[], known: readonly OptionSpec[]) {
  const operands: string[] = [];
  let pending: OptionSpec | undefined;
  let isEnded = false;
  for (const word of before) {
    if (pending !== undefined) pending = undefined;
    else if (isEnded || !/^-./.test(word)) operands.push(word);
    else if (word === "--") isEnded = true;
    else if (!word.startsWith("--")) {
      pending = known.find(({ short, value }) => value !== undefined && short === word.at(-1));
    } else {
      pending = known.find((option) => option.value !== undefined && spelling(option) === word);
    }
  }
  return { operands, pending, isEnded };
}

function offerOption(options: readonly OptionSpec[], current: string): Offer {
  const equals = current.indexOf("=");
  if (current.startsWith("--") && equals > 0) {
    const prefix = current.slice(0, equals + 1);
    const option = options.find((one) => `${spelling(one)}=` === prefix);
    return option === undefined ? NOTHING : offerOf(option, current.slice(equals + 1), prefix);
  }
  const words = options.flatMap((option): [string, string][] =>
    [...option.short === undefined ? [] : [`-${option.short}`], spelling(option)]
      .map((word) => [word, option.summary])
  );
  return { ...NOTHING, words: words.filter(([word]) => word.startsWith(current)) };
}

/** The possible values of an option or operand. */
function offerOf(
  { choices, open, completion }: Pick<OptionSpec, "choices" | "open" | "completion">,
  current: string,
  prefix: string,
  commandWords: readonly (readonly [string, string])[] = [],
): Offer {
  const forms = SOURCE_FORMS.map(({ prefix, meaning }) => [prefix, meaning] as const);
  const form = forms.find(([text]) => current.startsWith(text))?.[0] ?? "";
  const words = choices !== undefined
    ? choices.map((word) => [word, ""] as const)
    : completion === "command"
    ? commandWords
    : completion === "source" && form === ""
    ? forms
    : [];
  return {
    words: words.filter(([word]) => word.startsWith(current))
      .map(([word, meaning]) => [prefix + word, meaning] as const),
    paths: choices !== undefined && !open || form === "docker://"
      ? "none"
      : completion === "directory"
      ? "directories"
      : completion === "file" || completion === "source"
      ? "files"
      : "none",
    prefix: completion === "source" ? prefix + form : prefix,
  };
}

function unique(words: readonly (readonly [string, string])[]): [string, string][] {
  const found = new Map<string, string>();
  for (const [word, meaning] of words) if (!found.has(word)) found.set(word, meaning);
  return [...found];
}

/** The script for bash 3.2 and later, without the bash-completion package. */
export const BASH_COMPLETIONS = `\
# bash completion for blessfs. To use it: source <(blessfs completions bash)
_blessfs() {
  local word cur= head= paths prefix line i IFS=$' \\t\\n'
  local -a before=()
  COMPREPLY=()
  # bash cuts words at : and = (COMP_WORDBREAKS). They are put together again, and what bash does not replace is the head.
  for ((i = 1; i <= COMP_CWORD; i++)); do
    word=\${COMP_WORDS[i]}
    if [[ $word == [:=] || ( $cur == *[:=] && \${COMP_WORDS[i - 1]} == [:=] ) ]]; then
      cur+=$word
    else
      ((i > 1)) && before+=("$cur")
      cur=$word
    fi
  done
  head=\${cur%"$word"}
  [[ $word == [:=] ]] && head=$cur
  {
    IFS=$'\\t' read -r paths prefix
    while IFS=$'\\t' read -r line _; do COMPREPLY+=("\${line#"$head"}"); done
  } < <("\${COMP_WORDS[0]}" ${COMPLETE_WORD} "\${before[@]}" "$cur" 2>/dev/null)
  [[ \${#COMPREPLY[@]} == 1 && \${COMPREPLY[0]} == *[:/] ]] && compopt -o nospace 2>/dev/null
  [[ $paths == none ]] && return
  while IFS= read -r line; do
    line=$prefix$line
    COMPREPLY+=("\${line#"$head"}")
  done < <(compgen "-\${paths:0:1}" -- "\${cur#"$prefix"}")
  compopt -o filenames 2>/dev/null
}

complete -F _blessfs blessfs
`;

/** The script for zsh; a file `_blessfs` in a directory of `$fpath`, or sourced after compinit. */
export const ZSH_COMPLETIONS = `\
#compdef blessfs
# zsh completion for blessfs. To use it: blessfs completions zsh > "\${fpath[1]}/_blessfs"
_blessfs() {
  local line paths prefix
  local -a lines whole begun
  lines=("\${(@f)$("\${(Q)words[1]}" ${COMPLETE_WORD} "\${(Q@)words[2,CURRENT-1]}" "\${(Q)words[CURRENT]}" 2>/dev/null)}")
  IFS=$'\\t' read -r paths prefix <<< "\${lines[1]}"
  for line in "\${(@)lines[2,-1]}"; do
    [[ -z $line ]] && continue
    # _describe takes a colon for the end of the word.
    local word=\${line%%$'\\t'*} meaning=\${line#*$'\\t'}
    if [[ $word == *[:/] ]]; then begun+=("\${word//:/\\\\:}:$meaning"); else whole+=("\${word//:/\\\\:}:$meaning"); fi
  done
  (($#begun)) && _describe -t forms 'form of source' begun -S ''
  (($#whole)) && _describe -t words word whole
  [[ $paths == none ]] && return
  [[ -n $prefix ]] && compset -P "\${(b)prefix}"
  if [[ $paths == directories ]]; then _files -/; else _files; fi
}

if [[ $funcstack[1] == _blessfs ]]; then _blessfs "$@"; else compdef _blessfs blessfs; fi
`;

/** The script for fish; `~/.config/fish/completions/blessfs.fish`. */
export const FISH_COMPLETIONS = `\
# fish completion for blessfs. To use it: blessfs completions fish | source
function __blessfs_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l lines ($words[1] ${COMPLETE_WORD} $words[2..-1] "$current" 2>/dev/null)
    set -l head (string split \\t -- "$lines[1]")
    set -l prefix "$head[2]"
    set -l rest (string sub -s (math (string length -- "$prefix") + 1) -- "$current")
    set -l paths
    switch "$head[1]"
        case files
            set paths (__fish_complete_path "$rest")
        case directories
            set paths (__fish_complete_directories "$rest")
    end
    test (count $lines) -gt 1; and printf '%s\\n' $lines[2..-1]
    for path in $paths
        echo $prefix$path
    end
end

complete -c blessfs -f -a '(__blessfs_complete)'
`;
