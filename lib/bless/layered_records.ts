/**
 * What identifies a layer's image, and the JSON documents beside it. An image is identified by its layer and the layers
 * below, because its tree may depend on them. The digest of the tree shows whether two images of one layer are the
 * same.
 *
 * `NAME.json` beside `NAME.ext4` records the layer, the options and the checksums of an image. `NAME@KEY.json` records
 * the tree that a layer results in at a certain position, so that the layer does not have to be read again.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import type { ByteString } from "../bytes/byte_string.ts";
import { invariant, type OptionDifference } from "../errors.ts";
import { parseDigest } from "../bytes/digest.ts";
import { type FileTree, type TreeNode, walkTree } from "../model/node.ts";
import { compatText } from "../ext4/plan/compat.ts";
import * as v from "valibot";
import {
  checkJson,
  fields,
  inside,
  jsonFault,
  type JsonObject,
  listOf,
  parseJsonObject,
  SIZE_BYTES,
  TEXT,
} from "../source/json.ts";
import type { LayerSource } from "../source/source.ts";
import { Warnings } from "../warnings.ts";
import type { EnvelopeOptions } from "./envelope.ts";
import { journalText, type LayoutOptions, packingText, thresholdText } from "./options.ts";
import type { ImageReport } from "./report.ts";
import { crc32 } from "node:zlib";

/** The facts of a layer that a chain key depends on: its diff id, if known, and whether `.wh.` names are whiteouts. */
export type ChainLink = Pick<LayerSource, "diffId" | "whiteouts">;

/**
 * The chain keys of layers, bottom to top: the ChainID (OCI image-spec, config.md, "Layer ChainID") of each layer and
 * those below. A layer whose `.wh.` names are ordinary files counts as a different layer even if its diff id is the
 * same. Keys are undefined from the first unknown diff id upwards.
 *
 * @param idMaps the owner maps as lines of text
 */
export function chainKeys(
  layers: readonly ChainLink[],
  idMaps: readonly string[] = [],
): (string | undefined)[] {
  // The result of a layer depends on the maps, just as it depends on the layers below.
  let below: string | undefined = idMaps.length === 0 ? "" : sha256(idMaps.join("\n"));
  return layers.map(({ diffId, whiteouts }) => {
    if (diffId === undefined || below === undefined) return below = undefined;
    const own: string = whiteouts ? diffId : sha256(`${diffId} plain`);
    below = below === "" ? own : sha256(`${below} ${own}`);
    return below;
  });
}

/** The name of a layer's image and its record, without extension. */
export function layerFileName(diffId: string): string {
  return parseDigest(diffId, "diff id").hex;
}

const TREE_HEX_DIGITS = 16;

/** The name of an image if its usual name is taken by another tree of the same layer. */
export function treeFileName(diffId: string, treeDigest: string): string {
  const { hex } = parseDigest(treeDigest, "tree digest");
  return `${layerFileName(diffId)}-${hex.slice(0, TREE_HEX_DIGITS)}`;
}

function sha256(text: string): string {
  return `sha256:${createHash("sha256").update(text).digest("hex")}`;
}

/**
 * A digest of everything but the options that determines the bytes of a layer's image: the layer's diff id, every name
 * with its attributes, and which names share an inode. A file's content is identified by its layer and entry, so no
 * payload is read. The position of the layer has no influence.
 *
 * @param diffIdOf the diff id of a layer by its index, from 0 at the bottom
 */
export function treeDigest(
  tree: FileTree,
  diffId: string,
  diffIdOf: (layerIndex: number) => string,
): string {
  const hash = new RecordHash();
  hash.add(["blessfs layer tree 1", diffId]);
  const seen = new Map<TreeNode, number>();
  const ranks = layerRanks(tree);
  for (const { path, node } of walkTree(tree)) {
    const known = seen.get(node);
    if (known !== undefined) {
      hash.add([path, `same ${known}`]);
      continue;
    }
    seen.set(node, seen.size);
    const { mode, uid, gid, mtimeSeconds, mtimeNanoseconds, xattrs } = node.attributes;
    const numbers = `${mode} ${uid} ${gid} ${mtimeSeconds} ${mtimeNanoseconds} ${xattrs.length}`;
    const rank = ranks.get(node.origin.layerIndex) ?? 0;
    hash.add([path, node.kind, numbers, contentOf(node, diffIdOf, rank)]);
    for (const { name, value } of xattrs) hash.add([name], value);
  }
  return hash.digest();
}

