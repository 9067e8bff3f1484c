/**
 * A directory as the kernel shows it.
 *
 * @module
 */
import type { ByteString } from "../../lib/bytes/byte_string.ts";
import { byteStringFromText } from "../../lib/bytes/byte_string.ts";
import type { TreeNode } from "../../lib/model/node.ts";
import type { FileStatus } from "./libc.ts";
import {
  closeDescriptor,
  dataRanges,
  openDirectory,
  openNameAt,
  readAt,
  readLinkAt,
  readNames,
  statusAt,
  xattrsAt,
} from "./libc.ts";
import type { ObservedContent, ObservedName } from "./observed.ts";
import { directoryLinkCount, UnreadableError } from "./observed.ts";

const KIND_OF_TYPE: Readonly<Record<number, TreeNode["kind"]>> = {
  0o010000: "fifo",
  0o020000: "characterDevice",
  0o040000: "directory",
  0o060000: "blockDevice",
  0o100000: "file",
  0o120000: "symlink",
  0o140000: "socket",
};

interface OpenLevel {
  readonly descriptor: number;
  readonly path: ByteString;
  readonly names: readonly ByteString[];
  readonly statuses: readonly FileStatus[];
  next: number;
}

export interface DirectoryViewOptions {
  /** A directory in the root that is left out, also of the root's link count. */
  readonly leaveOut?: ByteString | undefined;
  /**
   * Whether the link counts of directories are what the file system says, or are counted from what is in them: not
   * every file system counts as ext4 does.
   */
  readonly directoryLinks: "stated" | "counted";
}

/** Walks a directory. What a name gives (its content) can be read until the walk goes on. */
export function* viewDirectory(
  path: string,
  options: DirectoryViewOptions,
): Generator<ObservedName> {
  const levels: OpenLevel[] = [];
  try {
    const root = openLevel(openDirectory(byteStringFromText(path)), "", options.leaveOut);
    levels.push(root);
    yield observeDirectory(root, "", statusAt(root.descriptor, ""), root.statuses, options);
    for (let level = levels.at(-1); level; level = levels.at(-1)) {
      const index = level.next++;
      const name = level.names[index];
      const status = level.statuses[index];
      if (name === undefined || status === undefined) {
        closeDescriptor(level.descriptor);
        levels.pop();
        continue;
      }
      if (kindOf(status) !== "directory") {
        yield observe(level, name, status, status.linkCount);
        continue;
      }
      const path = `${level.path}/${name}`;
      const child = reading(
        path,
        "entries",
        () => openLevel(openNameAt(level.descriptor, name, true), path),
      );
      levels.push(child);
      yield observeDirectory(level, name, status, child.statuses, options);
    }
  } finally {
    for (const level of levels) closeDescriptor(level.descriptor);
  }
}

function openLevel(
  descriptor: number,
  path: ByteString,
  leaveOut?: ByteString,
): OpenLevel {
  try {
    const names = reading(path, "entries", () => readNames(descriptor))
      .filter((name) => name !== leaveOut);
    const statuses = names.map((name) =>
      reading(`${path}/${name}`, "status", () => statusAt(descriptor, name))
    );
    return { descriptor, path, names, statuses, next: 0 };
  } catch (error) {
    closeDescriptor(descriptor);
    throw error;
  }
}

/** Runs one look at a name; what goes wrong is told with its path. */
function reading<T>(path: ByteString, field: string, look: () => T): T {
  try {
    return look();
  } catch (error) {
    if (error instanceof UnreadableError) throw error;
    throw new UnreadableError(path, field, error);
  }
}

/** The kind of file that a status tells of. */
export function kindOf(status: FileStatus): TreeNode["kind"] {
  const kind = KIND_OF_TYPE[status.mode & 0o170000];
  if (kind === undefined) throw new Error(`unknown file type in mode 0${status.mode.toString(8)}`);
  return kind;
}

function observeDirectory(
  level: OpenLevel,
  name: ByteString,
  status: FileStatus,
  childStatuses: readonly FileStatus[],
  { leaveOut, directoryLinks }: DirectoryViewOptions,
): ObservedName {
  const isShortened = name === "" && leaveOut !== undefined && status.linkCount > 1;
  const stated = status.linkCount - (isShortened ? 1 : 0);
  const subdirectories = childStatuses.filter((child) => kindOf(child) === "directory");
  const counted = directoryLinkCount(subdirectories.length);
  return observe(level, name, status, directoryLinks === "stated" ? stated : counted);
}

function observe(
  level: OpenLevel,
  name: ByteString,
  status: FileStatus,
  linkCount: number,
): ObservedName {
  const kind = kindOf(status);
  const path = name === "" ? level.path : `${level.path}/${name}`;
  const isDevice = kind === "characterDevice" || kind === "blockDevice";
  return {
    path,
    kind,
    mode: status.mode & 0o7777,
    uid: status.uid,
    gid: status.gid,
    linkCount,
    identity: status.identity,
    mtimeSeconds: status.mtimeSeconds,
    mtimeNanoseconds: status.mtimeNanoseconds,
    xattrs: reading(path, "xattrs", () => xattrsAt(level.descriptor, name)),
    sizeBytes: kind === "file" ? status.sizeBytes : 0,
    target: kind === "symlink"
      ? reading(path, "target", () => readLinkAt(level.descriptor, name))
      : "",
    deviceMajor: isDevice ? status.deviceMajor : 0,
    deviceMinor: isDevice ? status.deviceMinor : 0,
    open: () =>
      reading(path, "content", () => {
        return openContent(path, openNameAt(level.descriptor, name), status.sizeBytes);
      }),
  };
}

function openContent(
  path: ByteString,
  descriptor: number,
  sizeBytes: number,
): ObservedContent {
  let ranges: [number, number][];
  try {
    ranges = dataRanges(descriptor, sizeBytes);
  } catch (error) {
    // A file that stays open would keep its file system mounted.
    closeDescriptor(descriptor);
    throw error;
  }
  return {
    dataRanges: ranges,
    readAt(target, position) {
      reading(path, `bytes at ${position}`, () => {
        const count = readAt(descriptor, target, position);
        if (count !== target.length) {
          throw new Error(`read ends at ${position + count}, wanted ${target.length} bytes more`);
        }
      });
    },
    close: () => closeDescriptor(descriptor),
  };
}
