/**
 * What bless puts around an image, as chosen on the command line: a hash tree, a disk, a VHD footer.
 *
 * @module
 */
import type { EnvelopeOptions, EnvelopeReport } from "../../lib/bless/envelope.ts";
import {
  parseVeritySignature,
  rootHashPath,
  verityPath,
  type VerityReport,
} from "../../lib/verity/format.ts";
import { InputError, UsageError } from "../../lib/errors.ts";
import { createFileSink } from "../../lib/io/file_sink.ts";
import { openFileReader, type RandomReader, readExactly } from "../../lib/io/random_reader.ts";
import { type ImageSink, nullSink, writeWhole } from "../../lib/io/sink.ts";
import type { CommandIo, ParsedArguments } from "../command.ts";
import { safeLine } from "../errors.ts";
import type { Rows } from "../text.ts";
import { formatCount, formatSize } from "../values.ts";
import type { Outputs } from "./outputs.ts";
import { readSalt } from "./verity.ts";

/** A signature is read whole, up to this size; anything larger is not a valid signature. */
const SIGNATURE_BYTES_MAX = 8 << 20;

/** Puts the hash tree in a file named after its image. */
const BESIDE = "beside";

interface OpenedEnvelope {
  /** Undefined when nothing surrounds the image. */
  readonly envelope: EnvelopeOptions | undefined;
  /** Writes what can only be written once the image exists. */
  finish(report: EnvelopeReport): Promise<void>;
  close(): void;
}

/**
 * Opens the envelope that the arguments describe.
 *
 * @param image undefined for an image without a file of its own
 * @throws {UsageError} for options that need another option
 */
export function openEnvelope(
  args: ParsedArguments,
  outputs: Outputs,
  image: string | undefined,
): OpenedEnvelope {
  refuseWithout(args, "verity", ["verity-salt", "roothash"]);
  refuseWithout(args, "disk", ["esp", "verity-signature"]);
  const rootHashSink = args.flag("roothash") ? rootHashFile(args, outputs, image) : undefined;
  let esp: RandomReader | undefined;
  const close = () => esp?.close();
  try {
    const espPath = args.value("esp");
    if (espPath !== undefined) esp = openEsp(espPath);
    const signaturePath = args.value("verity-signature");
    const signature = signaturePath === undefined ? undefined : readSignature(signaturePath);
    const disk = args.value("disk") === undefined ? undefined : { esp, signature };
    return {
      envelope: envelopeOf(verityOf(args, outputs, image), disk, args.flag("vhd")),
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

/** The envelope of layered images; the library names their files. */
export function layeredEnvelope(args: ParsedArguments): EnvelopeOptions | undefined {
  refuseWithout(args, "verity", ["verity-salt", "roothash"]);
  const place = args.value("verity");
  const salt = readSalt(args.value("verity-salt"));
  const verity = place === undefined ? undefined : { ...salt, beside: place === BESIDE };
  const disk = args.value("disk") === undefined ? undefined : {};
  return envelopeOf(verity, disk, args.flag("vhd"));
}

function envelopeOf(
  verity: EnvelopeOptions["verity"],
  disk: EnvelopeOptions["disk"],
  vhd: boolean,
): EnvelopeOptions | undefined {
  return verity === undefined && disk === undefined && !vhd ? undefined : { verity, disk, vhd };
}

/** Writes `FILE.roothash` beside an existing image, replacing any earlier one. */
export async function writeRootHashBeside(
  path: string,
  verity: VerityReport,
  io: CommandIo,
): Promise<void> {
  const sink = createFileSink(rootHashPath(path), { force: true, signal: io.signal });
  await writeRootHash(sink, verity);
}

export function envelopeRows({ verity, disk, outputBytes }: EnvelopeReport): Rows {
  const partitions = disk?.partitions.map(({ number, role }) => `${number} ${role}`).join(", ");
  return [
    ["root hash", verity?.rootHash],
    [
      "hash tree",
      verity && `${formatSize(verity.hashBytes)} over ${formatCount(verity.dataBlocks)} blocks`,
    ],
    ["disk", disk && `${formatSize(disk.sizeBytes)}: ${partitions}`],
    ["written", outputBytes === undefined ? undefined : formatSize(outputBytes)],
  ];
}

function verityOf(
  args: ParsedArguments,
  outputs: Outputs,
  image: string | undefined,
): EnvelopeOptions["verity"] {
  const verity = args.value("verity");
  if (verity === undefined) return undefined;
  const salt = readSalt(args.value("verity-salt"));
  if (verity === "append") return salt;
  if (verity === "-") {
    throw new UsageError("--verity", "the hash tree needs a file: wanted append or its name");
  }
  const file = verity === BESIDE ? besideImage(image) : verity;
  return { ...salt, hashSink: fileUnlessDry(file, "its hash tree", args, outputs) };
}

/** Checks a name, but creates no file with `--dry-run`. */
function fileUnlessDry(
  path: string,
  what: string,
  args: ParsedArguments,
  outputs: Outputs,
): ImageSink {
  if (!args.flag("dry-run")) return outputs.file(path, what);
  outputs.take(path, what);
  return nullSink;
}

function besideImage(image: string | undefined): string {
  if (image !== undefined) return verityPath(image);
  const why = "the image has no name that the hash tree could be named after";
  throw new UsageError("--verity", why, { hint: "name the file of the tree, or use append" });
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
  outputs: Outputs,
  image: string | undefined,
): ImageSink {
  if (image !== undefined) {
    return fileUnlessDry(rootHashPath(image), "its root hash", args, outputs);
  }
  throw new UsageError("--roothash", "the image has no name that the file could be named after", {
    hint: "write the image to a file, or take the root hash from the report",
  });
}

/** Written without a newline, as veritysetup does. */
async function writeRootHash(sink: ImageSink, { rootHash }: VerityReport): Promise<void> {
  await writeWhole(sink, new TextEncoder().encode(rootHash));
}

/** The first sector of every FAT file system ends with these two bytes. */
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
