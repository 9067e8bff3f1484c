import {
  assertEquals,
  assertMatch,
  assertNotEquals,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import { crc32 } from "node:zlib";
import {
  addRecorded,
  chainKeys,
  decodeCheckedJson,
  decodePosition,
  decodeRecord,
  encodeCheckedJson,
  encodePosition,
  encodeRecord,
  layerFileName,
  type LayerPosition,
  type LayerRecord,
  notesAbout,
  NotingWarnings,
  optionDifferences,
  optionFacts,
  positionFileName,
  positionKey,
  type PositionRecord,
  recordedWarnings,
  treeDigest,
  treeFileName,
} from "../../lib/bless/layered_records.ts";
import { LAYERED_DEFAULTS, type LayoutOptions } from "../../lib/bless/options.ts";
import { InputError } from "../../lib/errors.ts";
import { Warnings } from "../../lib/warnings.ts";
import { contentDigestOf } from "../../lib/bless/plan_image.ts";
import { digestOf } from "../../lib/bytes/digest.ts";
import { overlayTrees } from "../../lib/tree/overlay.ts";
import type { SimpleEntry } from "../tar/build.ts";
import { layersOf, treeOptions } from "../tree/layers.ts";

const DOCUMENT = { name: "base \u00e9", list: [1, { deep: null }] };

Deno.test("decodeCheckedJson reads what encodeCheckedJson wrote", () => {
  const bytes = encodeCheckedJson(3, DOCUMENT);
  assertEquals(decodeCheckedJson(bytes, 3, "it"), { version: 3, ...DOCUMENT });
  assertEquals(encodeCheckedJson(3, DOCUMENT), bytes);
});

Deno.test("decodeCheckedJson refuses another version, any changed byte and any cut", () => {
  const bytes = encodeCheckedJson(3, DOCUMENT);
  assertThrows(() => decodeCheckedJson(bytes, 4, "it"), InputError, "it: version is 3: wanted 4");
  for (let at = 0; at < bytes.length - 1; at++) {
    const damaged = Uint8Array.from(bytes);
    damaged[at]! ^= 1;
    assertThrows(() => decodeCheckedJson(damaged, 3, "it"), InputError, "it: ");
    assertThrows(() => decodeCheckedJson(bytes.subarray(0, at), 3, "it"), InputError, "it: ");
  }
});

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
    cellBytes: 3,
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
    ["compat", { compat: ["3.10"] }],
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

const DIFF_ID = `sha256:${"1".repeat(64)}`;
const POSITION: LayerPosition = {
  diffId: DIFF_ID,
  chainKey: "sha256:chain",
  digest: "sha256:stored",
  mediaType: "a/b",
  sizeBytes: 1,
};
const POSITION_RECORD: PositionRecord = {
  position: positionKey(POSITION),
  tree: `sha256:${"2".repeat(64)}`,
  facts: { digest: "sha256:x", sizeBytes: 1, uncompressedBytes: 2, entries: 3 },
  warnings: [{ kind: "k", what: ["/\u00e9 in ", ""], why: "why", count: 2 }],
};

Deno.test("positionFileName begins with the layer's name and differs with everything that makes a position", () => {
  const changes: Partial<LayerPosition>[] = [
    {},
    { chainKey: "sha256:other" },
    { digest: undefined },
    { digest: "null" },
    { mediaType: undefined },
    { mediaType: "a/c" },
    { sizeBytes: undefined },
    { sizeBytes: 2 },
  ];
  const names = changes.map((change) => positionFileName({ ...POSITION, ...change }));
  assertEquals(new Set(names).size, changes.length);
  for (const name of names) assertMatch(name, /^1{64}@[0-9a-f]{16}$/);
  assertThrows(() => positionFileName({ ...POSITION, diffId: "sha256:../x" }), InputError);
});

Deno.test("decodePosition reads what encodePosition wrote, and names the field that is wrong", () => {
  assertEquals(decodePosition(encodePosition(POSITION_RECORD), "it"), POSITION_RECORD);
  const cases: [field: string, change: object][] = [
    ["position", { position: 1 }],
    ["tree", { tree: null }],
    ["facts", { facts: 7 }],
    ["facts.entries", { facts: { ...POSITION_RECORD.facts, entries: -1 } }],
    ["warnings", { warnings: {} }],
    ["warnings[0].kind", { warnings: [{}] }],
    ["warnings[0].what", { warnings: [{ ...POSITION_RECORD.warnings[0], what: "x" }] }],
  ];
  for (const [field, change] of cases) {
    const bytes = encodeCheckedJson(2, { ...POSITION_RECORD, ...change });
    const error = assertThrows(() => decodePosition(bytes, "it"), InputError);
    assertStringIncludes(error.message, `it: ${field} is `);
  }
});

Deno.test("NotingWarnings counts for the run and notes one a kind, from one taking to the next", () => {
  const target = new Warnings();
  const noting = new NotingWarnings(target, "kind");
  noting.add("a", "/x", "first");
  noting.add("a", "/y", "second", 4);
  noting.add("b", "/z", "third");
  assertEquals(noting.take(), [
    { kind: "a", what: "/x", why: "first", count: 5 },
    { kind: "b", what: "/z", why: "third", count: 1 },
  ]);
  assertEquals(noting.take(), []);
  assertEquals(target.list().map(({ kind, count }) => [kind, count]), [["a", 5], ["b", 1]]);
});

Deno.test("NotingWarnings keeps cases of different layers apart where it is told to", () => {
  const noting = new NotingWarnings(new Warnings(), "case");
  noting.add("a", "layer 1: x", "why");
  noting.add("a", "layer 2: y", "why");
  noting.add("diffIdMismatch", "layer 2", "why");
  const notes = noting.take();
  assertEquals(notesAbout(notes, "layer 1").map(({ what }) => what), ["layer 1: x"]);
  assertEquals(notesAbout(notes, "layer 2").map(({ what }) => what), ["layer 2: y"]);
});

Deno.test("NotingWarnings is as strict as what it passes warnings on to", () => {
  const noting = new NotingWarnings(new Warnings(true), "kind");
  assertEquals(noting.strict, true);
  assertThrows(() => noting.add("a", "/x", "why"), InputError);
});

Deno.test("recorded warnings take the layer's name of the image that they are told for", () => {
  const notes = [
    { kind: "a", what: "/x in layer 1 of 2 at offset 0", why: "w", count: 3 },
    { kind: "b", what: "/$& {layer}", why: "w", count: 1 },
  ];
  const recorded = recordedWarnings(notes, "layer 1 of 2");
  assertEquals(recorded.map(({ what }) => what), [["/x in ", " at offset 0"], ["/$& {layer}"]]);
  const warnings = new Warnings();
  addRecorded(recorded, "layer 5 of 9", warnings);
  assertEquals(warnings.list(), [
    { kind: "a", message: "/x in layer 5 of 9 at offset 0: w", count: 3 },
    { kind: "b", message: "/$& {layer}: w", count: 1 },
  ]);
  assertThrows(() => addRecorded(recorded, "layer 1", new Warnings(true)), InputError);
});

const A = digestOf(new TextEncoder().encode("a"));
const B = digestOf(new TextEncoder().encode("b"));
const C = digestOf(new TextEncoder().encode("c"));

function layers(...diffIds: (string | undefined)[]) {
  return diffIds.map((diffId) => ({ diffId, whiteouts: true }));
}

function sha256(text: string): string {
  return digestOf(new TextEncoder().encode(text));
}

Deno.test("chainKeys gives the chain ids of the image specification", () => {
  const ab = sha256(`${A} ${B}`);
  assertEquals(chainKeys(layers(A, B, C)), [A, ab, sha256(`${ab} ${C}`)]);
  assertEquals(chainKeys([]), []);
});

Deno.test("chainKeys tells a layer without whiteouts from the same with them", () => {
  const [plain, plainTop] = chainKeys([{ diffId: A, whiteouts: false }, {
    diffId: B,
    whiteouts: true,
  }]);
  const [usual, usualTop] = chainKeys(layers(A, B));
  assertNotEquals(plain, usual);
  assertNotEquals(plainTop, usualTop);
});

Deno.test("chainKeys ends where a diff id is not known", () => {
  assertEquals(chainKeys(layers(A, undefined, C)), [A, undefined, undefined]);
});

Deno.test("file names are made of checked digests only", () => {
  assertEquals(layerFileName(A), A.slice("sha256:".length));
  assertEquals(treeFileName(B, A), `${layerFileName(B)}-${A.slice(7, 23)}`);
  assertThrows(() => treeFileName(B, "sha256:../../etc/passwd"), InputError);
  assertThrows(() => layerFileName("sha256:../../etc/passwd"), InputError);
});

Deno.test("contentDigestOf depends on the layers and their order", () => {
  assertEquals(contentDigestOf([A, B]), sha256(`${A}\n${B}\n`));
  assertNotEquals(contentDigestOf([A, B]), contentDigestOf([B, A]));
});

type Layer = readonly SimpleEntry[];

/** Of the tree of the topmost layer; the diff ids of the layers are what they hold. */
function topDigest(...layers: Layer[]): string {
  const diffIds = layers.map((layer) => JSON.stringify(layer));
  const trees = [...overlayTrees(layersOf(layers), treeOptions())];
  return treeDigest(trees.at(-1)!.tree, diffIds.at(-1)!, (i) => diffIds[i]!);
}

const ROOT: SimpleEntry = { path: "./", mode: 0o755 };

Deno.test("treeDigest differs with everything that the image shows", () => {
  const variants: Layer[] = [
    [],
    [{ path: "a", data: "1" }],
    [{ path: "b", data: "1" }],
    [{ path: "a", data: "1", mode: 0o600 }],
    [{ path: "a", data: "1", uid: 1 }],
    [{ path: "a", data: "1", gid: 1 }],
    [{ path: "a", data: "1", mtime: 1 }],
    [{ path: "a", data: "1", xattrs: { "user.a": "1" } }],
    [{ path: "a", data: "1", xattrs: { "user.a": "2" } }],
    [{ path: "a", data: "1" }, { path: "b", data: "1" }],
    [{ path: "a", data: "1" }, { path: "b", kind: "hardlink", link: "a" }],
    [{ path: "a", link: "x" }],
    [{ path: "a", link: "y" }],
    [{ path: "a/" }],
    [{ path: "a", kind: "fifo" }],
  ];
  // One diff id for all: only the trees shall tell them apart.
  const digests = variants.map((layer) => {
    const [{ tree } = { tree: undefined }] = overlayTrees(layersOf([layer]), treeOptions());
    return treeDigest(tree!, "sha256:one", () => "sha256:one");
  });
  assertEquals(new Set(digests).size, variants.length);
});

Deno.test("treeDigest is the same on layers from which nothing is taken, and differs with what is taken", () => {
  const own: Layer = [ROOT, { path: "d/" }, { path: "d/f", data: "1" }];
  const base: Layer = [{ path: "./", mode: 0o700 }, { path: "x", data: "1" }];
  const other: Layer = [{ path: "y", data: "2" }];
  assertEquals(topDigest(base, own), topDigest(own));
  assertEquals(topDigest(other, base, own), topDigest(own));
  const leaning: Layer = [ROOT, { path: "e/f", data: "1" }];
  const on = (mode: number): Layer => [{ path: "e/", mode }];
  assertNotEquals(topDigest(on(0o700), leaning), topDigest(on(0o750), leaning));
  assertEquals(topDigest(on(0o700), leaning), topDigest(base, on(0o700), leaning));
});

Deno.test("treeDigest tells the content of files of lower layers that are taken along", () => {
  const linking: Layer = [ROOT, { path: "h", kind: "hardlink", link: "a" }];
  const below = (data: string): Layer => [{ path: "a", data }];
  assertNotEquals(topDigest(below("1"), linking), topDigest(below("2"), linking));
  assertEquals(
    topDigest(below("1"), linking),
    topDigest([{ path: "b", data: "3" }], below("1"), linking),
  );
});

Deno.test("treeDigest differs with the layer, though the trees be the same", () => {
  const [{ tree } = { tree: undefined }] = overlayTrees(layersOf([[ROOT]]), treeOptions());
  assertNotEquals(treeDigest(tree!, "sha256:a", () => ""), treeDigest(tree!, "sha256:b", () => ""));
});
