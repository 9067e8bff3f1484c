/**
 * What identifies the image of a layer, and the JSON documents beside it. Its identity is that of the layers below, because
 * its tree may depend on them, and the digest of its tree, which says whether two images of one layer are the same.
 *
 * `NAME.json` beside `NAME.ext4` records the layer, the options and the checksums of an image. `NAME@KEY.json` records which
 * tree a layer gives in a certain position, so that it need not be read again.
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

/** What a chain needs to know of a layer: its diff id, where that is known, and whether `.wh.` names are whiteouts. */
export type ChainLink = Pick<LayerSource, "diffId" | "whiteouts">;

/**
 * The chain keys of layers, bottom to top: the ChainID (OCI image-spec, config.md, "Layer ChainID") of the layer and all
 * below. A layer whose `.wh.` names are ordinary files is a different layer even if its diff id is the same. From the
 * first unknown diff id on, the keys are undefined.
 *
 * @param idMaps the maps of owners as lines
 */
export function chainKeys(
  layers: readonly ChainLink[],
  idMaps: readonly string[] = [],
): (string | undefined)[] {
  // What a layer shows depends on the maps, as it does on what is below.
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

/** The name of an image whose usual name is taken by another tree of the same layer. */
export function treeFileName(diffId: string, treeDigest: string): string {
  const { hex } = parseDigest(treeDigest, "tree digest");
  return `${layerFileName(diffId)}-${hex.slice(0, TREE_HEX_DIGITS)}`;
}

function sha256(text: string): string {
  return `sha256:${createHash("sha256").update(text).digest("hex")}`;
}

/**
 * A digest of everything except the options that decides the bytes of a layer's image: the layer's diff id, every name
 * with its attributes, and which names share an inode. The content of a file is identified by its layer and entry, so no
 * payload is read. The layer's position has no influence.
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

/** Hashing many bytes at once is cheaper. */
const HASHED_BYTES = 64 << 10;

/** Hashes fields with their lengths, so that different records never hash the same bytes. */
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

/** The length of a piece of an image; the last may be shorter. */
export const CHECKSUM_PIECE_BYTES = 1024 * 1024;

/** What `image.json` says that it is. */
export const DESCRIPTION_KIND = "blessfs layered image";
/** The file that describes the layers of an image. */
export const DESCRIPTION_FILE = "image.json";

/** Version of the record's fields; `formatVersion` is that of the image's bytes. */
const RECORD_VERSION = 4;

/** The options that decide the bytes, by their keys; those left out have their defaults. */
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
    // Only programs can ask for another one.
    ...payloadOrder === "path" ? {} : { payloadOrder },
    timestamp: String(timestampSeconds),
    ...envelopeFacts(envelope),
  };
}

/** Of the fact `verity`: each tree is in a file beside its image. */
export const BESIDE = "beside";

/** Nothing for an image without an envelope, so that its record stays as it was. */
function envelopeFacts({ verity, vhd, disk }: EnvelopeOptions): OptionFacts {
  return {
    ...verity === undefined ? {} : {
      verity: verity.beside ? BESIDE : "append",
      veritySalt: verity.randomSalt ? "random" : Buffer.from(verity.salt).toString("hex"),
    },
    // The partitions leave out the footer of the disk.
    ...vhd && disk === undefined ? { vhd: "yes" } : {},
  };
}

/** Which options differ. */
export function optionDifferences(found: OptionFacts, wanted: OptionFacts): OptionDifference[] {
  return [...new Set([...Object.keys(wanted), ...Object.keys(found)])]
    .filter((option) => found[option] !== wanted[option])
    .map((option) => ({
      option,
      found: found[option] ?? "default",
      wanted: wanted[option] ?? "default",
    }));
}

/** The figures of an image. */
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

/** The length and checksums of a complete file: one for each piece; holes count as zeros. */
const CHECKSUMS = v.pipe(
  fields({ sizeBytes: SIZE_BYTES, crc32s: listOf(SIZE_BYTES) }),
  v.check(
    ({ sizeBytes, crc32s }) => crc32s.length === Math.ceil(sizeBytes / CHECKSUM_PIECE_BYTES),
    "one checksum for each MiB",
  ),
);

export type FileChecksums = v.InferOutput<typeof CHECKSUMS>;

/**
 * A warning that belongs to one layer. `what` is one text, or two with the name of the layer between them: the name differs
 * from source to source.
 */
const WARNING = fields({ kind: TEXT, what: listOf(TEXT), why: TEXT, count: SIZE_BYTES });

type LayerWarning = v.InferOutput<typeof WARNING>;

