/**
 * `blessfs verity format|verify|dump IMAGE`.
 *
 * @module
 */
import { formatVerity } from "../../lib/bless/verity_image.ts";
import { checkRootHash, openVerity, type VerityQuery } from "../../lib/bless/verity_place.ts";
import { UsageError } from "../../lib/errors.ts";
import { createFileSink } from "../../lib/io/file_sink.ts";
import { CONSTANT_SALT, parseSalt } from "../../lib/verity/format.ts";
import { VERITY_FORMATS, type VerityFormat, verityText } from "../../lib/verity/texts.ts";
import type { VerityReport } from "../../lib/verity/verity_sink.ts";
import { verifyTree, type VerityCheck, type VerityFinding } from "../../lib/verity/verify_tree.ts";
import type { Command, OptionSpec } from "../command.ts";
import { JSON_OPTION } from "../command.ts";
import { safeLine } from "../errors_output.ts";
import { EXIT, type ExitCode } from "../exit_codes.ts";
import type { CommandIo } from "../io.ts";
import type { ParsedArguments } from "../parsed_arguments.ts";
import { formatCount, formatSize, parseSize } from "../sizes.ts";
import { aligned } from "../text.ts";
import { parseCount } from "../values.ts";

const FINDINGS_DEFAULT = 100;

/** Proves data and tree. `verify` has it, too. */
export const ROOT_HASH_OPTION: OptionSpec = {
  name: "root-hash",
  value: "HEX",
  summary: "the root hash that data and tree must have",
};

/** Where the tree is. */
export const HASH_PLACE_OPTIONS: readonly OptionSpec[] = [
  {
    name: "hash-file",
    value: "FILE",
    completion: "file",
    summary: "the file of the hash tree, where it is not behind the data",
  },
  {
    name: "hash-offset",
    value: "SIZE",
    defaultText: "found; 0 in a file of its own",
    summary: "where the verity superblock is in its file",
  },
];

const IMAGE = {
  name: "IMAGE",
  summary: "an image, a disk with a partition table, or a block device",
  completion: "file",
} as const;

/** `verity format`. */
export const verityFormatCommand: Command = {
  name: "verity format",
  summary: "give an image a dm-verity hash tree, as veritysetup format does",
  examples: [
    { purpose: "Put the tree behind the image", line: "blessfs verity format root.ext4" },
    {
      purpose: "Put it into a file of its own",
      line: "blessfs verity format root.ext4 --hash-file root.verity",
    },
    {
      purpose: "Get the root hash for a script",
      line: "blessfs verity format root.ext4 --json",
    },
  ],
  description: [
    "Format 1 with SHA-256 and blocks of 4096 bytes. Salt and UUID are the same for equal images, unless --salt says " +
    "otherwise. `blessfs bless --verity` makes the same tree while it writes the image.",
    "An image that a kernel may write to, such as one with a journal, does not match its tree any more once it was mounted: " +
    "mount it through dm-verity only.",
  ],
  positionals: [IMAGE],
  options: [
    { ...HASH_PLACE_OPTIONS[0]!, summary: "write the tree here, not behind the image" },
    {
      name: "salt",
      key: "veritySalt",
      value: "HEX|random",
      choices: ["random"],
      open: true,
      defaultText: "32 zeros",
      summary: "the salt of every hash, at most 256 bytes; - for none",
    },
    {
      name: "data-size",
      key: "dataBytes",
      value: "SIZE",
      defaultText: "all of it",
      summary: "how much of the image is hashed",
    },
    { name: "force", short: "f", summary: "replace a tree that is there" },
    JSON_OPTION,
  ],
  run: runFormat,
};

