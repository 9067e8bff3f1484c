import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { blessMerged } from "../../lib/bless/merged.ts";
import { InputError, UsageError } from "../../lib/errors.ts";
import { createFileSink } from "../../lib/io/file_sink.ts";
import { fastCdcParameters } from "../../lib/chunk/fastcdc.ts";
import type { Progress } from "../../lib/progress.ts";
import { CONSTANT_SALT } from "../../lib/verity/format.ts";
import { reportChart } from "../../probe/chart.ts";
import { reportHtml } from "../../probe/html.ts";
import { reportCsv } from "../../probe/tables.ts";
import { layoutOf, type ResolvedProbeOptions, schemesOf } from "../../probe/schemes.ts";
import { probe } from "../../probe/probe.ts";
import { noise, optionsFor, withTars } from "./sources.ts";

const KIB = 1024;

Deno.test("probe cuts the cells that a blessed file has, with and without compression", async () => {
  await withTars(async (sources, directory) => {
    for (const compression of [{ kind: "none" }, { kind: "zstd", level: 1 }] as const) {
      const options = optionsFor(sources, { compression, grids: [64 * KIB, 128 * KIB] });
      const report = await probe(options);
      for (const [i, scheme] of schemesOf(options).entries()) {
        if (scheme.kind === "file" || scheme.kind === "fastcdc") continue;
        const images: string[] = [];
        for (const source of sources) {
          const image = join(directory, `image-${images.length}`);
          images.push(image);
          await blessMerged({
            ...options,
            source,
            layout: layoutOf(scheme, "merged"),
            sink: createFileSink(image, { force: true }),
          });
        }
        const grids = [scheme.gridBytes];
        const asIs = await probe(optionsFor(images, { asIs: true, compression, grids }));
        const expected = report.schemes[i]!;
        const found = asIs.schemes[0]!;
        for (const key of ["each", "union", "newBytes", "crossImageDedup", "zeroBytes"] as const) {
          assertEquals(found[key], expected[key], `${scheme.kind} ${key}`);
        }
        // FastCDC runs over the same bytes as the row without alignment.
        if (scheme.kind === "unaligned") {
          const fastCdc = report.schemes.find(({ scheme: kind, grid }) =>
            kind === "fastcdc" && grid === scheme.gridBytes
          );
          assertEquals(asIs.schemes[1]!.union, fastCdc!.union);
        }
      }
    }
  });
});

Deno.test("probe counts the hash trees that bless puts behind images", async () => {
  await withTars(async (sources, directory) => {
    const veritySalt = () => CONSTANT_SALT;
    const compression = { kind: "none" } as const;
    const options = optionsFor(sources, { compression, veritySalt });
    const report = await probe(options);
    const plain = await probe(optionsFor(sources, { compression }));
    for (const [i, scheme] of schemesOf(options).entries()) {
      if (scheme.kind === "file" || scheme.kind === "fastcdc") continue;
      const images: string[] = [];
      for (const source of sources) {
        const image = join(directory, `image-${images.length}`);
        images.push(image);
        await blessMerged({
          ...options,
          source,
          layout: layoutOf(scheme, "merged", true),
          envelope: { verity: { salt: veritySalt() } },
          sink: createFileSink(image, { force: true }),
        });
      }
      const asIs = await probe(optionsFor(images, { asIs: true, compression }));
      for (const key of ["each", "union", "newBytes", "zeroBytes"] as const) {
        assertEquals(asIs.schemes[0]![key], report.schemes[i]![key], `${scheme.kind} ${key}`);
      }
      assert(report.schemes[i]!.union.raw > plain.schemes[i]!.union.raw);
    }
    const layered = optionsFor(sources, { mode: "layered", compression, veritySalt });
    const trees = (await probe(layered)).schemes.at(-1)!.each.units;
    const without = (await probe({ ...layered, veritySalt: undefined })).schemes.at(-1)!.each.units;
    assert(trees > without);
    await assertRejects(
      () => probe(optionsFor(sources, { asIs: true, veritySalt })),
      UsageError,
      "verity: files cut as they are get no tree",
    );
  });
});

