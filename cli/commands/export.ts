/**
 * `blessfs export IMAGE -o TAR`.
 *
 * @module
 */
import { exportTar } from "../../lib/bless/export.ts";
import type { Command } from "../command.ts";
import { JSON_OPTION } from "../command.ts";
import { safeLine } from "../errors_output.ts";
import type { CommandIo } from "../io.ts";
import type { ParsedArguments } from "../parsed_arguments.ts";
import { formatCount, formatSize } from "../sizes.ts";
import { aligned } from "../text.ts";
import { sourceDateEpoch } from "../values.ts";
import { parseSourceOptions, SOURCE_OPTION_SPECS } from "./bless_options.ts";
import { contentText, tarSink } from "./tar_output.ts";

/** The command. */
export const exportCommand: Command = {
  name: "export",
  summary: "write what is in an ext4 image, or any other source, as one tar",
  examples: [
    { purpose: "Get the files back", line: "blessfs export python.ext4 -o python.tar" },
    {
      purpose: "Unpack an image without a mount",
      line: "blessfs export vm.ext4 -o - | tar --xattrs --xattrs-include='*' -xpC root",
    },
    {
      purpose: "Make the image of a layer a layer again, for an OCI layout",
      line: "blessfs export layers/0123abcd.ext4 --layer -o layer.tar",
    },
    {
      purpose: "Flatten the layers of an image",
      line: "blessfs export oci:images/python:latest -o python.tar",
    },
  ],
  description: [
    "The tar is in the PAX format, with all attributes, ACLs, capabilities, hard links, devices, holes, names as bytes " +
    "and times to the nanosecond. Equal sources give equal tars. Sockets, which tar has not, are left out with a warning.",
    "An image that is blessed from the tar with the same options is the same image, byte for byte: the tar carries " +
    "the UUID in a comment, which other tools pass over.",
  ],
  positionals: [{ name: "IMAGE", summary: "an ext4 image, or any source", completion: "source" }],
  options: [
    {
      name: "output",
      short: "o",
      value: "TAR",
      required: true,
      completion: "file",
      summary: "the tar to make; - streams it to standard output",
    },
    { name: "force", short: "f", summary: "replace an output that exists" },
    {
      name: "layer",
      summary: "write a layer's image as an OCI layer: whiteouts in place of overlayfs's marks",
    },
    ...SOURCE_OPTION_SPECS,
    JSON_OPTION,
  ],
  run,
};

async function run(args: ParsedArguments, io: CommandIo): Promise<void> {
  const image = args.positional("IMAGE");
  const tar = args.value("output")!;
  const sourceOptions = parseSourceOptions(args, io, [image]);
  const { source, ...report } = await exportTar({
    ...sourceOptions,
    source: image,
    layer: args.flag("layer"),
    timestamp: sourceDateEpoch(io.env) ?? 0,
    sink: tarSink(tar, [image], args.flag("force"), io),
  });
  io.warn(report.warnings);
  if (io.json) await io.writeJson({ source, tar, ...report });
  else if (tar !== "-" && !io.quiet) {
    await io.stdout.write(aligned([
      ["tar", safeLine(tar)],
      ["source", safeLine(source)],
      ["uuid", report.uuid],
      ["size", `${formatSize(report.sizeBytes)} (${formatCount(report.sizeBytes)} bytes)`],
      ["content", contentText(report)],
    ]));
  }
}
