/**
 * Paths in trees: those of layer entries, split at slashes, kept inside the root and resolved as the kernel would with the tree
 * as its root; those of files in a finished tree; and limits, so that no input takes unbounded time or memory.
 *
 * @module
 */
import { type ByteString, displayName } from "../bytes/byte_string.ts";
import { InputError, limitError } from "../errors.ts";
import type { DirectoryNode, FileTree, SymlinkNode, TreeNode } from "../model/node.ts";

/** A normalised path. */
export interface NormalPath {
  /** From the root on, none of them empty, `.` or `..`; empty for the root. */
  readonly names: readonly ByteString[];
  /** Whether the path had a `..`, or was absolute and not just `/`. */
  readonly clamped: boolean;
}

/**
 * Normalises the path of an entry, or of a hard link's target: drops empty and `.` components, resolves `..` up to the root,
 * and takes absolute paths from the root of the tree.
 *
 * @param what names the entry in messages; called only for those
 * @param maxNameBytes the longest component; more than 255 only for those that do not become files
 * @throws InputError when a component is longer than that or holds a NUL
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

/** What a walk does where it cannot simply go on. */
export interface WalkRules {
  /**
   * Called where `parent` has no directory or symlink of that name, but `found`. Returns the directory to continue in, or
   * undefined to stop.
   */
  readonly onGap: (
    parent: DirectoryNode,
    name: ByteString,
    found: TreeNode | undefined,
  ) => DirectoryNode | undefined;
  /** Called before a symlink is followed; false stops the walk. */
  readonly onSymlink: (parent: DirectoryNode, name: ByteString, symlink: SymlinkNode) => boolean;
  /** Stop instead of throwing at a limit. */
  readonly lenient?: boolean | undefined;
}

/** Resolves paths in one tree. Symlinks are followed inside of it: `/`, and `..` of the root, are its root. */
export class PathWalker {
  readonly #root: DirectoryNode;
  readonly #budget: TreeBudget;

  constructor(root: DirectoryNode, budget: TreeBudget) {
    this.#root = root;
    this.#budget = budget;
  }

  /**
   * The directory that the first `count` names lead to, with all symlinks followed.
   *
   * @param what names the entry in messages; called only for those
   * @returns undefined if one of the rules stopped the walk
   * @throws InputError for more symlinks, steps or depth than the limits allow
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

  /** Continues from the end of the trail (the directories from the root on) through symlinks and gaps. */
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
      // The target of a symlink may go through a name that is not there, and come back: no other tool makes it for that.
      if (child?.kind !== "directory" && skipDetour(pending)) continue;
      const next = child?.kind === "directory" ? child : rules.onGap(directory, name, child);
      if (!next || !this.#enter(trail, next, rules, what)) return undefined;
    }
    return trail.at(-1);
  }

  /** Puts the target of a symlink in front of the remaining names. */
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

  /** The length of the trail is the depth of a name in its last directory. */
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
 * Takes the rest of a way that leads through a name and back out of it, as in `missing/a/../..`, off the names that are
 * still to come, the next one last.
 *
 * @returns whether there is such a way
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

/** Limits on one tree; each is the largest value that is accepted. */
export interface TreeLimits {
  /** Entries of all layers together, plus the directories that they imply. */
  readonly treeNodes: number;
  /** Directories without an entry of their own, which the paths of other entries imply. */
  readonly impliedDirectories: number;
  /** Directories on the way from the root to a name, that name included. */
  readonly pathDepth: number;
  /** Symlinks followed while one path is resolved. */
  readonly symlinkHops: number;
  /** Path components walked because of symlinks, for all layers together. */
  readonly symlinkSteps: number;
  /** Names in one directory. */
  readonly directoryNames: number;
}

/** The defaults, far above what real images need. */
export const DEFAULT_TREE_LIMITS: TreeLimits = {
  treeNodes: 2 ** 20,
  // A few bytes of a path make one, and each takes two kibibytes of memory.
  impliedDirectories: 2 ** 18,
  pathDepth: 1024,
  symlinkHops: 255,
  symlinkSteps: 50_000_000,
  directoryNames: 1_000_000,
};

/** The longest name that a directory entry of ext4 can hold. */
export const MAX_NAME_SIZE_BYTES = 255;

/** The longest symlink target: one block without the NUL at its end. */
export const MAX_SYMLINK_TARGET_SIZE_BYTES = 4095;

/** Counts against the limits of a whole tree. */
export class TreeBudget {
  readonly limits: TreeLimits;
  #nodeCount = 0;
  #impliedCount = 0;
  #symlinkStepCount = 0;

  constructor(limits: Partial<TreeLimits> = {}) {
    this.limits = { ...DEFAULT_TREE_LIMITS, ...limits };
  }

  /** Counts one entry or one implied directory; `what` is called for the message only. */
  countNode(what: () => string): void {
    if (++this.#nodeCount > this.limits.treeNodes) {
      throw limitError(
        what(),
        `the layers have more than ${this.limits.treeNodes} entries and implied directories`,
        { name: "treeNodes", expected: this.limits.treeNodes },
      );
    }
  }

  /** Counts one implied directory, which is a node as well. */
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

  /** Counts the path components of a symlink that is followed. */
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

/** What a path leads to. */
export interface ResolvedPath {
  readonly node: TreeNode;
  /** Its real path: no symlink is on the way. The root's is empty. */
  readonly path: ByteString;
}

/** As many symlinks as Linux follows in one path (MAXSYMLINKS). */
const SYMLINK_HOPS_MAX = 40;
/** PATH_MAX: what is longer is no path. */
const PATH_BYTES_MAX = 4096;

/**
 * Follows a path, with all symlinks of it and the last one too.
 *
 * @param path relative ones begin at the root
 * @returns undefined where nothing is there, or links lead nowhere or in circles
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
