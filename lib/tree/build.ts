/**
 * Builds one tree from all layers of an image, applying each by the rules of the OCI image-spec (layer.md, "Applying
 * Changesets"). Whiteouts are applied first, wherever they are in the tar, so that they hide only names from lower layers;
 * then the entries, in order; last the hard links that precede their targets.
 *
 * @module
 */
import { type ByteString, displayName } from "../bytes/byte_string.ts";
import { InputError, limitError } from "../errors.ts";
import type { DirectoryNode, FileTree, TreeNode } from "../model/node.ts";
import type { TarEntry } from "../tar/entry.ts";
import { Warnings } from "../warnings.ts";
import {
  type ApplyContext,
  attributesOf,
  type Dentry,
  describeEntry,
  emptyDirectory,
  type EntryContext,
  FirstLayers,
  impliedDirectoryAttributes,
  nodeOf,
  type NodeTime,
  shortenPath,
  type TreeLayer,
} from "./layer.ts";
import {
  checkName,
  normalisePath,
  PathWalker,
  TreeBudget,
  type TreeLimits,
  type WalkRules,
} from "./paths.ts";
import type { NodeOwner } from "./owners.ts";
import {
  applyMarkers,
  findMarkers,
  isAufsLinkFile,
  type LayerMarkers,
  noteOpaqueDirectories,
  refuseWhiteoutName,
} from "./whiteouts.ts";

export type { TreeLayer } from "./layer.ts";

/** The default time. */
export const EPOCH: NodeTime = { seconds: 0, nanoseconds: 0 };

/** Options of {@link buildTree}. */
export interface BuildTreeOptions {
  /** Counts what is changed or left out; a new collector by default. */
  readonly warnings?: Warnings | undefined;
  /** Modification time of directories that no entry describes, including the root; default: 1970-01-01. */
  readonly defaultTime?: NodeTime | undefined;
  /** Owner of those directories; default 0:0. */
  readonly defaultOwner?: NodeOwner | undefined;
  /** Limits on the tree; missing ones use the defaults. */
  readonly limits?: Partial<TreeLimits> | undefined;
}

/**
 * Applies the layers, the lowest first, to an empty root (0755 0:0).
 *
 * Hard links keep their identity across layers; the attributes in their own headers are ignored, since some writers leave
 * them empty. Warnings about dropped or changed entries: `clampedPath`, `duplicatePath`, `replacedParent`,
 * `unsupportedXattr`, `skippedAufsMetadata`.
 *
 * @throws InputError for entries that cannot exist in a tree or that exceed a limit; the message names the entry, the
 * layer, and the entry's offset
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { memoryReader } from "../io/random_reader.ts";
 * import { EMPTY_PAYLOAD_INDEX } from "../model/node.ts";
 * import { buildTree, type TreeLayer } from "./build.ts";
 *
 * const file = {
 *   kind: "file", linkTarget: "", mode: 0o644, uid: 0, gid: 0, mtimeSeconds: 0, mtimeNanoseconds: 0,
 *   deviceMajor: 0, deviceMinor: 0, xattrs: [], payload: EMPTY_PAYLOAD_INDEX, headerOffset: 0,
 * } as const;
 * const layer = (...paths: string[]): TreeLayer => ({
 *   entries: paths.map((path) => ({ ...file, path })),
 *   store: memoryReader(new Uint8Array()),
 *   whiteouts: true,
 *   name: "layer",
 * });
 * const { root } = buildTree([layer("a", "b"), layer(".wh.a", "c")]);
 * assertEquals([...root.children.keys()], ["b", "c"]);
 * ```
 */
export function buildTree(
  layers: readonly TreeLayer[],
  options: BuildTreeOptions = {},
): FileTree {
  return growingTree(layers, options).tree;
}

/**
 * A tree of the layers so far and a function that applies another. The tree is changed in place and is unusable after an
 * error.
 */
export interface GrowingTree {
  readonly tree: FileTree;
  readonly apply: (layer: TreeLayer, warnings: Warnings) => void;
}

