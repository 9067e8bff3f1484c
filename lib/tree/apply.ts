/**
 * One layer onto a tree, by the rules of the OCI image-spec (layer.md, "Applying Changesets"). Whiteouts come
 * first, wherever they stand in the tar, and so hide names of lower layers only; then the entries, in order.
 *
 * @module
 */
import { type ByteString, displayName } from "../bytes/byte_string.ts";
import { InputError, limitError } from "../errors.ts";
import type { DirectoryNode, TreeNode } from "../model/node.ts";
import type { TarEntry } from "../tar/entry.ts";
import type { NamePlace } from "./changes.ts";
import { type ApplyContext, describeEntry, shortenPath, type TreeLayer } from "./layer.ts";
import { DeferredLinks, type LinkTarget, missingTarget } from "./links.ts";
import { attributesOf, emptyDirectory, type EntryContext, nodeOf } from "./nodes.ts";
import { checkName, normalisePath } from "./path.ts";
import { PathWalker, type WalkRules } from "./resolve.ts";
import { findMarkers, isAufsLinkFile, type LayerMarkers, refuseWhiteoutName } from "./whiteout.ts";
import { applyMarkers, noteOpaqueDirectories } from "./whiteout_apply.ts";

/**
 * Applies a layer to `context.tree`, which is changed in place and of no use after an error.
 *
 * @throws InputError for entries that no tree can have, and for what the limits forbid
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
  /** Names given by hard links: their nodes may be of lower layers. */
  readonly #linkNames = new Map<DirectoryNode, Set<ByteString>>();
  /** The names that the files kept by AUFS got so far. */
  readonly #aufsPlaces = new Map<ByteString, NamePlace & { readonly node: TreeNode }>();
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
      place: (link, target, node) => {
        this.#what = link.what;
        this.#placeLink(link, target, node);
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
    if (names.length === 0) return this.#describeRoot(entry);
    const count = names.length - 1;
    const directory = this.#walker.walk(names, count, this.#makeRules, this.#what);
    if (!directory) throw new Error("Invariant broken: a walk that makes directories ends in one");
    const place = { directory, name: names[count]! };
    if (entry.kind === "hardlink") return this.#applyLink(entry, place);
    const existing = directory.children.get(place.name);
    if (entry.kind === "directory" && existing?.kind === "directory") {
      this.#noteDuplicate(place, existing);
      this.#implied.delete(existing);
      return this.#describeDirectory(existing, entry);
    }
    this.#noteReplacement(place, existing);
    const node = nodeOf(entry, this.#origin(), this.#layer.store, this.#entryContext);
    // Only a tree that stands for itself says what comes first: a layer's place is given by the layers below it.
    if (entry.firstLayer !== undefined && !this.#layer.whiteouts) {
      node.firstLayer = entry.firstLayer;
    }
    this.#place(place, node);
    if (node.kind === "directory") {
      this.#context.changes?.noteNewDirectory(node, place);
      this.#context.changes?.describedDirectories.add(node);
    }
  }

  #describeRoot(entry: TarEntry): void {
    if (entry.kind !== "directory") {
      throw new InputError(
        this.#what(),
        `the entry for the root is a ${entry.kind}, not a directory`,
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

  #applyLink(entry: TarEntry, place: NamePlace): void {
    const names = this.#namesOf(entry.linkTarget);
    if (this.#layer.whiteouts && isAufsLinkFile(names)) {
      return this.#placeAufsLink(place, names.at(-1)!);
    }
    const target = this.#findTarget(names, this.#what);
    if (target?.node) return this.#placeLink(place, target, target.node);
    // The name is taken from now on, so what had it goes now: no path or link may lead to it any more.
    this.#noteReplacement(place, place.directory.children.get(place.name));
    this.#context.firstLayers?.noteRemoval(place);
    this.#context.changes?.noteName(place.directory, place.name);
    place.directory.children.delete(place.name);
    this.#deferred.add({ ...place, target: names, what: this.#what });
  }

  /** Where the names lead, without following the last one. */
  #findTarget(names: readonly ByteString[], what: () => string): LinkTarget | undefined {
    const { tree } = this.#context;
    if (names.length === 0) return { directory: tree.root, name: "", node: tree.root };
    const count = names.length - 1;
    const directory = this.#walker.walk(names, count, this.#findRules, what);
    const name = names[count]!;
    return directory && { directory, name, node: directory.children.get(name) };
  }

  #placeLink(place: NamePlace, target: NamePlace, node: TreeNode): void {
    if (node.kind === "directory") {
      throw new InputError(this.#what(), "the hard link's target is a directory");
    }
    const existing = place.directory.children.get(place.name);
    if (existing === node) {
      this.#noteDuplicate(place, existing);
      this.#context.changes?.noteUse(node);
    } else {
      this.#noteReplacement(place, existing);
      this.#place(place, node);
      this.#context.changes?.noteLink(node, target, place);
    }
    const names = this.#linkNames.get(place.directory);
    if (names) names.add(place.name);
    else this.#linkNames.set(place.directory, new Set([place.name]));
  }

  /**
   * A link to a file that AUFS kept aside for its links. Docker makes a copy for each link; here they are what they
   * were: names of one file.
   */
  #placeAufsLink(place: NamePlace, fileName: ByteString): void {
    const known = this.#aufsPlaces.get(fileName);
    if (known) return this.#placeLink(place, known, known.node);
    const entry = this.#layer.entries[this.#markers.aufsLinkFiles.get(fileName) ?? -1];
    if (!entry) {
      throw missingTarget({ ...place, target: [".wh..wh.plnk", fileName], what: this.#what });
    }
    const node = nodeOf(entry, this.#origin(), this.#layer.store, this.#entryContext);
    this.#noteReplacement(place, place.directory.children.get(place.name));
    this.#place(place, node);
    this.#aufsPlaces.set(fileName, { ...place, node });
  }

  /** Sets the name; whatever had it loses that name and no other. */
  #place(place: NamePlace, node: TreeNode): void {
    const { directory, name } = place;
    const { directoryNames } = this.#context.budget.limits;
    if (directory.children.size >= directoryNames && !directory.children.has(name)) {
      throw limitError(this.#what(), `its directory has more than ${directoryNames} names`, {
        name: "directoryNames",
        expected: directoryNames,
      });
    }
    this.#deferred.cancel(place);
    this.#context.firstLayers?.notePlacement(place, node, this.#context.layerIndex);
    this.#context.changes?.noteName(directory, name);
    directory.children.set(name, node);
  }

  /** A directory that the path of the current entry needs. */
  #implyDirectory(
    parent: DirectoryNode,
    name: ByteString,
    found: TreeNode | undefined,
  ): DirectoryNode {
    checkName(name, this.#what);
    if (this.#layer.whiteouts) refuseWhiteoutName(name, this.#what);
    const place = { directory: parent, name };
    if (found || this.#deferred.has(place)) {
      const kind = found?.kind ?? "hardlink";
      this.#context.warnings.add(
        "replacedParent",
        this.#what(),
        `the ${kind} ${displayName(name)} on its path was replaced by a directory`,
      );
    }
    this.#context.budget.countNode(this.#what);
    const directory = emptyDirectory(this.#context.impliedAttributes, this.#origin());
    this.#implied.add(directory);
    this.#place(place, directory);
    this.#context.changes?.noteNewDirectory(directory, place);
    return directory;
  }

  /** Counts what of this very layer is lost when the name is set. */
  #noteReplacement(place: NamePlace, existing: TreeNode | undefined): void {
    if (this.#noteDuplicate(place, existing)) return;
    if (existing?.kind === "directory" && holdsLayer(existing, this.#context.layerIndex)) {
      this.#warnDuplicate();
    }
  }

  /** Counts a name that an entry of this layer gave already. */
  #noteDuplicate(place: NamePlace, existing: TreeNode | undefined): boolean {
    const isDuplicate = this.#deferred.has(place) || existing !== undefined && (
          existing.origin.layerIndex === this.#context.layerIndex && !this.#implied.has(existing) ||
          this.#linkNames.get(place.directory)?.has(place.name) === true
        );
    if (isDuplicate) this.#warnDuplicate();
    return isDuplicate;
  }

  #warnDuplicate(): void {
    this.#context.warnings.add(
      "duplicatePath",
      this.#what(),
      "the layer has this path more than once; the last entry counts",
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

/** Whether anything in the directory, however deep, is of that layer. */
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
