/**
 * `blessfs checksum`: switches metadata checksums on or off in place.
 *
 * @module
 */
import { UsageError } from "../../lib/errors.ts";
import { switchMetadataChecksums } from "../../lib/ext4/checksum/switch.ts";
import type { CommandIo, ParsedArguments } from "../command.ts";
import { safeLine } from "../errors.ts";
import { formatSize } from "../values.ts";
import { countsText } from "./outputs.ts";

export async function run(args: ParsedArguments, io: CommandIo): Promise<void> {
  const image = args.positional("IMAGE");
  const enable = args.flag("enable");
  if (enable === args.flag("disable")) {
    throw new UsageError("checksum", "wanted one of --enable and --disable", {
      hint: "blessfs inspect shows whether an image has checksums",
    });
  }
  const { progress, signal } = io;
  const report = await switchMetadataChecksums(image, { enable, progress, signal });
  if (io.json) return await io.writeJson({ image, ...report });
  const { changed } = report;
  const state = report.metadataChecksums ? "on" : "off";
  const done = countsText([
    [report.groups, "groups"],
    [report.inodes, "inodes"],
    [report.directoryBlocks, "directory blocks"],
    [report.extentBlocks, "extent blocks"],
    [report.xattrBlocks, "xattr blocks"],
  ]);
  await io.answer(report, [
    ["image", safeLine(image)],
    ["checksums", changed ? `${state} now` : `${state} already`],
    ["resumed", report.resumed ? "a switch that had been interrupted" : undefined],
    ["changed", changed ? done : undefined],
    ["written", changed ? formatSize(report.writtenBytes) : undefined],
  ]);
}
