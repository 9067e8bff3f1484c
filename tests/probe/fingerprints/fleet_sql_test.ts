import { assert, assertEquals } from "@std/assert";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { notRun } from "../../oracle/notice.ts";
import { probe } from "../../../probe/probe.ts";
import type { ProbeReport } from "../../../probe/report.ts";
import { noise, optionsFor, withTars } from "../sources.ts";
import { buildTar } from "../../tar/build.ts";
import { type Database, openDatabase, type SqlRow } from "./duckdb.ts";
import { MemorySink } from "./memory_sink.ts";

const FLEET = new URL("../../../docs/FLEET.md", import.meta.url);

/** The statements under their names in docs/FLEET.md. */
function statements(): Map<string, string> {
  const found = readFileSync(FLEET, "utf8").matchAll(/<!-- sql: (.+) -->\s+```sql\n([^`]+)```/g);
  return new Map([...found].map(([, name, sql]) => [name!, sql!]));
}

async function databaseOrNotice(): Promise<Database | undefined> {
  try {
    return await openDatabase();
  } catch (error) {
    notRun("the SQL of FLEET.md", `DuckDB cannot be loaded: ${String(error).split("\n")[0]}`);
    return undefined;
  }
}

function labelled(report: ProbeReport, layouts: ReadonlyMap<string, number>) {
  return [...layouts].map(([layout, i]) => ({ layout, scheme: report.schemes[i]! }));
}

Deno.test("the SQL of FLEET.md gives the figures of the probe", async () => {
  const database = await databaseOrNotice();
  if (database === undefined) return;
  using _closed = { [Symbol.dispose]: () => database.close() };
  const { query } = database;
  const sql = statements();
  assertEquals([...sql.keys()], ["views", "union", "new bytes", "pairwise", "histogram"]);
  await withTars(async (tars, directory) => {
    const third = `${directory}/c.tar`;
    writeFileSync(third, buildTar([{ path: "large", data: noise(1, 700 * 1024 + 5) }]));
    const sources = [...tars, `tar:${third}`];
    const options = { compression: { kind: "zstd", level: 1 }, pairwise: true } as const;
    mkdirSync(`${directory}/fingerprints`);
    // Two hosts: the first has two of the images.
    for (const [name, part] of [["1", sources.slice(0, 2)], ["2", sources.slice(2)]] as const) {
      const sink = new MemorySink();
      await probe(optionsFor(part, { ...options, fingerprints: sink }));
      writeFileSync(`${directory}/fingerprints/${name}.parquet`, sink.bytes!);
    }
    await query(sql.get("views")!.replace("fingerprints/*", `${directory}/fingerprints/*`));
    const labels = await query("SELECT DISTINCT layout, scheme, packing FROM rows_of_files");
    const report = await probe(optionsFor(sources, options));
    const layouts = new Map(labels.map(({ layout, scheme, packing }) => [
      `${layout}`,
      report.schemes.findIndex((row) => row.scheme === scheme && row.packing === packing),
    ]));
    assertEquals(layouts.size, report.schemes.length);
    const numbers = (row: SqlRow, ...names: string[]) => names.map((name) => Number(row[name]));
    const rowsOf = (rows: readonly SqlRow[], layout: string) =>
      rows.filter((row) => row["layout"] === layout);
    const unions = await query(sql.get("union")!);
    const added = await query(sql.get("new bytes")!);
    const histogram = await query(sql.get("histogram")!);
    const pairs = await query(sql.get("pairwise")!);
    for (const { layout, scheme } of labelled(report, layouts)) {
      const { union, each, crossImageDedup, newBytes } = scheme;
      const [row] = rowsOf(unions, layout);
      assertEquals(
        numbers(
          row!,
          "union_raw",
          "union_stored",
          "units",
          "unit_bytes",
          "each_raw",
          "each_stored",
        ),
        [union.raw, union.stored, union.units, union.unitBytes, each.raw, each.stored],
        layout,
      );
      assert(Math.abs(Number(row!["cross_raw"]) - crossImageDedup.raw) < 1e-12);
      assert(Math.abs(Number(row!["cross_stored"]) - crossImageDedup.stored) < 1e-12);
      const foundNew = new Map(
        rowsOf(added, layout).map((one) => [
          Number(one["n"]),
          numbers(one, "new_raw", "new_stored"),
        ]),
      );
      newBytes.forEach(({ raw, stored }, i) =>
        assertEquals(foundNew.get(i + 1) ?? [0, 0], [raw, stored], `${layout} ${i}`)
      );
      assertEquals(
        rowsOf(histogram, layout).map((one) => numbers(one, "images", "units", "stored")),
        scheme.histogram.filter(({ units }) => units > 0)
          .map(({ images, units, stored }) => [images, units, stored]),
      );
    }
    const main = [...layouts].find(([, i]) => i === report.mainScheme)![0];
    const foundPairs = new Map(
      rowsOf(pairs, main).map((one) => [
        numbers(one, "a", "b").join(),
        numbers(one, "shared_raw", "shared_stored"),
      ]),
    );
    report.pairwise!.forEach((columns, i) =>
      columns.forEach(({ shared }, j) =>
        assertEquals(foundPairs.get(`${i + 1},${j + 1}`) ?? [0, 0], [shared.raw, shared.stored])
      )
    );
  });
});
