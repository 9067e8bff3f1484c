import { assertEquals, assertThrows } from "@std/assert";
import { MERGED_DEFAULTS } from "../../../lib/bless/options.ts";
import { UsageError } from "../../../lib/errors.ts";
import { type LayoutOptions, parseUuid, resolveSettings } from "../../../lib/ext4/plan/settings.ts";
import { formatUuid } from "../../../lib/bytes/digest.ts";
import { compatText } from "../../../lib/ext4/plan/compat.ts";

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
  const settings = resolve({ compat: ["3.10"] });
  assertEquals([settings.wide, settings.constantSeed], [false, false]);
  assertEquals(resolve({ metadataChecksums: false }).constantSeed, false);
});

Deno.test("resolveSettings leaves out what one of the readers cannot read", () => {
  const facts = (...compat: string[]) => {
    const { wide, constantSeed, valueInodesRefusedBy } = resolve({ compat });
    return [wide, constantSeed, valueInodesRefusedBy];
  };
  const cases: [string[], [boolean, boolean, string | undefined]][] = [
    [[], [true, true, undefined]],
    [["linux-5.10"], [true, true, undefined]],
    [["5.10"], [true, true, undefined]],
    [["linux-6.12.9"], [true, true, undefined]],
    [["linux-4.13"], [true, true, undefined]],
    [["linux-4.12"], [true, true, "Linux 4.12"]],
    [["linux-4.4"], [true, true, "Linux 4.4"]],
    [["linux-4.3"], [true, false, "Linux 4.3"]],
    [["linux-3.16"], [true, false, "Linux 3.16"]],
    [["linux-3.10"], [false, false, "Linux 3.10"]],
    [["u-boot"], [true, true, undefined]],
    [["grub-2.12"], [true, true, "GRUB 2.12"]],
    [["grub"], [true, false, "GRUB"]],
    [["u-boot", "grub", "linux-3.10"], [false, false, "GRUB"]],
  ];
  for (const [compat, expected] of cases) {
    assertEquals(facts(...compat), expected, compat.join(","));
  }
  for (const name of ["u-boot", "grub", "grub-2.12", "3.10"]) {
    const refused = () => resolve({ compat: ["linux-5.10", name], inlineData: true });
    assertThrows(refused, UsageError, "inlineData: ");
  }
  resolve({ compat: ["linux-5.10"], inlineData: true, backups: "none" });
  for (const name of ["grub-3", "linux", "2.6", "3.9", "linux-3", "GRUB", "", "5"]) {
    assertThrows(() => resolve({ compat: [name] }), UsageError, "compat: wanted ");
  }
});

Deno.test("compatText says what changes the bytes, however it was asked for", () => {
  assertEquals(compatText([]), "none");
  assertEquals(compatText(["linux-5.10", "u-boot"]), "none");
  assertEquals(compatText(["3.10"]), "3.10");
  assertEquals(compatText(["grub", "linux-3.10"]), "3.10");
  assertEquals(compatText(["grub-2.12"]), "without ea_inode");
  assertEquals(compatText(["grub"]), compatText(["linux-4.0"]));
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
    [{ compat: ["3.10"], inlineData: true }, "inlineData"],
    [{ compat: ["3.10"], backups: "none" }, "backups"],
  ];
  for (const [choices, option] of refused) {
    assertThrows(() => resolve(choices), UsageError, `${option}: `);
  }
  const error = assertThrows(() => resolve({ compat: ["3.10"], backups: "none" }), UsageError);
  assertEquals(error.remedies, [{ option: "backups", change: "set", value: "sparse" }]);
});

Deno.test("parseUuid and formatUuid undo each other", () => {
  const text = "01234567-89ab-cdef-0123-456789abcdef";
  assertEquals(formatUuid(parseUuid(text.toUpperCase())), text);
  assertEquals(parseUuid(text).subarray(0, 4), Uint8Array.of(0x01, 0x23, 0x45, 0x67));
});
