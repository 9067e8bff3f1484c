/**
 * Converts a tree back to a tar or an OCI layer, reversing overlay.ts: produces the entries and writes them.
 *
 * @module
 */
import { setImmediate } from "node:timers/promises";
import { type ByteString, displayName } from "../bytes/byte_string.ts";
import { InputError, throwIfAborted } from "../errors.ts";
import type { ImageSink } from "../io/sink.ts";
import {
  BLOCK_SIZE_BYTES,
  type FileTree,
  type NodeAttributes,
  type Payload,
  type PayloadIndex,
  readPayload,
  type TreeNode,
  walkTree,
  wholeSegment,
  type Xattr,
} from "../model/node.ts";
import type { Progress } from "../progress.ts";
import { bareEntry, type TarEntry } from "../tar/entry.ts";
import { type EncodedTarEntry, encodeTarEntry, END_OF_ARCHIVE_SIZE_BYTES } from "../tar/writer.ts";
import { isWhiteoutDevice, sortXattrs } from "./layer.ts";
import { ESCAPED_PREFIX, OPAQUE_NAME, PRIVATE_PREFIX } from "./overlay.ts";
import { OPAQUE_MARKER, WHITEOUT_PREFIX } from "./whiteouts.ts";
import type { Warnings } from "../warnings.ts";

/** An entry to write to a tar. */
export interface TarItem {
  readonly entry: Omit<TarEntry, "headerOffset">;
  /** A file's content; undefined for other entries. */
  readonly payload: Payload | undefined;
}

/** The path of the root's own entry. */
export const ROOT_ENTRY_PATH = "./";

/**
 * All entries of a tree: directories before their children, names in byte order. A node's first name is its entry; the
 * others are hard links. Sockets, which tar cannot represent, are left out with a warning (`skippedSocket`).
 */
export function* treeItems(tree: FileTree, warnings: Warnings): Generator<TarItem> {
  const namer = new NodeNamer(warnings);
  for (const { path, node } of walkTree(tree)) {
    const item = namer.itemOf(path, node);
    if (item !== undefined) yield item;
  }
}

/** Turns nodes into entries and keeps track of each node's first name. */
export class NodeNamer {
  readonly #warnings: Warnings;
  readonly #firstPaths = new Map<TreeNode, ByteString>();

  constructor(warnings: Warnings) {
    this.#warnings = warnings;
  }

  /** @param path each component preceded by a slash; empty for the root */
  itemOf(path: ByteString, node: TreeNode): TarItem | undefined {
    if (node.kind === "socket") {
      this.#warnings.add("skippedSocket", displayName(path), "a tar cannot hold sockets: left out");
      return undefined;
    }
    const entryPath = path === "" ? ROOT_ENTRY_PATH : path.slice(1);
    const first = this.#firstPaths.get(node);
    if (first !== undefined) {
      const link = entryOf(node, entryPath);
      return {
        entry: { ...link, kind: "hardlink", linkTarget: first, xattrs: [], payload: undefined },
        payload: undefined,
      };
    }
    if (node.kind !== "directory") this.#firstPaths.set(node, entryPath);
    if (node.kind !== "file") return { entry: entryOf(node, entryPath), payload: undefined };
    const { payload, firstLayer = 0 } = node;
    const entry = entryOf(node, entryPath);
    const hasPlace = firstLayer > 0 && payload.segments.length > 0;
    return { entry: { ...entry, payload, ...hasPlace ? { firstLayer } : {} }, payload };
  }
}

function entryOf(node: TreeNode, path: ByteString): TarItem["entry"] {
  const isDirectory = node.kind === "directory";
  const isDevice = node.kind === "characterDevice" || node.kind === "blockDevice";
  const entry = bareEntry(
    node.kind === "socket" ? "fifo" : node.kind,
    isDirectory && !path.endsWith("/") ? `${path}/` : path,
  );
  return {
    ...entry,
    ...node.attributes,
    linkTarget: node.kind === "symlink" ? node.target : "",
    ...isDevice ? { deviceMajor: node.deviceMajor, deviceMinor: node.deviceMinor } : {},
  };
}

/** The whiteout of a name. `path` begins with a slash. */
export function whiteoutItem(path: ByteString): TarItem {
  refuseMarkerName(path);
  const split = path.lastIndexOf("/") + 1;
  return markerItem(`${path.slice(0, split)}${WHITEOUT_PREFIX}${path.slice(split)}`);
}

/** The opaque marker of a directory. `path` begins with a slash; the root's path is empty. */
export function opaqueItem(path: ByteString): TarItem {
  refuseMarkerName(path);
  return markerItem(`${path}/${OPAQUE_MARKER}`);
}

/** Throws an InputError if a layer cannot contain the path because one of its names would be a whiteout. */
export function refuseMarkerName(path: ByteString): void {
  if (!path.includes(`/${WHITEOUT_PREFIX}`)) return;
  throw new InputError(
    displayName(path),
    `a layer cannot contain names that begin with ${WHITEOUT_PREFIX}: they would be whiteouts`,
    { code: "notStorable" },
  );
}

function markerItem(path: ByteString): TarItem {
  return { entry: bareEntry("file", path.slice(1)), payload: undefined };
}

/**
 * All entries of a layer. Character devices 0:0 become whiteouts, directories with `trusted.overlay.opaque` get an opaque
 * marker, and escaped attributes get their original names back.
 *
 * @throws InputError for names that begin with `.wh.`, and for other private attributes of overlayfs
 */
