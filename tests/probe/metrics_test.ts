import { assertEquals } from "@std/assert";
import { overlapMatrix, schemeMetrics } from "../../probe/report.ts";
import { ContentTable, SchemeStore } from "../../probe/units/store.ts";

/** Units named by letters; a unit's size and raw bytes are 100, its stored bytes the letter's place. */
function storeOf(images: readonly string[]): SchemeStore {
  const table = new ContentTable();
  const store = new SchemeStore(table, true);
  for (const image of images) {
    const collector = store.beginImage();
    for (const letter of image) {
      const stored = letter.charCodeAt(0) - 96;
      collector.add(table.indexOf(letter, 128, (take) => take(stored)), 100);
    }
    collector.addSize(1000, 7);
    collector.finish();
  }
  return store;
}

Deno.test("schemeMetrics counts a repeated unit once an image, and a shared one once in all", () => {
  const metrics = schemeMetrics(storeOf(["aab", "bc", "bd"]));
  assertEquals(metrics.each, { raw: 600, stored: 14, units: 6, unitBytes: 768 });
  assertEquals(metrics.union, { raw: 400, stored: 10, units: 4, unitBytes: 512 });
  assertEquals(metrics.crossImageDedup, { raw: 200 / 600, stored: 4 / 14 });
  assertEquals(metrics.newBytes.map(({ raw, stored }) => [raw, stored]), [[200, 3], [100, 3], [
    100,
    4,
  ]]);
  assertEquals(metrics.histogram.map(({ images, units, stored }) => [images, units, stored]), [
    [1, 3, 8],
    [2, 0, 0],
    [3, 1, 2],
  ]);
  assertEquals([metrics.meanUnitBytes, metrics.paddingBytes, metrics.zeroBytes], [128, 21, 2300]);
  const [first] = metrics.perImage;
  assertEquals([first!.unitOccurrences, first!.units, first!.only], [3, 2, {
    raw: 100,
    stored: 1,
  }]);
});

Deno.test("schemeMetrics of images without units is all zeros", () => {
  const metrics = schemeMetrics(storeOf(["", ""]));
  assertEquals(metrics.crossImageDedup, { raw: 0, stored: 0 });
  assertEquals(metrics.meanUnitBytes, 0);
  assertEquals(overlapMatrix(storeOf(["", ""]))[0]![1]!.jaccard, { raw: 0, stored: 0 });
});

Deno.test("overlapMatrix has shared bytes both ways, and containment of the row in the column", () => {
  const matrix = overlapMatrix(storeOf(["ab", "bcd"]));
  assertEquals(matrix[0]![1], {
    shared: { raw: 100, stored: 2 },
    jaccard: { raw: 100 / 400, stored: 2 / 10 },
    containment: { raw: 100 / 200, stored: 2 / 3 },
  });
  assertEquals(matrix[1]![0]!.containment, { raw: 100 / 300, stored: 2 / 9 });
  assertEquals(matrix[1]![1]!.jaccard, { raw: 1, stored: 1 });
});
