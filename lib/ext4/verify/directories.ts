/**
 * Checks the names in directories, how directories are connected, and how often every inode is named.
 *
 * @module
 */
import {
  DIRENT_TYPE,
  FILE_MODE,
  INODE_NUMBER,
  LINK_COUNT_MAX,
  RO_COMPAT,
} from "../format/constants.ts";
import { CIPHERTEXT_BYTES_MIN } from "../format/htree.ts";
import type { DirectoryEntries } from "../format/directory.ts";
import type { DirectoryVisitor, DirectoryWalk } from "../volume/directory.ts";
import { DIRENT_TYPES } from "../volume/inode.ts";
import { type Context, INODE_TRAIT } from "./context.ts";

const ENCRYPTABLE_TYPES: readonly number[] = [
  FILE_MODE.REGULAR,
  FILE_MODE.DIRECTORY,
  FILE_MODE.SYMLINK,
];

/** Checks the entries of every directory against the inodes that they name. */
export class EntryCheck implements DirectoryVisitor {
  readonly #context: Context;
  #directory = 0;
  #isEncrypted = false;

  constructor(context: Context) {
    this.#context = context;
  }

  begin(directory: number): void {
    this.#directory = directory;
    this.#isEncrypted = this.#context.inodes.is(directory, INODE_TRAIT.ENCRYPTED);
  }

  self(): void {
    this.#context.inodes.refer(this.#directory);
  }

  parent(inodeNumber: number): void {
    this.#context.dotDots.set(this.#directory, inodeNumber);
  }

  entry(entries: DirectoryEntries, index: number, walk: DirectoryWalk): void {
    const { inodes, namedBy, volume } = this.#context;
    const found = entries.inodeAt(index);
    const bad = (problem: string, wanted: string) =>
      walk.reportEntry(index, problem, { found, wanted });
    const { inodesCount } = volume.geometry;
    if (found < volume.firstInode || found > inodesCount) {
      const isRoot = found === INODE_NUMBER.ROOT;
      const problem = isRoot ? "names the root" : "names an inode that no entry can name";
      return bad(problem, `${volume.firstInode} to ${inodesCount}`);
    }
    const kind = inodes.kind(found);
    if ((kind & INODE_TRAIT.USED) === 0) {
      return bad("names an inode that is not in use", "an inode in use");
    }
    if ((kind & INODE_TRAIT.HIDDEN) !== 0) {
      bad("names an inode of the file system itself", "a file");
    }
    const type = DIRENT_TYPES[kind & 0xf]!;
    if (this.#isEncrypted) this.#checkEncrypted(entries, index, kind, walk);
    const wanted = walk.typeIn(type);
    if (entries.fileTypeAt(index) !== wanted) walk.reportType(index, wanted);
    inodes.refer(found);
    if (type !== DIRENT_TYPE.DIRECTORY) return;
    const first = namedBy.get(found);
    if (first === undefined) namedBy.set(found, this.#directory);
    else bad("is a second name of a directory", `only the one in inode ${first}`);
  }

  /** Names in an encrypted directory are ciphertext, and the inodes that they name are encrypted, too. */
  #checkEncrypted(
    entries: DirectoryEntries,
    index: number,
    kind: number,
    walk: DirectoryWalk,
  ): void {
    const found = entries.inodeAt(index);
    const nameLength = entries.nameLengthAt(index);
    if (nameLength < CIPHERTEXT_BYTES_MIN) {
      const details = { found: nameLength, wanted: `at least ${CIPHERTEXT_BYTES_MIN}` };
      walk.reportEntry(index, "is too short for an encrypted name", details);
    }
    if ((kind & INODE_TRAIT.ENCRYPTED) !== 0) {
      const { policies } = this.#context;
      const [own, other] = [policies.get(this.#directory), policies.get(found)];
      if (own === undefined || other === undefined || own === other) return;
      const wanted = "the directory's policy";
      walk.reportEntry(index, "names an inode with another encryption policy", { found, wanted });
    } else if (ENCRYPTABLE_TYPES.includes((kind & 0xf) << 12)) {
      const wanted = "an encrypted inode";
      walk.reportEntry(index, "names an inode that is not encrypted", { found, wanted });
    }
  }
}

/** Runs after all directories: checks parents, paths to the root, and link counts. */
export function checkLinks(context: Context): void {
  const { inodes, judge, directories, volume, namedBy, dotDots } = context;
  const root = INODE_NUMBER.ROOT;
  if (inodes.type(root) !== FILE_MODE.DIRECTORY) {
    judge.report("inode", { inode: root }, "the root is not a directory");
  }
  for (const { view: { number } } of directories) {
    const dotDot = dotDots.get(number);
    // ".." counts as a link to the inode that it names, like any entry.
    if (dotDot !== undefined && dotDot >= 1 && dotDot <= volume.geometry.inodesCount) {
      inodes.refer(dotDot);
    }
    const wanted = number === root ? number : namedBy.get(number);
    if (dotDot === undefined || wanted === undefined) continue;
    judge.expect("directory", { inode: number }, 'parent in ".."', dotDot, wanted);
  }
  checkConnected(context);
  for (let inode = inodes.nextUnsettled(0); inode !== 0; inode = inodes.nextUnsettled(inode)) {
    checkLinkCount(context, inode);
  }
}

/** Every directory must have a path to the root; directories in a loop have none. */
function checkConnected({ directories, namedBy, judge }: Context): void {
  const connected = new Set<number>([INODE_NUMBER.ROOT]);
  const lost = new Set<number>();
  for (const { view: { number } } of directories) {
    const parent = namedBy.get(number);
    if (connected.has(number)) continue;
    if (parent !== undefined && connected.has(parent) && !lost.has(number)) {
      connected.add(number);
      continue;
    }
    const trail = new Set<number>();
    let at: number | undefined = number;
    while (at !== undefined && !connected.has(at) && !lost.has(at) && !trail.has(at)) {
      trail.add(at);
      at = namedBy.get(at);
    }
    const isConnected = at !== undefined && connected.has(at);
    for (const each of trail) (isConnected ? connected : lost).add(each);
    if (isConnected) continue;
    judge.report("directory", { inode: number }, "no path from the root leads to it");
  }
}

function checkLinkCount(context: Context, inode: number): void {
  const { inodes, judge } = context;
  const stored = inodes.linkCount(inode);
  const { HIDDEN, VALUE } = INODE_TRAIT;
  if (inodes.is(inode, HIDDEN)) {
    if (inodes.is(inode, VALUE)) judge.expect("inode", { inode }, "i_links_count", stored, 1);
    return;
  }
  const named = inodes.references(inode);
  if (named === 0) return judge.report("inode", { inode }, "it is in use, but has no name");
  const wanted = isUncounted(context, inode) ? 1 : named;
  judge.expect("inode", { inode }, "i_links_count", stored, wanted);
}

/**
 * With DIR_NLINK, a directory that once had too many subdirectories to count stores a link count of 1, and keeps it
 * when they become fewer. It must have had an index.
 */
function isUncounted({ inodes, volume }: Context, inode: number): boolean {
  if (inodes.type(inode) !== FILE_MODE.DIRECTORY || !volume.hasRoCompat(RO_COMPAT.DIR_NLINK)) {
    return false;
  }
  return inodes.references(inode) > LINK_COUNT_MAX ||
    (inodes.linkCount(inode) === 1 && inodes.is(inode, INODE_TRAIT.INDEXED));
}
