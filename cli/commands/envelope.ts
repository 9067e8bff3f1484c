/**
 * What bless puts around an image, as the command line says it: a hash tree, a disk, the footer of a VHD.
 *
 * @module
 */
import type { EnvelopeOptions, EnvelopeReport } from "../../lib/bless/envelope.ts";
import { parseVeritySignature, rootHashPath, verityPath } from "../../lib/verity/texts.ts";
import { InputError, UsageError } from "../../lib/errors.ts";
import { createFileSink } from "../../lib/io/file_sink.ts";
import { realPathOf } from "../../lib/io/paths.ts";
import { openFileReader, type RandomReader, readExactly } from "../../lib/io/random_reader.ts";
import { type ImageSink, nullSink, writeWhole } from "../../lib/io/sink.ts";
import type { VerityReport } from "../../lib/verity/verity_sink.ts";
import type { CommandIo, ParsedArguments } from "../command.ts";
import { safeLine } from "../errors.ts";
import { formatCount, formatSize } from "../values.ts";
import { localPaths, refuseInsideSource } from "./outputs.ts";
import { readSalt } from "./verity.ts";

/** The largest signature is read whole; what is larger is none. */
const SIGNATURE_BYTES_MAX = 8 << 20;

/** The place of a hash tree that is in a file named after its image. */
const BESIDE = "beside";

/** An envelope, and the files that it needs. */
export interface OpenedEnvelope {
  /** Undefined when nothing is around the image. */
  readonly envelope: EnvelopeOptions | undefined;
  /** Writes what can only be written when the image is there. */
  finish(report: EnvelopeReport): Promise<void>;
  /** Closes what was read. */
  close(): void;
}

/** What the envelope is for. */
export interface EnvelopeContext {
  readonly source: string;
  /** Undefined for an image that has no file of its own. */
  readonly image: string | undefined;
  /** Write nothing. */
  readonly dryRun: boolean;
}

/**
 * Opens what the arguments name.
 *
 * @throws {UsageError} for options that mean nothing without others
 */
export function openEnvelope(
  args: ParsedArguments,
  io: CommandIo,
  context: EnvelopeContext,
): OpenedEnvelope {
  refuseWithout(args, "verity", ["verity-salt", "roothash"]);
  refuseWithout(args, "disk", ["esp", "verity-signature"]);
  const opened: RandomReader[] = [];
  const close = () => opened.forEach((reader) => reader.close());
  try {
    const rootHashSink = args.flag("roothash") ? rootHashFile(args, io, context) : undefined;
    const espPath = args.value("esp");
    if (espPath !== undefined) opened.push(openEsp(espPath));
    const [esp] = opened;
    const signaturePath = args.value("verity-signature");
    const signature = signaturePath === undefined ? undefined : readSignature(signaturePath);
    const disk = args.value("disk") === undefined ? undefined : { esp, signature };
    const verity = verityOf(args, (file) => hashFile(file, args, io, context), context.image);
    const vhd = args.flag("vhd");
    const isPlain = verity === undefined && disk === undefined && !vhd;
    return {
      envelope: isPlain ? undefined : { verity, disk, vhd },
      finish: async ({ verity }) => {
        if (rootHashSink !== undefined) await writeRootHash(rootHashSink, verity!);
      },
      close,
    };
  } catch (error) {
    close();
    throw error;
  }
}

/** The envelope of layers; the library names their files. */
export function layeredEnvelope(args: ParsedArguments): EnvelopeOptions | undefined {
  refuseWithout(args, "verity", ["verity-salt", "roothash"]);
  const place = args.value("verity");
  const salt = readSalt(args.value("verity-salt"));
  const verity = place === undefined ? undefined : { ...salt, beside: place === BESIDE };
  const disk = args.value("disk") === undefined ? undefined : {};
  const vhd = args.flag("vhd");
  return verity === undefined && disk === undefined && !vhd ? undefined : { verity, disk, vhd };
}

/** Writes `FILE.roothash` beside an image that is there, in place of one that may be. */
export async function writeRootHashBeside(
  path: string,
  verity: VerityReport,
  io: CommandIo,
): Promise<void> {
  const sink = createFileSink(rootHashPath(path), { force: true, signal: io.signal });
  await writeRootHash(sink, verity);
}