/** Builds a tree as {@link buildTree} does, but accepts further layers. */
export function growingTree(
  layers: readonly TreeLayer[],
  options: BuildTreeOptions = {},
): GrowingTree {
  const { warnings: own = new Warnings(), defaultTime = EPOCH, defaultOwner, limits } = options;
  const impliedAttributes = impliedDirectoryAttributes(defaultTime, defaultOwner);
  const budget = new TreeBudget(limits);
  const tree = emptyTree(defaultTime, defaultOwner);
  const firstLayers = new FirstLayers();
  let layerIndex = 0;
  const apply = (layer: TreeLayer, warnings: Warnings) => {
    applyLayer(layer, { tree, layerIndex, budget, warnings, impliedAttributes, firstLayers });
    layerIndex++;
  };
  for (const layer of layers) apply(layer, own);
  return { tree, apply };
}

/** A root without children, the state before the first layer. */
export function emptyTree(defaultTime: NodeTime, defaultOwner?: NodeOwner): FileTree {
  const attributes = impliedDirectoryAttributes(defaultTime, defaultOwner);
  return { root: emptyDirectory(attributes, { layerIndex: 0, entryIndex: 0 }) };
}

/** A hard link that precedes its target. */
export interface DeferredLink extends Dentry {
  /** The target's normalised path. */
  readonly target: readonly ByteString[];
  /** Names the entry in messages. */
  readonly what: () => string;
}

/** The name of a link's target, and its node if it exists. */
export interface LinkTarget extends Dentry {
  readonly node: TreeNode | undefined;
}

/** The lookup that {@link DeferredLinks.settle} uses. */
export interface LinkResolver {
  /** Undefined if the target's directory does not exist. */
  readonly find: (link: DeferredLink) => LinkTarget | undefined;
  readonly add: (link: DeferredLink, target: LinkTarget, node: TreeNode) => void;
}

/** The hard links of one layer that precede their targets. Until they are settled, their names are unused. */
export class DeferredLinks {
  readonly #links = new DentryMap<DeferredLink>();

  /** Defers a link, replacing an earlier one with the same name. */
  add(link: DeferredLink): void {
    this.#links.set(link, link);
  }

  /** Whether a link with that name is deferred. */
  has(dentry: Dentry): boolean {
    return this.#links.get(dentry) !== undefined;
  }

  /** Drops the link because a later entry has the same name. */
  cancel(dentry: Dentry): void {
    this.#links.delete(dentry);
  }

  /**
   * Adds all links, each after the link it points to, in linear time.
   *
   * @throws InputError if a target does not exist or links form a cycle
   */
  settle(resolver: LinkResolver): void {
    const queue = this.#links.values();
    const waiting = new DentryMap<DeferredLink[]>();
    // The queue grows as it is processed: each link is followed by the links waiting for it.
    for (const link of queue) {
      const target = resolver.find(link);
      if (!target) continue;
      if (target.node) {
        this.cancel(link);
        resolver.add(link, target, target.node);
        for (const next of waiting.get(link) ?? []) queue.push(next);
        waiting.delete(link);
      } else {
        const others = waiting.get(target);
        if (others) others.push(link);
        else waiting.set(target, [link]);
      }
    }
    const lost = this.#links.values()[0];
    if (lost) throw missingTarget(lost);
  }
}

/** The error for a hard link whose target does not exist. */
export function missingTarget(link: DeferredLink): InputError {
  return new InputError(
    link.what(),
    `the hard link's target ${displayName(link.target.join("/").slice(0, 200))} exists ` +
      "neither in this layer nor below",
  );
}

/** Maps directory entries (a directory and a name) to values. */
class DentryMap<V> {
  readonly #byDirectory = new Map<DirectoryNode, Map<ByteString, V>>();

  get({ directory, name }: Dentry): V | undefined {
    return this.#byDirectory.get(directory)?.get(name);
  }

  set({ directory, name }: Dentry, value: V): void {
    const names = this.#byDirectory.get(directory);
    if (names) names.set(name, value);
    else this.#byDirectory.set(directory, new Map([[name, value]]));
  }

  delete({ directory, name }: Dentry): void {
    this.#byDirectory.get(directory)?.delete(name);
  }

