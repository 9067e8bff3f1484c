import { assertEquals, assertThrows } from "@std/assert";
import { MERGED_DEFAULTS } from "../../../lib/bless/options.ts";
import { UsageError } from "../../../lib/errors.ts";
import type { LayoutOptions } from "../../../lib/ext4/plan/settings.ts";
import { formatUuid } from "../../../lib/bytes/uuid.ts";
import { parseUuid, resolveSettings } from "../../../lib/ext4/plan/settings.ts";

const IDENTITY = { derivedUuid: new Uint8Array(16).fill(7), timestamp: 123 };
const MIB = 2 ** 20;

function resolve(choices: Partial<LayoutOptions> = {}) {
  return resolveSettings({ ...MERGED_DEFAULTS, ...choices }, IDENTITY);
}

Deno.test("resolveSettings turns sizes into blocks and fills in what content decides", () => {
  const settings = resolve();
  assertEquals([settings.gridBlocks, settings.journalBlocks, settings.timestamp], [32, 1024, 123]);
  assertEquals(settings.uuid, IDENTITY.derivedUuid);
  assertEquals([settings.wide, settings.constantSeed], [true, true]);
});

Deno.test("resolveSettings drops what an old kernel does not know", () => {
  const settings = resolve({ compat: "3.10" });
  assertEquals([settings.wide, settings.constantSeed], [false, false]);
  assertEquals(resolve({ metadataChecksums: false }).constantSeed, false);
});

Deno.test("resolveSettings names the option that is out of range", () => {
  const refused: [Partial<LayoutOptions>, string][] = [
    [{ gridBytes: 4097 }, "gridBytes"],
    [{ gridBytes: 32 * MIB }, "gridBytes"],
    [{ alignThresholdBytes: 1 }, "alignThresholdBytes"],
    [{ alignThresholdBytes: NaN }, "alignThresholdBytes"],
    [{ packing: { kind: "resync", meanBytes: 8192, lowBytes: 4096 } }, "packing"],
    [{ packing: { kind: "resync", meanBytes: 8192.5, lowBytes: 0 } }, "packing"],
    [{ size: { kind: "total", sizeBytes: 2 ** 44 + 1 } }, "size"],
    [{ size: { kind: "free", freeBytes: -1 } }, "size"],
    [{ journalBytes: 4 * MIB - 4096 }, "journalBytes"],
    [{ uuid: "12345678-1234-1234-1234-12345678901g" }, "uuid"],
    [{ label: "a\0b" }, "label"],
    [{ label: "ééééééééé" }, "label"],
    [{ inodeCount: 0 }, "inodeCount"],
    [{ reservedBlocks: { kind: "percent", percent: -1 } }, "reservedBlocks"],
    [{ reservedBlocks: { kind: "bytes", bytes: 0.5 } }, "reservedBlocks"],
    [{ compat: "3.10", inlineData: true }, "inlineData"],
    [{ compat: "3.10", backups: "none" }, "backups"],
  ];
  for (const [choices, option] of refused) {
    assertThrows(() => resolve(choices), UsageError, `${option}: `);
  }
  const error = assertThrows(() => resolve({ compat: "3.10", backups: "none" }), UsageError);
  assertEquals(error.remedies, [{ option: "backups", change: "set", value: "sparse" }]);
});

Deno.test("parseUuid and formatUuid undo each other", () => {
  const text = "01234567-89ab-cdef-0123-456789abcdef";
  assertEquals(formatUuid(parseUuid(text.toUpperCase())), text);
  assertEquals(parseUuid(text).subarray(0, 4), Uint8Array.of(0x01, 0x23, 0x45, 0x67));
});
