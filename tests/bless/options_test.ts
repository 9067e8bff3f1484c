import { assertEquals } from "@std/assert";
import { LAYERED_DEFAULTS, MERGED_DEFAULTS } from "../../lib/bless/options.ts";
import { resolveSettings } from "../../lib/ext4/plan/settings.ts";

const IDENTITY = { derivedUuid: new Uint8Array(16), timestamp: 0 };

Deno.test("the defaults are options that every check accepts", () => {
  const merged = resolveSettings(MERGED_DEFAULTS, IDENTITY);
  assertEquals([merged.gridBlocks, merged.journalBlocks, merged.backups], [32, 1024, "sparse"]);
  const layered = resolveSettings(LAYERED_DEFAULTS, IDENTITY);
  assertEquals([layered.gridBlocks, layered.journalBlocks, layered.backups], [32, 0, "none"]);
});

Deno.test("a layer differs from a merged image in journal, backups and order of payload alone", () => {
  const { journalBytes, backups, ...layered } = LAYERED_DEFAULTS;
  assertEquals([journalBytes, backups], [0, "none"]);
  const { payloadOrder, ...merged } = MERGED_DEFAULTS;
  assertEquals(payloadOrder, "first-layer");
  assertEquals({ ...layered, journalBytes: 4 * 2 ** 20, backups: "sparse" }, merged);
});