  values(): V[] {
    return [...this.#byDirectory.values()].flatMap((names) => [...names.values()]);
  }
}

/**
 * Applies a layer to `context.tree`, which is changed in place and is unusable after an error.
 *
 * @throws InputError for entries that cannot exist in a tree or that exceed a limit
 */
export function applyLayer(layer: TreeLayer, context: ApplyContext): void {
  new LayerApplier(layer, context).run();
}

const NO_MARKERS: LayerMarkers = {
  markers: [],
  entryIndexes: new Set(),
  aufs: undefined,
  aufsLinkFiles: new Map(),
};

class LayerApplier {
  readonly #layer: TreeLayer;
  readonly #context: ApplyContext;
  readonly #entryContext: EntryContext;
  readonly #walker: PathWalker;
  readonly #findRules: WalkRules;
  readonly #makeRules: WalkRules;
  readonly #deferred = new DeferredLinks();
  /** Directories of this layer that no entry has described yet. */
  readonly #implied = new Set<TreeNode>();
  /** Names created by hard links: their nodes may be from lower layers. */
  readonly #linkNames = new Map<DirectoryNode, Set<ByteString>>();
  /** The names given so far to the files that AUFS kept. */
  readonly #aufsDentries = new Map<ByteString, Dentry & { readonly node: TreeNode }>();
  #markers: LayerMarkers = NO_MARKERS;
  #rootDescribed = false;
  #entryIndex = 0;
  #what: () => string = () => this.#layer.name;