export function* layerItems(tree: FileTree, warnings: Warnings): Generator<TarItem> {
  const namer = new NodeNamer(warnings);
  for (const { path, node } of walkTree(tree)) {
    if (isWhiteoutDevice(node)) {
      yield whiteoutItem(path);
      continue;
    }
    refuseMarkerName(path);
    const item = namer.itemOf(path, node);
    if (item === undefined) continue;
    const { xattrs, isOpaque } = plainXattrs(node, path);
    yield item.entry.kind === "hardlink" ? item : { ...item, entry: { ...item.entry, xattrs } };
    if (isOpaque) yield opaqueItem(path);
  }
}

function plainXattrs(
  node: TreeNode,
  path: ByteString,
): { readonly xattrs: NodeAttributes["xattrs"]; readonly isOpaque: boolean } {
  const { xattrs } = node.attributes;
  if (!xattrs.some(({ name }) => name.startsWith(PRIVATE_PREFIX))) {
    return { xattrs, isOpaque: false };
  }
  let isOpaque = false;
  const plain: Xattr[] = [];
  for (const { name, value } of xattrs) {
    if (name.startsWith(ESCAPED_PREFIX)) {
      plain.push({ name: PRIVATE_PREFIX + name.slice(ESCAPED_PREFIX.length), value });
    } else if (name === OPAQUE_NAME && node.kind === "directory" && value[0] === 0x79) {
      isOpaque = true;
    } else if (name.startsWith(PRIVATE_PREFIX)) {
      throw new InputError(
        displayName(path),
        `its attribute ${displayName(name)} has no meaning in a layer`,
        { code: "notStorable", remedies: [{ option: "layer", change: "omit" }] },
      );
    } else plain.push({ name, value });
  }
  return { xattrs: sortXattrs(plain), isOpaque };
}

/** In a layer, files with up to this many bytes of holes are written with zeros. */
export const LAYER_HOLE_BYTES_MAX = 64 << 20;

/** Options for writing a tar. */
export interface WriteTarOptions {
  /** A comment on the whole tar, stored in its first entry. */
  readonly comment?: ByteString | undefined;
  /**
   * Files with more bytes of holes than this are written sparse, others with zeros. Layers should not contain sparse files
   * (OCI image-spec, layer.md), but a hole of a terabyte must not be written out.
   */
  readonly denseHoleBytesMax: number;
  readonly signal?: AbortSignal | undefined;
  readonly progress: Progress;
}

const PIECE_BYTES = 1 << 20;
const YIELD_AFTER_BYTES = 8 << 20;

/**
 * Writes a whole tar and finishes the sink.
 *
 * @returns the length of the tar in bytes
 * @throws InputError if a payload cannot be read
 */
export async function writeTar(
  items: Iterable<TarItem>,
  sink: ImageSink,
  options: WriteTarOptions,
): Promise<number> {
  const writer = new TarWriter(sink, options);
  try {
    for (const item of items) await writer.add(item);
    return await writer.finish();
  } finally {
    writer.end();
  }
}

class TarWriter {
  readonly #sink: ImageSink;
  readonly #options: WriteTarOptions;
  readonly #bar;
  readonly #buffer = new Uint8Array(PIECE_BYTES);
  #offset = 0;
  #sinceYieldBytes = 0;

  constructor(sink: ImageSink, options: WriteTarOptions) {
    this.#sink = sink;
    this.#options = options;
    this.#bar = options.progress.begin("tar");
  }

  async write(bytes: Uint8Array): Promise<void> {
    await this.#sink.write(bytes, this.#offset);
    this.#offset += bytes.length;
    this.#bar.advance(bytes.length);
    this.#sinceYieldBytes += bytes.length;
    if (this.#sinceYieldBytes < YIELD_AFTER_BYTES) return;
    this.#sinceYieldBytes = 0;
    await setImmediate();
    throwIfAborted(this.#options.signal);
  }

  async add({ entry, payload }: TarItem): Promise<void> {
    const comment = this.#offset === 0 ? this.#options.comment : undefined;
    if (payload === undefined) return await this.write(encodeTarEntry(entry, comment).head);
    const index = this.#indexOf(payload);
    const encoded = encodeTarEntry({ ...entry, payload: index }, comment);
    await this.write(encoded.head);
    await this.#copy(payload, encoded);
    if (encoded.paddingSizeBytes > 0) await this.write(new Uint8Array(encoded.paddingSizeBytes));
  }

  async finish(): Promise<number> {
    await this.write(new Uint8Array(END_OF_ARCHIVE_SIZE_BYTES));
    throwIfAborted(this.#options.signal);
    await this.#sink.finish(this.#offset);
    return this.#offset;
  }

  end(): void {
    this.#bar.end();
  }

  #indexOf(payload: Payload): PayloadIndex {
    const { sizeBytes, dataRuns } = payload;
    // Blocks of zeros become holes regardless of the source, so that equal content gives equal tars.
    const data = dataRuns.map(({ startBlock, blockCount }) => {
      const fileOffset = startBlock * BLOCK_SIZE_BYTES;
      const end = Math.min(fileOffset + blockCount * BLOCK_SIZE_BYTES, sizeBytes);
      return { fileOffset, storeOffset: 0, lengthBytes: end - fileOffset };
    });
    const stored = data.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0);
    const isDense = sizeBytes - stored <= this.#options.denseHoleBytesMax;
    const segments = isDense ? wholeSegment(sizeBytes) : data;
    return { sizeBytes, segments, dataRuns, contentHash: 0 };
  }

  async #copy(payload: Payload, { storedRanges }: EncodedTarEntry): Promise<void> {
    for (const { fileOffset, lengthBytes } of storedRanges) {
      for (let done = 0; done < lengthBytes; done += PIECE_BYTES) {
        const piece = this.#buffer.subarray(0, Math.min(PIECE_BYTES, lengthBytes - done));
        readPayload(payload, piece, fileOffset + done);
        await this.write(piece);
      }
    }
  }
}
