/**
 * What `blessfs inspect IMAGE PATH` prints, for people and for scripts.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import type { ByteString } from "../../lib/bytes/byte_string.ts";
import { byteStringFromBytes, displayName } from "../../lib/bytes/byte_string.ts";
import { joinXattrName } from "../../lib/ext4/format/xattr_name.ts";
import type { InodeInspection } from "../../lib/ext4/read/inspect_inode.ts";
import type { StoredXattr } from "../../lib/ext4/read/xattrs.ts";
import { safeLine } from "../errors_output.ts";
import type { Style } from "../style.ts";
import { aligned } from "../text.ts";
import { checksumText } from "./inspect_image_text.ts";
import { modeText, shownBytes, timeText } from "./ls_entry.ts";

type Line = readonly [label: string, value: string];

const TIMES = ["atime", "ctime", "mtime", "crtime"] as const;
/** Longer values are cut in text; JSON has them whole. */
const SHOWN_VALUE_BYTES = 64;

/** The document. */
export function inodeJson(
  image: string,
  path: ByteString | undefined,
  inspection: InodeInspection,
): Record<string, unknown> {
  const { record, target, xattrs, runs, ...rest } = inspection;
  const { blockField, xattrArea: _area, ...fields } = record;
  return {
    image,
    ...(path === undefined ? {} : shownBytes("path", path || "/")),
    ...rest,
    checksum: rest.checksum ?? null,
    record: { ...fields, blockField: Buffer.from(blockField).toString("hex") },
    ...(target === undefined ? {} : shownBytes("target", target)),
    extents: runs,
    xattrs: xattrs.map(({ nameIndex, suffix, value, place, valueInode, entryHash }) => ({
      ...shownBytes("name", nameOf({ nameIndex, suffix })),
      nameIndex,
      place,
      valueInode: valueInode ?? null,
      entryHash,
      valueBase64: Buffer.from(value).toString("base64"),
    })),
  };
}

/** The text. */
export function inodeText(
  path: ByteString | undefined,
  inspection: InodeInspection,
  style: Style,
): string {
  const { record, kind, place, faults } = inspection;
  const shownMode = kind === undefined ? "" : ` (${modeText({ kind, record })})`;
  const lines: Line[] = [
    ...(path === undefined ? [] : [["path", displayName(path || "/")] as const]),
    ["inode", `${inspection.inodeNumber}, in block ${place.blockNumber} at ${place.offsetBytes}`],
    ["kind", kind ?? "none: the inode was never used"],
    ["mode", `0${record.mode.toString(8)}${shownMode}`],
    ["owner", `user ${record.uid}, group ${record.gid}, project ${record.projectId}`],
    ["size", `${record.sizeBytes}`],
    ["links", `${record.linkCount}`],
    [
      "blocks",
      `${record.sectorCount} of ${
        inspection.flagNames.includes("Huge_file") ? "the file system" : "512 bytes"
      }`,
    ],
    ["flags", [`0x${record.flags.toString(16)}`, ...inspection.flagNames].join(" ")],
    ["generation", `${record.generation}`],
    ["version", `${record.versionHigh}:${record.versionLow}`],
    ...TIMES.map((name): Line => [name, nanosecondTime(record[name])]),
    ...(record.dtime === 0 ? [] : [["dtime", `${record.dtime}`] as const]),
    ["extra size", `${record.extraSizeBytes}`],
    ["attribute block", record.xattrBlock === 0 ? "none" : `${record.xattrBlock}`],
    ["checksum", checksumText(inspection.checksum, 8, style)],
    ...contentLines(inspection),
    ...faults.map((fault): Line => ["fault", style.red(safeLine(fault))]),
  ];
  return aligned(lines) + mapText(inspection) + xattrText(inspection.xattrs);
}

function contentLines(inspection: InodeInspection): Line[] {
  const { target, device, directory, inlineSizeBytes, contentPlace } = inspection;
  const lines: Line[] = [["content in", contentPlace]];
  if (inlineSizeBytes !== undefined) lines.push(["room in the inode", `${inlineSizeBytes} bytes`]);
  if (target !== undefined) lines.push(["target", displayName(target)]);
  if (device !== undefined) lines.push(["device", `${device.deviceMajor}, ${device.deviceMinor}`]);
  if (directory !== undefined) {
    lines.push(["names", `${directory.nameCount}`], ["parent", `${directory.parentInodeNumber}`]);
  }
  return lines;
}

function mapText(inspection: InodeInspection): string {
  const { runs, runCount, mapBlocks, mapBlockCount, contentPlace } = inspection;
  if (runCount + mapBlockCount === 0) return "";
  const lines = [`${contentPlace} (${runCount} in ${mapBlockCount} blocks):`];
  for (const { blockNumber, depth, logicalBlock } of mapBlocks) {
    lines.push(
      `  map block ${blockNumber}, ${depth} levels above its end, from ${logicalBlock} on`,
    );
  }
  for (const { logicalBlock, blockCount, startBlock, unwritten } of runs) {
    const span = (start: number): string =>
      blockCount === 1 ? `${start}` : `${start}-${start + blockCount - 1}`;
    lines.push(`  ${span(logicalBlock)}: ${span(startBlock)}${unwritten ? " (unwritten)" : ""}`);
  }
  const left = runCount - runs.length;
  if (left > 0) lines.push(`  and ${left} more (--max-extents)`);
  return `${lines.join("\n")}\n`;
}

function xattrText(xattrs: readonly StoredXattr[]): string {
  if (xattrs.length === 0) return "";
  const lines = xattrs.map((xattr) => {
    const where = xattr.valueInode === undefined
      ? xattr.place
      : `${xattr.place}, value in inode ${xattr.valueInode}`;
    const shown = displayName(byteStringFromBytes(xattr.value.subarray(0, SHOWN_VALUE_BYTES)));
    const more = xattr.value.length > SHOWN_VALUE_BYTES ? "..." : "";
    const name = displayName(nameOf(xattr));
    return `  ${name} (${xattr.value.length} bytes, in the ${where}) = "${shown}"${more}`;
  });
  return `attributes:\n${lines.join("\n")}\n`;
}

/** The whole name, or its two parts where no prefix has that number. */
function nameOf(xattr: Pick<StoredXattr, "nameIndex" | "suffix">): ByteString {
  return joinXattrName(xattr.nameIndex, xattr.suffix) ?? `${xattr.nameIndex}:${xattr.suffix}`;
}

function nanosecondTime(time: { readonly seconds: number; readonly nanoseconds: number }): string {
  const fraction = `${time.nanoseconds}`.padStart(9, "0");
  return timeText(time).replace("Z", `.${fraction}Z`);
}