/** `verity verify`. */
export const verityVerifyCommand: Command = {
  name: "verity verify",
  summary: "check an image and its hash tree against a root hash",
  examples: [
    {
      purpose: "Check an image with its tree behind it",
      line: "blessfs verity verify root.ext4 --root-hash HEX",
    },
    {
      purpose: "Check an image whose tree is in another file",
      line: "blessfs verity verify root.ext4 --hash-file root.verity --root-hash HEX",
    },
  ],
  description: [
    "Reads data and tree once, without any right and without the kernel. Every damaged block is counted. The exit code is 1 " +
    "when there is one. On a disk, the partitions are found by the root hash.",
  ],
  positionals: [IMAGE],
  options: [
    { ...ROOT_HASH_OPTION, required: true },
    ...HASH_PLACE_OPTIONS,
    {
      name: "max-findings",
      value: "COUNT",
      defaultText: `${FINDINGS_DEFAULT}`,
      summary: "how many damaged blocks are shown; all are counted",
    },
    JSON_OPTION,
  ],
  run: runVerify,
};

/** `verity dump`. */
export const verityDumpCommand: Command = {
  name: "verity dump",
  summary: "show the hash tree of an image, or how to open it",
  examples: [
    { purpose: "Show what the superblock says", line: "blessfs verity dump root.ext4" },
    {
      purpose: "Get what the kernel needs to mount it as root, without an initial ramdisk",
      line: "blessfs verity dump root.ext4 --format kernel --device /dev/vda",
    },
    {
      purpose: "Write the file that containerd keeps beside a layer",
      line: "blessfs verity dump layer.ext4 --format containerd > layer.ext4.dmverity",
    },
  ],
  description: [
    "The root hash is that of the tree: it proves nothing unless it is compared with one from somewhere else.",
    "--format kernel gives dm-mod.create= for the command line, veritysetup the command that opens the device, systemd a " +
    "line of veritytab(5), containerd the JSON of its snapshotter.",
  ],
  positionals: [IMAGE],
  options: [
    ROOT_HASH_OPTION,
    ...HASH_PLACE_OPTIONS,
    {
      name: "format",
      value: "WHAT",
      choices: ["text", ...VERITY_FORMATS],
      defaultText: "text",
      summary: "for whom it is written",
    },
    {
      name: "device",
      value: "DEVICE",
      defaultText: "the image",
      summary: "where the data will be when it is opened",
    },
    {
      name: "hash-device",
      value: "DEVICE",
      defaultText: "that of the data, or the file of the tree",
      summary: "where the tree will be",
    },
    {
      name: "name",
      value: "NAME",
      defaultText: "root",
      summary: "what the opened device is called",
    },
    JSON_OPTION,
  ],
  run: runDump,
};

async function runFormat(args: ParsedArguments, io: CommandIo): Promise<void> {
  const image = args.positional("IMAGE");
  const salt = args.value("salt");
  const dataSize = args.value("data-size");
  const hashFile = args.value("hash-file");
  const force = args.flag("force");
  const { signal, progress } = io;
  const report = await formatVerity({
    image,
    salt: salt === undefined ? CONSTANT_SALT : parseSalt(salt),
    dataBytes: dataSize === undefined ? undefined : parseSize(dataSize, "--data-size"),
    hashSink: hashFile === undefined
      ? undefined
      : createFileSink(hashFile, { force, signal, sourcePaths: [image] }),
    force,
    signal,
    progress,
  });
  if (io.json) await io.writeJson({ image, hashFile: hashFile ?? null, verity: report });
  else if (!io.quiet) await io.stdout.write(reportText(image, hashFile, report));
}

async function runVerify(args: ParsedArguments, io: CommandIo): Promise<ExitCode | void> {
  const image = args.positional("IMAGE");
  const findings = args.value("max-findings");
  const findingsMax = findings === undefined
    ? FINDINGS_DEFAULT
    : parseCount(findings, "--max-findings");
  const check = await checkVerity(verityQuery(image, args), io, findingsMax);
  if (io.json) await io.writeJson({ image, verity: check });
  else await io.stdout.write(checkText(image, check, io.quiet));
  return check.clean ? undefined : EXIT.answerNo;
}

