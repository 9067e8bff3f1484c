import { assert, assertEquals } from "@std/assert";
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { spelling } from "../../cli/command.ts";
import {
  BASH_COMPLETIONS,
  completeLine,
  FISH_COMPLETIONS,
  ZSH_COMPLETIONS,
} from "../../cli/completions.ts";
import { COMMANDS } from "../../cli/commands.ts";
import { notRun } from "../oracle/notice.ts";
import { programWords } from "./program.ts";

const SAMPLE = fileURLToPath(new URL("./sample_program.ts", import.meta.url));
/** What a shell runs in the place of the program. */
const PROGRAM = programWords(SAMPLE).map((word) => `'${word}'`).join(" ");
const FORMS =
  "docker-archive: containers-storage: docker-daemon: docker:// dir: ext4: oci-archive: oci: rootfs: tar:"
    .split(" ");

/** Runs a shell in a directory with `a file`, `plain.tar` and `sub/`; undefined, and a line that says so, without it. */
function inShell(shell: string, args: readonly string[], input = ""): string | undefined {
  const directory = mkdtempSync(join(tmpdir(), "blessfs-completions-"));
  try {
    mkdirSync(join(directory, "sub"));
    for (const name of ["a file", "plain.tar"]) writeFileSync(join(directory, name), "");
    const run = spawnSync(shell, [...args], { cwd: directory, input, encoding: "utf8" });
    if (run.error !== undefined) {
      notRun(`the completions of ${shell}`, `${shell} is not installed`);
      return undefined;
    }
    assertEquals([run.status, run.stderr], [0, ""], `${shell}: ${run.stderr}`);
    return run.stdout;
  } finally {
    rmSync(directory, { recursive: true });
  }
}

function lines(text: string): string[] {
  return text.split("\n").filter((line) => line !== "").toSorted();
}

Deno.test("the script for bash completes commands, options, values, files and sources", () => {
  const cases: [words: string[], offers: string[]][] = [
    [[""], ["bless", "cat", "completions", "dedup-probe", "probe"]],
    [["bl"], ["bless"]],
    [["bless", ""], ["a file", "layered", "merged", "plain.tar", "sub", ...FORMS]],
    [["bless", "oci", ":", "pl"], ["plain.tar"]],
    [["bless", "oci", ":"], ["a file", "plain.tar", "sub"]],
    [["bless", "tar:pl"], ["tar:plain.tar"]],
    [["bless", "--ba"], ["--backups"]],
    [["bless", "--backups", ""], ["none", "sparse"]],
    [["bless", "--backups", "=", "s"], ["sparse"]],
    [["bless", "--backups", "="], ["none", "sparse"]],
    [["bless", "--no-"], ["--no-checksum", "--no-color"]],
    [["bless", "merged", "X", "-o", "p"], ["plain.tar"]],
    [["--quiet", "bless", "layered", "-o", ""], ["sub"]],
    [["bless", "--packing", "resync", ":", "4K", "tar", ":", "x", "m"], []],
    [["cat", "x", ""], []],
    [["probe", "oci", ":", "x", "rootf"], ["rootfs:"]],
    [["--color", ""], ["always", "auto", "never"]],
    [["completions", ""], ["bash", "zsh"]],
  ];
  const script = `${BASH_COMPLETIONS}
blessfs() { ${PROGRAM} "$@"; }
complete_words() {
  COMP_WORDS=(blessfs "$@") COMP_CWORD=$#
  _blessfs
  printf '%s\\n' "\${COMPREPLY[@]}" ==
}
${cases.map(([words]) => `complete_words ${words.map((word) => `'${word}'`).join(" ")}`).join("\n")}
`;
  const output = inShell("bash", ["--norc"], script);
  if (output === undefined) return;
  const found = output.split("==\n").slice(0, -1).map(lines);
  cases.forEach(([words, offers], i) => assertEquals(found[i], offers.toSorted(), words.join(" ")));
});

