/**
 * Makes a tree in memory into a real one, through the kernel. What the kernel then shows is what an image with this
 * tree must show.
 *
 * @module
 */
import type { ByteString } from "../../lib/bytes/byte_string.ts";
import { byteStringFromText } from "../../lib/bytes/byte_string.ts";
import {
  BLOCK_SIZE_BYTES,
  type DirectoryNode,
  type FileNode,
  type FileTree,
  readPayload,
  sortedChildren,
  type TreeNode,
} from "../../lib/model/node.ts";
import { closeDescriptor, openDirectory, openNameAt } from "./libc.ts";
import {
  changeModeAt,
  changeOwnerAt,
  changeTimeAt,
  linkBetween,
  makeDirectoryAt,
  makeNodeAt,
  openWritableAt,
  removeAt,
  setXattrAt,
  symlinkAt,
  truncateDescriptor,
  writeAt,
} from "./libc_changes.ts";

const CHUNK_BYTES = 1024 * 1024;
const TYPE_BITS = {
  characterDevice: 0o020000,
  blockDevice: 0o060000,
  fifo: 0o010000,
  socket: 0o140000,
};
/** Where names of hard-linked files wait for their next name: deep paths may be longer than a path can be. */
const STORE = "materialize-links";

/** Makes the tree in an empty directory, its root's attributes included. Needs root. */
export function materializeTree(tree: FileTree, path: string): void {
  const root = openDirectory(byteStringFromText(path));
  try {
    makeDirectoryAt(root, STORE);
    const store = openNameAt(root, STORE, true);
    const stored = new Map<TreeNode, ByteString>();
    try {
      fillDirectory(tree.root, root, store, stored);
      for (const name of stored.values()) removeAt(store, name, false);
    } finally {
      closeDescriptor(store);
    }
    removeAt(root, STORE, true);
    setAttributes(tree.root, root, ".");
  } finally {
    closeDescriptor(root);
  }
}

function fillDirectory(
  node: DirectoryNode,
  descriptor: number,
  store: number,
  stored: Map<TreeNode, ByteString>,
): void {
  for (const [name, child] of sortedChildren(node)) {
    const known = stored.get(child);
    if (known !== undefined) {
      linkBetween(store, known, descriptor, name);
      continue;
    }
    makeName(child, descriptor, name);
    if (child.kind === "directory") {
      const inner = openNameAt(descriptor, name, true);
      try {
        fillDirectory(child, inner, store, stored);
      } finally {
        closeDescriptor(inner);
      }
    } else {
      const kept = String(stored.size);
      linkBetween(descriptor, name, store, kept);
      stored.set(child, kept);
    }
    setAttributes(child, descriptor, name);
  }
}

function makeName(node: TreeNode, directory: number, name: ByteString): void {
  switch (node.kind) {
    case "directory":
      // The root's lost+found is there already.
      return name === "lost+found" ? undefined : makeDirectoryAt(directory, name);
    case "symlink":
      return symlinkAt(directory, name, node.target);
    case "file":
      return writeFile(node, directory, name);
    default: {
      const device = [node.deviceMajor, node.deviceMinor] as const;
      return makeNodeAt(directory, name, TYPE_BITS[node.kind] | 0o600, device);
    }
  }
}

function writeFile({ payload }: FileNode, directory: number, name: ByteString): void {
  const descriptor = openWritableAt(directory, name, true);
  try {
    for (const { startBlock, blockCount } of payload.dataRuns) {
      const end = Math.min((startBlock + blockCount) * BLOCK_SIZE_BYTES, payload.sizeBytes);
      for (let at = startBlock * BLOCK_SIZE_BYTES; at < end; at += CHUNK_BYTES) {
        const chunk = new Uint8Array(Math.min(CHUNK_BYTES, end - at));
        readPayload(payload, chunk, at);
        writeAt(descriptor, chunk, at);
      }
    }
    truncateDescriptor(descriptor, payload.sizeBytes);
  } finally {
    closeDescriptor(descriptor);
  }
}

/** The owner first, because changing it drops other things; the time last, because everything else changes it. */
function setAttributes(node: TreeNode, directory: number, name: ByteString): void {
  const { mode, uid, gid, xattrs, mtimeSeconds, mtimeNanoseconds } = node.attributes;
  changeOwnerAt(directory, name, uid, gid);
  if (node.kind !== "symlink") changeModeAt(directory, name, mode);
  for (const xattr of xattrs) setXattrAt(directory, name, xattr.name, new Uint8Array(xattr.value));
  // An ACL clears the set-group-id bit of a group that the caller is not in.
  if (node.kind !== "symlink") changeModeAt(directory, name, mode);
  changeTimeAt(directory, name, mtimeSeconds, mtimeNanoseconds);
}