const RECORD = fields({
  /** FORMAT_VERSION of the program that made the image. */
  formatVersion: SIZE_BYTES,
  diffId: TEXT,
  /** The digest of its tree. */
  tree: TEXT,
  options: v.record(TEXT, TEXT, "an object"),
  checksums: CHECKSUMS,
  /** Of the file of the hash tree; left out when the tree is behind the image. */
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
  /** Of the image that it was laid out like, by the name of its file. */
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
  /** What was warned of when it was made. */
  warnings: listOf(WARNING),
});

/** The record of an image. It depends only on the tree, the options and the image that it was laid out like. */
export type LayerRecord = v.InferOutput<typeof RECORD>;

/** The bytes of a record. */
export function encodeRecord(record: LayerRecord): Uint8Array {
  return encodeCheckedJson(RECORD_VERSION, record);
}

/** Reads a record. @throws {InputError} when it is damaged, or of another version */
export function decodeRecord(bytes: Uint8Array, what: string): LayerRecord {
  return checkJson(RECORD, decodeCheckedJson(bytes, RECORD_VERSION, what), { what, field: "" });
}

/** Raised whenever layers begin to result in other trees or warnings. */
const POSITION_VERSION = 2;
const KEY_HEX_DIGITS = 16;

/** A layer and its position in a source: what decides its tree and its warnings. */
export interface LayerPosition {
  readonly diffId: string;
  /** The chain key of the layer and those below. */
  readonly chainKey: string;
  /** Of the stored bytes; undefined if the source states none. */
  readonly digest: string | undefined;
  readonly mediaType: string | undefined;
  readonly sizeBytes: number | undefined;
}

const POSITION = fields({
  /** Its {@link positionKey}. */
  position: TEXT,
  /** The digest of its tree. */
  tree: TEXT,
  /** What was found out about the layer while it was read. */
  facts: fields({
    /** Of the stored bytes. */
    digest: TEXT,
    sizeBytes: SIZE_BYTES,
    uncompressedBytes: SIZE_BYTES,
    entries: SIZE_BYTES,
  }),
  /** From reading and applying the layer. */
  warnings: listOf(WARNING),
});

/** What was recorded of a layer in a position. It depends only on the source. */
export type PositionRecord = v.InferOutput<typeof POSITION>;

/** A position as text. */
export function positionKey(position: LayerPosition): string {
  const { diffId, chainKey, digest, mediaType, sizeBytes } = position;
  return JSON.stringify([diffId, chainKey, digest ?? null, mediaType ?? null, sizeBytes ?? null]);
}

/** The name of the record of a position, without extension. */
export function positionFileName(position: LayerPosition): string {
  const hex = createHash("sha256").update(positionKey(position)).digest("hex");
  return `${layerFileName(position.diffId)}@${hex.slice(0, KEY_HEX_DIGITS)}`;
}

/** The bytes of the record of a position. */
export function encodePosition(record: PositionRecord): Uint8Array {
  return encodeCheckedJson(POSITION_VERSION, record);
}

/** Reads the record of a position. @throws {InputError} when it is damaged, or of another version */
export function decodePosition(bytes: Uint8Array, what: string): PositionRecord {
  return checkJson(POSITION, decodeCheckedJson(bytes, POSITION_VERSION, what), { what, field: "" });
}

/** A warning as it was added. */
interface NotedWarning extends Omit<LayerWarning, "what"> {
  readonly what: string;
}

/** Warnings about the source rather than about the content of the layer. */
const SOURCE_KINDS: ReadonlySet<string> = new Set(["diffIdMismatch"]);

/** Passes warnings on, and keeps notes of them for the records. */
export class NotingWarnings extends Warnings {
  readonly #target: Warnings;
  readonly #isByKind: boolean;
  #notes = new Map<string, NotedWarning>();

  /** @param grouping `kind`: one note for each kind, with its first case, as in reports; `case`: one for each case */
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

/** The notes that name a layer, without those about the source itself. */
export function notesAbout(notes: readonly NotedWarning[], layerName: string): NotedWarning[] {
  return notes.filter(({ kind, what }) => what.includes(layerName) && !SOURCE_KINDS.has(kind));
}

/** Notes as they are recorded, without the name that the layer has in this source. */
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

/** Adds the warnings of a record, with the name that the layer has in this source. Under `strict` the first throws. */
export function addRecorded(
  recorded: readonly LayerWarning[],
  layerName: string,
  warnings: Warnings,
): void {
  for (const { kind, what, why, count } of recorded) {
    warnings.add(kind, what.join(layerName), why, count);
  }
}

/** The bytes of a document; equal documents give equal bytes. */
export function encodeCheckedJson(version: number, document: object): Uint8Array {
  const body = { version, ...document };
  return Buffer.from(`${JSON.stringify({ ...body, crc32: crc32(JSON.stringify(body)) })}\n`);
}

/** Reads a document. @throws {InputError} when it is damaged, or of another version */
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
