/**
 * `blessfs checksum`: metadata checksums switched in place.
 *
 * @module
 */
import { UsageError } from "../../lib/errors.ts";
import { switchMetadataChecksums, type SwitchReport } from "../../lib/ext4/checksum/switch.ts";
import type { CommandIo, ParsedArguments } from "../command.ts";
import { safeLine } from "../errors.ts";
import { aligned } from "../text.ts";
import { formatSize } from "../values.ts";
import { countsText } from "./outputs.ts";

/** `blessfs checksum --enable|--disable IMAGE`. */
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
  if (io.json) await io.writeJson({ image, ...report });
  else if (!io.quiet) await io.stdout.write(reportText(image, report));
}

function reportText(image: string, report: SwitchReport): string {
  const state = report.metadataChecksums ? "on" : "off";
  const done = countsText([
    [report.groups, "groups"],
    [report.inodes, "inodes"],
    [report.directoryBlocks, "directory blocks"],
    [report.extentBlocks, "extent blocks"],
    [report.xattrBlocks, "xattr blocks"],
  ]);
  return aligned([
    ["image", safeLine(image)],
    ["checksums", report.changed ? `${state} now` : `${state} already`],
    ...report.resumed ? [["resumed", "a switch that had been interrupted"] as const] : [],
    ...report.changed ? [["changed", done] as const] : [],
    ...report.changed ? [["written", formatSize(report.writtenBytes)] as const] : [],
  ]);
}