Deno.test("probe finds large shared files when they are aligned, and has none to explain", async () => {
  await withTars(async (sources) => {
    const report = await probe(optionsFor(sources, { explain: true, pairwise: true }));
    const row = (kind: string) => report.schemes.find(({ scheme }) => scheme === kind);
    const [files, unaligned, resync] = ["file", "unaligned", "aligned"].map(row);
    const sharedBytes = 700 * KIB + 5 + 40 * 9000 + 200 * KIB;
    assertEquals(files!.each.raw - files!.union.raw, sharedBytes);
    assert(resync!.crossImageDedup.raw > unaligned!.crossImageDedup.raw + 0.2);
    assertEquals(
      report.pairwise![0]![1]!.shared.raw,
      resync!.each.raw - resync!.union.raw,
    );
    assertEquals(report.explain, []);
  });
});

Deno.test("probe --self-shift finds all at whole cells and next to nothing between", async () => {
  await withTars(async (sources) => {
    const { selfShift } = await probe(optionsFor(sources.slice(0, 1), { selfShift: true }));
    for (const { shiftBytes, shared } of selfShift!) {
      if (shiftBytes % (128 * KIB) === 0) assertEquals(shared, 1);
      else assert(shared < 0.05, `${shiftBytes}: ${shared}`);
    }
    assertEquals(selfShift!.length, 6);
  });
});

Deno.test("probe in layered mode and with gear chunks gives a row for each scheme", async () => {
  await withTars(async (sources) => {
    const gear = { kind: "gear", minBytes: 16 * KIB, maxBytes: 1024 * KIB, maskBits: 17 } as const;
    const report = await probe(optionsFor(sources, { mode: "layered", chunker: gear }));
    assertEquals(report.mode, "layered");
    assertEquals(report.schemes.map(({ scheme, cdc }) => [scheme, cdc]), [
      ["file", null],
      ["unaligned", null],
      ["start-aligned", null],
      ["fastcdc", "gear"],
      ["aligned", null],
      ["aligned", null],
    ]);
  });
});

Deno.test("probe tells of a source given twice and of one alone", async () => {
  await withTars(async ([source]) => {
    const twice = await probe(optionsFor([source!, source!]));
    for (const { crossImageDedup } of twice.schemes) assertEquals(crossImageDedup.raw, 0.5);
    assertEquals(twice.warnings.map(({ kind }) => kind), ["repeatedSource"]);
    const alone = await probe(optionsFor([source!]));
    assertEquals(alone.warnings.map(({ kind }) => kind), ["singleSource"]);
  });
});

Deno.test("probe refuses what cannot be meant before it reads anything", async () => {
  const missing = ["tar:/nonexistent"];
  const refused: [Partial<ResolvedProbeOptions>, string][] = [
    [{ thresholds: [0] }, "alignThresholdBytes: "],
    [{ thresholds: [3 * KIB] }, "alignThresholdBytes: "],
    [{ grids: [3 * KIB] }, "gridBytes: "],
    [{ grids: [2 ** 25] }, "gridBytes: "],
    [{ compression: { kind: "zstd", level: 20 } }, "compression: "],
    [{ asIs: true, explain: true }, "explain: "],
    [{ asIs: true, mode: "layered" }, "mode: "],
    [{ sources: [] }, "SOURCE"],
  ];
  for (const [change, what] of refused) {
    await assertRejects(() => probe(optionsFor(missing, change)), UsageError, what);
  }
});

Deno.test("probe --as-is takes any file, but neither an empty one nor a directory nor none", async () => {
  await withTars(async (_sources, directory) => {
    const odd = join(directory, "odd");
    const empty = join(directory, "empty");
    writeFileSync(odd, noise(3, 200_001));
    writeFileSync(empty, "");
    const { schemes } = await probe(optionsFor([odd], { asIs: true }));
    assertEquals(schemes[0]!.union, {
      raw: 200_001,
      stored: 200_001,
      units: 2,
      unitBytes: 200_001,
    });
    const fails = (path: string, why: string) =>
      assertRejects(() => probe(optionsFor([path], { asIs: true })), Error, why);
    await fails(empty, "is empty");
    await fails(directory, "is a directory");
    await fails(join(directory, "none"), "does not exist: wanted");
  });
});