async function runDump(args: ParsedArguments, io: CommandIo): Promise<void> {
  const image = args.positional("IMAGE");
  const hashFile = args.value("hash-file");
  const format = args.value("format") ?? "text";
  const found = openVerity(verityQuery(image, args));
  const { report } = found;
  found.close();
  const wanted = args.value("root-hash")?.toLowerCase();
  if (wanted !== undefined && wanted !== report.rootHash) {
    throw new UsageError("--root-hash", `the tree of ${safeLine(image)} has ${report.rootHash}`, {
      data: { expected: wanted, actual: report.rootHash },
    });
  }
  const dataDevice = args.value("device") ?? image;
  const hashDevice = args.value("hash-device") ?? hashFile ?? dataDevice;
  const devices = { name: args.value("name") ?? "root", dataDevice, hashDevice };
  if (io.json) await io.writeJson({ image, hashFile: hashFile ?? null, verity: report });
  else if (format === "text") await io.stdout.write(reportText(image, hashFile, report));
  else await io.stdout.write(verityText(format as VerityFormat, report, devices));
}

/** What the arguments say of the place of a tree. */
export function verityQuery(image: string, args: ParsedArguments): VerityQuery {
  const offset = args.value("hash-offset");
  return {
    image,
    hashFile: args.value("hash-file"),
    hashOffset: offset === undefined ? undefined : parseSize(offset, "--hash-offset"),
    rootHash: args.value("root-hash"),
  };
}

/** Finds a tree and checks all of it. */
export async function checkVerity(
  query: VerityQuery,
  io: CommandIo,
  findingsMax: number,
): Promise<VerityCheck> {
  checkRootHash(query.rootHash);
  const found = openVerity(query);
  try {
    const { rootHash } = query;
    const { progress, signal } = io;
    return await verifyTree(found.place, { rootHash, findingsMax, progress, signal });
  } finally {
    found.close();
  }
}

function reportText(image: string, hashFile: string | undefined, report: VerityReport): string {
  const { rootHash, salt, uuid, dataBlocks, hashOffset, hashBytes } = report;
  return aligned([
    ["image", safeLine(image)],
    ...hashFile === undefined ? [] : [["hash file", safeLine(hashFile)] as const],
    ["root hash", rootHash],
    ["salt", salt === "" ? "-" : salt],
    ["uuid", uuid],
    ["data", `${formatCount(dataBlocks)} blocks, ${formatSize(dataBlocks * 4096)}`],
    ["tree", `${formatSize(hashBytes)} at ${formatCount(hashOffset)}`],
  ]);
}

/** The answer for people. */
export function checkText(image: string, check: VerityCheck, quiet: boolean): string {
  const name = safeLine(image);
  const { findings, damagedDataBlocks, damagedTreeBlocks, dataBlocks } = check;
  const lines = findings.map((finding) => `${name}: ${findingText(finding)}`);
  const more = damagedDataBlocks + damagedTreeBlocks - findings.length;
  if (more > 0) lines.push(`${name}: and ${formatCount(more)} more`);
  if (!check.clean) {
    lines.push(
      `${name}: damaged: ${formatCount(damagedDataBlocks)} of ${
        formatCount(dataBlocks)
      } data blocks, ` +
        `${formatCount(damagedTreeBlocks)} blocks of the hash tree`,
    );
  } else if (!quiet) {
    lines.push(`${name}: ${formatCount(dataBlocks)} blocks match ${check.rootHash}`);
  }
  return lines.map((line) => `${line}\n`).join("");
}

function findingText({ kind, offset, found, wanted }: VerityFinding): string {
  const what = { data: "data", tree: "hash tree", root: "root of the hash tree" }[kind];
  return `${what} (byte ${offset}): wrong hash: found ${found}, wanted ${wanted}`;
}
