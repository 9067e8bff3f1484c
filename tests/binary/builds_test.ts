/** What users get, run as users run it: every build gives the same answers as the sources. */
import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  copyFileSync,
  cpSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { open } from "node:fs/promises";
import { dirname, join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import config from "../../deno.json" with { type: "json" };
import { isRoot } from "../oracle/libc_user.ts";
import { hasCommand, mustRun } from "../oracle/command.ts";
import { noiseBytes } from "../io/noise_bytes.ts";
import { notRun } from "../oracle/notice.ts";
import { writeOciLayout } from "../source/build_layout.ts";
import { buildTar } from "../tar/build.ts";
import type { Outcome } from "../cli/program.ts";
import {
  environment,
  hasTerminal,
  inDirectory,
  programWords,
  RunningProgram,
  SOURCE_MAIN,
  terminalWords,
} from "../cli/program.ts";
import type { Build } from "./builds.ts";
import { builds, removeBuilds } from "./builds.ts";

const FIXTURE = fileURLToPath(new URL("../../fixtures/oci-tiny", import.meta.url));
const SOURCES: Build = { name: "the sources", words: programWords(SOURCE_MAIN), isBinary: false };
const MIB = 1 << 20;

Deno.test.afterAll(removeBuilds);

interface RunOptions {
  readonly input?: string | Uint8Array;
  readonly cwd?: string;
  readonly env?: Record<string, string>;
}

function run({ words: [command, ...words] }: Build, args: string[], options: RunOptions = {}) {
  const { status, signal, stdout, stderr } = spawnSync(command, [...words, ...args], {
    input: options.input ?? "",
    cwd: options.cwd,
    env: environment(options.env),
    maxBuffer: 1 << 28,
  });
  return { code: status, signal, stdout, stderr: String(stderr) };
}

function digest(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

/** The digest of every file in a directory. */
function digestsOf(directory: string): Record<string, string> {
  const names = readdirSync(directory).sort();
  return Object.fromEntries(
    names.map((name) => [name, digest(readFileSync(join(directory, name)))]),
  );
}

/** An image whose layers are too large to be read without workers. */
function writeLargeLayers(directory: string): void {
  const layers = [1, 2, 3].map((seed) =>
    buildTar([{ path: `file-${seed}`, data: noiseBytes(3 * MIB, seed) }])
  );
  writeOciLayout(directory, { layers, compress: ["gzip", "none", "gzip"] });
}

Deno.test("every build starts with an empty environment and says its version", () => {
  for (const { name, words: [command, ...words] } of builds()) {
    const { stdout, stderr } = spawnSync(command, [...words, "--version"], {
      env: {},
      encoding: "utf8",
    });
    assertEquals([stdout, stderr], [`blessfs ${config.version}\n`, ""], name);
  }
});

Deno.test("every build blesses to the bytes that the sources give, in files and streamed", async () => {
  await inDirectory((directory) => {
    const expected = new Map<string, unknown>();
    for (const build of [SOURCES, ...builds()]) {
      const merged = join(directory, "image.ext4");
      const layers = join(directory, "layers");
      const file = run(build, ["bless", `oci:${FIXTURE}`, "-o", merged, "--force", "--json"]);
      assertEquals([file.code, file.stderr], [0, ""], build.name);
      const stream = run(build, ["bless", `oci:${FIXTURE}`, "-o", "-"]);
      assertEquals(digest(stream.stdout), digest(readFileSync(merged)), build.name);
      const layered = run(build, ["bless", "layered", `oci:${FIXTURE}`, "-o", layers, "--force"]);
      assertEquals([layered.code, layered.stderr], [0, ""], build.name);
      const { elapsedMs: _elapsed, version: _version, ...report } = JSON.parse(String(file.stdout));
      const found = { merged: digest(readFileSync(merged)), layers: digestsOf(layers), report };
      assertEquals(found, expected.get("all") ?? found, build.name);
      expected.set("all", found);
    }
  });
});

Deno.test("workers work in every build: large layers, and a tar on standard input", async () => {
  await inDirectory((directory) => {
    writeLargeLayers(join(directory, "oci"));
    const tar = buildTar([{ path: "a", data: noiseBytes(2 * MIB, 4) }]);
    let expected: string[] | undefined;
    for (const build of [SOURCES, ...builds()]) {
      const image = run(build, ["bless", `oci:${directory}/oci`, "-o", "-", "--jobs", "2"]);
      assertEquals(image.code, 0, `${build.name}: ${image.stderr}`);
      const piped = run(build, ["bless", "-", "-o", "-"], { input: tar });
      assertEquals(piped.code, 0, `${build.name}: ${piped.stderr}`);
      const found = [digest(image.stdout), digest(piped.stdout)];
      assertEquals(found, expected ?? found, build.name);
      expected = found;
    }
  });
});

Deno.test("every build probes as the sources do", async () => {
  await inDirectory((directory) => {
    writeLargeLayers(join(directory, "oci"));
    // Each runtime has its own zstd, and compressed sizes differ by some bytes in a million.
    const compression = ["--compress", "none"];
    const words = ["probe", `oci:${FIXTURE}`, `oci:${directory}/oci`, "--json", ...compression];
    let expected: unknown;
    for (const build of [SOURCES, ...builds()]) {
      const probed = run(build, words);
      assertEquals([probed.code, probed.stderr], [0, ""], build.name);
      const { elapsedMs: _elapsed, version: _version, ...report } = JSON.parse(
        String(probed.stdout),
      );
      assertEquals(report, expected ?? report, build.name);
      expected = report;
    }
  });
});

Deno.test("every build verifies an image, and finds what was damaged", async () => {
  await inDirectory((directory) => {
    const image = join(directory, "image.ext4");
    assertEquals(run(SOURCES, ["bless", `oci:${FIXTURE}`, "-o", image]).code, 0);
    const bytes = readFileSync(image);
    const damaged = join(directory, "damaged.ext4");
    // The label in the superblock, which its checksum covers.
    bytes[1024 + 0x78]! ^= 1;
    writeFileSync(damaged, bytes);
    for (const build of builds()) {
      const good = run(build, ["verify", image]);
      assertEquals([good.code, good.stderr], [0, ""], build.name);
      assertEquals(run(build, ["verify", damaged]).code, 1, build.name);
    }
  });
});

Deno.test("a reader that leaves early ends a listing of every build quietly, and fails an image", () => {
  const inPipe = (words: readonly string[], line: string) => {
    const { status, stdout, stderr } = spawnSync("bash", ["-c", line, "bash", ...words], {
      encoding: "utf8",
      env: environment({ SOURCE: `oci:${FIXTURE}` }),
    });
    return [status, stdout.trim(), stderr];
  };
  for (const { name, words } of builds()) {
    const image = '"$@" bless "$SOURCE" -o - | head -c 10 | wc -c; exit ${PIPESTATUS[0]}';
    const fault = "blessfs: standard output: was closed before the image was whole\n";
    assertEquals(inPipe(words, image), [4, "10", fault], name);
    const list = '"$@" man | head -n 1 | wc -l; exit ${PIPESTATUS[0]}';
    assertEquals(inPipe(words, list), [0, "1", ""], name);
  }
});

Deno.test("no variable makes a binary run other code, or succeed without doing its work", async () => {
  await inDirectory((directory) => {
    const trap = join(directory, "trap.js");
    writeFileSync(trap, 'console.log("trapped"); process.exit(0);');
    const environments: Record<string, string>[] = [
      { BUN_OPTIONS: `--preload=${trap}` },
      { BUN_OPTIONS: "--version" },
      { BUN_BE_BUN: "1" },
      { NODE_OPTIONS: `--require=${trap}` },
      { DENO_FLAGS: `--preload=${trap}`, DENO_UNSTABLE: "1" },
    ];
    for (const build of builds().filter((one) => one.isBinary)) {
      for (const env of environments) {
        const place = `${build.name}: ${JSON.stringify(env)}`;
        const version = run(build, ["--version"], { env });
        assertEquals(String(version.stdout), `blessfs ${config.version}\n`, place);
        const { code, stderr } = run(build, ["bless", "tar:missing", "-o", "x"], { env });
        assertEquals([code, stderr.split(":")[0]], [3, "blessfs"], place);
      }
      const env = { NODE_TLS_REJECT_UNAUTHORIZED: "0" };
      const unchecked = run(build, ["bless", "docker://localhost:1/a", "-o", "x"], { env });
      const isDeno = unchecked.code !== 2;
      assertEquals(unchecked.stderr.includes("unset it"), !isDeno, unchecked.stderr);
      assertEquals(isDeno, build.name.includes("deno"));
    }
  });
});

Deno.test("strip leaves a binary what it is", async () => {
  await inDirectory((directory) => {
    for (const build of builds().filter(({ isBinary }) => isBinary)) {
      // deno compile puts the program behind all sections, and its runtime looks there.
      if (process.platform !== "linux" || build.name.includes("deno")) continue;
      for (const strip of ["strip", "llvm-strip"]) {
        if (!hasCommand(strip)) {
          notRun(`${strip} on ${build.name}`, `${strip} is not installed`);
          continue;
        }
        const path = join(directory, "stripped");
        copyFileSync(build.words[0], path);
        spawnSync(strip, [path]);
        const { stdout } = run({ ...build, words: [path] }, ["--version"]);
        assertEquals(String(stdout), `blessfs ${config.version}\n`, `${strip}, ${build.name}`);
      }
    }
  });
});

Deno.test("every build says which runtime it is made of", () => {
  for (const build of builds()) {
    const { stdout } = run(build, ["--version", "--json"]);
    const { blessfs, runtime, runtimeVersion } = JSON.parse(String(stdout));
    assertEquals(blessfs, config.version);
    assertStringIncludes(build.name.toLowerCase(), runtime);
    assertMatch(runtimeVersion, /^\d+\.\d+\.\d+/);
  }
});

Deno.test("Ctrl-C ends every build at once with 130 and leaves nothing", async () => {
  const start = buildTar([{ path: "a", data: noiseBytes(MIB, 5) }]).subarray(0, MIB);
  for (const { name, words: [command, ...words] } of builds()) {
    await inDirectory(async (directory) => {
      const scratch = join(directory, "scratch");
      mkdirSync(scratch);
      const args = ["bless", "-", "-o", `${directory}/image`, "--tmpdir", scratch];
      const running = new RunningProgram(command, [...words, ...args], { stdin: "pipe" });
      // The input does not end, so the program waits for more in the middle of the tar.
      await new Promise((resolve) => running.child.stdin!.write(start, resolve));
      running.signal("SIGINT");
      const outcome: Outcome = await running.ended;
      assertEquals(
        outcome,
        { code: 130, signal: null, stdout: "", stderr: "blessfs: interrupted, cleaning up\n" },
        name,
      );
      assertEquals([readdirSync(directory), readdirSync(scratch)], [["scratch"], []], name);
    });
  }
});

Deno.test("on a terminal every build shows progress, clears it, and colours its errors", async () => {
  if (!hasTerminal()) return;
  await inDirectory(async (directory) => {
    writeLargeLayers(join(directory, "oci"));
    for (const { name, words } of builds()) {
      const program = words.map((word) => `'${word}'`).join(" ");
      const [command, ...args] = terminalWords(`${program} blss`);
      const wrong = spawnSync(command, args, { encoding: "utf8", env: environment() });
      assertEquals(wrong.status, 2, name);
      assertStringIncludes(wrong.stdout, "\x1b[31mblessfs:\x1b[39m", name);
      assertStringIncludes(wrong.stdout, "did you mean `bless`?", name);
      const tar = buildTar([{ path: "a", data: noiseBytes(MIB, 6) }]);
      const fifo = join(directory, "fifo");
      mustRun("mkfifo", [fifo]);
      const line = `${program} bless - -o ${directory}/image --force < ${fifo}`;
      const [shell, ...shellArgs] = terminalWords(`sh -c "${line.replaceAll('"', '\\"')}"`);
      const running = new RunningProgram(shell, shellArgs);
      const pipe = await open(fifo, "w");
      await pipe.writeFile(tar.subarray(0, 600));
      // The rest comes when there was something to show.
      await running.until("B/s");
      await pipe.writeFile(tar.subarray(600));
      await pipe.close();
      const shown = await running.ended;
      rmSync(fifo);
      assertEquals(shown.code, 0, `${name}: ${shown.stdout}`);
      const [progress, report] = shown.stdout.split("\r\x1b[J").slice(-2);
      assertStringIncludes(report!, "image ", `${name}: ${JSON.stringify(progress)}`);
    }
  });
});

/** Files that runtimes look for where they are started, each of which would show in what the program prints. */
const TRAPS: Readonly<Record<string, string>> = {
  ".env": "BLESSFS_DEBUG=1\nFORCE_COLOR=1\n",
  ".env.local": "BLESSFS_DEBUG=1\nFORCE_COLOR=1\n",
  ".env.production": "BLESSFS_DEBUG=1\nFORCE_COLOR=1\n",
  "bunfig.toml": 'preload = ["./trap.js"]\nlogLevel = "debug"\n',
  "package.json": '{"name": "trap", "imports": {"node:fs": "./trap.js"}}',
  "tsconfig.json": '{"compilerOptions": {"paths": {"*": ["./trap.js"]}}}',
  "deno.json": '{"imports": {"node:fs": "./trap.js"}, "tasks": {}}',
  "trap.js": 'console.log("caught"); process.exit(9);',
};

Deno.test("no binary reads a file of the current directory that it was not told to", async () => {
  await inDirectory((directory) => {
    for (const [name, text] of Object.entries(TRAPS)) writeFileSync(join(directory, name), text);
    for (const build of builds().filter((one) => one.isBinary)) {
      const version = run(build, ["--version"], { cwd: directory });
      assertEquals(String(version.stdout), `blessfs ${config.version}\n`, build.name);
      const { code, stderr } = run(build, ["bless", "oci:missing", "-o", "x"], { cwd: directory });
      // Neither coloured nor with a stack.
      assertEquals(code, 3, build.name);
      assertMatch(stderr, /^blessfs: missing: .*\n$/, build.name);
    }
    assertEquals(readdirSync(directory).sort(), Object.keys(TRAPS).sort());
  });
});

Deno.test("a binary runs where there is nothing but the C library", async () => {
  if (!isRoot()) return notRun("a binary in a root of its own", "chroot(2) needs root");
  for (const { name, words: [path] } of builds().filter((one) => one.isBinary)) {
    await inDirectory((root) => {
      for (const library of mustRun("ldd", [path]).matchAll(/(\/\S+) \(0x/g)) {
        mkdirSync(join(root, dirname(library[1]!)), { recursive: true });
        cpSync(library[1]!, join(root, library[1]!), { dereference: true });
      }
      cpSync(path, join(root, "blessfs"));
      cpSync(FIXTURE, join(root, "oci"), { recursive: true });
      mkdirSync(join(root, "tmp"));
      mkdirSync(join(root, "proc"));
      // Both runtimes learn the bounds of their stack from /proc. The mount ends with its namespace.
      const line = 'mount -t proc proc "$1/proc" && exec chroot "$1" /blessfs bless oci:/oci -o -';
      const { status, stdout, stderr } = spawnSync(
        "unshare",
        ["--mount", "sh", "-c", line, "sh", root],
        { env: { PATH: "/usr/sbin:/usr/bin:/sbin:/bin", TMPDIR: "/tmp" }, maxBuffer: 1 << 28 },
      );
      if (/unshare failed|permission denied/i.test(String(stderr))) {
        return notRun("a binary in a root of its own", "this machine allows no mount namespace");
      }
      assertEquals(status, 0, `${name}: ${stderr}`);
      assertEquals(
        digest(stdout),
        digest(run(SOURCES, ["bless", `oci:${FIXTURE}`, "-o", "-"]).stdout),
      );
    });
  }
});
