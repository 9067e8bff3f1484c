// deno-lint-ignore-file no-console -- what it prints is what it is for
/**
 * Makes one binary that needs no runtime:
 *
 *     deno task build [--runtime deno|bun] [--target TARGET] [--output FILE]
 *
 * Without `--runtime`, `deno compile` is tried first; where its runtime cannot be downloaded (and DENORT_BIN names
 * none), Bun makes the binary, and a line says so; npm has its runtimes for all targets. TARGET is one of linux-x64,
 * linux-arm64, linux-x64-musl, linux-arm64-musl, macos-x64, macos-arm64; default: this machine. A binary for this machine
 * is proved before it is called built: it blesses a layer, in a worker, and verifies the image.
 *
 * @module
 */
import { parseArgs } from "@std/cli/parse-args";
import { isAbsolute, join } from "node:path";
import config from "../deno.json" with { type: "json" };
import {
  bundleProgram,
  compile,
  DEFAULT_BUNDLE,
  hostTarget,
  ROOT,
  TARGETS,
} from "./build_steps.ts";
import type { Runtime } from "./build_steps.ts";

const USAGE = "usage: deno task build [--runtime deno|bun] [--target TARGET] [--output FILE]";

interface Request {
  readonly runtimes: readonly Runtime[];
  readonly target: string;
  readonly output: string;
}

function parseRequest(args: readonly string[]): Request | string {
  const unknown: string[] = [];
  const parsed = parseArgs(args, {
    string: ["runtime", "target", "output"],
    unknown: (arg: string) => {
      unknown.push(arg);
      return false;
    },
  });
  if (unknown.length > 0) return `unknown argument ${unknown[0]}`;
  const { runtime, target = hostTarget(), output } = parsed as Record<string, string | undefined>;
  if (TARGETS[target] === undefined) {
    return `unknown target ${target}; there are ${Object.keys(TARGETS).join(", ")}`;
  }
  if (runtime !== undefined && runtime !== "deno" && runtime !== "bun") {
    return `unknown runtime ${runtime}; there are deno, bun`;
  }
  const path = output ?? "dist/blessfs";
  return {
    runtimes: runtime === undefined ? ["deno", "bun"] : [runtime],
    target,
    output: isAbsolute(path) ? path : join(output === undefined ? ROOT : Deno.cwd(), path),
  };
}

/** Tries the runtimes in turn; returns the one that worked. */
function build({ runtimes, target, output }: Request): Runtime {
  bundleProgram(DEFAULT_BUNDLE);
  for (const [i, runtime] of runtimes.entries()) {
    try {
      compile(runtime, DEFAULT_BUNDLE, target, output, config.version);
      return runtime;
    } catch (error) {
      if (i === runtimes.length - 1) throw error;
      console.log(`build: ${(error as Error).message}`);
      console.log(`build: going on with ${runtimes[i + 1]}`);
    }
  }
  throw new Error("no runtime to build with");
}

function main(): number {
  const request = parseRequest(Deno.args);
  if (typeof request === "string") {
    console.error(`build: ${request}\n${USAGE}`);
    return 2;
  }
  try {
    const runtime = build(request);
    const sizeBytes = Deno.statSync(request.output).size;
    console.log(`${request.output}: ${sizeBytes} bytes, ${request.target}, made with ${runtime}`);
    return 0;
  } catch (error) {
    console.error(`build: ${(error as Error).message}`);
    return 1;
  }
}

Deno.exitCode = main();
