import { assertEquals, assertStringIncludes } from "@std/assert";
import { mustRun, withTemporaryDirectory } from "../oracle/command.ts";
import config from "../../deno.json" with { type: "json" };
import { listFiles } from "../tidy/repository.ts";
import { ROOT, TARGETS } from "../../tools/build_steps.ts";
import { archiveName, checksumLines, makeArchive } from "../../tools/release_archive.ts";
import type { ReleaseFile } from "../../tools/release_archive.ts";

const text = (value: string) => new TextEncoder().encode(value);
const FILES: readonly ReleaseFile[] = [
  { path: "man/blessfs.1", bytes: text("manual") },
  { path: "blessfs", bytes: text("program"), isExecutable: true },
  { path: "LICENSE", bytes: text("licence") },
];

Deno.test("makeArchive gives equal bytes for equal files, in whatever order they come", () => {
  const archive = makeArchive("x-1", FILES, 1_700_000_000);
  assertEquals(makeArchive("x-1", FILES.toReversed(), 1_700_000_000), archive);
  // RFC 1952: no name, no time, no system.
  assertEquals([...archive.subarray(3, 8), archive[9]], [0, 0, 0, 0, 0, 255]);
});

Deno.test("makeArchive makes what tar(1) lists sorted, owned by root and of one time", () => {
  withTemporaryDirectory((scratch) => {
    Deno.writeFileSync(`${scratch}/a.tar.gz`, makeArchive("x-1", FILES, 1_700_000_000));
    const listed = mustRun("tar", ["--utc", "--numeric-owner", "-tvzf", `${scratch}/a.tar.gz`]);
    assertEquals(listed.trimEnd().split("\n").map((line) => line.split(/\s+/).join(" ")), [
      "drwxr-xr-x 0/0 0 2023-11-14 22:13 x-1/",
      "-rw-r--r-- 0/0 7 2023-11-14 22:13 x-1/LICENSE",
      "-rwxr-xr-x 0/0 7 2023-11-14 22:13 x-1/blessfs",
      "drwxr-xr-x 0/0 0 2023-11-14 22:13 x-1/man/",
      "-rw-r--r-- 0/0 6 2023-11-14 22:13 x-1/man/blessfs.1",
    ]);
  });
});

Deno.test("checksumLines is what sha256sum checks", () => {
  withTemporaryDirectory((scratch) => {
    const files = new Map([["b", text("2")], ["a", text("1")]]);
    for (const [name, bytes] of files) Deno.writeFileSync(`${scratch}/${name}`, bytes);
    Deno.writeTextFileSync(`${scratch}/SHA256SUMS`, checksumLines(files));
    const said = mustRun("sh", ["-c", `cd ${scratch} && sha256sum --strict --check SHA256SUMS`]);
    assertEquals(said, "a: OK\nb: OK\n");
  });
});

Deno.test("archiveName has version and target", () => {
  assertEquals(archiveName("1.2.3", "linux-x64"), "blessfs-1.2.3-linux-x64");
});

Deno.test("release refuses a tag that is not the version, and what it does not know", () => {
  for (
    const [args, why] of [
      [["--tag", "v9.9.9"], `wanted v${config.version}`],
      [["--target", "vax"], "unknown target vax"],
      [["--runtime", "node"], "unknown runtime node"],
      [["--fast"], "unknown argument --fast"],
    ] as const
  ) {
    const { code, stderr } = new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "--no-check", `${ROOT}tools/release.ts`, ...args],
      env: { NO_COLOR: "1" },
    }).outputSync();
    assertEquals(code, 2);
    assertStringIncludes(new TextDecoder().decode(stderr), why);
  }
});

/** The workflows, by name. */
function workflows(): Map<string, string> {
  const folder = `${ROOT}.github/workflows/`;
  return new Map(
    [...Deno.readDirSync(folder)].map(({ name }) => [name, Deno.readTextFileSync(folder + name)]),
  );
}

Deno.test("workflows pin each action to a whole commit and say its version", () => {
  let count = 0;
  for (const [name, source] of workflows()) {
    for (const [line] of source.matchAll(/^.*\buses:.*$/gm)) {
      count++;
      assertEquals(/ [\w-]+\/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$/.test(line), true, name + line);
    }
  }
  assertEquals(count > 0, true);
});

Deno.test("one version of Deno is named everywhere", () => {
  const places = ["README.md", "CONTRIBUTING.md", ".ci/run"].map((path) =>
    Deno.readTextFileSync(ROOT + path)
  );
  const named = [...places, ...workflows().values()].flatMap((source) =>
    [...source.matchAll(/\bdeno@([\d.]*\d)/gi)].map((match) => match[1])
  );
  assertEquals([...new Set(named)].length, 1, named.join(" "));
});

Deno.test("the version is kept in deno.json alone", () => {
  const places = listFiles("").filter((path) => /\.(?:ts|sh|yml)$|^\.ci\//.test(path));
  assertEquals(places.includes(".github/workflows/release.yml"), true);
  const holding = places.filter((path) =>
    Deno.readTextFileSync(ROOT + path).includes(`"${config.version}"`)
  );
  assertEquals(holding, []);
  assertStringIncludes(Deno.readTextFileSync(`${ROOT}CHANGELOG.md`), `\n## ${config.version}`);
});

Deno.test("the release workflow tries every target that a runner exists for", () => {
  const source = workflows().get("release.yml")!;
  const tried = [...source.matchAll(/\btarget: ([\w-]+)/g)].map((match) => match[1]!);
  assertEquals(tried.filter((target) => !(target in TARGETS)), []);
  const untried = Object.keys(TARGETS).filter((target) => !tried.includes(target));
  assertEquals(untried, []);
});