Deno.test("probe tells of a later source that is missing before it reads the first", async () => {
  await withTars(async ([first]) => {
    for (const asIs of [false, true]) {
      const began: string[] = [];
      const progress: Progress = {
        begin: (name) => (began.push(name), { advance: () => {}, end: () => {} }),
      };
      const source = asIs ? first!.slice("tar:".length) : first!;
      const missing = asIs ? "/nonexistent/b" : "tar:/nonexistent/b";
      await assertRejects(
        () => probe(optionsFor([source, missing], { asIs, progress })),
        InputError,
        "/nonexistent/b: does not exist",
      );
      assertEquals(began, []);
    }
  });
});

Deno.test("probe says which image of how many it is at", async () => {
  await withTars(async (sources) => {
    const began = new Set<string>();
    const progress: Progress = {
      begin: (name) => (began.add(name), { advance: () => {}, end: () => {} }),
    };
    await probe(optionsFor(sources, { progress }));
    const shown = sources.map((source, i) => `image ${i + 1} of 2: ${source}`);
    for (const name of shown) assert(began.has(name), [...began].join());
  });
});

Deno.test("captured is null with one image, and where FastCDC saves next to nothing", async () => {
  await withTars(async (sources) => {
    const alone = await probe(optionsFor(sources.slice(0, 1)));
    for (const row of alone.schemes) {
      assertEquals([row.captured, row.ceilingCaptured], [null, { raw: null, stored: null }]);
    }
    const two = await probe(optionsFor(sources));
    const row = (kind: string) => two.schemes.find(({ scheme }) => scheme === kind)!;
    const [plain, fastCdc, aligned] = ["unaligned", "fastcdc", "aligned"].map(row);
    assertEquals(plain!.captured!.raw, 0);
    assertEquals(fastCdc!.captured!.raw, 1);
    const saved = plain!.union.raw - fastCdc!.union.raw;
    assertEquals(aligned!.captured!.raw, (plain!.union.raw - aligned!.union.raw) / saved);
    // Chunks so large that FastCDC finds little of what two images share.
    const chunker = fastCdcParameters(4 * KIB * KIB, 4 * KIB * KIB, 16 * KIB * KIB);
    const coarse = await probe(optionsFor(sources, { chunker }));
    for (const { captured } of coarse.schemes) assertEquals(captured, null);
  });
});

Deno.test("reportCsv has a line for each figure of each row, and of each image", async () => {
  await withTars(async (sources) => {
    const report = await probe(optionsFor(sources, { thresholds: [16 * KIB, 64 * KIB] }));
    const [header, ...lines] = reportCsv(report).trimEnd().split("\n").map((line) =>
      line.split(",")
    );
    assertEquals(header!.slice(-4), ["image_number", "image", "figure", "value"]);
    assertEquals(lines.length, report.schemes.length * (15 + 2 * 10));
    assertEquals(new Set(lines.map(({ length }) => length)), new Set([header!.length]));
    const value = (layout: string, image: string, figure: string) =>
      lines.find((line) => line[0] === layout && line[6] === image && line[8] === figure)![9];
    const row = report.schemes.at(-1)!;
    const layout = "aligned 64K tight @128K";
    assertEquals(value(layout, "", "union_stored"), `${row.union.stored}`);
    assertEquals(value(layout, "2", "new_raw"), `${row.newBytes[1]!.raw}`);
  });
});

