import { assertEquals, assertNotEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { crc32 } from "node:zlib";
import {
  decodeRecord,
  encodeRecord,
  optionDifferences,
  optionFacts,
} from "../../lib/bless/layered_record.ts";
import type { LayerRecord } from "../../lib/bless/layered_record.ts";
import { LAYERED_DEFAULTS, type LayoutOptions } from "../../lib/bless/options.ts";
import { InputError } from "../../lib/errors.ts";

const RECORD: LayerRecord = {
  formatVersion: 1,
  diffId: `sha256:${"1".repeat(64)}`,
  tree: `sha256:${"2".repeat(64)}`,
  options: optionFacts(LAYERED_DEFAULTS, 0),
  checksums: { sizeBytes: (1 << 20) + 4096, crc32s: [1, 4294967295] },
  image: {
    uuid: "u",
    sizeBytes: 1,
    usedBytes: 2,
    storedBytes: 3,
    paddingBytes: 4,
    files: 5,
    directories: 6,
    symlinks: 7,
    specialFiles: 8,
    inodes: 9,
    freeInodes: 10,
    alignedFiles: 11,
  },
  warnings: [{ kind: "k", what: ["/\u00e9 in ", ""], why: "why", count: 2 }],
};

function changed(change: (document: Record<string, unknown>) => void): Uint8Array {
  const { crc32: _, ...body } = JSON.parse(new TextDecoder().decode(encodeRecord(RECORD)));
  change(body);
  return new TextEncoder().encode(
    JSON.stringify({ ...body, crc32: crc32(JSON.stringify(body)) }),
  );
}

Deno.test("decodeRecord reads what encodeRecord wrote", () => {
  assertEquals(decodeRecord(encodeRecord(RECORD), "record"), RECORD);
  assertEquals(decodeRecord(changed(() => {}), "record"), RECORD);
});

Deno.test("a record that does not state its format version is of version 1", () => {
  const bytes = changed((document) => delete document["formatVersion"]);
  assertEquals(decodeRecord(bytes, "record"), RECORD);
  const later = changed((document) => document["formatVersion"] = 2);
  assertEquals(decodeRecord(later, "record").formatVersion, 2);
});

Deno.test("decodeRecord refuses a record with any byte changed, or cut off anywhere", () => {
  const bytes = encodeRecord(RECORD);
  for (let at = 0; at < bytes.length - 1; at++) {
    const damaged = Uint8Array.from(bytes);
    damaged[at]! ^= 1;
    // White space between tokens is the only thing that means nothing; there is none.
    assertThrows(() => decodeRecord(damaged, "record"), InputError, "record: ");
    assertThrows(() => decodeRecord(bytes.subarray(0, at), "record"), InputError, "record: ");
  }
});

Deno.test("decodeRecord names the field that is wrong", () => {
  const cases: [field: string, change: (document: Record<string, unknown>) => void][] = [
    ["version", (document) => document["version"] = 1],
    ["diffId", (document) => delete document["diffId"]],
    ["tree", (document) => document["tree"] = 1],
    ["options", (document) => document["options"] = null],
    ["checksums", (document) => document["checksums"] = { sizeBytes: 1, crc32s: [] }],
    ["checksums.sizeBytes", (document) => document["checksums"] = { sizeBytes: -1, crc32s: [] }],
    ["image.uuid", (document) => document["image"] = {}],
    ["warnings", (document) => document["warnings"] = {}],
    ["warnings[0].kind", (document) => document["warnings"] = [{}]],
  ];
  for (const [field, change] of cases) {
    const error = assertThrows(() => decodeRecord(changed(change), "record"), InputError);
    assertStringIncludes(error.message, `record: ${field}`);
  }
});

Deno.test("optionFacts differ whenever an option differs, and the difference names it", () => {
  const changes: [name: string, change: Partial<LayoutOptions>][] = [
    ["gridBytes", { gridBytes: 65536 }],
    ["alignThresholdBytes", { alignThresholdBytes: Infinity }],
    ["packing", { packing: { kind: "tight" } }],
    ["packing", { packing: { kind: "resync", meanBytes: 131072, lowBytes: 65536 } }],
    ["size", { size: { kind: "total", sizeBytes: 1 << 30 } }],
    ["size", { size: { kind: "free", freeBytes: 1 << 30 } }],
    ["journalBytes", { journalBytes: 4 << 20 }],
    ["uuid", { uuid: "11111111-1111-1111-1111-111111111111" }],
    ["label", { label: "x" }],
    ["backups", { backups: "sparse" }],
    ["inlineData", { inlineData: true }],
    ["metadataChecksums", { metadataChecksums: false }],
    ["compat", { compat: "3.10" }],
    ["inodeCount", { inodeCount: 100 }],
    ["reservedBlocks", { reservedBlocks: { kind: "bytes", bytes: 4096 } }],
    ["reservedBlocks", { reservedBlocks: { kind: "percent", percent: 5 } }],
  ];
  const usual = optionFacts(LAYERED_DEFAULTS, 0);
  assertEquals(optionDifferences(usual, optionFacts({ ...LAYERED_DEFAULTS }, 0)), []);
  const covered = new Set(changes.map(([, change]) => Object.keys(change)[0]));
  assertEquals(covered, new Set(Object.keys(LAYERED_DEFAULTS)));
  for (const [option, change] of changes) {
    const other = optionFacts({ ...LAYERED_DEFAULTS, ...change }, 0);
    assertEquals(optionDifferences(other, usual), [
      { option, found: other[option]!, wanted: usual[option]! },
    ]);
    assertNotEquals(other[option], usual[option]);
  }
  assertEquals(optionDifferences(optionFacts(LAYERED_DEFAULTS, 5), usual), [
    { option: "timestamp", found: "5", wanted: "0" },
  ]);
  const ordered = optionFacts({ ...LAYERED_DEFAULTS, payloadOrder: "layer" }, 0);
  assertEquals(optionDifferences(ordered, usual), [
    { option: "payloadOrder", found: "layer", wanted: "default" },
  ]);
  assertEquals(optionDifferences(usual, ordered), [
    { option: "payloadOrder", found: "default", wanted: "layer" },
  ]);
  assertEquals(optionFacts({ ...LAYERED_DEFAULTS, payloadOrder: "path" }, 0), usual);
});
