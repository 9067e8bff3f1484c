import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import config from "../../deno.json" with { type: "json" };
import { findBun } from "../../tools/build_steps.ts";
import { makePackages } from "../../tools/package_steps.ts";
import { notRun } from "../oracle/notice.ts";
import { blessProgram, servePackage } from "./package_server.ts";
import { bigLayer } from "./package_samples.ts";

const NAME = "@blessfs/blessfs";
/** What npm fetches once: bundlers, and the compiler that looks at the declarations. */
const TOOLS = [
  "esbuild@0.28.2",
  "rollup@4.68.8",
  "@rollup/plugin-node-resolve@16.0.3",
  "@rollup/plugin-commonjs@29.0.3",
  "@rollup/plugin-json@6.1.0",
  "typescript@7.0.2",
  "@types/node@26.6.7",
];
const RUNTIMES: Readonly<Record<string, readonly string[]>> = {
  node: ["npx", "-y", "node@22"],
  bun: findBun(),
  deno: [Deno.execPath(), "run", "-A", "--no-lock"],
};

interface Outcome {
  readonly code: number;
  readonly output: string;
}

async function run(words: readonly string[], cwd: string): Promise<Outcome> {
  const { code, stdout, stderr } = await new Deno.Command(words[0]!, {
    args: words.slice(1),
    cwd,
    stdin: "null",
    env: { NO_COLOR: "1" },
  }).output();
  const text = new TextDecoder();
  return { code, output: text.decode(stdout) + (code === 0 ? "" : text.decode(stderr)) };
}

async function mustRun(words: readonly string[], cwd: string): Promise<string> {
  const { code, output } = await run(words, cwd);
  assertEquals(code, 0, `${words.join(" ")}: ${output}`);
  return output;
}

/** Makes the packages and installs the one for npm into an empty folder; undefined where npm reaches no registry. */
async function install(scratch: string): Promise<{ jsr: string; folder: string } | undefined> {
  const { jsr, npm } = makePackages(join(scratch, "package"));
  const folder = join(scratch, "use");
  mkdirSync(folder);
  writeFileSync(join(folder, "package.json"), '{ "private": true, "type": "module" }');
  const archive = (await mustRun(["npm", "pack", "--silent", "--pack-destination", scratch], npm))
    .trim();
  const installed = await run(
    ["npm", "install", "--silent", "--no-audit", "--no-fund", join(scratch, archive), ...TOOLS],
    folder,
  );
  if (installed.code === 0) return { jsr, folder };
  assertStringIncludes(installed.output, "registry", "npm install failed for another reason");
  notRun("the npm package in an empty folder", "npm reaches no registry");
  return undefined;
}

/** Runs the program in a directory of its own, and checks what it makes. */
async function tryProgram(runtime: string, program: string, scratch: string): Promise<void> {
  const output = Deno.makeTempDirSync({ dir: scratch });
  const words = [...RUNTIMES[runtime]!, program, `tar:${scratch}/layer.tar.gz`, output];
  const said = await mustRun(words, output);
  // Not once more for each thread.
  assertEquals(said, "started\n1 true\n", `${runtime} ${program}`);
  const [alone, pooled] = ["alone", "pooled"].map((name) => Deno.readFileSync(join(output, name)));
  assertEquals(alone, pooled);
}

const ROLLUP_CONFIG = `
  import commonjs from "@rollup/plugin-commonjs";
  import json from "@rollup/plugin-json";
  import resolve from "@rollup/plugin-node-resolve";
  export default {
    input: "app.js",
    output: { file: "../bundles/rollup/app.mjs", format: "es", inlineDynamicImports: true },
    plugins: [resolve({ exportConditions: ["node"] }), commonjs(), json()],
    external: [/^node:/],
  };
`;
const REQUIRE = 'import { createRequire } from "node:module"; ' +
  "const require = createRequire(import.meta.url);";
