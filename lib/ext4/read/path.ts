/**
 * Finding one path in an image without reading the rest of it.
 *
 * @module
 */
import type { ByteString } from "../../bytes/byte_string.ts";
import { displayName } from "../../bytes/byte_string.ts";
import { InputError } from "../../errors.ts";
import { INODE_NUMBER } from "../format/constants.ts";
import { readDirectory } from "./directory.ts";
import { isReservedInode } from "./inode.ts";
import { readSymlink } from "./symlink.ts";
import type { Ext4Image, ImageInode } from "./types.ts";

/** What a path led to. */
export interface FoundInode {
  /** The inode. */
  readonly inode: ImageInode;
  /** Where it is, with all symlinks followed; empty for the root, else it starts with a slash. */
  readonly path: ByteString;
}

/** As the kernel: more symlinks than these are taken for a circle. */
const SYMLINK_HOPS_MAX = 40;

/**
 * The inode at a path. Symlinks on the way are followed inside the image, where `..` of the root is the root; the last
 * name is followed when `followsLast` says so.
 *
 * @throws {InputError} when nothing is there, and for a damaged directory on the way
 */
export function findInode(
  image: Ext4Image,
  path: ByteString,
  options: { readonly followsLast: boolean },
): FoundInode {
  const trail: FoundInode[] = [{ inode: image.inode(INODE_NUMBER.ROOT), path: "" }];
  const directories: KnownDirectories = new Map();
  const wanted = splitPath(path);
  let hopCount = 0;
  for (let name = wanted.pop(); name !== undefined; name = wanted.pop()) {
    const here = trail.at(-1)!;
    if (here.inode.kind !== "directory") {
      throw new InputError(displayName(path), `${displayName(here.path)} is no directory`);
    }
    if (name === ".") continue;
    if (name === "..") {
      if (trail.length > 1) trail.pop();
      continue;
    }
    const found = child(image, here, name, directories);
    if (found === undefined) {
      const missing = displayName(`${here.path}/${name}`);
      const asked = displayName(path);
      throw new InputError(
        asked,
        missing === asked ? "does not exist" : `${missing} does not exist`,
      );
    }
    if (found.inode.kind !== "symlink" || (wanted.length === 0 && !options.followsLast)) {
      trail.push(found);
      continue;
    }
    if (++hopCount > SYMLINK_HOPS_MAX) {
      throw new InputError(
        displayName(path),
        `it leads over more than ${SYMLINK_HOPS_MAX} symlinks`,
      );
    }
    const target = readSymlink(image, found.inode);
    if (target.startsWith("/")) trail.length = 1;
    wanted.push(...splitPath(target));
  }
  return trail.at(-1)!;
}

/** Directories on the way, each read once however often symlinks lead through it. */
type KnownDirectories = Map<number, ReadonlyMap<ByteString, number>>;

function child(
  image: Ext4Image,
  parent: FoundInode,
  name: ByteString,
  directories: KnownDirectories,
): FoundInode | undefined {
  let names = directories.get(parent.inode.number);
  if (names === undefined) {
    const content = readDirectory(image, parent.inode);
    names = new Map(content.names.map((entry) => [entry.name, entry.inodeNumber]));
    directories.set(parent.inode.number, names);
  }
  const inodeNumber = names.get(name);
  if (inodeNumber === undefined) return undefined;
  if (isReservedInode(image, inodeNumber)) {
    throw new InputError(parent.inode.what, `a name in it is the reserved inode ${inodeNumber}`);
  }
  return { inode: image.inode(inodeNumber), path: `${parent.path}/${name}` };
}

/** The names of a path, the last one first. A slash at the end asks for a directory, as "." does. */
function splitPath(path: ByteString): ByteString[] {
  const all = path.split("/");
  const names = all.filter((name) => name !== "" && name !== ".");
  const last = all.at(-1);
  if (names.length > 0 && (last === "" || last === ".")) names.push(".");
  return names.reverse();
}
