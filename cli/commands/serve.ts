/**
 * `blessfs serve`.
 *
 * @module
 */
import { existsSync, readFileSync } from "node:fs";
import { availableParallelism, hostname } from "node:os";
import { join, resolve } from "node:path";
import process from "node:process";
import { invariant, UsageError } from "../../lib/errors.ts";
import { ioErrorFrom } from "../../lib/io/system_error.ts";
import type { OptionRule } from "../../serve/access.ts";
import {
  CLIENT_CHOICES,
  CLIENT_OPTIONS,
  type ListenAddress,
  type ServeSettings,
} from "../../serve/settings.ts";
import { programWords } from "../../serve/program.ts";
import type { CommandIo, ParsedArguments } from "../command.ts";
import { BLESS_LAYERED, BLESS_MERGED } from "../table/bless.ts";
import { parseCount, parseSize } from "../values.ts";
import { VERSION } from "../version.ts";
import { parseSourceOptions, sourceDateEpoch } from "./sources.ts";

const SECOND_MS = 1000;
const RESOLVE_MS = 600 * SECOND_MS;
const DAY_MS = 24 * 3600 * SECOND_MS;
const TOKEN_CHARACTERS_MIN = 16;

export async function run(args: ParsedArguments, io: CommandIo): Promise<void> {
  const settings = settingsOf(args, io);
  const { startServer } = await import("../../serve/server.ts");
  const server = await startServer(settings, (line) => io.stderr.write(line));
  await new Promise<void>((resolve, reject) => {
    let signals = 0;
    const onSignal = () => {
      // The first signal drains the server; the second stops it at once.
      const ending = signals++ === 0 ? server.drain() : server.stop();
      ending.then(resolve, reject);
    };
    for (const name of ["SIGTERM", "SIGINT"] as const) process.on(name, onSignal);
  });
}

function settingsOf(args: ParsedArguments, io: CommandIo): ServeSettings {
  const images = resolve(io.cwd, args.text("images"));
  const tokens = readTokens(args.value("token-file"));
  const listen = parseListen(args.value("listen") ?? `unix:${join(images, "serve.sock")}`, io.cwd);
  checkAccess(listen, tokens, args.flag("insecure"));
  const state = args.value("state") ?? join(images, ".serve", "state.db");
  const isShared = /^postgres(?:ql)?:\/\//.test(state);
  const store = storeOf(args, io, isShared);
  const count = (least = 1, most = 1_000_000) => (text: string, what: string) =>
    parseCount(text, what, least, most);
  const seconds = (least?: number) => (text: string, what: string) =>
    count(least)(text, what) * SECOND_MS;
  const roots = args.values("allow-source")?.map((root) => resolve(io.cwd, root));
  return {
    listen,
    images,
    store,
    state: isShared ? state : resolve(io.cwd, state),
    host: args.value("host-name") ?? hostname(),
    workers: args.parsed("workers", count(0, 1024)) ?? availableParallelism(),
    queueMax: args.read("queue", count()),
    jobMemoryBytes: args.read("job-memory", parseSize),
    deadlineMs: args.read("deadline", seconds()),
    resolveMs: RESOLVE_MS,
    blobBytesMax: args.read("layer-cache", parseSize),
    retryDelaysMs: args.parsedValues("retry-after", seconds(0))!,
    leaseMs: args.read("lease", seconds()),
    drainMs: args.read("drain", seconds(0)),
    keepJobsMs: args.read("keep-jobs", count()) * DAY_MS,
    tokens,
    policy: {
      roots,
      trustsClients: listen.kind === "unix",
      registries: args.values("allow-registry"),
    },
    optionRules: optionRules(),
    authFile: absolute(args.value("authfile"), io.cwd),
    plainHttp: args.flag("plain-http"),
    tmpdir: absolute(args.value("tmpdir"), io.cwd),
    timestamp: sourceDateEpoch(io),
    program: programWords(),
    version: VERSION,
  };
}

function absolute(path: string | undefined, cwd: string): string | undefined {
  return path === undefined ? undefined : resolve(cwd, path);
}

