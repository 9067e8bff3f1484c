/**
 * From an inode to a node of the model.
 *
 * @module
 */
import type { ByteString } from "../../bytes/byte_string.ts";
import { displayName } from "../../bytes/byte_string.ts";
import { InputError } from "../../errors.ts";
import type { NodeAttributes, TreeNode } from "../../model/node.ts";
import type { Warnings } from "../../warnings.ts";
import { INODE_FLAG, RO_COMPAT } from "../format/constants.ts";
import { viewOf } from "../format/fields.ts";
import { hasFlag } from "./inode.ts";
import { filePayload, type PayloadBounds } from "./payload.ts";
import { readSymlink } from "./symlink.ts";
import { XattrReader } from "./xattrs.ts";
import type { Ext4Image, ImageInode } from "./types.ts";

/** What node readers need. */
export interface NodeReaderOptions extends PayloadBounds {
  readonly warnings: Warnings;
}

/** Flags that a user can set and the model cannot hold, by the letters of lsattr. */
const USER_FLAGS: readonly (readonly [number, string])[] = [
  [0x1, "s"],
  [0x2, "u"],
  [0x4, "c"],
  [0x8, "S"],
  [INODE_FLAG.IMMUTABLE, "i"],
  [INODE_FLAG.APPEND, "a"],
  [0x40, "d"],
  [0x80, "A"],
  [0x4000, "j"],
  [0x8000, "t"],
  [0x10000, "D"],
  [0x20000, "T"],
  [0x2000000, "x"],
  [INODE_FLAG.PROJINHERIT, "P"],
  [INODE_FLAG.CASEFOLD, "F"],
];

/** Makes nodes of inodes, and counts what gets lost. */
export class NodeReader {
  readonly #image: Ext4Image;
  readonly #options: NodeReaderOptions;
  readonly #xattrs: XattrReader;
  #segmentCount = 0;

  constructor(image: Ext4Image, options: NodeReaderOptions) {
    this.#image = image;
    this.#options = options;
    this.#xattrs = new XattrReader(image, options.budget);
  }

  /**
   * The node of an inode; a directory comes without its children.
   *
   * @param path for messages
   * @param entryIndex becomes part of its origin
   */
  read(inode: ImageInode, path: ByteString, entryIndex: number): TreeNode {
    if (hasFlag(inode, INODE_FLAG.EA_INODE)) {
      throw new InputError(inode.what, "it holds the value of an attribute, but has a name");
    }
    if (hasFlag(inode, INODE_FLAG.ENCRYPT)) {
      throw new InputError(displayName(path), "it is encrypted, and that is not supported");
    }
    const describe = (): string => displayName(path === "" ? "/" : path);
    this.#warnOfLosses(inode, describe);
    const base = {
      attributes: this.#attributes(inode, describe),
      origin: { layerIndex: 0, entryIndex },
    };
    const { kind } = inode;
    switch (kind) {
      case "directory":
        return { ...base, kind, children: new Map() };
      case "file":
        return { ...base, kind, payload: this.#payload(inode) };
      case "symlink":
        return { ...base, kind, target: readSymlink(this.#image, inode) };
      case "characterDevice":
      case "blockDevice":
        return { ...base, kind, ...deviceNumbers(inode) };
      default:
        return { ...base, kind, deviceMajor: 0, deviceMinor: 0 };
    }
  }

  #payload(inode: ImageInode): ReturnType<typeof filePayload> {
    const { budget, maxSegmentCount } = this.#options;
    const left = maxSegmentCount === undefined
      ? {}
      : { maxSegmentCount: maxSegmentCount - this.#segmentCount };
    const payload = filePayload(this.#image, inode, budget ? { ...left, budget } : left);
    this.#segmentCount += payload.segments.length;
    return payload;
  }

  #attributes(inode: ImageInode, describe: () => string): NodeAttributes {
    const { mode, uid, gid, mtime } = inode.record;
    return {
      mode: mode & 0o7777,
      uid,
      gid,
      mtimeSeconds: mtime.seconds,
      mtimeNanoseconds: mtime.nanoseconds,
      xattrs: this.#xattrs.read(inode, this.#options.warnings, describe),
    };
  }

  #warnOfLosses(inode: ImageInode, describe: () => string): void {
    const { warnings } = this.#options;
    const letters = USER_FLAGS.filter(([flag]) => hasFlag(inode, flag)).map(([, letter]) => letter);
    if (letters.length > 0) {
      warnings.add(
        "droppedFlags",
        describe(),
        `its flags ${letters.join("")} (lsattr) are left out`,
      );
    }
    if (hasFlag(inode, INODE_FLAG.VERITY)) {
      warnings.add("droppedVerity", describe(), "its fs-verity hashes are left out");
    }
    const { projectId } = inode.record;
    if (projectId !== 0 && this.#image.hasRoCompat(RO_COMPAT.PROJECT)) {
      warnings.add("droppedProject", describe(), `its project ${projectId} is left out`);
    }
  }
}

/** Small numbers are in the first word of i_block, large ones in the second (old_ and new_decode_dev()). */
export function deviceNumbers(
  inode: ImageInode,
): { readonly deviceMajor: number; readonly deviceMinor: number } {
  const view = viewOf(inode.record.blockField);
  const small = view.getUint32(0, true);
  if (small !== 0) return { deviceMajor: (small >>> 8) & 0xff, deviceMinor: small & 0xff };
  const large = view.getUint32(4, true);
  return {
    deviceMajor: (large >>> 8) & 0xfff,
    deviceMinor: (large & 0xff) | ((large >>> 12) & 0xfff00),
  };
}
