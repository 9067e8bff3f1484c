/**
 * Paths in trees. Entry paths are split at slashes, kept inside the root and resolved as the kernel would with the tree as
 * its root; other functions resolve paths in a finished tree. Limits ensure that no input takes unbounded time or memory.
 *
 * @module
 */
import { type ByteString, displayName } from "../bytes/byte_string.ts";
import { InputError, limitError } from "../errors.ts";
import type { DirectoryNode, FileTree, SymlinkNode, TreeNode } from "../model/node.ts";

/** A normalised path. */
export interface NormalPath {
  /** The components from the root on, none of them empty, `.` or `..`; empty for the root. */
  readonly names: readonly ByteString[];
  /** Whether the path contained `..`, or was absolute and not just `/`. */
  readonly clamped: boolean;
}

/**
 * Normalises the path of an entry or of a hard link's target: drops empty and `.` components, resolves `..` but never
 * above the root, and takes absolute paths from the root of the tree.
 *
 * @param what names the entry in messages; called only for those
 * @param maxNameBytes the longest component allowed; more than 255 only for entries that do not become files
 * @throws InputError if a component is longer or contains a NUL
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { normalisePath } from "./paths.ts";
 * assertEquals(normalisePath("./usr//lib/", () => ""), { names: ["usr", "lib"], clamped: false });
 * assertEquals(normalisePath("a/../../b", () => ""), { names: ["b"], clamped: true });
 * ```
 */
export function normalisePath(
  path: ByteString,
  what: () => string,
  maxNameBytes: number = MAX_NAME_SIZE_BYTES,
): NormalPath {
  const names: ByteString[] = [];
  let clamped = false;
  for (const name of path.split("/")) {
    if (name === "" || name === ".") continue;
    if (name === "..") {
      names.pop();
      clamped = true;
    } else {
      checkName(name, what, maxNameBytes);
      names.push(name);
    }
  }
  if (names.length > 0 && path.startsWith("/")) clamped = true;
  return { names, clamped };
}

/** Throws an InputError unless a directory entry can hold the name. */
export function checkName(
  name: ByteString,
  what: () => string,
  maxNameBytes: number = MAX_NAME_SIZE_BYTES,
): void {
  if (name.length > maxNameBytes) {
    throw new InputError(
      what(),
      `the name ${displayName(name.slice(0, 32))}... has ${name.length} bytes; ` +
        `ext4 allows ${maxNameBytes}`,
      { code: "notStorable" },
    );
  }
  if (name.includes("\0")) {
    throw new InputError(what(), `the name ${displayName(name)} holds a NUL byte`, {
      code: "notStorable",
    });
  }
}

/** What a walk does when it cannot simply continue. */
export interface WalkRules {
  /**
   * Called if `parent` has no directory or symlink with that name; `found` is what it has instead. Returns the directory to
   * continue in, or undefined to stop.
   */
  readonly onGap: (
    parent: DirectoryNode,
    name: ByteString,
    found: TreeNode | undefined,
  ) => DirectoryNode | undefined;
  /** Called before a symlink is followed; returning false stops the walk. */
  readonly onSymlink: (parent: DirectoryNode, name: ByteString, symlink: SymlinkNode) => boolean;
  /** Stop at a limit instead of throwing. */
  readonly lenient?: boolean | undefined;
}

/** Resolves paths in one tree. Symlinks are followed within it: `/` and `..` at the root lead to its root. */
export class PathWalker {
  readonly #root: DirectoryNode;
  readonly #budget: TreeBudget;

  constructor(root: DirectoryNode, budget: TreeBudget) {
    this.#root = root;
    this.#budget = budget;
  }