/** Jobs run in processes with the same working directory, but an absolute path is easier to find. */
function storeOf(args: ParsedArguments, io: CommandIo, isShared: boolean): string | undefined {
  const store = args.value("store");
  if (store === undefined) {
    if (!isShared) return undefined;
    throw new UsageError("--state", "hosts that share their work need a chunk store, too", {
      hint: "name one that all of them reach with --store",
    });
  }
  if (/^[a-z0-9+]+:\/\//.test(store)) return store;
  const path = resolve(io.cwd, store);
  // Otherwise only a job would report this, much later.
  if (existsSync(path)) return path;
  throw new UsageError("--store", `${path}: there is no such directory`, {
    hint: "make it first: `mkdir`",
  });
}

function parseListen(text: string, cwd: string): ListenAddress {
  if (text.startsWith("unix:")) {
    const path = text.slice("unix:".length);
    if (path === "") throw new UsageError("--listen", "`unix:` has no path");
    return { kind: "unix", path: resolve(cwd, path) };
  }
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:]*)):(\d{1,5})$/.exec(text);
  const port = Number(match?.[3] ?? NaN);
  if (match === null || port > 65535) {
    throw new UsageError("--listen", `\`${text}\`: wanted unix:PATH or HOST:PORT`, {
      hint: "write an IPv6 address in brackets: [::1]:8080",
    });
  }
  return { kind: "tcp", host: match[1] ?? (match[2] || "0.0.0.0"), port };
}

function checkAccess(listen: ListenAddress, tokens: readonly string[], isInsecure: boolean): void {
  if (listen.kind === "unix" || tokens.length > 0) return;
  const isLoopback = /^(?:127(?:\.\d{1,3}){3}|::1|localhost)$/.test(listen.host);
  if (isInsecure && isLoopback) return;
  if (isInsecure) {
    throw new UsageError("--insecure", `${listen.host} can be reached from other machines`, {
      hint: "listen on 127.0.0.1, or name tokens with --token-file",
    });
  }
  throw new UsageError("--listen", "over TCP clients need a token", {
    hint: "name a file of tokens with --token-file, or add --insecure on loopback",
  });
}

function readTokens(path: string | undefined): readonly string[] {
  if (path === undefined) return [];
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    throw ioErrorFrom(path, "cannot be read", error);
  }
  const tokens = text.split("\n").map((line) => line.trim())
    .filter((line) => line !== "" && !line.startsWith("#"));
  const wrong = tokens.findIndex((token) =>
    token.length < TOKEN_CHARACTERS_MIN || !/^[\x21-\x7e]+$/.test(token)
  );
  if (tokens.length > 0 && wrong < 0) return tokens;
  const what = tokens.length === 0
    ? "has no token"
    : `token ${wrong + 1} is too short or has spaces`;
  throw new UsageError("--token-file", `${path}: ${what}`, {
    hint: "make one with `openssl rand -hex 32`",
  });
}

/**
 * The options of `bless` that clients may set, taken from its table. Where the two modes differ, `bless layered` wins.
 */
export function optionRules(): OptionRule[] {
  const specs = new Map(
    [
      ...BLESS_MERGED.options,
      ...BLESS_LAYERED.options,
    ].map((spec) => [spec.name, spec]),
  );
  return CLIENT_OPTIONS.map((name): OptionRule => {
    const spec = specs.get(name);
    invariant(spec !== undefined, `bless has no option "${name}"`);
    return {
      name,
      kind: spec.value === undefined ? "flag" : spec.list ? "list" : "value",
      isOn: spec.on ?? false,
      choices: CLIENT_CHOICES[name] ?? (spec.open ? undefined : spec.choices),
    };
  });
}

export async function runTask(args: ParsedArguments, io: CommandIo): Promise<void> {
  const what = args.positionals("WHAT");
  if (args.positional("TASK") === "resolve") {
    const { resolveSource } = await import("../../serve/tasks.ts");
    const [source] = what;
    await io.writeJson(await resolveSource(source!, parseSourceOptions(args, io, [source!])));
    return;
  }
  const { forgetImages, measureFiles } = await import("../../serve/tasks.ts");
  const cellsPath = args.text("cells");
  if (args.positional("TASK") === "forget") {
    forgetImages(cellsPath, what);
    await io.writeJson({});
    return;
  }
  const gridBytes = Number(args.value("grid-bytes"));
  await io.writeJson(await measureFiles(what, gridBytes, cellsPath));
}
