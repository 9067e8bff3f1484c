// deno-lint-ignore-file no-console -- what it prints is what it is for
/**
 * Makes what a release consists of: for each target `blessfs-VERSION-TARGET.tar.gz` with the binary, the manual page, the
 * completions and the documents, and SHA256SUMS of them.
 *
 *     deno task release [--tag vVERSION] [--runtime deno|bun] [--target TARGET ...] [--output DIRECTORY]
 *
 * The default is every target, made with Bun, whose runtimes for all of them are in npm. `--tag` fails unless it is the
 * version of deno.json. Times are SOURCE_DATE_EPOCH, or 1970: equal sources give equal archives.
 *
 * @module
 */
import { parseArgs } from "@std/cli/parse-args";
import { basename, join } from "node:path";
import { BASH_COMPLETIONS, FISH_COMPLETIONS, ZSH_COMPLETIONS } from "../cli/completions.ts";
import { COMMANDS } from "../cli/commands.ts";
import { renderManPage } from "../cli/manual.ts";
import config from "../deno.json" with { type: "json" };
import { bundleProgram, compile, DEFAULT_BUNDLE, ROOT, TARGETS } from "./build_steps.ts";
import type { Runtime } from "./build_steps.ts";
import { archiveName, checksumLines, makeArchive } from "./release_archive.ts";
import type { ReleaseFile } from "./release_archive.ts";

const USAGE =
  "usage: deno task release [--tag vVERSION] [--runtime deno|bun] [--target TARGET ...] [--output DIRECTORY]";
const DOCUMENTS = ["README.md", "CHANGELOG.md", "LICENSE"];

interface Request {
  readonly runtime: Runtime;
  readonly targets: readonly string[];
  readonly output: string;
}

function parseRequest(args: readonly string[]): Request | string {
  const unknown: string[] = [];
  const parsed = parseArgs(args, {
    string: ["tag", "runtime", "target", "output"],
    collect: ["target"],
    unknown: (arg: string) => {
      unknown.push(arg);
      return false;
    },
  });
  if (unknown.length > 0) return `unknown argument ${unknown[0]}`;
  const { tag, runtime = "bun", output = join(ROOT, "dist/release") } = parsed as Record<
    string,
    string | undefined
  >;
  const version: string = config.version;
  if (tag !== undefined && tag !== `v${version}`) {
    return `the tag is ${tag}, and the version of deno.json ${version}: wanted v${version}`;
  }
  if (runtime !== "deno" && runtime !== "bun") return `unknown runtime ${runtime}`;
  const named = parsed["target"] as string[];
  const wrong = named.find((target) => TARGETS[target] === undefined);
  if (wrong !== undefined) {
    return `unknown target ${wrong}; there are ${Object.keys(TARGETS).join(", ")}`;
  }
  const targets = named.length > 0 ? named : Object.keys(TARGETS)
    .filter((target) => TARGETS[target]![runtime] !== undefined);
  return { runtime, targets, output };
}

/** What is the same in every archive. */
function commonFiles(): ReleaseFile[] {
  const made = {
    "man/blessfs.1": renderManPage(COMMANDS),
    "completions/blessfs.bash": BASH_COMPLETIONS,
    "completions/_blessfs": ZSH_COMPLETIONS,
    "completions/blessfs.fish": FISH_COMPLETIONS,
  };
  const encoder = new TextEncoder();
  return [
    ...DOCUMENTS.map((path) => ({ path, bytes: Deno.readFileSync(join(ROOT, path)) })),
    ...Object.entries(made).map(([path, text]) => ({ path, bytes: encoder.encode(text) })),
  ];
}

function release({ runtime, targets, output }: Request): void {
  const scratch = Deno.makeTempDirSync({ prefix: "blessfs-release-" });
  try {
    bundleProgram(DEFAULT_BUNDLE);
    Deno.mkdirSync(output, { recursive: true });
    const common = commonFiles();
    const mtimeSeconds = Number(Deno.env.get("SOURCE_DATE_EPOCH") ?? 0);
    const archives = new Map<string, Uint8Array>();
    for (const target of targets) {
      const binary = join(scratch, target, "blessfs");
      compile(runtime, DEFAULT_BUNDLE, target, binary, config.version);
      const program = { path: basename(binary), bytes: Deno.readFileSync(binary) };
      const name = archiveName(config.version, target);
      const files = [...common, { ...program, isExecutable: true }];
      const archive = makeArchive(name, files, mtimeSeconds);
      archives.set(`${name}.tar.gz`, archive);
      Deno.writeFileSync(join(output, `${name}.tar.gz`), archive);
      Deno.removeSync(binary);
      console.log(`${name}.tar.gz: ${archive.length} bytes, made with ${runtime}`);
    }
    Deno.writeTextFileSync(join(output, "SHA256SUMS"), checksumLines(archives));
  } finally {
    Deno.removeSync(scratch, { recursive: true });
  }
}

function main(): number {
  const request = parseRequest(Deno.args);
  if (typeof request === "string") {
    console.error(`release: ${request}\n${USAGE}`);
    return 2;
  }
  try {
    release(request);
    return 0;
  } catch (error) {
    console.error(`release: ${(error as Error).message}`);
    return 1;
  }
}

Deno.exitCode = main();
