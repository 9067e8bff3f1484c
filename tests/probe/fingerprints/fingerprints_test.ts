import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { readFileSync, writeFileSync } from "node:fs";
import { InputError, UsageError } from "../../../lib/errors.ts";
import { Warnings } from "../../../lib/warnings.ts";
import { probeFingerprints } from "../../../probe/fingerprints/reader.ts";
import type { ResolvedProbeOptions } from "../../../probe/schemes.ts";
import { probe } from "../../../probe/probe.ts";
import type { ProbeReport } from "../../../probe/report.ts";
import { optionsFor, withTars } from "../sources.ts";
import { MemorySink } from "./memory_sink.ts";

async function fingerprint(
  path: string,
  sources: readonly string[],
  change: Partial<ResolvedProbeOptions> = {},
): Promise<ProbeReport> {
  const sink = new MemorySink();
  const options = { compression: { kind: "zstd", level: 1 }, pairwise: true, ...change } as const;
  const report = await probe(optionsFor(sources, { ...options, fingerprints: sink }));
  writeFileSync(path, sink.bytes!);
  return report;
}

const from = (...paths: string[]) =>
  probeFingerprints({ paths, pairwise: true, warnings: new Warnings() });

Deno.test("fingerprints give the report of the images themselves, in one file and in several", async () => {
  await withTars(async (sources, directory) => {
    const kinds: Partial<ResolvedProbeOptions>[] = [
      {},
      { compression: { kind: "none" }, grids: [65536, 131072] },
      { mode: "layered" },
    ];
    for (const change of kinds) {
      const report = await fingerprint(`${directory}/all`, sources, change);
      await fingerprint(`${directory}/first`, sources.slice(0, 1), change);
      await fingerprint(`${directory}/second`, sources.slice(1), change);
      assertEquals(await from(`${directory}/all`), report);
      assertEquals(await from(`${directory}/first`, `${directory}/second`), report);
      assert(report.schemes[0]!.crossImageDedup.raw > 0.4);
    }
    const paths = sources.map((source) => source.slice("tar:".length));
    const asIs = await fingerprint(`${directory}/as-is`, paths, { asIs: true });
    assertEquals(await from(`${directory}/as-is`), asIs);
  });
});

Deno.test("fingerprints of equal probes are equal bytes", async () => {
  await withTars(async (sources, directory) => {
    await fingerprint(`${directory}/1`, sources);
    await fingerprint(`${directory}/2`, sources);
    assertEquals(readFileSync(`${directory}/1`), readFileSync(`${directory}/2`));
  });
});

Deno.test("fingerprints of images without files are read back", async () => {
  await withTars(async (_sources, directory) => {
    writeFileSync(`${directory}/none.tar`, new Uint8Array(10240));
    const source = `tar:${directory}/none.tar`;
    const report = await fingerprint(`${directory}/none`, [source, source]);
    const { warnings, ...figures } = report;
    const { warnings: later, ...figuresLater } = await from(`${directory}/none`);
    assertEquals(figuresLater, figures);
    // The sources themselves are not read again.
    assertEquals(warnings.map(({ kind }) => kind), ["emptySource", "repeatedSource"]);
    assertEquals(later.map(({ kind }) => kind), ["repeatedSource"]);
    assertEquals(report.schemes[0]!.union.units, 0);
  });
});

Deno.test("probeFingerprints takes files with the same rows only, and a row that there is", async () => {
  await withTars(async (sources, directory) => {
    const [a, b, c] = ["a", "b", "c"].map((name) => `${directory}/${name}.parquet`);
    await fingerprint(a!, sources);
    await fingerprint(b!, sources, { thresholds: [16384] });
    await fingerprint(c!, sources, { compression: { kind: "none" } });
    const other = await assertRejects(() => from(a!, b!), InputError, "rows: ");
    assertStringIncludes(other.message, "b.parquet");
    await assertRejects(() => from(a!, c!), InputError, "compression: none; wanted");
    await assertRejects(() => from(), UsageError);
    await assertRejects(() => from(`${directory}/missing`), InputError, "does not exist");
    const options = { pairwise: false, warnings: new Warnings() };
    const { mainScheme } = await probeFingerprints({ ...options, paths: [a!], row: "fastcdc" });
    assertEquals(mainScheme, 3);
    await assertRejects(() => probeFingerprints({ ...options, paths: [a!], row: "x" }), UsageError);
  });
});

Deno.test("probeFingerprints refuses files that are damaged anywhere, or says the same", async () => {
  await withTars(async (sources, directory) => {
    const path = `${directory}/whole.parquet`;
    const report = await fingerprint(path, sources);
    const whole = readFileSync(path);
    const damaged = `${directory}/damaged.parquet`;
    const attempt = async (bytes: Uint8Array) => {
      writeFileSync(damaged, bytes);
      try {
        assertEquals(await from(damaged), report);
        return "read";
      } catch (error) {
        assert(error instanceof InputError || error instanceof UsageError, `${error}`);
        return "refused";
      }
    };
    for (const size of [0, 1, 4, 12, whole.length >> 1, whole.length - 1]) {
      assertEquals(await attempt(whole.subarray(0, size)), "refused", `${size} bytes`);
    }
    for (const footerBytes of [whole.length, whole.length + 4000, 0xffffffff]) {
      const bytes = Uint8Array.from(whole);
      new DataView(bytes.buffer).setUint32(bytes.length - 8, footerBytes, true);
      assertEquals(await attempt(bytes), "refused", `a footer of ${footerBytes} bytes`);
    }
    let refused = 0;
    for (let i = 0; i < 150; i++) {
      const bytes = Uint8Array.from(whole);
      bytes[Math.floor(i * whole.length / 150)]! ^= 1 << (i % 8);
      if (await attempt(bytes) === "refused") refused++;
    }
    assert(refused > 10, `${refused} refused`);
    assertEquals(await attempt(whole), "read");
  });
});
