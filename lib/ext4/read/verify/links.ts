/**
 * How directories hang together, and how often every inode is named.
 *
 * @module
 */
import { FILE_MODE, INODE_NUMBER, LINK_COUNT_MAX, RO_COMPAT } from "../../format/constants.ts";
import type { Context } from "./context.ts";

/** For every directory, who names it, and what it says of its parent. */
export class LinkTable {
  readonly #namedBy = new Map<number, number>();
  readonly #dotDots = new Map<number, number>();

  /** Notes a name of a directory; the answer is the directory that named it before, if one did. */
  name(directory: number, parent: number): number | undefined {
    const first = this.#namedBy.get(directory);
    if (first === undefined) this.#namedBy.set(directory, parent);
    return first;
  }

  setDotDot(directory: number, parent: number): void {
    this.#dotDots.set(directory, parent);
  }

  parentOf(directory: number): number | undefined {
    return this.#namedBy.get(directory);
  }

  dotDotOf(directory: number): number | undefined {
    return this.#dotDots.get(directory);
  }
}

/** After all directories: parents, ways to the root, link counts. */
export function checkLinks(context: Context, links: LinkTable): void {
  const { book, findings, directories } = context;
  const root = INODE_NUMBER.ROOT;
  if (!book.isUsed(root) || book.type(root) !== FILE_MODE.DIRECTORY) {
    findings.add("inode", { inode: root }, "the root is no directory");
  }
  for (const { number } of directories) {
    const dotDot = links.dotDotOf(number);
    // What ".." names counts a link, as any entry does.
    if (dotDot !== undefined) countDotDot(context, dotDot);
    checkParent(context, links, number);
  }
  checkConnected(context, links);
  for (let inode = book.nextUnsettled(0); inode !== 0; inode = book.nextUnsettled(inode)) {
    checkLinkCount(context, inode);
  }
}

function countDotDot(context: Context, parent: number): void {
  const { book, volume } = context;
  if (parent >= 1 && parent <= volume.superblock.inodesCount) book.refer(parent);
}

function checkParent(context: Context, links: LinkTable, directory: number): void {
  const dotDot = links.dotDotOf(directory);
  const wanted = directory === INODE_NUMBER.ROOT ? directory : links.parentOf(directory);
  if (dotDot === undefined || wanted === undefined) return;
  context.findings.expect("directory", { inode: directory }, 'parent in ".."', dotDot, wanted);
}

/** Every directory must have a way to the root; of a loop none has. */
function checkConnected(context: Context, links: LinkTable): void {
  const connected = new Set<number>([INODE_NUMBER.ROOT]);
  const lost = new Set<number>();
  for (const { number } of context.directories) {
    const parent = links.parentOf(number);
    if (connected.has(number)) continue;
    if (parent !== undefined && connected.has(parent) && !lost.has(number)) {
      connected.add(number);
      continue;
    }
    const trail = new Set<number>();
    let at: number | undefined = number;
    while (at !== undefined && !connected.has(at) && !lost.has(at) && !trail.has(at)) {
      trail.add(at);
      at = links.parentOf(at);
    }
    const isConnected = at !== undefined && connected.has(at);
    for (const each of trail) (isConnected ? connected : lost).add(each);
    if (!isConnected) {
      context.findings.add("directory", { inode: number }, "no way leads to it from the root");
    }
  }
}

function checkLinkCount(context: Context, inode: number): void {
  const { book, findings } = context;
  const stored = book.linkCount(inode);
  if (book.isHidden(inode)) {
    if (book.isValue(inode)) findings.expect("inode", { inode }, "i_links_count", stored, 1);
    return;
  }
  const named = book.references(inode);
  if (named === 0) {
    findings.add("inode", { inode }, "it is in use, but has no name");
    return;
  }
  const wanted = isUncounted(context, inode) ? 1 : named;
  if (stored !== wanted) findings.expect("inode", { inode }, "i_links_count", stored, wanted);
}

/**
 * Under DIR_NLINK, a directory that had too many subdirectories to count has one link, and keeps it when they become
 * fewer. It must have had an index, then.
 */
function isUncounted({ book, volume }: Context, inode: number): boolean {
  if (book.type(inode) !== FILE_MODE.DIRECTORY || !volume.hasRoCompat(RO_COMPAT.DIR_NLINK)) {
    return false;
  }
  return book.references(inode) > LINK_COUNT_MAX ||
    (book.linkCount(inode) === 1 && book.isIndexed(inode));
}