  constructor(layer: TreeLayer, context: ApplyContext) {
    this.#layer = layer;
    this.#context = context;
    this.#entryContext = {
      warnings: context.warnings,
      describe: (entry) => describeEntry(entry, layer.name),
      known: [],
    };
    this.#walker = new PathWalker(context.tree.root, context.budget);
    const onSymlink: WalkRules["onSymlink"] = (_parent, _name, symlink) => {
      context.changes?.noteUse(symlink);
      return true;
    };
    this.#findRules = { onGap: () => undefined, onSymlink };
    this.#makeRules = {
      onGap: (parent, name, found) => this.#implyDirectory(parent, name, found),
      onSymlink,
    };
  }

  run(): void {
    const { entries, whiteouts } = this.#layer;
    if (whiteouts) this.#applyMarkers();
    for (let i = 0; i < entries.length; i++) {
      const entry = entries[i]!;
      this.#entryIndex = i;
      this.#what = () => this.#entryContext.describe(entry);
      this.#context.budget.countNode(this.#what);
      if (!this.#markers.entryIndexes.has(i)) this.#applyEntry(entry);
    }
    this.#deferred.settle({
      find: (link) => this.#findTarget(link.target, link.what),
      add: (link, target, node) => {
        this.#what = link.what;
        this.#addLink(link, target, node);
      },
    });
    if (this.#context.changes) noteOpaqueDirectories(this.#walker, this.#context.changes);
  }

  #applyMarkers(): void {
    const { describe, warnings } = this.#entryContext;
    this.#markers = findMarkers(this.#layer.entries, describe);
    const { aufs } = this.#markers;
    if (aufs) {
      const why = "AUFS metadata, left out of the tree";
      warnings.add("skippedAufsMetadata", describe(aufs.first), why, aufs.count);
    }
    applyMarkers(this.#layer.entries, this.#markers, this.#context, describe);
  }

  #applyEntry(entry: TarEntry): void {
    const names = this.#namesOf(entry.path);
    if (this.#layer.added !== undefined && this.#isPlaced(entry, names)) return;
    if (names.length === 0) return this.#describeRoot(entry);
    const count = names.length - 1;
    const directory = this.#walker.walk(names, count, this.#makeRules, this.#what);
    if (!directory) throw new Error("Invariant broken: a walk that makes directories ends in one");
    const dentry = { directory, name: names[count]! };
    if (entry.kind === "hardlink") return this.#applyLink(entry, dentry);
    const existing = directory.children.get(dentry.name);
    if (entry.kind === "directory" && existing?.kind === "directory") {
      this.#noteDuplicate(dentry, existing);
      this.#implied.delete(existing);
      return this.#describeDirectory(existing, entry);
    }
    this.#noteReplacement(dentry, existing);
    const node = nodeOf(entry, this.#origin(), this.#layer.store, this.#entryContext);
    // Only in a complete tree: within a layer, the layers below decide.
    if (entry.firstLayer !== undefined && !this.#layer.whiteouts) {
      node.firstLayer = entry.firstLayer;
    }
    this.#setName(dentry, node);
    if (node.kind === "directory") {
      this.#context.changes?.noteNewDirectory(node, dentry);
      this.#context.changes?.describedDirectories.add(node);
    }
  }

  /** Whether the entry was added by path, and that path leads to a directory, which the entry then describes. */
  #isPlaced(entry: TarEntry, names: readonly ByteString[]): boolean {
    const rule = this.#layer.added?.get(this.#entryIndex);
    if (rule === undefined) return false;
    const found = this.#walker.walk(names, names.length, this.#findRules, this.#what);
    if (found === undefined) return false;
    if (entry.kind !== "directory") {
      // A link may replace a link.
      if (entry.kind === "symlink" && this.#findTarget(names, this.#what)?.node !== found) {
        return false;
      }
      throw new InputError(
        this.#what(),
        `is a ${entry.kind}, and would take the place of a directory of the image`,
        {
          code: "wrongKind",
          hint: "end the path in the image with a slash to add it inside of the directory",
        },
      );
    }
    if (rule === "describe") {
      this.#implied.delete(found);
      this.#describeDirectory(found, entry);
    }
    return true;
  }

  #describeRoot(entry: TarEntry): void {
    if (entry.kind !== "directory") {
      throw new InputError(
        this.#what(),
        `the entry for the root is a ${entry.kind}, not a directory`,
        { code: "wrongKind" },
      );
    }
    if (this.#rootDescribed) this.#warnDuplicate();
    this.#rootDescribed = true;
    this.#describeDirectory(this.#context.tree.root, entry);
  }

  #describeDirectory(directory: DirectoryNode, entry: TarEntry): void {
    directory.attributes = attributesOf(entry, this.#entryContext);
    directory.origin = this.#origin();
    this.#context.changes?.describedDirectories.add(directory);
  }

  #applyLink(entry: TarEntry, dentry: Dentry): void {
    const names = this.#namesOf(entry.linkTarget);
    if (this.#layer.whiteouts && isAufsLinkFile(names)) {
      return this.#addAufsLink(dentry, names.at(-1)!);
    }
    const target = this.#findTarget(names, this.#what);
    if (target?.node) return this.#addLink(dentry, target, target.node);
    // From here on the name is taken: no path or link may lead to its former node.
    this.#noteReplacement(dentry, dentry.directory.children.get(dentry.name));
    this.#context.firstLayers?.noteRemoval(dentry);
    this.#context.changes?.noteName(dentry.directory, dentry.name);
    dentry.directory.children.delete(dentry.name);
    this.#deferred.add({ ...dentry, target: names, what: this.#what });
  }

  /** Looks up a path without following its last component. */
  #findTarget(names: readonly ByteString[], what: () => string): LinkTarget | undefined {
    const { tree } = this.#context;
    if (names.length === 0) return { directory: tree.root, name: "", node: tree.root };
    const count = names.length - 1;
    const directory = this.#walker.walk(names, count, this.#findRules, what);
    const name = names[count]!;
    return directory && { directory, name, node: directory.children.get(name) };
  }

  #addLink(dentry: Dentry, target: Dentry, node: TreeNode): void {
    if (node.kind === "directory") {
      throw new InputError(this.#what(), "the hard link's target is a directory");
    }
    const existing = dentry.directory.children.get(dentry.name);
    if (existing === node) {
      this.#noteDuplicate(dentry, existing);
      this.#context.changes?.noteUse(node);
    } else {
      this.#noteReplacement(dentry, existing);
      this.#setName(dentry, node);
      this.#context.changes?.noteLink(node, target, dentry);
    }
    const names = this.#linkNames.get(dentry.directory);
    if (names) names.add(dentry.name);
    else this.#linkNames.set(dentry.directory, new Set([dentry.name]));
  }

  /**
   * Adds a link to a file that AUFS kept for its hard links. Docker copies the file for each; here they become hard links
   * again.
   */
  #addAufsLink(dentry: Dentry, fileName: ByteString): void {
    const known = this.#aufsDentries.get(fileName);
    if (known) return this.#addLink(dentry, known, known.node);
    const entry = this.#layer.entries[this.#markers.aufsLinkFiles.get(fileName) ?? -1];
    if (!entry) {
      throw missingTarget({ ...dentry, target: [".wh..wh.plnk", fileName], what: this.#what });
    }
    const node = nodeOf(entry, this.#origin(), this.#layer.store, this.#entryContext);
    this.#noteReplacement(dentry, dentry.directory.children.get(dentry.name));
    this.#setName(dentry, node);
    this.#aufsDentries.set(fileName, { ...dentry, node });
  }

  /** Assigns the name to a node; the former node keeps its other names. */
  #setName(dentry: Dentry, node: TreeNode): void {
    const { directory, name } = dentry;
    const { directoryNames } = this.#context.budget.limits;
    if (directory.children.size >= directoryNames && !directory.children.has(name)) {
      throw limitError(this.#what(), `its directory has more than ${directoryNames} names`, {
        name: "directoryNames",
        expected: directoryNames,
      });
    }
    this.#deferred.cancel(dentry);
    this.#context.firstLayers?.notePlacement(dentry, node, this.#context.layerIndex);
    this.#context.changes?.noteName(directory, name);
    directory.children.set(name, node);
  }

  /** Creates a directory needed by the current entry's path. */
  #implyDirectory(
    parent: DirectoryNode,
    name: ByteString,
    found: TreeNode | undefined,
  ): DirectoryNode {
    checkName(name, this.#what);
    if (this.#layer.whiteouts) refuseWhiteoutName(name, this.#what);
    const dentry = { directory: parent, name };
    if (found || this.#deferred.has(dentry)) {
      const kind = found?.kind ?? "hardlink";
      this.#context.warnings.add(
        "replacedParent",
        this.#what(),
        `the ${kind} ${displayName(name)} on its path was replaced by a directory`,
      );
    }
    this.#context.budget.countImplied(this.#what);
    const directory = emptyDirectory(this.#context.impliedAttributes, this.#origin());
    this.#implied.add(directory);
    this.#setName(dentry, directory);
    this.#context.changes?.noteNewDirectory(directory, dentry);
    return directory;
  }

  /** Warns if assigning the name drops something from this same layer. */
  #noteReplacement(dentry: Dentry, existing: TreeNode | undefined): void {
    if (this.#noteDuplicate(dentry, existing)) return;
    if (existing?.kind === "directory" && holdsLayer(existing, this.#context.layerIndex)) {
      this.#warnDuplicate();
    }
  }

  /** Warns if an earlier entry of this layer has the same name. */
  #noteDuplicate(dentry: Dentry, existing: TreeNode | undefined): boolean {
    const isDuplicate = this.#deferred.has(dentry) || existing !== undefined && (
          existing.origin.layerIndex === this.#context.layerIndex && !this.#implied.has(existing) ||
          this.#linkNames.get(dentry.directory)?.has(dentry.name) === true
        );
    if (isDuplicate) this.#warnDuplicate();
    return isDuplicate;
  }

  #warnDuplicate(): void {
    this.#context.warnings.add(
      "duplicatePath",
      this.#what(),
      "the layer has this path more than once: the last entry is used",
    );
  }

  #namesOf(path: ByteString): readonly ByteString[] {
    const { names, clamped } = normalisePath(path, this.#what);
    if (clamped) {
      this.#context.warnings.add(
        "clampedPath",
        this.#what(),
        `the path ${displayName(shortenPath(path))} was taken as ${
          displayName(shortenPath(names.join("/")))
        }`,
      );
    }
    return names;
  }

  #origin(): { layerIndex: number; entryIndex: number } {
    return { layerIndex: this.#context.layerIndex, entryIndex: this.#entryIndex };
  }
}

/** Whether anything below the directory comes from that layer. */
function holdsLayer(directory: DirectoryNode, layerIndex: number): boolean {
  const pending = [directory];
  for (let next = pending.pop(); next; next = pending.pop()) {
    for (const child of next.children.values()) {
      if (child.origin.layerIndex === layerIndex) return true;
      if (child.kind === "directory") pending.push(child);
    }
  }
  return false;
}
