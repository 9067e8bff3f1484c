/**
 * `blessfs ls` and `blessfs cat`: list and print the files of an image.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { setImmediate } from "node:timers/promises";
import { type ByteString, displayName, textFromByteString } from "../../lib/bytes/byte_string.ts";
import { InputError, throwIfAborted } from "../../lib/errors.ts";
import type { Timestamp } from "../../lib/ext4/format/inode.ts";
import type { Ext4Image, ImageInode } from "../../lib/ext4/read/image.ts";
import { type FoundInode, goOn, listNames } from "../../lib/ext4/read/directory.ts";
import { deviceNumbers } from "../../lib/ext4/read/tree.ts";
import { filePayload, readSymlink } from "../../lib/ext4/read/content.ts";
import { readPayload } from "../../lib/model/node.ts";
import { Warnings } from "../../lib/warnings.ts";
import type { CommandIo, ParsedArguments } from "../command.ts";
import { safeLine } from "../errors.ts";
import { findOperand, LeftOut, parseImageAccess, withImage } from "./image.ts";

const YIELD_AFTER_NAMES = 256;

export async function runLs(args: ParsedArguments, io: CommandIo): Promise<0 | 1 | void> {
  const imagePath = args.positional("IMAGE");
  const leftOut = new LeftOut(args);
  const { onFault } = leftOut;
  const warnings = new Warnings(args.flag("strict"));
  await withImage(imagePath, parseImageAccess(args, io), warnings, async (image) => {
    io.warn(warnings.list());
    const itself = args.flag("directory");
    const start = findOperand(image, args.positionals("PATH")[0] ?? "/", { followsLast: !itself });
    const recursive = args.flag("recursive");
    const isListed = start.inode.kind === "directory" && !itself;
    const options = { recursive, ...onFault === undefined ? {} : { onFault } };
    const names = isListed ? listNames(image, start, options) : [start];
    const look = <T>(name: FoundInode, work: () => T): T | undefined =>
      goOn(name.path, onFault, work);
    if (io.json) {
      const entries: ReturnType<typeof listedEntry>[] = [];
      await forEachName(names, io, (name) => {
        const entry = look(name, () => listedEntry(image, name));
        if (entry !== undefined) entries.push(entry);
      });
      const { document } = leftOut;
      await io.writeJson({ image: imagePath, entries, ...document, warnings: warnings.list() });
      return;
    }
    const isWhole = recursive || !isListed;
    const lineOf = args.flag("long") ? longLine : shortLine;
    await forEachName(names, io, (name) => {
      const line = look(name, () => lineOf(image, name, isWhole));
      return line === undefined ? undefined : io.stdout.write(line);
    });
  });
  return leftOut.finish(io);
}

function shortLine(_image: Ext4Image, found: FoundInode, isWhole: boolean): string {
  return `${shortName(found, isWhole)}\n`;
}

async function forEachName(
  names: Iterable<FoundInode>,
  io: CommandIo,
  take: (name: FoundInode) => void | Promise<void>,
): Promise<void> {
  let count = 0;
  for (const name of names) {
    await take(name);
    if (++count % YIELD_AFTER_NAMES !== 0) continue;
    await setImmediate();
    throwIfAborted(io.signal);
  }
}

const PIECE_BYTES = 1024 * 1024;

export async function runCat(args: ParsedArguments, io: CommandIo): Promise<void> {
  const warnings = new Warnings(args.flag("strict"));
  await withImage(args.positional("IMAGE"), parseImageAccess(args, io), warnings, async (image) => {
    io.warn(warnings.list());
    for (const operand of args.positionals("PATH")) {
      const { inode } = findOperand(image, operand, { followsLast: true });
      if (inode.kind !== "file") {
        throw new InputError(safeLine(operand), `is a ${inode.kind}: wanted a regular file`);
      }
      await printFile(image, inode, io);
    }
  });
}

async function printFile(image: Ext4Image, inode: ImageInode, io: CommandIo): Promise<void> {
  const payload = filePayload(image, inode);
  const buffer = new Uint8Array(Math.min(PIECE_BYTES, payload.sizeBytes));
  for (let offset = 0; offset < payload.sizeBytes; offset += PIECE_BYTES) {
    throwIfAborted(io.signal);
    const piece = buffer.subarray(0, Math.min(PIECE_BYTES, payload.sizeBytes - offset));
    readPayload(payload, piece, offset);
    await io.stdout.writeThrough(piece);
  }
}

const TYPE_LETTERS: Readonly<Record<ImageInode["kind"], string>> = {
  file: "-",
  directory: "d",
  symlink: "l",
  characterDevice: "c",
  blockDevice: "b",
  fifo: "p",
  socket: "s",
};

function listedEntry(image: Ext4Image, { path, inode }: FoundInode) {
  const { mode, linkCount, uid, gid, sizeBytes, mtime } = inode.record;
  return {
    ...shownBytes("path", path === "" ? "/" : path),
    inode: inode.number,
    kind: inode.kind,
    mode: mode & 0o7777,
    links: linkCount,
    uid,
    gid,
    sizeBytes,
    mtimeSeconds: mtime.seconds,
    mtimeNanoseconds: mtime.nanoseconds,
    ...(inode.kind === "symlink" ? shownBytes("target", readSymlink(image, inode)) : {}),
    ...(isDevice(inode) ? deviceNumbers(inode) : {}),
  };
}

/** A name, or its path when `isWhole` is set, made safe for a terminal. */
function shortName({ path }: FoundInode, isWhole: boolean): string {
  if (path === "") return "/";
  return displayName(isWhole ? path : path.slice(path.lastIndexOf("/") + 1));
}