/** Bundles app.js, each into a directory that has nothing else. */
const BUNDLERS: Readonly<Record<string, readonly string[]>> = {
  bun: [...findBun(), "build", "app.js", "--target=node", "--outfile=../bundles/bun/app.mjs"],
  esbuild: [
    "npx",
    "esbuild",
    "app.js",
    "--bundle",
    "--platform=node",
    "--format=esm",
    "--log-level=error",
    "--outfile=../bundles/esbuild/app.mjs",
    `--banner:js=${REQUIRE}`,
  ],
  rollup: ["npx", "rollup", "-c", "rollup.config.js", "--silent"],
  deno: [
    Deno.execPath(),
    "bundle",
    "--quiet",
    "--platform=deno",
    "--output=../bundles/deno/app.mjs",
    "app.js",
  ],
};

const TYPED_PROGRAM = `
  import { type BlessReport, createBlesser, type ErrorCode, openImage } from "${NAME}";
  import { TarIndexer } from "${NAME}/tar";
  import { verifyTree } from "${NAME}/verity";
  export const code: ErrorCode = "notFound";
  export async function sizeOf(report: BlessReport): Promise<number> {
    (await openImage("oci:x", { platform: undefined })).close();
    await createBlesser().close();
    return report.sizeBytes + TarIndexer.length + verifyTree.length;
  }
`;

Deno.test("the packages work as they are installed, bundled and served", async (t) => {
  const scratch = Deno.makeTempDirSync({ prefix: "package-" });
  try {
    writeFileSync(`${scratch}/layer.tar.gz`, bigLayer());
    const installed = await install(scratch);
    if (installed === undefined) return;
    const { jsr, folder } = installed;
    writeFileSync(join(folder, "app.js"), blessProgram(NAME));
    writeFileSync(join(folder, "rollup.config.js"), ROLLUP_CONFIG);
    writeFileSync(join(folder, "typed.ts"), TYPED_PROGRAM);
    for (const runtime of Object.keys(RUNTIMES)) {
      await t.step(
        `installed, under ${runtime}`,
        () => tryProgram(runtime, join(folder, "app.js"), scratch),
      );
    }
    await t.step("the program, and an import that runs nothing", async () => {
      const program = join(folder, "node_modules/.bin/blessfs");
      const node = RUNTIMES["node"]!;
      const version = await mustRun([...node, program, "--version"], folder);
      assertEquals(version, `blessfs ${config.version}\n`);
      const path = join(folder, "node_modules", NAME, "bin/blessfs.mjs");
      writeFileSync(join(folder, "import.js"), `await import(${JSON.stringify(path)});`);
      for (const words of Object.values(RUNTIMES)) {
        assertEquals(await mustRun([...words, join(folder, "import.js")], folder), "");
      }
    });
    await t.step("its declarations", async () => {
      const options = ["--noEmit", "--strict", "--exactOptionalPropertyTypes", "--types", "node"];
      const modules = ["--module", "nodenext", "--target", "esnext", "--lib", "esnext"];
      await mustRun(["npx", "tsc", ...options, ...modules, "typed.ts"], folder);
    });
    for (const [bundler, words] of Object.entries(BUNDLERS)) {
      await t.step(`bundled by ${bundler}`, async () => {
        await mustRun(words, folder);
        for (const runtime of Object.keys(RUNTIMES)) {
          await tryProgram(runtime, join(scratch, "bundles", bundler, "app.mjs"), scratch);
        }
      });
    }
    await t.step("for JSR: served, with the code of threads in it", async () => {
      const server = servePackage(jsr, { "/app.ts": blessProgram("./mod.ts") });
      try {
        await tryProgram("deno", `${server.url}/app.ts`, scratch);
        assert(!server.paths.has("/worker.ts"));
      } finally {
        await server.close();
      }
    });
    await t.step("for JSR: fit to be published", async () => {
      await mustRun([Deno.execPath(), "publish", "--dry-run", "--allow-dirty", "--quiet"], jsr);
    });
  } finally {
    Deno.removeSync(scratch, { recursive: true });
  }
});