Deno.test("reportChart shows every row and writes nothing beyond its edges", async () => {
  await withTars(async (sources) => {
    const packings = [
      { kind: "resync", meanBytes: 1_048_580, lowBytes: 65_540 },
      { kind: "merge" },
    ] as const;
    const report = await probe(optionsFor(sources, { packings, grids: [64 * KIB, 128 * KIB] }));
    for (const factor of [0, 1, 1000, 1e6]) {
      const schemes = report.schemes.map((row) => ({
        ...row,
        union: { ...row.union, stored: Math.round(row.union.stored / 1000 * factor) },
      }));
      const images = report.images.map((image, i) => ({
        ...image,
        source: i === 0 ? "<a&\x01>" : "b".repeat(300),
      }));
      const chart = reportChart({ ...report, schemes, images });
      assertStringIncludes(chart, "&lt;a&amp;?&gt;");
      for (const label of ["aligned 64K merge", "start-aligned", "Cells of 64K", "Cells of 128K"]) {
        assertStringIncludes(chart, label);
      }
      assert(!chart.includes("NaN") && !chart.includes("Infinity"));
      const texts = chart.matchAll(
        /<text x="([\d.]+)" .*text-anchor="(\w+)" font-size="(\d+)"[^>]*>([^<]*)</g,
      );
      for (const [, at, anchor, size, content] of texts) {
        const width = content!.length * Number(size) * 0.5;
        const x = Number(at);
        const start = anchor === "end" ? x - width : anchor === "middle" ? x - width / 2 : x;
        assert(start >= 0 && start + width <= 800, `${start} ${content}`);
      }
    }
  });
});

Deno.test("reportHtml is one page with tables, pictures and the matrix, and escapes names", async () => {
  await withTars(async (sources) => {
    const report = await probe(optionsFor(sources, { pairwise: true, explain: true }));
    const images = report.images.map((image) => ({ ...image, source: "<script>x</script>" }));
    const page = reportHtml({ ...report, images });
    for (const part of ["<svg", "Where the layout loses", "two by two", "What the words mean"]) {
      assertStringIncludes(page, part);
    }
    assert(!page.includes("<script") && !/\b(src|href)=/.test(page));
    for (const tag of ["table", "tr", "td", "section", "div", "ul", "li", "svg", "p", "small"]) {
      const open = page.match(new RegExp(`<${tag}[ >]`, "g"))?.length ?? 0;
      assertEquals(page.match(new RegExp(`</${tag}>`, "g"))?.length ?? 0, open, tag);
    }
    assertStringIncludes(reportHtml(await probe(optionsFor(sources.slice(0, 1)))), "</html>");
  });
});

Deno.test("probe --explain tells of no file whose cells an earlier image brought", async () => {
  await withTars(async ([first, second]) => {
    const thresholds = [8 * KIB * KIB];
    const packings = [{ kind: "tight" }] as const;
    const lost = async (...sources: string[]) =>
      (await probe(optionsFor(sources, { explain: true, thresholds, packings }))).explain!;
    const two = await lost(first!, second!);
    assert(two.some(({ path }) => path === "/large"));
    for (const { images, lostBytes } of two) {
      assertEquals(images, [0, 1]);
      assertEquals(lostBytes % 4096, 0);
    }
    assertEquals(await lost(first!, second!, second!), two);
  });
});

Deno.test("probe --row tells the details of the row that has the words", async () => {
  await withTars(async (sources) => {
    const run = async (row: string, change = {}) => {
      const report = await probe(optionsFor(sources, { row, pairwise: true, ...change }));
      const { scheme, threshold, packing } = report.schemes[report.mainScheme]!;
      const shared = report.pairwise![0]![1]!.shared.raw;
      const { each, union } = report.schemes[report.mainScheme]!;
      assertEquals(shared, each.raw - union.raw);
      return [scheme, threshold, packing].join(" ");
    };
    assertEquals(await run("tight"), "aligned 65536 tight");
    assertEquals(await run("64k Resync"), "aligned 65536 resync:262144:65536");
    assertEquals(await run("fastcdc"), "fastcdc  ");
    assertEquals(await run("whole files"), "file  ");
    assertEquals(await run("unaligned", { explain: true, selfShift: true }), "unaligned  ");
    for (const row of ["", " ", "aligned", "32K", "tigh"]) {
      const { message, hint } = await assertRejects(() => run(row), UsageError);
      assertStringIncludes(message, row === "aligned" ? "several rows" : "no row");
      assertStringIncludes(hint!, "aligned 64K tight @128K");
    }
    await assertRejects(() => run("fastcdc", { selfShift: true }), UsageError, "fixed grid");
    await assertRejects(() => run("file", { explain: true }), UsageError, "fixed grid");
  });
});
