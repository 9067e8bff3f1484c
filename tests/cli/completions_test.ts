import { assertEquals } from "@std/assert";
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { bashCompletions } from "../../cli/completions.ts";
import { fishCompletions } from "../../cli/completions.ts";
import { shellModel } from "../../cli/completions.ts";
import { zshCompletions } from "../../cli/completions.ts";
import { COMMANDS } from "../../cli/commands.ts";
import { notRun } from "../oracle/notice.ts";
import { SAMPLE_COMMANDS } from "./sample_commands.ts";

const SAMPLE = shellModel(SAMPLE_COMMANDS);
const FORMS = "docker-archive: docker:// dir: ext4: oci-archive: oci: rootfs: tar:".split(" ");

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

Deno.test("bashCompletions completes commands, options, values, files and sources", () => {
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
  const script = `${bashCompletions(SAMPLE)}
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

Deno.test("fishCompletions completes commands, options, values, files and sources", () => {
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
  const script = `${fishCompletions(SAMPLE)}
${cases.map(([line]) => `complete -C 'blessfs ${line}'\necho ==`).join("\n")}
`;
  const output = inShell("fish", ["--no-config"], script);
  if (output === undefined) return;
  const found = output.split("==\n").slice(0, -1)
    .map((text) => lines(text).map((line) => line.split("\t")[0]!).toSorted());
  cases.forEach(([line, offers], i) => assertEquals(found[i], offers.toSorted(), line));
});

Deno.test("zshCompletions hands the right specification to _arguments, with the command taken out", () => {
  const cases: [words: string[], handed: string][] = [
    [["bless", ""], "blessfs / 2 / layered+SOURCE"],
    [["bless", "layered", "-o", "x", ""], "blessfs -o x / 4 / SOURCE"],
    [["-q", "bless", "merged", "tar:x", ""], "blessfs -q tar:x / 4 / SOURCE"],
    [["--color", "never", "cat", "i", "--", ""], "blessfs --color never i -- / 6 / IMAGE+PATH"],
    [["--quiet", ""], "blessfs --quiet / 3 / command"],
  ];
  const script = `
compdef() { :; }
_arguments() {
  local -a named
  [[ "$*" == *layered* ]] && named+=(layered)
  for name in SOURCE IMAGE PATH command; do [[ "$*" == *":$name:"* ]] && named+=($name); done
  print -r -- "\${words[*]%% } / $CURRENT / \${(j:+:)named}"
}
${zshCompletions(SAMPLE)}
${
    cases.map(([words]) => {
      const all = ["blessfs", ...words].map((word) => `'${word}'`).join(" ");
      return `words=(${all}); CURRENT=$#words; _blessfs`;
    }).join("\n")
  }
`;
  const output = inShell("zsh", ["-f"], script);
  if (output === undefined) return;
  const found = output.trimEnd().split("\n").map((line) => line.replace(/ +\//, " /"));
  assertEquals(found, cases.map(([, handed]) => handed));
});

Deno.test("the completion scripts of the real commands have no syntax errors", () => {
  const model = shellModel(COMMANDS);
  inShell("bash", ["-n"], bashCompletions(model));
  inShell("zsh", ["-n"], zshCompletions(model));
  inShell("fish", ["--no-execute"], fishCompletions(model));
});
