import { assertEquals, assertMatch, assertStringIncludes, assertThrows } from "@std/assert";
import config from "../../deno.json" with { type: "json" };
import {
  checkBinary,
  checkRuntime,
  hostTarget,
  proveBinary,
  ROOT,
  TARGETS,
  withoutCachePaths,
} from "../../tools/build_steps.ts";
import { hasCommand, mustRun, withTemporaryDirectory } from "../oracle/command.ts";
import { notRun } from "../oracle/notice.ts";

/** Runs one of the tools. */
function runTool(name: string, ...args: string[]) {
  const { code, stdout, stderr } = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", `${ROOT}tools/${name}.ts`, ...args],
    cwd: ROOT,
    env: { NO_COLOR: "1" },
  }).outputSync();
  const text = new TextDecoder();
  return { code, output: text.decode(stdout) + text.decode(stderr) };
}

Deno.test("bundle gives the same bytes each time, without a path of this machine, and runs by itself", () => {
  withTemporaryDirectory((scratch) => {
    const [bundle, other] = ["one", "two"].map((name) => {
      const path = `${scratch}/${name}.mjs`;
      const { code, output } = runTool("bundle", "--output", path);
      assertEquals(code, 0, output);
      return path;
    }) as [string, string];
    const text = Deno.readTextFileSync(bundle);
    assertEquals(text, Deno.readTextFileSync(other));
    for (const local of [ROOT, ".cache/deno", scratch]) {
      assertEquals(text.includes(local), false, local);
    }
    assertRuns(bundle, scratch);
  });
});

Deno.test("withoutCachePaths names packages and leaves the code alone", () => {
  const cache = "../../home/me/.cache/deno/npm/registry.example/";
  const bundle =
    `// ${cache}a/1.0.0/x.js\nvar x = {"${cache}@s/b/2.1.0/y.js"() {}};\nf("/npm/a/b");\n`;
  assertEquals(
    withoutCachePaths(bundle),
    '// npm:a/1.0.0/x.js\nvar x = {"npm:@s/b/2.1.0/y.js"() {}};\nf("/npm/a/b");\n',
  );
});

/** Runs a bundle under every runtime that is here. */
function assertRuns(bundle: string, cwd: string): void {
  const commands: [string, ...string[]][] = [[Deno.execPath(), "run", "-A", "--no-config"]];
  if (nodeCanRunIt()) commands.push(["node"]);
  else notRun("the bundle under Node", `zstd is in Node ${NODE_VERSION_WITH_ZSTD} and later`);
  if (hasCommand("bun")) commands.push(["bun"]);
  else notRun("the bundle under Bun", "bun is not installed");
  for (const [program, ...args] of commands) {
    const { stdout, stderr } = new Deno.Command(program, {
      args: [...args, bundle, "--version"],
      cwd,
    }).outputSync();
    const text = new TextDecoder();
    assertStringIncludes(text.decode(stdout) + text.decode(stderr), config.version, program);
  }
}

/** The first version whose node:zlib has zstd; a module that imports it by name does not load in older ones. */
const NODE_VERSION_WITH_ZSTD = "22.15";

function nodeCanRunIt(): boolean {
  const version = /^v(\d+)\.(\d+)/.exec(mustRun("node", ["--version"]));
  const [major, minor] = [Number(version?.[1]), Number(version?.[2])];
  return major > 22 || (major === 22 && minor >= 15);
}

Deno.test("bundle and build refuse arguments that they do not know", () => {
  assertEquals(runTool("bundle", "--minify").code, 2);
  for (const args of [["--runtime", "node"], ["--target", "vax"], ["--fast"], ["file"]]) {
    const { code, output } = runTool("build", ...args);
    assertEquals(code, 2, output);
    assertMatch(output, /^build: unknown .*\nusage: /);
  }
});

Deno.test("every target has a name for Bun, and this machine is one", () => {
  for (const [name, target] of Object.entries(TARGETS)) {
    const [system, processor, libc] = name.split("-");
    const baseline = processor === "x64" ? "baseline" : undefined;
    const wanted = ["bun", system === "macos" ? "darwin" : system, processor, libc, baseline];
    assertEquals(target.bun, wanted.filter((part) => part !== undefined).join("-"));
  }
  assertEquals(hostTarget() in TARGETS, true);
});

Deno.test("checkBinary refuses what starts but is another program", () => {
  withTemporaryDirectory((scratch) => {
    const path = `${scratch}/other`;
    Deno.writeTextFileSync(path, "#!/bin/sh\necho deno 2.9.6\n", { mode: 0o755 });
    assertThrows(() => checkBinary(path, config.version), Error, 'found "deno 2.9.6"');
    const old = JSON.stringify({ blessfs: "0.0.0", runtime: "deno", runtimeVersion: "2.9.6" });
    Deno.writeTextFileSync(path, `#!/bin/sh\necho '${old}'\n`, { mode: 0o755 });
    assertThrows(() => checkBinary(path, config.version), Error, "wanted blessfs");
  });
});

Deno.test("checkRuntime refuses runtimes that are too old, by their version", () => {
  for (const version of ["2.9.0", "2.9.6", "2.10.0", "3.0.0"]) checkRuntime("deno", version);
  for (const version of ["2.8.3", "2.6.10", "1.46.0"]) {
    assertThrows(() => checkRuntime("deno", version), Error, "wanted 2.9.0 or later");
  }
  checkRuntime("bun", "1.4.5");
  assertThrows(() => checkRuntime("bun", "1.3.9"), Error, "the runtime is bun 1.3.9");
  assertThrows(() => checkRuntime("node", "22.0.0"), Error, "node is not a runtime");
});

Deno.test("proveBinary refuses a program that says its version and then makes no image", () => {
  withTemporaryDirectory((scratch) => {
    const path = `${scratch}/other`;
    const facts = JSON.stringify({
      blessfs: config.version,
      runtime: "deno",
      runtimeVersion: "2.9.6",
    });
    for (const [rest, why] of [["exit 4", "status 4"], ["exit 0", "ls shows"]]) {
      const text = `#!/bin/sh\n[ "$1" = --version ] && echo '${facts}' && exit 0\n${rest}\n`;
      Deno.writeTextFileSync(path, text, { mode: 0o755 });
      assertThrows(
        () => proveBinary(path, config.version),
        Error,
        `does not work: ${why === "ls shows" ? why : path}`,
      );
    }
  });
});
