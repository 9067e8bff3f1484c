import { assertEquals, assertStringIncludes } from "@std/assert";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { COMMANDS } from "../../../cli/commands.ts";
import { buildTar } from "../../tar/build.ts";
import { runFake } from "../fake_io.ts";

async function withTars(use: (directory: string, sources: string[]) => Promise<void>) {
  const directory = mkdtempSync(join(tmpdir(), "blessfs-probe-cli-"));
  try {
    const sources = ["a", "b"].map((name, i) => {
      const path = join(directory, `${name}.tar`);
      writeFileSync(
        path,
        buildTar([
          { path: "same", data: "same ".repeat(40_000) },
          { path: name, data: name.repeat(5000 * (i + 1)) },
        ]),
      );
      return `tar:${path}`;
    });
    await use(directory, sources);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

Deno.test("probe prints a table, one JSON document, or CSV", async () => {
  await withTars(async (_directory, sources) => {
    const table = await runFake(["probe", ...sources], COMMANDS);
    assertEquals([table.code, table.stderr], [0, ""]);
    assertStringIncludes(table.stdout, "aligned 64K merge");
    const json = await runFake(["dedup-probe", ...sources, "--json", "--pairwise"], COMMANDS);
    const report = JSON.parse(json.stdout);
    assertEquals([report.grid, report.images.length, report.schemes.length], [131072, 2, 6]);
    assertEquals(report.schemes[4].threshold, 65536);
    assertEquals(report.schemes[4].newBytes.length, 2);
    assertEquals(report.pairwise.length, 2);
    const csv = await runFake(["probe", ...sources, "--format", "csv"], COMMANDS);
    assertStringIncludes(
      csv.stdout,
      "aligned 64K tight @128K,aligned,131072,65536,tight,,,,union_stored,",
    );
  });
});

Deno.test("probe takes lists, and its threshold from DEDUP_ALIGN_THRESHOLD", async () => {
  await withTars(async (_directory, sources) => {
    const words = ["probe", ...sources, "--format", "csv"];
    const rows = async (more: string[], env: Record<string, string>) =>
      (await runFake([...words, ...more], COMMANDS, { env })).stdout.trimEnd().split("\n")
        .filter((line) => line.includes(",union_raw,"))
        .map((line) => line.split(",").slice(1, 5).join(" "));
    const env = { DEDUP_ALIGN_THRESHOLD: "16K" };
    assertEquals((await rows(["--packing", "tight"], env)).at(-1), "aligned 131072 16384 tight");
    const swept = await rows([
      "--align-threshold",
      "64K,none,1T",
      "--grid",
      "64K,128K",
      "--packing",
      "tight",
    ], env);
    assertEquals(swept, [
      "file   ",
      "unaligned 65536  ",
      "start-aligned 65536  ",
      "fastcdc 65536  ",
      "aligned 65536 65536 tight",
      "aligned 65536 1099511627776 tight",
      "unaligned 131072  ",
      "start-aligned 131072  ",
      "fastcdc 131072  ",
      "aligned 131072 65536 tight",
      "aligned 131072 1099511627776 tight",
    ]);
  });
});

Deno.test("probe --min-dedup is a gate", async () => {
  await withTars(async (_directory, sources) => {
    const run = (share: string) => runFake(["probe", ...sources, "--min-dedup", share], COMMANDS);
    assertEquals((await run("0%")).code, 0);
    const failed = await run("0.999");
    assertEquals(failed.code, 1);
    assertStringIncludes(failed.stderr, "wanted 99.90%");
    assertEquals((await run("200%")).code, 2);
  });
});

Deno.test("probe --max-new-bytes and --max-new-share are gates on the last image", async () => {
  await withTars(async (_directory, sources) => {
    const run = (...words: string[]) => runFake(["probe", ...sources, ...words], COMMANDS);
    assertEquals((await run("--max-new-bytes", "1G", "--max-new-share", "100%")).code, 0);
    const failed = await run("--max-new-bytes", "1", "--max-new-share", "0.001");
    assertEquals(failed.code, 1);
    assertStringIncludes(failed.stderr, "--max-new-bytes: the last image adds ");
    assertStringIncludes(failed.stderr, "--max-new-share: ");
    const same = await runFake(
      ["probe", sources[0]!, sources[0]!, "--max-new-bytes", "0"],
      COMMANDS,
    );
    assertEquals(same.code, 0);
    assertEquals((await run("--max-new-share", "much")).code, 2);
  });
});

Deno.test("an option that is the value of another one is told as such", async () => {
  const { code, stderr } = await runFake(["probe", "x", "--csv"], COMMANDS);
  assertEquals(code, 2);
  assertStringIncludes(stderr, "did you mean `--format csv`?");
});

Deno.test("probe --plot refuses pixels, and --report writes a page", async () => {
  await withTars(async (directory, sources) => {
    const png = await runFake(["probe", ...sources, "--plot", join(directory, "x.png")], COMMANDS);
    assertEquals(png.code, 2);
    assertStringIncludes(png.stderr, "pictures are SVG, not png");
    const page = join(directory, "page.html");
    assertEquals((await runFake(["probe", ...sources, "--report", page], COMMANDS)).code, 0);
    assertStringIncludes(readFileSync(page, "utf8"), "Where the layout loses");
  });
});

Deno.test("probe --plot writes an SVG, and nothing over a file that exists or after a failure", async () => {
  await withTars(async (directory, sources) => {
    const chart = join(directory, "chart.svg");
    const words = ["probe", ...sources, "--plot", chart];
    assertEquals((await runFake([...words, "--cdc", "7"], COMMANDS)).code, 2);
    assertEquals(existsSync(chart), false);
    assertEquals((await runFake(words, COMMANDS)).code, 0);
    assertStringIncludes(readFileSync(chart, "utf8"), "</svg>");
    assertEquals((await runFake(words, COMMANDS)).code, 4);
    assertEquals((await runFake([...words, "--force"], COMMANDS)).code, 0);
  });
});

Deno.test("probe refuses options that contradict or cannot be read", async () => {
  for (
    const words of [
      ["--json", "--format", "csv"],
      ["--compress", "lz4"],
      ["--cdc", "1K:2K"],
      ["--packing", "loose"],
      ["--align-threshold", "0"],
      ["--align-threshold", "3K"],
      ["--min-dedup", "much"],
      ["--plot", "/nonexistent/same", "--fingerprints", "/nonexistent/../nonexistent/same"],
      ["--plot", "-"],
      ["--fingerprints", "-"],
      ["--as-is", "-"],
      ["--from", "-"],
      ["--as-is", "--align-threshold", "16K"],
      ["--as-is", "--packing", "tight"],
      ["--as-is", "--mode", "layered"],
      ["--as-is", "--platform", "linux/arm64"],
      ["--as-is", "--ignore-diffid"],
      ["--as-is", "--explain"],
    ]
  ) {
    const { code, stdout } = await runFake(["probe", "tar:/nonexistent", ...words], COMMANDS);
    assertEquals([code, stdout], [2, ""], words.join(" "));
  }
});

Deno.test("probe --from says what the probe that wrote --fingerprints said", async () => {
  await withTars(async (directory, sources) => {
    const file = join(directory, "units.parquet");
    const run = (...words: string[]) => runFake(["probe", ...words], COMMANDS);
    const written = await run(...sources, "--fingerprints", file, "--pairwise");
    assertEquals([written.code, written.stderr], [0, ""]);
    assertEquals(await run("--from", file, "--pairwise"), written);
    assertEquals((await run(...sources, "--fingerprints", file)).code, 4);
    assertEquals((await run(...sources, "--fingerprints", file, "--force", "--cdc", "7")).code, 2);
    const gate = await run("--from", file, "--min-dedup", "0.999", "--row", "tight");
    assertEquals(gate.code, 1);
    const chart = join(directory, "chart.svg");
    assertEquals((await run("--from", file, "--plot", chart, "--json")).code, 0);
    assertStringIncludes(readFileSync(chart, "utf8"), "</svg>");
    for (
      const words of [
        ["--grid", "64K"],
        ["--packing", "tight"],
        ["--compress", "none"],
        ["--fingerprints", `${file}2`],
        ["--as-is"],
        ["--platform", "linux/arm64"],
        ["--limit", "tree-nodes=5"],
        ["--plain-http"],
        ["--self-shift"],
        ["--explain"],
      ]
    ) {
      const refused = await run("--from", file, ...words);
      assertEquals([refused.code, refused.stdout], [2, ""], words.join(" "));
      assertStringIncludes(refused.stderr, `${words[0]}: is chosen when`);
    }
    assertEquals((await run("--from", sources[0]!.slice("tar:".length))).code, 3);
    // What could not be finished leaves no file.
    const half = join(directory, "half.parquet");
    assertEquals((await run(sources[0]!, "tar:/nonexistent", "--fingerprints", half)).code, 3);
    assertEquals(existsSync(half), false);
  });
});
