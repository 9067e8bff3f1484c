/**
 * `blessfs checksum --enable|--disable IMAGE`.
 *
 * @module
 */
import type { SwitchReport } from "../../lib/ext4/checksum/switch.ts";
import { switchMetadataChecksums } from "../../lib/ext4/checksum/switch.ts";
import { UsageError } from "../../lib/errors.ts";
import type { Command } from "../command.ts";
import { JSON_OPTION } from "../command.ts";
import { safeLine } from "../errors_output.ts";
import type { CommandIo } from "../io.ts";
import type { ParsedArguments } from "../parsed_arguments.ts";
import { formatCount, formatSize } from "../sizes.ts";
import { aligned } from "../text.ts";

/** The command. */
export const checksumCommand: Command = {
  name: "checksum",
  summary: "switch the metadata checksums of an ext4 image on or off, in place",
  examples: [
    { purpose: "Give an old image checksums", line: "blessfs checksum --enable old.ext4" },
    {
      purpose: "Take them away, for a kernel that does not know them",
      line: "blessfs checksum --disable image.ext4",
    },
  ],
  description: [
    "As tune2fs -O metadata_csum does it, for images that are not mounted and clean. uninit_bg comes when the " +
    "checksums go, and goes when they come. Before they go, every checksum is compared.",
    "All new bytes are first written to IMAGE.checksum-changes and brought to the disk. If the work is interrupted, no " +
    "kernel mounts the image until the same command was run again, which finishes it. Nothing else may write to the image " +
    "meanwhile; a run that notices another one gives up.",
    "An image without room for checksums is left as it is; the error says how many blocks are too full.",
  ],
  positionals: [{ name: "IMAGE", summary: "the image, a regular file", completion: "file" }],
  options: [
    { name: "enable", summary: "give all metadata checksums" },
    { name: "disable", summary: "take them away" },
    JSON_OPTION,
  ],
  run,
};

async function run(args: ParsedArguments, io: CommandIo): Promise<void> {
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
  const counts: [count: number, name: string][] = [
    [report.groups, "groups"],
    [report.inodes, "inodes"],
    [report.directoryBlocks, "directory blocks"],
    [report.extentBlocks, "extent blocks"],
    [report.xattrBlocks, "xattr blocks"],
  ];
  const done = counts.filter(([count]) => count > 0).map(([count, name]) =>
    `${formatCount(count)} ${name}`
  );
  return aligned([
    ["image", safeLine(image)],
    ["checksums", report.changed ? `${state} now` : `${state} already`],
    ...report.resumed ? [["resumed", "a switch that had been interrupted"] as const] : [],
    ...report.changed ? [["changed", done.join(", ")] as const] : [],
    ...report.changed ? [["written", formatSize(report.writtenBytes)] as const] : [],
  ]);
}