function longLine(image: Ext4Image, found: FoundInode, isWhole: boolean): string {
  const { inode } = found;
  const { linkCount, uid, gid, sizeBytes, mtime } = inode.record;
  const size = isDevice(inode) ? deviceText(inode) : `${sizeBytes}`;
  const target = inode.kind === "symlink" ? ` -> ${displayName(readSymlink(image, inode))}` : "";
  const columns = [
    `${inode.number}`.padStart(7),
    modeText(inode),
    `${linkCount}`.padStart(3),
    `${uid}`.padStart(5),
    `${gid}`.padStart(5),
    size.padStart(11),
    timeText(mtime),
    `${shortName(found, isWhole)}${target}`,
  ];
  return `${columns.join(" ")}\n`;
}

/** Type and permissions in the format of ls(1). */
export function modeText(inode: Pick<ImageInode, "kind" | "record">): string {
  const { mode } = inode.record;
  const triple = (shift: number, special: number, letters: string): string => {
    const bits = mode >> shift;
    const isSpecial = (mode & special) !== 0;
    const execute = (bits & 1) !== 0
      ? (isSpecial ? letters[0] : "x")
      : isSpecial
      ? letters[1]
      : "-";
    return `${(bits & 4) !== 0 ? "r" : "-"}${(bits & 2) !== 0 ? "w" : "-"}${execute}`;
  };
  return TYPE_LETTERS[inode.kind] + triple(6, 0o4000, "sS") + triple(3, 0o2000, "sS") +
    triple(0, 0o1000, "tT");
}

export function timeText({ seconds }: Pick<Timestamp, "seconds">): string {
  return new Date(seconds * 1000).toISOString().replace(/\.\d+Z$/, "Z");
}

function isDevice(inode: ImageInode): boolean {
  return inode.kind === "characterDevice" || inode.kind === "blockDevice";
}

function deviceText(inode: ImageInode): string {
  const { deviceMajor, deviceMinor } = deviceNumbers(inode);
  return `${deviceMajor}, ${deviceMinor}`;
}

/** Bytes as text under a name, and also as Base64 when they are not UTF-8. */
export function shownBytes<N extends string>(
  name: N,
  bytes: ByteString,
): { [K in N]: string } & { [K in `${N}Base64`]?: string } {
  const text = textFromByteString(bytes);
  const shown = text === undefined
    ? {
      [name]: displayName(bytes),
      [`${name}Base64`]: Buffer.from(bytes, "latin1").toString("base64"),
    }
    : { [name]: text };
  return shown as { [K in N]: string } & { [K in `${N}Base64`]?: string };
}
