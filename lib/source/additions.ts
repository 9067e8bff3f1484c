/**
 * What is put on top of an image: files and trees of this machine and tars, as one more layer. The layer is a tar like any
 * other, so that whatever reads layers reads it. It is copied to a spool first: what its bytes are is known from then on.
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
import { Digester } from "../io/digest.ts";
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
import { BLOCK_SIZE_BYTES, runFromStart, wholeSegment } from "../model/payload.ts";
import { normalizeMemberPath, type TarEntry } from "../tar/entry.ts";
import { refuseMarkerName, type TarItem } from "../tree/entries.ts";
import { buildTree, growingTree } from "../tree/build.ts";
import { diffTrees } from "../tree/diff.ts";
import { excludeFrom, parsePatterns } from "../tree/exclude.ts";
import { isMarkerPath } from "../tree/whiteouts.ts";
import type { AddedEntries, TreeLayer } from "../tree/layer.ts";
import { LAYER_HOLE_BYTES_MAX, writeTar } from "../tree/write_tar.ts";
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
import { treeOptions } from "./tree_options.ts";
import { once, treeLayer } from "./tree_image.ts";
import type {
  AddedReport,
  Addition,
  AdditionsReport,
  AddPath,
  AddTar,
  LayerSource,
  LoadedLayer,
  OpenedImage,
  ResolvedOptions,
  StoredBytes,
} from "./types.ts";

/** What the layer is called in messages. */
const LAYER_NAME = "the additions";

/** An addition that was read: its entries, and the rule for each. */
interface ReadAddition {
  readonly report: AddedReport;
  readonly items: readonly TarItem[];
  /** For each item; undefined for those of a tar, which are a layer's. */
  readonly rules: readonly ("describe" | "create" | undefined)[];
  /** What payload is read from, until `close`. */
  readonly store: RandomReader;
  /** Throws if what it was read from is not what it was. */
  readonly checkUnchanged?: () => void;
  readonly close: () => void;
}

/**
 * Puts the additions of the options on top of an image, which is closed when that fails.
 *
 * @throws {InputError} when there is nothing to add, or it cannot be a part of a layer
 * @throws {IoError} when something of it changes while it is read, or cannot be read
 */
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
      if (addition.kind !== "exclude") read.push(await readAddition(addition, options));
    }
    if (!needTurns(additions, read)) {
      return await onTop(image, combined(read), reportsOf(read), options);
    }
    const loaded = await loadBelow(image, options);
    below = loaded.image;
    const { items, excludedNames } = await excluded(additions, read, loaded.layers, options);
    const content = { ...combined(read), items, rules: [] };
    return await onTop(below, content, { ...reportsOf(read), excludedNames }, options);
  } catch (error) {
    below.close();
    throw error;
  } finally {
    for (const { close } of read) close();
  }
}

/**
 * Whether the image is needed to say what the additions do, one after the other. One layer cannot take away what it adds, and
 * which names a pattern matches depends on what is there.
 */
function needTurns(additions: readonly Addition[], read: readonly ReadAddition[]): boolean {
  return additions.some(({ kind }) => kind === "exclude") ||
    read.slice(1).some(({ items }) => items.some(({ entry }) => isMarkerPath(entry.path)));
}

/** The entries of a layer, and the rules of those that have one. */
interface LayerContent {
  readonly items: readonly TarItem[];
  readonly rules: ReadAddition["rules"];
  /** To be called when all payload was read. */
  readonly checkUnchanged: () => void;
}

function combined(read: readonly ReadAddition[]): LayerContent {
  return {
    items: read.flatMap(({ items }) => items),
    rules: read.flatMap(({ rules }) => rules),
    checkUnchanged: () => read.forEach((addition) => addition.checkUnchanged?.()),
  };
}

function reportsOf(
  read: readonly ReadAddition[],
): Pick<AdditionsReport, "added" | "excludedNames"> {
  return { added: read.map(({ report }) => report), excludedNames: 0 };
}

/** The image with its layers loaded. They are handed on when somebody loads them, and otherwise closed with the image. */
async function loadBelow(
  image: OpenedImage,
  options: ResolvedOptions,
): Promise<{ readonly image: OpenedImage; readonly layers: readonly LoadedLayer[] }> {
  // Whoever loads them next warns of a tree that looks like an archive, and maps owners.
  const asImage = { ...image, kind: "oci" as const };
  const layers = await loadLayers(asImage, { ...options, uidMap: undefined, gidMap: undefined });
  const untaken = new Set(layers);
  const take = (layer: LoadedLayer) => {
    untaken.delete(layer);
    return layer;
  };
  const loaded = {
    ...image,
    layers: image.layers.map((source, i): LayerSource => ({
      ...source,
      stored: { kind: "loaded", take: () => take(layers[i]!) },
    })),
    close: once(() => {
      closeLayers([...untaken]);
      image.close();
    }),
  };
  return { image: loaded, layers };
}

/**
 * The layer that does what additions and patterns do in turn: the difference between the image's tree and the tree that they
 * make of it.
 */