  /**
   * The directory that the first `count` names lead to, following all symlinks.
   *
   * @param what names the entry in messages; called only for those
   * @returns undefined if one of the rules stopped the walk
   * @throws InputError if the limits on symlinks, steps or depth are exceeded
   */
  walk(
    names: readonly ByteString[],
    count: number,
    rules: WalkRules,
    what: () => string,
  ): DirectoryNode | undefined {
    const trail = [this.#root];
    for (let i = 0; i < count; i++) {
      const child = trail[i]!.children.get(names[i]!);
      if (child === undefined || child.kind !== "directory") {
        return this.#walkSlowly(trail, names.slice(i, count), rules, what);
      }
      if (!this.#enter(trail, child, rules, what)) return undefined;
    }
    return trail[count];
  }

  /** Continues through symlinks and gaps from the end of the trail (the directories from the root on). */
  #walkSlowly(
    trail: DirectoryNode[],
    names: readonly ByteString[],
    rules: WalkRules,
    what: () => string,
  ): DirectoryNode | undefined {
    const pending = names.toReversed();
    let hopCount = 0;
    for (let name = pending.pop(); name !== undefined; name = pending.pop()) {
      if (name === "" || name === ".") continue;
      if (name === "..") {
        if (trail.length > 1) trail.pop();
        continue;
      }
      const directory = trail.at(-1)!;
      const child = directory.children.get(name);
      if (child?.kind === "symlink") {
        if (!this.#mayHop(++hopCount, name, rules, what)) return undefined;
        if (!rules.onSymlink(directory, name, child)) return undefined;
        this.#follow(child, trail, pending, what);
        continue;
      }
      // A symlink's target may pass through a missing name and back out; no other tool creates a directory for that.
      if (child?.kind !== "directory" && skipDetour(pending)) continue;
      const next = child?.kind === "directory" ? child : rules.onGap(directory, name, child);
      if (!next || !this.#enter(trail, next, rules, what)) return undefined;
    }
    return trail.at(-1);
  }

  /** Prepends the target of a symlink to the remaining names. */
  #follow(
    symlink: SymlinkNode,
    trail: DirectoryNode[],
    pending: ByteString[],
    what: () => string,
  ): void {
    const steps = symlink.target.split("/");
    this.#budget.countSymlinkSteps(steps.length, what);
    if (symlink.target.startsWith("/")) trail.length = 1;
    for (let i = steps.length - 1; i >= 0; i--) pending.push(steps[i]!);
  }

  /** The length of the trail is the depth of names in its last directory. */
  #enter(
    trail: DirectoryNode[],
    directory: DirectoryNode,
    rules: WalkRules,
    what: () => string,
  ): boolean {
    trail.push(directory);
    const { pathDepth } = this.#budget.limits;
    if (trail.length <= pathDepth) return true;
    if (rules.lenient) return false;
    throw limitError(what(), `the path is more than ${pathDepth} names deep`, {
      name: "pathDepth",
      expected: pathDepth,
    });
  }

  #mayHop(hopCount: number, name: ByteString, rules: WalkRules, what: () => string): boolean {
    const { symlinkHops } = this.#budget.limits;
    if (hopCount <= symlinkHops) return true;
    if (rules.lenient) return false;
    throw limitError(
      what(),
      `the path leads through more than ${symlinkHops} symlinks, ` +
        `the last one ${displayName(name)}: a loop?`,
      { name: "symlinkHops", expected: symlinkHops },
    );
  }
}

/**
 * Removes from the pending names (next one last) the rest of a detour, as in `missing/a/../..`, that leads through a name
 * and back out of it.
 *
 * @returns whether there was such a detour
 */
function skipDetour(pending: ByteString[]): boolean {
  let depth = 1;
  for (let i = pending.length - 1; i >= 0; i--) {
    const name = pending[i]!;
    if (name === "" || name === ".") continue;
    depth += name === ".." ? -1 : 1;
    if (depth > 0) continue;
    pending.length = i;
    return true;
  }
  return false;
}

/** Limits on one tree; each is the largest accepted value. */
export interface TreeLimits {
  /** Entries in all layers together, plus the directories they imply. */
  readonly treeNodes: number;
  /** Directories without an entry of their own, implied by the paths of other entries. */
  readonly impliedDirectories: number;
  /** Components of a path from the root. */
  readonly pathDepth: number;
  /** Symlinks followed while resolving one path. */
  readonly symlinkHops: number;
  /** Path components walked because of symlinks, in all layers together. */
  readonly symlinkSteps: number;
  /** Names in one directory. */
  readonly directoryNames: number;
}