Deno.test("the script for fish completes commands, options, values, files and sources", () => {
  const cases: [line: string, offers: string[]][] = [
    ["", ["bless", "cat", "completions", "dedup-probe", "probe"]],
    ["bless ", ["a file", "layered", "merged", "plain.tar", "sub/", ...FORMS]],
    ["bless oci:pl", ["oci:plain.tar"]],
    ["bless --ba", ["--backups"]],
    ["bless --backups ", ["none", "sparse"]],
    ["bless --backups=s", ["--backups=sparse"]],
    ["bless --no", ["--no-checksum", "--no-color"]],
    ["bless merged X -o p", ["plain.tar"]],
    ["--quiet bless layered -o ", ["sub/"]],
    ["cat x ", []],
    ["probe a b rootf", ["rootfs:"]],
    ["completions ", ["bash", "zsh"]],
  ];
  const script = `${FISH_COMPLETIONS}
function blessfs; ${PROGRAM} $argv; end
${cases.map(([line]) => `complete -C 'blessfs ${line}'\necho ==`).join("\n")}
`;
  const output = inShell("fish", ["--no-config"], script);
  if (output === undefined) return;
  const found = output.split("==\n").slice(0, -1)
    .map((text) => lines(text).map((line) => line.split("\t")[0]!).toSorted());
  cases.forEach(([line, offers], i) => assertEquals(found[i], offers.toSorted(), line));
});

Deno.test("the script for zsh offers words with their meanings, and paths behind what stands before them", () => {
  const cases: [words: string[], calls: string[]][] = [
    [["bl"], ["words bless:does bless merged"]],
    [["bless", "oci:pl"], ["prefix oci:", "files"]],
    [["bless", "layered", "-o", ""], ["files -/"]],
    [["bless", "--backups=s"], ["words --backups=sparse:"]],
    [["probe", "oci:x", "rootf"], ["forms rootfs\\::a directory tree", "files"]],
    [["cat", "x", ""], []],
  ];
  // The functions of zsh's completion system show what they are given.
  const script = `
compdef() { :; }
compset() { print -r -- "prefix $2"; }
_files() { print -r -- "files\${1:+ $1}"; }
_describe() {
  local item
  for item in "\${(@P)4}"; do print -r -- "$2 $item"; done
}
${ZSH_COMPLETIONS}
blessfs() { ${PROGRAM} "$@"; }
${
    cases.map(([words]) => {
      const all = ["blessfs", ...words].map((word) => `'${word}'`).join(" ");
      return `words=(${all}); CURRENT=$#words; _blessfs; echo "=="`;
    }).join("\n")
  }
`;
  const output = inShell("zsh", ["-f"], script);
  if (output === undefined) return;
  const found = output.split("==\n").slice(0, -1).map((text) =>
    text.split("\n").filter((line) => line !== "")
  );
  assertEquals(found, cases.map(([, calls]) => calls));
});

Deno.test("the completion scripts have no syntax errors", () => {
  inShell("bash", ["-n"], BASH_COMPLETIONS);
  inShell("zsh", ["-n"], ZSH_COMPLETIONS);
  inShell("fish", ["--no-execute"], FISH_COMPLETIONS);
});

Deno.test("completeLine offers something at every place of every real command", () => {
  for (const { name, aliases = [], options, positionals } of COMMANDS) {
    for (const typed of [name, ...aliases]) {
      const words = typed.split(" ");
      const [last = ""] = words.slice(-1);
      const begun = completeLine(words.slice(0, -1), last.slice(0, 1), COMMANDS);
      assert(begun.words.some(([word]) => word === last), typed);
      for (const option of options) {
        const offered = completeLine(words, spelling(option), COMMANDS).words;
        assert(offered.some(([word]) => word === spelling(option)), `${typed} ${option.name}`);
        const value = completeLine([...words, spelling(option)], "", COMMANDS);
        if (option.value === undefined) continue;
        assertEquals(value.words.map(([word]) => word), option.choices ?? [], option.name);
      }
      const { words: offered, paths } = completeLine(words, "", COMMANDS);
      const [first] = positionals;
      if (first?.completion === "file") assertEquals(paths, "files", typed);
      if (first?.completion === "source") assert(offered.some(([word]) => word === "oci:"), typed);
    }
  }
});

Deno.test("nothing is offered where nothing is known, and no line makes it fail", () => {
  for (
    const line of [["nope", ""], ["cat", "x", "y", "z", ""], ["--color", "x", ""], ["--", "-"]]
  ) {
    const offer = completeLine(line.slice(0, -1), line.at(-1)!, COMMANDS);
    assertEquals(offer.paths, "none", line.join(" "));
  }
});
