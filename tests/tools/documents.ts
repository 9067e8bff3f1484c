/**
 * The shell blocks of the documents, and a directory in which they can be run.
 *
 * @module
 */
import { spawnSync } from "node:child_process";
import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { zstdCompressSync } from "node:zlib";
import { environment, MAIN, programWords } from "../cli/program.ts";
import { oldDockerEntries } from "../source/build_archives.ts";
import { writeOciLayout } from "../source/build_layout.ts";
import { noiseBytes } from "../io/noise_bytes.ts";
import { buildTar } from "../tar/build.ts";

/** A block that a reader may type. */
export interface ShellBlock {
  /** The line of the document that it begins at. */
  readonly line: number;
  /** `sh`: commands alone. `console`: commands behind `$ `, and what they print. */
  readonly kind: "sh" | "console";
  readonly text: string;
  /** What a comment before it says: why it is not run here, or what it needs. */
  readonly notRun: string | undefined;
  readonly needs: readonly string[];
}

/** A command of a console block and what the document says that it prints. */
export interface Exchange {
  readonly command: string;
  readonly printed: string;
}

const BLOCK =
  /(?:<!-- (?:not run by tests: (?<notRun>[^\n]+)|needs (?<needs>[^\n]+)) -->\n+)?^```(?<kind>sh|console)\n(?<text>.*?)^```$/gms;

/** All shell blocks of a document, in order. */
export function shellBlocks(document: string): ShellBlock[] {
  return [...document.matchAll(BLOCK)].map((match) => ({
    line: document.slice(0, match.index).split("\n").length,
    kind: match.groups!["kind"] as ShellBlock["kind"],
    text: match.groups!["text"]!,
    notRun: match.groups!["notRun"],
    needs: match.groups!["needs"]?.split(/,? /) ?? [],
  }));
}

/** The commands of a console block. */
export function exchanges(block: ShellBlock): Exchange[] {
  return block.text.split(/^\$ /m).slice(1).map((part) => {
    const end = part.indexOf("\n");
    return { command: part.slice(0, end), printed: part.slice(end + 1).trimEnd() };
  });
}

/** What a document's output matches: `...` stands for anything, and times, versions and loop devices vary. */
export function printedPattern(printed: string): RegExp {
  const varying = printed
    .replace(/[.*+?^${}()|[\]\\]/g, "\\$&")
    .replace(/^\\\.\\\.\\\.$/gm, "(?:.*\\n)*?.*")
    .replace(/\d+\\\.\d\d s$/gm, "\\d+\\.\\d\\d s")
    .replace(/^e2fsck .*$/gm, "e2fsck .*");
  return new RegExp(`^${varying}\\s*$`);
}

/** Fills a directory with what the documents name: images, tars, and `blessfs` itself. */
export function furnish(directory: string, root: string): void {
  symlinkSync(join(root, "fixtures"), join(directory, "fixtures"));
  const base = buildTar([
    { path: "usr/", mode: 0o755 },
    { path: "usr/lib", data: noiseBytes(2 << 20, 1) },
    { path: "etc/hostname", data: "old\n" },
  ]);
  const layer = (name: string) =>
    buildTar([{ path: `usr/${name}`, data: `${name} `.repeat(40_000) }]);
  const layouts: [path: string, ref: string, name: string][] = [
    ["images/python", "3.13", "python"],
    ["images/python-next", "3.13", "python-next"],
    ["images/node", "22", "node"],
  ];
  for (const [path, ref, name] of layouts) {
    const config = { config: { Entrypoint: [`/usr/${name}`] } };
    writeOciLayout(join(directory, path), { layers: [base, layer(name)], ref, config });
  }
  writeFileSync(join(directory, "debian.tar"), buildTar(oldDockerEntries()));
  writeFileSync(join(directory, "root.tar.zst"), zstdCompressSync(base));
  mkdirSync(join(directory, "bin"));
  const program = programWords(MAIN).map((word) => `'${word}'`).join(" ");
  writeFileSync(join(directory, "bin/blessfs"), `#!/bin/sh\nexec ${program} "$@"\n`, {
    mode: 0o755,
  });
}

/** Runs a script in such a directory; as root in a mount namespace of its own, so that its mounts end with it. */
export function runScript(
  directory: string,
  script: string,
  mounts: boolean,
): { code: number | null; stdout: string; stderr: string } {
  const bash = ["bash", "-euo", "pipefail", "-c", script];
  const [command, ...words] = mounts ? ["unshare", "--mount", ...bash] : bash;
  const run = spawnSync(command!, words, {
    cwd: directory,
    encoding: "utf8",
    env: {
      ...environment({ LC_ALL: "C", TZ: "UTC" }),
      PATH: `${directory}/bin:${environment()["PATH"]}:/usr/sbin:/sbin`,
    },
  });
  return { code: run.status, stdout: run.stdout, stderr: run.stderr };
}
