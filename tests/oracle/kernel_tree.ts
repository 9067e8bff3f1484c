/**
 * Whether the kernel sees a tree in an image: every attribute and byte, also as a user without rights, and whether it
 * can then write to it and leave it clean.
 *
 * @module
 */
import type { ByteString } from "../../lib/bytes/byte_string.ts";
import { byteStringFromText } from "../../lib/bytes/byte_string.ts";
import type { FileTree } from "../../lib/model/node.ts";
import type { CompareOptions } from "./compare.ts";
import { describeDifference, firstDifference } from "./compare.ts";
import { kindOf, viewDirectory } from "./directory_view.ts";
import { assertE2fsckSound } from "./e2fsck.ts";
import { mountReadOnly, mountReadWrite } from "./kernel.ts";
import { closeDescriptor, openDirectory, openNameAt, readNames, statusAt } from "./libc.ts";
import { ERRNO, SystemCallError } from "./libc_calls.ts";
import {
  linkBetween,
  makeDirectoryAt,
  openWritableAt,
  removeAt,
  renameAt,
  setXattrAt,
  symlinkAt,
  truncateDescriptor,
  writeAt,
} from "./libc_changes.ts";
import type { ObservedName } from "./observed.ts";
import { viewTree } from "./tree_view.ts";
import { firstWrongAccess } from "./unprivileged.ts";

const LOST_AND_FOUND = "lost+found";
/** How many names the write test deletes before it writes. */
const DELETED_NAME_COUNT = 3;

/**
 * Throws unless a read-only mount of the image shows exactly the tree, every file opens as another user exactly where
 * its mode allows it, and, after a read-write mount that writes and deletes, e2fsck is content.
 *
 * The image is changed by the last step, so it is done on a copy.
 */
export function assertKernelTree(
  image: string,
  expected: FileTree,
  options: CompareOptions = { sameHoles: true },
): void {
  mountReadOnly(image, (mountPoint) => {
    const difference = firstDifference(
      viewImage(mountPoint, expected.root.children.has(LOST_AND_FOUND)),
      viewTree(expected),
      options,
    ) ?? firstWrongAccess(mountPoint);
    if (difference) throw new Error(`${image}: ${describeDifference(difference)}`);
  });
  assertWritable(image);
}

/**
 * The tree in a mounted image. An empty lost+found of root's that the wanted tree does not have is left out: a file
 * system brings its own.
 */
export function viewImage(
  mountPoint: string,
  wantsLostAndFound: boolean,
): Generator<ObservedName> {
  const isExtra = !wantsLostAndFound && hasPlainLostAndFound(mountPoint);
  const leaveOut = isExtra ? LOST_AND_FOUND : undefined;
  return viewDirectory(mountPoint, { leaveOut, directoryLinks: "stated" });
}

function hasPlainLostAndFound(mountPoint: string): boolean {
  const root = openDirectory(byteStringFromText(mountPoint));
  try {
    if (!existsAt(root, LOST_AND_FOUND)) return false;
    const { mode, uid, gid } = statusAt(root, LOST_AND_FOUND);
    if (mode !== 0o40700 || uid !== 0 || gid !== 0) return false;
    const descriptor = openNameAt(root, LOST_AND_FOUND, true);
    try {
      return readNames(descriptor).length === 0;
    } finally {
      closeDescriptor(descriptor);
    }
  } finally {
    closeDescriptor(root);
  }
}

function existsAt(directory: number, name: ByteString): boolean {
  try {
    statusAt(directory, name);
    return true;
  } catch (error) {
    if (error instanceof SystemCallError && error.errno === ERRNO.ENOENT) return false;
    throw error;
  }
}

/** Throws unless the kernel can delete from and write to a copy of the image and e2fsck then finds it sound. */
export function assertWritable(image: string): void {
  const copy = `${image}.written`;
  try {
    copySparse(image, copy);
    mountReadWrite(copy, exerciseWrites);
    assertE2fsckSound(copy);
  } finally {
    Deno.removeSync(copy);
  }
}

function copySparse(from: string, to: string): void {
  const { success, stderr } = new Deno.Command("cp", { args: ["--sparse=always", from, to] })
    .outputSync();
  if (!success) throw new Error(`cp ${from} ${to}: ${new TextDecoder().decode(stderr)}`);
}

/**
 * Deletes a few names, changes what is there, and adds new things. An image without free space takes nothing new,
 * and a file can be as long as files get, which is no fault of theirs.
 */
function exerciseWrites(mountPoint: string): void {
  const root = openDirectory(byteStringFromText(mountPoint));
  try {
    removeSomeNames(root);
    changeFirstFile(root);
    for (const write of [addDirectory, addFile, addLongSymlink, addLinkAndRename]) {
      tolerateFullImage(() => write(root));
    }
  } finally {
    closeDescriptor(root);
  }
}

function removeSomeNames(directory: number): void {
  let removedCount = 0;
  for (const name of readNames(directory)) {
    if (name === LOST_AND_FOUND) continue;
    removeTree(directory, name);
    if (++removedCount === DELETED_NAME_COUNT) return;
  }
}

function removeTree(directory: number, name: ByteString): void {
  const isDirectory = kindOf(statusAt(directory, name)) === "directory";
  if (isDirectory) {
    const descriptor = openNameAt(directory, name, true);
    try {
      for (const child of readNames(descriptor)) removeTree(descriptor, child);
    } finally {
      closeDescriptor(descriptor);
    }
  }
  removeAt(directory, name, isDirectory);
}

/** Writes into, lengthens and cuts the first file that is left, and gives it an extended attribute. */
function changeFirstFile(directory: number): void {
  const name = readNames(directory).find((n) => kindOf(statusAt(directory, n)) === "file");
  if (name === undefined) return;
  const descriptor = openWritableAt(directory, name);
  try {
    const { sizeBytes } = statusAt(directory, name);
    tolerateFullImage(() => writeAt(descriptor, new Uint8Array(5000).fill(0x42), sizeBytes));
    tolerateFullImage(() => truncateDescriptor(descriptor, Math.floor(sizeBytes / 2)));
    tolerateFullImage(() => setXattrAt(directory, name, "user.added", new Uint8Array(200).fill(7)));
  } finally {
    closeDescriptor(descriptor);
  }
}

function addDirectory(root: number): void {
  makeDirectoryAt(root, "blessfs-added");
  const descriptor = openNameAt(root, "blessfs-added", true);
  try {
    for (let i = 0; i < 100; i++) closeDescriptor(openWritableAt(descriptor, `entry-${i}`, true));
    for (let i = 0; i < 100; i += 3) removeAt(descriptor, `entry-${i}`, false);
  } finally {
    closeDescriptor(descriptor);
  }
}

function addFile(root: number): void {
  const descriptor = openWritableAt(root, "blessfs-added-file", true);
  try {
    writeAt(descriptor, new Uint8Array(300_000).fill(0x61), 4096);
  } finally {
    closeDescriptor(descriptor);
  }
}

function addLongSymlink(root: number): void {
  symlinkAt(root, "blessfs-added-link", "x".repeat(1000));
}

function addLinkAndRename(root: number): void {
  closeDescriptor(openWritableAt(root, "blessfs-added-2", true));
  linkBetween(root, "blessfs-added-2", root, "blessfs-added-3");
  renameAt(root, "blessfs-added-2", "blessfs-added-4");
}

function tolerateFullImage(write: () => void): void {
  try {
    write();
  } catch (error) {
    const isTolerated = error instanceof SystemCallError &&
      (error.errno === ERRNO.ENOSPC || error.errno === ERRNO.EFBIG);
    if (!isTolerated) throw error;
  }
}
