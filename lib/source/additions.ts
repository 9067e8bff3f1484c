/**
 * What is added to an image: local files and trees, and tars, as one more layer. The layer is an ordinary tar, written to a
 * temporary file first so that its digest is known.
 *
 * @module
 */
import { createReadStream, fstatSync, type Stats } from "node:fs";
import { setImmediate } from "node:timers/promises";
import { tmpdir } from "node:os";
import { basename, dirname } from "node:path";
import process from "node:process";
import { type ByteString, byteStringFromText, displayName } from "../bytes/byte_string.ts";
import { InputError, throwIfAborted, UsageError } from "../errors.ts";
import { Digester } from "../bytes/digest.ts";
import { realPathOf, statIfThere } from "../io/paths.ts";
import {
  descriptorReader,
  missingInput,
  type RandomReader,
  SharedDescriptor,
} from "../io/random_reader.ts";
import type { ImageSink } from "../io/sink.ts";
import { createUnlinkedFile, singleFile, SpoolWriter } from "../io/spool.ts";
import { displayPath } from "../io/system_error.ts";
import { BLOCK_SIZE_BYTES, runFromStart, wholeSegment } from "../model/node.ts";
import { bareEntry, normalizeMemberPath, type TarEntry } from "../tar/entry.ts";
import { LAYER_HOLE_BYTES_MAX, refuseMarkerName, type TarItem, writeTar } from "../tree/tar.ts";
import { buildTree, growingTree } from "../tree/build.ts";
import { diffTrees } from "../tree/diff.ts";
import { excludeFrom, parsePatterns } from "../tree/exclude.ts";
import { isMarkerPath } from "../tree/whiteouts.ts";
import type { AddedEntries, TreeLayer } from "../tree/layer.ts";
import { Warnings } from "../warnings.ts";
import {
  contentFault,
  inflatedHead,
  isTarHeader,
  isZeroLed,
  openSourceFile,
  type SourceFile,
  spoolStream,
  storedPart,
} from "./source_file.ts";
import { closeLayers, loadAlone, loadLayers, reportWarnings } from "./layers/load_layers.ts";
import { type HostMember, tarOfHost } from "./rootfs.ts";
import {
  type AddedReport,
  type Addition,
  type AdditionsReport,
  type AddPath,
  type AddTar,
  type LayerSource,
  type LoadedLayer,
  type OpenedImage,
  type ResolvedOptions,
  type StoredBytes,
  treeOptions,
} from "./types.ts";
import { once, treeLayer } from "./tree_image.ts";

const LAYER_NAME = "the additions";

/** An entry of the layer, with the rule for entries added by path; entries from tars have none. */
interface AddedItem extends TarItem {
  readonly rule?: "describe" | "create";
}

interface ReadAddition {
  readonly report: AddedReport;
  readonly items: readonly AddedItem[];
  /** The payload's store, valid until `close`. */
  readonly store: RandomReader;
  /** Throws if the file has changed since it was read. */
  readonly checkUnchanged?: () => void;
  readonly close: () => void;
}

/** Adds the options' additions to an image, which is closed on failure. */
export async function withAdditions(
  image: OpenedImage,
  options: ResolvedOptions,
): Promise<OpenedImage> {
  const { additions = [] } = options;
  if (additions.length === 0) return image;
  const read: ReadAddition[] = [];
  let below = image;
  try {
    for (const addition of additions) {
      if (addition.kind === "tar") read.push(await readTar(addition, options));
      if (addition.kind === "path") read.push(await readPath(addition, options));
    }
    const added = read.map(({ report }) => report);
    const checkUnchanged = () => read.forEach((addition) => addition.checkUnchanged?.());
    if (!needTurns(additions, read)) {
      const items = read.flatMap(({ items }) => items);
      return await onTop(image, { items, added, excludedNames: 0, checkUnchanged }, options);
    }
    const loaded = await loadBelow(image, options);
    below = loaded.image;
    const content = await excluded(additions, read, loaded.layers, options);
    return await onTop(below, { ...content, added, checkUnchanged }, options);
  } catch (error) {
    below.close();
    throw error;
  } finally {
    for (const { close } of read) close();
  }
}

/**
 * Whether the additions must be applied to the image one by one: a layer cannot remove what it adds itself, and which names
 * a pattern matches depends on the image.
 */
function needTurns(additions: readonly Addition[], read: readonly ReadAddition[]): boolean {
  return additions.some(({ kind }) => kind === "exclude") ||
    read.slice(1).some(({ items }) => items.some(({ entry }) => isMarkerPath(entry.path)));
}