async function excluded(
  additions: readonly Addition[],
  read: readonly ReadAddition[],
  layers: readonly LoadedLayer[],
  options: ResolvedOptions,
): Promise<{ readonly items: readonly TarItem[]; readonly excludedNames: number }> {
  const { warnings, signal } = options;
  const unmapped = { ...options, uidMap: undefined, gidMap: undefined };
  // Whoever applies the image's layers for good warns of what is in them.
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
      for (const pattern of outcome.unmatched) {
        warnings.add(
          "unmatchedPattern",
          pattern,
          "matches nothing in the image, and excludes nothing",
        );
      }
    } else {
      apply(layerOf(pending.shift()!), warnings);
      at++;
    }
    await setImmediate();
    throwIfAborted(signal);
  }
  const { items } = await diffTrees(before, tree, { warnings: new Warnings(), signal });
  return {
    // Where payload lay in the image says nothing about the layer.
    items: items.map(({ entry: { firstLayer: _, ...entry }, payload }) => ({ entry, payload })),
    excludedNames,
  };
}

/** An addition as a layer by itself; its payload is told apart by its entries, not by a store of its own. */
function layerOf({ items, rules, store }: ReadAddition): TreeLayer {
  return {
    name: LAYER_NAME,
    entries: items.map(({ entry }, i) => ({ ...entry, headerOffset: i })),
    store,
    whiteouts: true,
    added: rulesByIndex(rules),
  };
}

function rulesByIndex(rules: ReadAddition["rules"]): AddedEntries {
  return new Map(rules.flatMap((rule, i) => rule === undefined ? [] : [[i, rule] as const]));
}