/** The defaults, far above what real images need. */
export const DEFAULT_TREE_LIMITS: TreeLimits = {
  treeNodes: 2 ** 20,
  // A few bytes of a path create one, and each takes two kibibytes of memory.
  impliedDirectories: 2 ** 18,
  pathDepth: 1024,
  symlinkHops: 255,
  symlinkSteps: 50_000_000,
  directoryNames: 1_000_000,
};

/** The longest name that a directory entry of ext4 can hold. */
export const MAX_NAME_SIZE_BYTES = 255;

/** The longest symlink target: one block, less the terminating NUL. */
export const MAX_SYMLINK_TARGET_SIZE_BYTES = 4095;

/** Counts towards the limits of a whole tree. */
export class TreeBudget {
  readonly limits: TreeLimits;
  #nodeCount = 0;
  #impliedCount = 0;
  #symlinkStepCount = 0;

  constructor(limits: Partial<TreeLimits> = {}) {
    this.limits = { ...DEFAULT_TREE_LIMITS, ...limits };
  }

  /** Counts one entry or implied directory; `what` is called only for the message. */
  countNode(what: () => string): void {
    if (++this.#nodeCount > this.limits.treeNodes) {
      throw limitError(
        what(),
        `the layers have more than ${this.limits.treeNodes} entries and implied directories`,
        { name: "treeNodes", expected: this.limits.treeNodes },
      );
    }
  }

  /** Counts one implied directory, which also counts as a node. */
  countImplied(what: () => string): void {
    this.countNode(what);
    if (++this.#impliedCount > this.limits.impliedDirectories) {
      throw limitError(
        what(),
        `the layers imply more than ${this.limits.impliedDirectories} directories that have no entry`,
        { name: "impliedDirectories", expected: this.limits.impliedDirectories },
      );
    }
  }

  /** Counts the path components of a symlink being followed. */
  countSymlinkSteps(stepCount: number, what: () => string): void {
    this.#symlinkStepCount += stepCount;
    if (this.#symlinkStepCount > this.limits.symlinkSteps) {
      throw limitError(
        what(),
        `the layers' paths lead through symlinks for more than ` +
          `${this.limits.symlinkSteps} components in all`,
        { name: "symlinkSteps", expected: this.limits.symlinkSteps },
      );
    }
  }
}

/** The result of resolving a path. */
export interface ResolvedPath {
  readonly node: TreeNode;
  /** The real path, with no symlinks in it; empty for the root. */
  readonly path: ByteString;
}

/** The number of symlinks that Linux follows in one path (MAXSYMLINKS). */
const SYMLINK_HOPS_MAX = 40;
/** PATH_MAX; longer strings are not valid paths. */
const PATH_BYTES_MAX = 4096;

/**
 * Follows a path with all its symlinks, including the last component.
 *
 * @param path relative paths start at the root
 * @returns undefined if nothing is there, or links are dangling or circular
 */
export function resolvePath({ root }: FileTree, path: ByteString): ResolvedPath | undefined {
  if (path.length > PATH_BYTES_MAX || path.includes("\0")) return undefined;
  const trail: { readonly name: ByteString; readonly node: TreeNode }[] = [];
  const pending = path.split("/").reverse();
  let hopCount = 0;
  for (let name = pending.pop(); name !== undefined; name = pending.pop()) {
    if (name === "" || name === ".") continue;
    const directory: TreeNode = trail.at(-1)?.node ?? root;
    if (directory.kind !== "directory") return undefined;
    if (name === "..") {
      trail.pop();
      continue;
    }
    const node: TreeNode | undefined = (directory as DirectoryNode).children.get(name);
    if (node === undefined) return undefined;
    if (node.kind !== "symlink") {
      trail.push({ name, node });
      continue;
    }
    if (++hopCount > SYMLINK_HOPS_MAX) return undefined;
    if (node.target.startsWith("/")) trail.length = 0;
    for (const step of node.target.split("/").reverse()) pending.push(step);
  }
  return {
    node: trail.at(-1)?.node ?? root,
    path: trail.map((step) => `/${step.name}`).join(""),
  };
}