/** The image with its layers loaded. Layers that are never taken are closed with the image. */
async function loadBelow(
  image: OpenedImage,
  options: ResolvedOptions,
): Promise<{ readonly image: OpenedImage; readonly layers: readonly LoadedLayer[] }> {
  // A later load warns if a tree looks like an archive, and maps owners.
  const asImage = { ...image, kind: "oci" as const };
  const layers = await loadLayers(asImage, { ...options, uidMap: undefined, gidMap: undefined });
  const untaken = new Set(layers);
  const loaded = {
    ...image,
    layers: image.layers.map((source, i): LayerSource => {
      const layer = layers[i]!;
      const take = () => {
        untaken.delete(layer);
        return layer;
      };
      return { ...source, stored: { kind: "loaded", take } };
    }),
    close: once(() => {
      closeLayers([...untaken]);
      image.close();
    }),
  };
  return { image: loaded, layers };
}

/** The layer equivalent to all additions and patterns: the difference between the trees before and after them. */
async function excluded(
  additions: readonly Addition[],
  read: readonly ReadAddition[],
  layers: readonly LoadedLayer[],
  options: ResolvedOptions,
): Promise<{ readonly items: readonly TarItem[]; readonly excludedNames: number }> {
  const { warnings, signal } = options;
  const unmapped = { ...options, uidMap: undefined, gidMap: undefined };
  // The image's layers are applied again later, with warnings.
  const silent = treeOptions({ ...unmapped, warnings: new Warnings() });
  const before = buildTree(layers, silent);
  const { tree, apply } = growingTree(layers, silent);
  const pending = [...read];
  let excludedNames = 0;
  for (let at = 0; at < additions.length;) {
    const patterns: string[] = [];
    for (let next = additions[at]; next?.kind === "exclude"; next = additions[++at]) {
      patterns.push(next.pattern);
    }
    if (patterns.length > 0) {
      const outcome = await excludeFrom(tree, await parsePatterns(patterns), signal);
      excludedNames += outcome.removedNames;
      const why = "matches nothing in the image, and excludes nothing";
      for (const pattern of outcome.unmatched) warnings.add("unmatchedPattern", pattern, why);
    } else {
      apply(layerOf(pending.shift()!), warnings);
      at++;
    }
    await setImmediate();
    throwIfAborted(signal);
  }
  const { items } = await diffTrees(before, tree, { warnings: new Warnings(), signal });
  return {
    items: items.map(({ entry, payload }) => ({ entry: withoutFirstLayer(entry), payload })),
    excludedNames,
  };
}

/** Numbers of first layers have no meaning in another image. */
function withoutFirstLayer({ firstLayer: _, ...entry }: TarItem["entry"]): TarItem["entry"] {
  return entry;
}

/** Turns one addition into a layer of its own; entry indexes identify the payload. */
function layerOf({ items, store }: ReadAddition): TreeLayer {
  const entries = items.map(({ entry }, i) => ({ ...entry, headerOffset: i }));
  return { name: LAYER_NAME, entries, store, whiteouts: true, added: rulesByIndex(items) };
}

function rulesByIndex(items: readonly AddedItem[]): AddedEntries {
  return new Map(items.flatMap(({ rule }, i) => rule === undefined ? [] : [[i, rule] as const]));
}

async function onTop(
  image: OpenedImage,
  { items, checkUnchanged, ...parts }: Pick<AdditionsReport, "added" | "excludedNames"> & {
    readonly items: readonly AddedItem[];
    /** Call it after all payload has been read. */
    readonly checkUnchanged: () => void;
  },
  options: ResolvedOptions,
): Promise<OpenedImage> {
  const file = new SharedDescriptor(createUnlinkedFile(options.tmpdir ?? tmpdir()));
  try {
    const { digest, sizeBytes } = await writeLayer(items, file, options);
    checkUnchanged();
    const stored = storedPart({ name: LAYER_NAME, file, sizeBytes });
    const layer: LayerSource = {
      ...treeLayer({ name: LAYER_NAME, stored, sizeBytes }),
      digest,
      diffId: digest,
      whiteouts: true,
      added: rulesByIndex(items),
    };
    return {
      ...image,
      layers: [...image.layers, layer],
      additions: { digest, sizeBytes, entries: items.length, ...parts },
      close: once(() => {
        file.release();
        image.close();
      }),
    };
  } catch (error) {
    file.release();
    throw error;
  }
}

/**
 * Records the rules in a comment on the whole tar, so that its digest depends on them: `create 0 describe 1-5`. Undefined
 * if there are none.
 */
function rulesComment(items: readonly AddedItem[]): ByteString | undefined {
  const runs: { readonly rule: string; readonly first: number; last: number }[] = [];
  items.forEach(({ rule }, i) => {
    const run = runs.at(-1);
    if (rule === undefined) return;
    if (run?.rule === rule && run.last === i - 1) run.last = i;
    else runs.push({ rule, first: i, last: i });
  });
  if (runs.length === 0) return undefined;
  const texts = runs.map(({ rule, first, last }) =>
    `${rule} ${first}${last === first ? "" : `-${last}`}`
  );
  return `blessfs additions ${texts.join(" ")}`;
}