/** Writes the layer, and puts it on top. */
async function onTop(
  image: OpenedImage,
  { items, rules, checkUnchanged }: LayerContent,
  parts: Pick<AdditionsReport, "added" | "excludedNames">,
  options: ResolvedOptions,
): Promise<OpenedImage> {
  const file = new SharedDescriptor(createUnlinkedFile(options.tmpdir ?? tmpdir()));
  try {
    const added = rulesByIndex(rules);
    const { digest, sizeBytes } = await writeLayer(items, rulesComment(rules), file, options);
    checkUnchanged();
    const stored = storedPart({ name: LAYER_NAME, file, sizeBytes }, 0, sizeBytes);
    const layer: LayerSource = {
      ...treeLayer({ name: LAYER_NAME, stored, sizeBytes }),
      digest,
      diffId: digest,
      whiteouts: true,
      added,
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
 * The rules as a comment on the whole tar, so that its digest says what they are: `create 0 describe 1-5`. Undefined where
 * all entries are those of tars.
 */
function rulesComment(rules: ReadAddition["rules"]): ByteString | undefined {
  const runs: { readonly rule: string; readonly first: number; last: number }[] = [];
  rules.forEach((rule, i) => {
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

/** Writes a layer to an empty file. */
async function writeLayer(
  items: readonly TarItem[],
  comment: ByteString | undefined,
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
  const denseHoleBytesMax = LAYER_HOLE_BYTES_MAX;
  const sizeBytes = await writeTar(items, sink, { comment, denseHoleBytesMax, signal, progress });
  return { digest: digester.digest(), sizeBytes };
}

async function readAddition(
  addition: AddPath | AddTar,
  options: ResolvedOptions,
): Promise<ReadAddition> {
  return addition.kind === "tar"
    ? await readTar(addition, options)
    : await readPath(addition, options);
}

/** A tar is a layer already. */
async function readTar({ path }: AddTar, options: ResolvedOptions): Promise<ReadAddition> {
  const file = path === "-"
    ? await spoolStream("standard input", options.stdin ?? process.stdin, options)
    : await openSourceFile(path, "a tar", options);
  try {
    const checkUnchanged = changeCheck(file);
    const head = await inflatedHead(file);
    if (!isTarHeader(head) && !isZeroLed(head)) throw contentFault(file.name, head, "a tar");
    const stored = storedPart(file, 0, file.sizeBytes);
    const read = await readEntries(file.name, stored, file.sizeBytes, options);
    const items = read.entries.map((entry) => itemOf(entry, read.store));
    const report = { what: path, ...sumsOf(items) };
    const close = () => {
      read.close();
      file.file.release();
    };
    const { store } = read;
    return { report, items, rules: items.map(() => undefined), store, close, checkUnchanged };
  } catch (error) {
    file.file.release();
    throw error;
  }
}

/** What throws when a file is not what it was. It is read twice: its entries first, then their payload. */
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

/** Entries, and what their payload is read from until `close`. */
interface ReadEntries {
  readonly entries: readonly TarEntry[];
  readonly store: RandomReader;
  readonly close: () => void;
}

async function readEntries(
  name: string,
  stored: StoredBytes,
  sizeBytes: number | undefined,
  options: ResolvedOptions,
): Promise<ReadEntries> {
  const { facts, entries, file, offsetBytes } = await loadAlone(
    treeLayer({ name, stored, sizeBytes }),
    options,
  );
  const store = file.reader(name, offsetBytes, facts.uncompressedBytes);
  try {
    reportWarnings({ facts, entries, file, offsetBytes }, options.warnings);
  } catch (error) {
    store.close();
    throw error;
  }
  return { entries, store, close: store.close };
}

function itemOf(entry: Omit<TarEntry, "headerOffset">, store: RandomReader): TarItem {
  // It says where payload lay in another image.
  const { firstLayer: _, ...plain } = entry;
  const { payload } = plain;
  return { entry: plain, payload: payload && { ...payload, store } };
}

function sumsOf(items: readonly TarItem[]): Omit<AddedReport, "what"> {
  const sizeBytes = items.reduce((sum, { payload }) => sum + (payload?.sizeBytes ?? 0), 0);
  return { entries: items.length, sizeBytes };
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
    const stream = add.host === "-" ? options.stdin ?? process.stdin : createReadStream(add.host);
    return await readStream(add, { stream, path: guest.path, what }, options);
  }
  const name = displayPath(add.host);
  const stored = tarOfHost({ ...host, name }, options.warnings);
  const read = await readEntries(name, stored, undefined, options);
  try {
    const isTree = host.member === TREE_MEMBER;
    const base = isTree || !guest.isDirectory
      ? guest.path
      : joined(guest.path, byteStringFromText(basename(add.host)));
    const items = read.entries.map((entry) => {
      const inBase = (path: ByteString) => isTree ? joined(base, normalizeMemberPath(path)) : base;
      return itemOf(placed(entry, inBase, add, options), read.store);
    });
    const { store, close } = read;
    return { report: { what, ...sumsOf(items) }, items, rules: rulesOf(items, add), store, close };
  } catch (error) {
    read.close();
    throw error;
  }
}

/** A directory that is named without owner or mode is only made, and left as it is where it is there. */
function rulesOf(items: readonly TarItem[], { mode, uid, gid }: AddPath): ReadAddition["rules"] {
  const isExplicit = [mode, uid, gid].some((value) => value !== undefined);
  return items.map((_, i) => i === 0 && !isExplicit ? "create" : "describe");
}

/** What is read through a pipe becomes a file of mode 0644, unless another one is given. */
async function readStream(
  add: AddPath,
  { stream, path, what }: {
    readonly stream: AsyncIterable<Uint8Array>;
    readonly path: ByteString;
    readonly what: string;
  },
  options: ResolvedOptions,
): Promise<ReadAddition> {
  const { name, file, sizeBytes } = await spoolStream(displayPath(add.host), stream, options);
  const store = file.reader(name, 0, sizeBytes);
  const blockCount = Math.ceil(sizeBytes / BLOCK_SIZE_BYTES);
  const entry: TarItem["entry"] = {
    kind: "file",
    path,
    linkTarget: "",
    mode: STREAM_MODE,
    uid: 0,
    gid: 0,
    mtimeSeconds: 0,
    mtimeNanoseconds: 0,
    deviceMajor: 0,
    deviceMinor: 0,
    xattrs: [],
    payload: {
      sizeBytes,
      segments: wholeSegment(sizeBytes),
      dataRuns: blockCount === 0 ? [] : runFromStart(blockCount),
      contentHash: 0,
    },
  };
  const items = [itemOf(placed(entry, () => path, add, options), store)];
  return {
    report: { what, ...sumsOf(items) },
    items,
    rules: ["describe"],
    store,
    close: store.close,
  };
}

const STREAM_MODE = 0o644;
/** What tar is asked for when all of a directory is meant. */
const TREE_MEMBER = ".";

interface GuestPath {
  /** From the root of the image, without slashes around it; empty for the root. */
  readonly path: ByteString;
  /** Whether it can only be a directory. */
  readonly isDirectory: boolean;
}

function guestPath({ host, guest }: AddPath): GuestPath {
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

/** What is read: a part of a directory, or a stream. */
function hostOf(path: string): Omit<HostMember, "name"> | "stream" {
  if (path === "-") return "stream";
  const stats = statIfThere(path);
  if (stats === undefined) throw missingInput(path, "a file or a directory to add");
  if (stats.isDirectory()) return { directory: path, member: TREE_MEMBER };
  if (stats.isFIFO() || stats.isFile() && isMadeUp(path, stats)) return "stream";
  if (stats.isFile()) {
    const real = realPathOf(path);
    return { directory: dirname(real), member: `./${basename(real)}` };
  }
  throw new InputError(displayPath(path), "is a device or a socket: wanted a file or a directory", {
    code: "wrongKind",
  });
}

/**
 * Whether the kernel makes up a file as it is read, as those of /proc and /sys. It says that they are empty or one page long,
 * and takes no blocks for them, so that tar would store nothing or a hole.
 */
function isMadeUp(path: string, { size, blocks }: Stats): boolean {
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

/** An entry of the host as one of the layer: with the owner, the mode and the time that it gets there. */
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

/** Why an attribute of this machine's file does not belong into an image; undefined if it does. */
function refusalOf(name: ByteString, mode: number | undefined): string | undefined {
  if (name === "security.selinux") return "it is a label of this machine's policy";
  if (name === "system.posix_acl_access" && mode !== undefined) return "the given mode replaces it";
  return undefined;
}