/** The rows of a report. */
export function envelopeRows(
  { verity, disk, outputBytes }: EnvelopeReport,
): (readonly [string, string])[] {
  return [
    ...verity === undefined ? [] : [
      ["root hash", verity.rootHash] as const,
      [
        "hash tree",
        `${formatSize(verity.hashBytes)} over ${formatCount(verity.dataBlocks)} blocks`,
      ] as const,
    ],
    ...disk === undefined ? [] : [
      [
        "disk",
        `${formatSize(disk.sizeBytes)}: ${
          disk.partitions.map(({ number, role }) => `${number} ${role}`).join(", ")
        }`,
      ] as const,
    ],
    ...outputBytes === undefined ? [] : [["written", formatSize(outputBytes)] as const],
  ];
}

function verityOf(
  args: ParsedArguments,
  hashSinkOf: (file: string) => ImageSink,
  image: string | undefined,
): EnvelopeOptions["verity"] {
  const verity = args.value("verity");
  if (verity === undefined) return undefined;
  const salt = readSalt(args.value("verity-salt"));
  if (verity === "append") return salt;
  return { ...salt, hashSink: hashSinkOf(verity === BESIDE ? besideImage(image) : verity) };
}

function besideImage(image: string | undefined): string {
  if (image !== undefined) return verityPath(image);
  throw new UsageError(
    "--verity",
    "the image has no name that the hash tree could be named after",
    {
      hint: "name the file of the tree, or use append",
    },
  );
}

function refuseWithout(args: ParsedArguments, needed: string, names: readonly string[]): void {
  if (args.value(needed) !== undefined) return;
  const given = args.firstGiven(names);
  if (given === undefined) return;
  throw new UsageError(`--${given}`, `means nothing without --${needed}`, {
    remedies: [{ option: needed, change: "set" }],
  });
}

function rootHashFile(
  args: ParsedArguments,
  io: CommandIo,
  { source, image, dryRun }: EnvelopeContext,
): ImageSink {
  if (image === undefined) {
    throw new UsageError("--roothash", "the image has no name that the file could be named after", {
      hint: "write the image to a file, or take the root hash from the report",
    });
  }
  const path = rootHashPath(image);
  refuseInsideSource(path, source);
  if (dryRun) return nullSink;
  const options = { force: args.flag("force"), signal: io.signal };
  return createFileSink(path, { ...options, sourcePaths: localPaths([source]) });
}

function hashFile(
  file: string,
  args: ParsedArguments,
  io: CommandIo,
  { source, image, dryRun }: EnvelopeContext,
): ImageSink {
  if (file === "-") {
    throw new UsageError("--verity", "the hash tree needs a file: wanted append or its name");
  }
  if (image !== undefined && realPathOf(image) === realPathOf(file)) {
    throw new UsageError(safeLine(file), "is named for the image and for its hash tree", {
      hint: "name two files, or use --verity append",
    });
  }
  refuseInsideSource(file, source);
  if (dryRun) return nullSink;
  const options = { force: args.flag("force"), signal: io.signal };
  return createFileSink(file, { ...options, sourcePaths: localPaths([source]) });
}

/** No line end, as veritysetup writes it. */
async function writeRootHash(sink: ImageSink, { rootHash }: VerityReport): Promise<void> {
  await writeWhole(sink, new TextEncoder().encode(rootHash));
}

/** Every FAT file system ends its first sector so. */
function openEsp(path: string): RandomReader {
  const reader = openFileReader(path, { what: "an EFI system partition" });
  const sector = new Uint8Array(512);
  const isFat = reader.readAt(sector, 0) === sector.length && sector[510] === 0x55 &&
    sector[511] === 0xaa;
  if (isFat) return reader;
  reader.close();
  throw new InputError(safeLine(path), "is not a FAT file system: wanted an EFI system partition");
}

function readSignature(path: string): NonNullable<EnvelopeOptions["disk"]>["signature"] {
  const reader = openFileReader(path, { what: "a signature" });
  try {
    const bytes = new Uint8Array(Math.min(reader.sizeBytes, SIGNATURE_BYTES_MAX));
    readExactly(reader, bytes, 0);
    const name = safeLine(path);
    return { name, ...parseVeritySignature(bytes, name) };
  } finally {
    reader.close();
  }
}