async function writeLayer(
  items: readonly AddedItem[],
  file: SharedDescriptor,
  { tmpdir: directory = tmpdir(), signal, progress }: ResolvedOptions,
): Promise<{ readonly digest: string; readonly sizeBytes: number }> {
  const spool = new SpoolWriter(singleFile(file.descriptor, directory));
  const digester = new Digester("sha256");
  const sink: ImageSink = {
    write: (bytes) => {
      digester.update(bytes);
      spool.append(bytes);
    },
    finish: () => spool.flush(),
    abort: () => {},
  };
  const sizeBytes = await writeTar(items, sink, {
    comment: rulesComment(items),
    denseHoleBytesMax: LAYER_HOLE_BYTES_MAX,
    signal,
    progress,
  });
  return { digest: digester.digest(), sizeBytes };
}

async function readTar({ path }: AddTar, options: ResolvedOptions): Promise<ReadAddition> {
  const file = path === "-"
    ? await spoolStream("standard input", options.stdin ?? process.stdin, options)
    : await openSourceFile(path, "a tar", options);
  try {
    const checkUnchanged = changeCheck(file);
    const head = await inflatedHead(file);
    if (!isTarHeader(head) && !isZeroLed(head)) throw contentFault(file.name, head, "a tar");
    const stored = storedPart(file);
    const { entries, store } = await readEntries(file.name, stored, file.sizeBytes, options);
    const items = entries.map((entry) => itemOf(entry, store));
    const close = () => {
      store.close();
      file.file.release();
    };
    return { report: reportOf(path, items), items, store, close, checkUnchanged };
  } catch (error) {
    file.file.release();
    throw error;
  }
}

/** Throws if a file has changed. Files are read twice: first their entries, then their payload. */
function changeCheck({ name, file }: SourceFile): () => void {
  const { descriptor } = file;
  const stampOf = () => {
    const { size, mtimeNs, ctimeNs } = fstatSync(descriptor, { bigint: true });
    return `${size} ${mtimeNs} ${ctimeNs}`;
  };
  const before = stampOf();
  return () => {
    if (stampOf() === before) return;
    throw new InputError(name, "changed while it was read", {
      code: "changed",
      hint: "try again when nothing writes to it",
    });
  };
}

async function readEntries(
  name: string,
  stored: StoredBytes,
  sizeBytes: number | undefined,
  options: ResolvedOptions,
): Promise<{ readonly entries: readonly TarEntry[]; readonly store: RandomReader }> {
  const read = await loadAlone(treeLayer({ name, stored, sizeBytes }), options);
  const { facts, entries, file, offsetBytes } = read;
  const store = file.reader(name, offsetBytes, facts.uncompressedBytes);
  try {
    reportWarnings(read, options.warnings);
  } catch (error) {
    store.close();
    throw error;
  }
  return { entries, store };
}

function itemOf(entry: TarItem["entry"], store: RandomReader): TarItem {
  const { payload } = entry;
  return { entry: withoutFirstLayer(entry), payload: payload && { ...payload, store } };
}

function reportOf(what: string, items: readonly TarItem[]): AddedReport {
  const sizeBytes = items.reduce((sum, { payload }) => sum + (payload?.sizeBytes ?? 0), 0);
  return { what, entries: items.length, sizeBytes };
}

async function readPath(add: AddPath, options: ResolvedOptions): Promise<ReadAddition> {
  const guest = guestPath(add);
  const what = `${add.host}:${add.guest}`;
  const host = hostOf(add.host);
  if (host === "stream") {
    if (guest.isDirectory) {
      throw new InputError(displayPath(add.host), "is a pipe and has no name: wanted one", {
        code: "wrongKind",
        hint: "end the path in the image with a name instead of a slash",
      });
    }
    return await readStream(add, guest.path, what, options);
  }
  const name = displayPath(add.host);
  const stored = tarOfHost({ ...host, name }, options.warnings);
  const { entries, store } = await readEntries(name, stored, undefined, options);
  try {
    const isTree = host.member === TREE_MEMBER;
    const base = isTree || !guest.isDirectory
      ? guest.path
      : joined(guest.path, byteStringFromText(basename(add.host)));
    const pathOf = (path: ByteString) => isTree ? joined(base, normalizeMemberPath(path)) : base;
    const isExplicit = [add.mode, add.uid, add.gid].some((value) => value !== undefined);
    const items = entries.map((entry, i): AddedItem => ({
      ...itemOf(placed(entry, pathOf, add, options), store),
      // A directory given without owner or mode is created if missing, and unchanged if it exists.
      rule: i === 0 && !isExplicit ? "create" : "describe",
    }));
    return { report: reportOf(what, items), items, store, close: () => store.close() };
  } catch (error) {
    store.close();
    throw error;
  }
}