/** Numbers the layers that files come from, without gaps. */
function layerRanks(tree: FileTree): Map<number, number> {
  const indexes = new Set<number>();
  const directories = [tree.root];
  for (let directory = directories.pop(); directory; directory = directories.pop()) {
    for (const node of directory.children.values()) {
      if (node.kind === "file") indexes.add(node.origin.layerIndex);
      else if (node.kind === "directory") directories.push(node);
    }
  }
  return new Map([...indexes].sort((a, b) => a - b).map((layerIndex, rank) => [layerIndex, rank]));
}

function contentOf(
  node: TreeNode,
  diffIdOf: (layerIndex: number) => string,
  rank: number,
): ByteString {
  switch (node.kind) {
    case "directory":
      return "";
    case "symlink":
      return node.target;
    case "file":
      return `${diffIdOf(node.origin.layerIndex)} ${rank} ${node.origin.entryIndex}`;
    default:
      return `${node.deviceMajor}:${node.deviceMinor}`;
  }
}

/** Fields are hashed in batches of this size, which is cheaper. */
const HASHED_BYTES = 64 << 10;

/** Hashes fields with their lengths, so that different records never hash to the same bytes. */
class RecordHash {
  readonly #hash = createHash("sha256");
  #text: ByteString = "";

  add(fields: readonly ByteString[], bytes?: Uint8Array): void {
    let lengths = "";
    for (const { length } of fields) lengths += `${length} `;
    this.#text += `${lengths}${bytes?.length ?? "-"}\n${fields.join("")}`;
    if (bytes !== undefined || this.#text.length >= HASHED_BYTES) this.#flush();
    if (bytes !== undefined) this.#hash.update(bytes);
  }

  digest(): string {
    this.#flush();
    return `sha256:${this.#hash.digest("hex")}`;
  }

  #flush(): void {
    invariant(!/[^\0-\xff]/.test(this.#text), "fields are byte strings");
    this.#hash.update(Buffer.from(this.#text, "latin1"));
    this.#text = "";
  }
}

/** The length of the pieces with a checksum each; the last one may be shorter. */
export const CHECKSUM_PIECE_BYTES = 1024 * 1024;

/** The `kind` of `image.json`. */
export const DESCRIPTION_KIND = "blessfs layered image";
/** The file that describes the layers of an image. */
export const DESCRIPTION_FILE = "image.json";

/** The version of the record's fields; `formatVersion` is the version of the image's bytes. */
const RECORD_VERSION = 4;

/** The options that determine the bytes, by key; options that are left out have their defaults. */
export type OptionFacts = Readonly<Record<string, string>>;

/** The options of an image, for its record. */
export function optionFacts(
  layout: LayoutOptions,
  timestampSeconds: number,
  envelope: EnvelopeOptions = {},
): OptionFacts {
  const { size, reservedBlocks, payloadOrder = "path" } = layout;
  return {
    gridBytes: String(layout.gridBytes),
    alignThresholdBytes: thresholdText(layout.alignThresholdBytes),
    packing: packingText(layout.packing),
    size: size.kind === "exact"
      ? "exact"
      : size.kind === "free"
      ? `+${size.freeBytes}`
      : String(size.sizeBytes),
    journalBytes: journalText(layout.journalBytes),
    uuid: layout.uuid?.toLowerCase() ?? "derived",
    label: JSON.stringify(layout.label ?? ""),
    backups: layout.backups,
    inlineData: layout.inlineData ? "yes" : "no",
    metadataChecksums: layout.metadataChecksums ? "yes" : "no",
    compat: compatText(layout.compat ?? []),
    inodeCount: String(layout.inodeCount ?? "derived"),
    reservedBlocks: reservedBlocks.kind === "percent"
      ? `${reservedBlocks.percent}%`
      : String(reservedBlocks.bytes),
    // Only programs can set another order.
    ...payloadOrder === "path" ? {} : { payloadOrder },
    timestamp: String(timestampSeconds),
    ...envelopeFacts(envelope),
  };
}

/** The value of the fact `verity` when each tree is in a file beside its image. */
export const BESIDE = "beside";

/** Empty for an image without an envelope, so that its record stays unchanged. */
function envelopeFacts({ verity, vhd, disk }: EnvelopeOptions): OptionFacts {
  return {
    ...verity === undefined ? {} : {
      verity: verity.beside ? BESIDE : "append",
      veritySalt: verity.randomSalt ? "random" : Buffer.from(verity.salt).toString("hex"),
    },
    // Partitions have no footer; only the disk does.
    ...vhd && disk === undefined ? { vhd: "yes" } : {},
  };
}

export function optionDifferences(found: OptionFacts, wanted: OptionFacts): OptionDifference[] {
  return [...new Set([...Object.keys(wanted), ...Object.keys(found)])]
    .filter((option) => found[option] !== wanted[option])
    .map((option) => ({
      option,
      found: found[option] ?? "default",
      wanted: wanted[option] ?? "default",
    }));
}

/** The fields of an image's figures. */
export const IMAGE_COUNTS = {
  sizeBytes: SIZE_BYTES,
  usedBytes: SIZE_BYTES,
  files: SIZE_BYTES,
  directories: SIZE_BYTES,
  symlinks: SIZE_BYTES,
  specialFiles: SIZE_BYTES,
  inodes: SIZE_BYTES,
  freeInodes: SIZE_BYTES,
  alignedFiles: SIZE_BYTES,
  paddingBytes: SIZE_BYTES,
  cellBytes: SIZE_BYTES,
} satisfies Record<keyof Omit<ImageReport, "uuid">, v.GenericSchema>;

/** The length and checksums of a complete file, one checksum per piece; holes count as zeros. */
const CHECKSUMS = v.pipe(
  fields({ sizeBytes: SIZE_BYTES, crc32s: listOf(SIZE_BYTES) }),
  v.check(
    ({ sizeBytes, crc32s }) => crc32s.length === Math.ceil(sizeBytes / CHECKSUM_PIECE_BYTES),
    "one checksum for each MiB",
  ),
);

export type FileChecksums = v.InferOutput<typeof CHECKSUMS>;

/**
 * A warning about one layer. `what` is either one text, or two texts that surround the name of the layer, which differs
 * from source to source.
 */
const WARNING = fields({ kind: TEXT, what: listOf(TEXT), why: TEXT, count: SIZE_BYTES });

type LayerWarning = v.InferOutput<typeof WARNING>;

const RECORD = fields({
  /** The FORMAT_VERSION of the program that made the image. */
  formatVersion: SIZE_BYTES,
  diffId: TEXT,
  /** The digest of the layer's tree. */
  tree: TEXT,
  options: v.record(TEXT, TEXT, "an object"),
  checksums: CHECKSUMS,
  /** The checksums of the hash tree's file; left out when the tree is behind the image. */
  hashFile: v.optional(CHECKSUMS),
  image: fields({ uuid: TEXT, ...IMAGE_COUNTS }),
  verity: v.optional(fields({
    rootHash: TEXT,
    salt: TEXT,
    uuid: TEXT,
    dataBlocks: SIZE_BYTES,
    hashOffset: SIZE_BYTES,
    hashBytes: SIZE_BYTES,
  })),
  /** The previous image, identified by its file name. */
  like: v.optional(fields({
    previous: TEXT,
    digest: TEXT,
    keptFiles: SIZE_BYTES,
    placedFiles: SIZE_BYTES,
    staleBytes: SIZE_BYTES,
    staleCleared: v.nullable(TEXT),
    afresh: v.nullable(TEXT),
    cells: fields({ kept: SIZE_BYTES, changed: SIZE_BYTES, new: SIZE_BYTES }),
  })),
  /** The warnings from making the image. */
  warnings: listOf(WARNING),
});

/** The record of an image. It depends only on the tree, the options and the previous image. */
export type LayerRecord = v.InferOutput<typeof RECORD>;

export function encodeRecord(record: LayerRecord): Uint8Array {
  return encodeCheckedJson(RECORD_VERSION, record);
}

/** Decodes a record. @throws {InputError} when it is damaged or has another version */
export function decodeRecord(bytes: Uint8Array, what: string): LayerRecord {
  return checkJson(RECORD, decodeCheckedJson(bytes, RECORD_VERSION, what), { what, field: "" });
}

/** Raised whenever the same layers result in other trees or warnings. */
const POSITION_VERSION = 2;
const KEY_HEX_DIGITS = 16;

/** A layer and its position in a source, which determine its tree and its warnings. */
export interface LayerPosition {
  readonly diffId: string;
  /** The chain key of the layer and those below. */
  readonly chainKey: string;
  /** The digest of the stored bytes; undefined if the source does not state it. */
  readonly digest: string | undefined;
  readonly mediaType: string | undefined;
  readonly sizeBytes: number | undefined;
}

const POSITION = fields({
  /** Its {@link positionKey}. */
  position: TEXT,
  /** The digest of the layer's tree. */
  tree: TEXT,
  /** Facts found when the layer was read. */
  facts: fields({
    /** The digest of the stored bytes. */
    digest: TEXT,
    sizeBytes: SIZE_BYTES,
    uncompressedBytes: SIZE_BYTES,
    entries: SIZE_BYTES,
  }),
  /** The warnings from reading and applying the layer. */
  warnings: listOf(WARNING),
});

/** The record of a layer at a position. It depends only on the source. */
export type PositionRecord = v.InferOutput<typeof POSITION>;

export function positionKey(position: LayerPosition): string {
  const { diffId, chainKey, digest, mediaType, sizeBytes } = position;
  return JSON.stringify([diffId, chainKey, digest ?? null, mediaType ?? null, sizeBytes ?? null]);
}

/** The name of a position's record, without extension. */
export function positionFileName(position: LayerPosition): string {
  const hex = createHash("sha256").update(positionKey(position)).digest("hex");
  return `${layerFileName(position.diffId)}@${hex.slice(0, KEY_HEX_DIGITS)}`;
}

export function encodePosition(record: PositionRecord): Uint8Array {
  return encodeCheckedJson(POSITION_VERSION, record);
}

/** Decodes the record of a position. @throws {InputError} when it is damaged or has another version */
export function decodePosition(bytes: Uint8Array, what: string): PositionRecord {
  return checkJson(POSITION, decodeCheckedJson(bytes, POSITION_VERSION, what), { what, field: "" });
}

interface NotedWarning extends Omit<LayerWarning, "what"> {
  readonly what: string;
}

/** Kinds of warnings that concern the source, not the content of the layer. */
const SOURCE_KINDS: ReadonlySet<string> = new Set(["diffIdMismatch"]);

/** Passes warnings on and notes them for the records. */
export class NotingWarnings extends Warnings {
  readonly #target: Warnings;
  readonly #isByKind: boolean;
  #notes = new Map<string, NotedWarning>();

  /** @param grouping `kind`: one note per kind, with its first case, as in reports; `case`: one note per case */
  constructor(target: Warnings, grouping: "kind" | "case") {
    super(target.strict);
    this.#target = target;
    this.#isByKind = grouping === "kind";
  }

  override add(kind: string, what: string, why: string, count = 1): void {
    this.#target.add(kind, what, why, count);
    const key = this.#isByKind ? kind : `${kind} ${what}`;
    const known = this.#notes.get(key);
    this.#notes.set(key, { kind, what, why, ...known, count: (known?.count ?? 0) + count });
  }

  /** The notes since the last call. */
  take(): NotedWarning[] {
    const notes = [...this.#notes.values()];
    this.#notes = new Map();
    return notes;
  }
}

/** The notes that name a layer, except those about the source itself. */
export function notesAbout(notes: readonly NotedWarning[], layerName: string): NotedWarning[] {
  return notes.filter(({ kind, what }) => what.includes(layerName) && !SOURCE_KINDS.has(kind));
}

/** Notes in recorded form, without the name that the layer has in this source. */
export function recordedWarnings(
  notes: readonly NotedWarning[],
  layerName: string,
): LayerWarning[] {
  return notes.map(({ what, ...note }) => {
    const at = what.indexOf(layerName);
    if (at < 0) return { ...note, what: [what] };
    return { ...note, what: [what.slice(0, at), what.slice(at + layerName.length)] };
  });
}

/**
 * Adds the warnings of a record, inserting the name that the layer has in this source. Under `strict`, the first one
 * throws.
 */
export function addRecorded(
  recorded: readonly LayerWarning[],
  layerName: string,
  warnings: Warnings,
): void {
  for (const { kind, what, why, count } of recorded) {
    warnings.add(kind, what.join(layerName), why, count);
  }
}

/** Encodes a document; equal documents give equal bytes. */
export function encodeCheckedJson(version: number, document: object): Uint8Array {
  const body = { version, ...document };
  return Buffer.from(`${JSON.stringify({ ...body, crc32: crc32(JSON.stringify(body)) })}\n`);
}

/** Decodes a document. @throws {InputError} when it is damaged or has another version */
export function decodeCheckedJson(bytes: Uint8Array, version: number, what: string): JsonObject {
  const { crc32: checksum, ...body } = parseJsonObject(bytes, what);
  const place = { what, field: "" };
  const { version: found } = body;
  if (found !== version) throw jsonFault(inside(place, "version"), found, String(version));
  const computed = crc32(JSON.stringify(body));
  if (computed !== checksum) {
    throw jsonFault(inside(place, "crc32"), checksum, `${computed}, the checksum of the rest`);
  }
  return body;
}
