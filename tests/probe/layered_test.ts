import { assert, assertEquals } from "@std/assert";
import { LAYERED_DEFAULTS } from "../../lib/bless/options.ts";
import { layoutOf, schemesOf } from "../../probe/schemes.ts";
import { probe } from "../../probe/probe.ts";
import { blessTo, writeLayers } from "../bless/layered_helpers.ts";
import { withDirectory } from "../source/helpers.ts";
import { noise, optionsFor } from "./sources.ts";

const KIB = 1024;

Deno.test("probe --mode layered cuts the cells that the files of a layered image have", async () => {
  await withDirectory(async (directory) => {
    const base = [
      { path: "large", data: noise(1, 500 * KIB) },
      ...Array.from(
        { length: 30 },
        (_, i) => ({ path: `d${i % 3}/s${i}`, data: noise(9 + i, 9000) }),
      ),
    ];
    const own = (seed: number) => [
      { path: "large", data: noise(seed, 300 * KIB) },
      { path: ".wh.d1" },
      { path: `d0/own${seed}`, data: noise(seed + 1, 90 * KIB) },
    ];
    const sources = [100, 200].map((seed) => {
      writeLayers(`${directory}/${seed}`, [base, own(seed)]);
      return `oci:${directory}/${seed}`;
    });
    const options = optionsFor(sources, { mode: "layered" });
    const report = await probe(options);
    for (const [i, scheme] of schemesOf(options).entries()) {
      if (scheme.kind === "file" || scheme.kind === "fastcdc") continue;
      const layout = layoutOf(scheme, "layered");
      const files: string[][] = [];
      for (const [n, source] of sources.entries()) {
        const out = `${directory}/out${i}-${n}`;
        const { layers } = await blessTo(out, source, {}, { ...LAYERED_DEFAULTS, ...layout });
        files.push(layers.map(({ file }) => `${out}/${file}`));
      }
      const asIs = async (paths: readonly string[]) =>
        (await probe(optionsFor(paths, { asIs: true }))).schemes[0]!.union;
      const expected = report.schemes[i]!;
      assertEquals(expected.union, await asIs(files.flat()), scheme.kind);
      assertEquals(expected.newBytes[0], await asIs(files[0]!), scheme.kind);
      // The images have their lowest layer in common, whole.
      assert(expected.crossImageDedup.raw > 0.3, `${expected.crossImageDedup.raw}`);
    }
  });
});