/** The content of a pipe becomes a file of mode 0644 unless another mode is given. */
async function readStream(
  add: AddPath,
  path: ByteString,
  what: string,
  options: ResolvedOptions,
): Promise<ReadAddition> {
  const stream = add.host === "-" ? options.stdin ?? process.stdin : createReadStream(add.host);
  const { name, file, sizeBytes } = await spoolStream(displayPath(add.host), stream, options);
  const store = file.reader(name, 0, sizeBytes);
  const blockCount = Math.ceil(sizeBytes / BLOCK_SIZE_BYTES);
  const entry = {
    ...bareEntry("file", path),
    mode: STREAM_MODE,
    payload: {
      sizeBytes,
      segments: wholeSegment(sizeBytes),
      dataRuns: blockCount === 0 ? [] : runFromStart(blockCount),
      contentHash: 0,
    },
  };
  const item = itemOf(placed(entry, () => path, add, options), store);
  const items: readonly AddedItem[] = [{ ...item, rule: "describe" }];
  return { report: reportOf(what, items), items, store, close: () => store.close() };
}

const STREAM_MODE = 0o644;
const TREE_MEMBER = ".";

/** The path from the image's root, without leading or trailing slashes, and whether it must be a directory. */
function guestPath(
  { host, guest }: AddPath,
): { readonly path: ByteString; readonly isDirectory: boolean } {
  const what = `${displayPath(host)}:${displayPath(guest)}`;
  if (guest === "" || guest.includes("\0")) throw new UsageError(what, "has no path in the image");
  const names = guest.split("/");
  if (names.includes("..")) {
    throw new UsageError(what, "the path in the image has `..` in it", {
      hint: "write the path from the root of the image on",
    });
  }
  const path = normalizeMemberPath(byteStringFromText(guest));
  return { path, isDirectory: path === "" || [".", ""].includes(names.at(-1)!) };
}

function hostOf(path: string): Omit<HostMember, "name"> | "stream" {
  if (path === "-") return "stream";
  const stats = statIfThere(path);
  if (stats === undefined) throw missingInput(path, "a file or a directory to add");
  if (stats.isDirectory()) return { directory: path, member: TREE_MEMBER };
  if (stats.isFIFO() || stats.isFile() && isGenerated(path, stats)) return "stream";
  if (stats.isFile()) {
    const real = realPathOf(path);
    return { directory: dirname(real), member: `./${basename(real)}` };
  }
  throw new InputError(displayPath(path), "is a device or a socket: wanted a file or a directory", {
    code: "wrongKind",
  });
}

/**
 * Whether the kernel generates a file when it is read, like those in /proc and /sys. They have no blocks and claim to be
 * empty or one page long, so tar would store nothing or a hole.
 */
function isGenerated(path: string, { size, blocks }: Stats): boolean {
  if (blocks !== 0) return false;
  const file = SharedDescriptor.openFile(path);
  try {
    const first = new Uint8Array(1);
    const count = descriptorReader(file.descriptor, displayPath(path), 1).readAt(first, 0);
    return count > 0 && (size === 0 || first[0] !== 0);
  } finally {
    file.release();
  }
}

function joined(directory: ByteString, path: ByteString): ByteString {
  return [directory, path].filter((part) => part !== "").join("/");
}

/** Converts a host entry to an entry of the layer, with its path, owner, mode and time there. */
function placed(
  entry: TarItem["entry"],
  pathOf: (path: ByteString) => ByteString,
  { mode, uid = 0, gid = 0 }: AddPath,
  { timestamp = 0, warnings }: ResolvedOptions,
): TarItem["entry"] {
  const path = pathOf(entry.path);
  refuseMarkerName(`/${path}`);
  const xattrs = entry.xattrs.filter(({ name }) => {
    const reason = refusalOf(name, mode);
    if (reason === undefined) return true;
    warnings.add("unsupportedXattr", displayName(path), `xattr ${name} dropped: ${reason}`);
    return false;
  });
  return {
    ...entry,
    path: entry.kind === "directory" ? `${path === "" ? "." : path}/` : path,
    linkTarget: entry.kind === "hardlink" ? pathOf(entry.linkTarget) : entry.linkTarget,
    mode: mode === undefined || entry.kind === "symlink" ? entry.mode : mode,
    uid,
    gid,
    mtimeSeconds: timestamp,
    mtimeNanoseconds: 0,
    xattrs,
  };
}

/** Why an attribute of a local file does not belong in an image; undefined if it does. */
function refusalOf(name: ByteString, mode: number | undefined): string | undefined {
  if (name === "security.selinux") return "it is a label of this machine's policy";
  if (name === "system.posix_acl_access" && mode !== undefined) return "the given mode replaces it";
  return undefined;
}
