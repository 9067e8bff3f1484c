/**
 * `blessfs verity format|verify|dump IMAGE`.
 *
 * @module
 */
import { randomBytes } from "node:crypto";
import {
  checkRootHash,
  formatVerity,
  openVerity,
  verityData,
  type VerityQuery,
} from "../../lib/bless/verity_image.ts";
import { UsageError } from "../../lib/errors.ts";
import { faultInImage } from "../../lib/ext4/volume/judge.ts";
import {
  verifyImage,
  type VerifyOptions,
  type VerifyReport,
} from "../../lib/ext4/verify/verify.ts";
import { createFileSink } from "../../lib/io/file_sink.ts";
import {
  CONSTANT_SALT,
  parseSalt,
  SALT_BYTES,
  type VerityFormat,
  type VerityReport,
  verityText,
} from "../../lib/verity/format.ts";
import { verifyTree, type VerityCheck, type VerityFinding } from "../../lib/verity/verify_tree.ts";
import type { CommandIo, ParsedArguments } from "../command.ts";
import { EXIT, safeLine } from "../errors.ts";
import { aligned, type Rows } from "../text.ts";
import { formatCount, formatSize, parseCount, parseSize } from "../values.ts";

export async function runFormat(args: ParsedArguments, io: CommandIo): Promise<void> {
  const image = args.positional("IMAGE");
  const salt = args.value("salt");
  const hashFile = args.value("hash-file");
  const force = args.flag("force");
  const { signal, progress } = io;
  const report = await formatVerity({
    image,
    salt: readSalt(salt).salt,
    dataBytes: args.parsed("data-size", parseSize),
    hashSink: hashFile === undefined
      ? undefined
      : createFileSink(hashFile, { force, signal, sourcePaths: [image] }),
    force,
    signal,
    progress,
  });
  const document = { image, hashFile: hashFile ?? null, verity: report };
  await io.answer(document, reportRows(image, hashFile, report));
}

export async function runVerify(args: ParsedArguments, io: CommandIo): Promise<0 | 1 | void> {
  const image = args.positional("IMAGE");
  const findingsMax = args.read("max-findings", parseCount);
  const { progress, signal } = io;
  const query = verityQuery(image, args);
  const { rootHash } = query;
  checkRootHash(rootHash);
  const found = openVerity(query);
  const check = await verifyTree(found.place, { rootHash, findingsMax, progress, signal })
    .finally(() => found.close());
  if (io.json) await io.writeJson({ image, verity: check });
  else await io.stdout.write(checkText(image, check, io.quiet));
  return check.clean ? undefined : EXIT.answerNo;
}

export async function runDump(args: ParsedArguments, io: CommandIo): Promise<void> {
  const image = args.positional("IMAGE");
  const hashFile = args.value("hash-file");
  const format = args.text("format");
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
  const devices = { name: args.text("name"), dataDevice, hashDevice };
  if (io.json) await io.writeJson({ image, hashFile: hashFile ?? null, verity: report });
  else if (format === "text") await io.stdout.write(aligned(reportRows(image, hashFile, report)));
  else await io.stdout.write(verityText(format as VerityFormat, report, devices));
}

/** The given salt, a `random` one, or the constant default. */
export function readSalt(
  text: string | undefined,
): { readonly salt: Uint8Array; readonly randomSalt: boolean } {
  const randomSalt = text === "random";
  if (randomSalt) return { salt: new Uint8Array(randomBytes(SALT_BYTES)), randomSalt };
  return { salt: text === undefined ? CONSTANT_SALT : parseSalt(text), randomSalt };
}

function verityQuery(image: string, args: ParsedArguments): VerityQuery {
  return {
    image,
    hashFile: args.value("hash-file"),
    hashOffset: args.parsed("hash-offset", parseSize),
    rootHash: args.value("root-hash"),
  };
}

function reportRows(image: string, hashFile: string | undefined, report: VerityReport): Rows {
  const { rootHash, salt, uuid, dataBlocks, hashOffset, hashBytes } = report;
  return [
    ["image", safeLine(image)],
    ["hash file", hashFile && safeLine(hashFile)],
    ["root hash", rootHash],
    ["salt", salt === "" ? "-" : salt],
    ["uuid", uuid],
    ["data", `${formatCount(dataBlocks)} blocks, ${formatSize(dataBlocks * 4096)}`],
    ["tree", `${formatSize(hashBytes)} at ${formatCount(hashOffset)}`],
  ];
}

export function checkText(image: string, check: VerityCheck, quiet: boolean): string {
  const name = safeLine(image);
  const { findings, damagedDataBlocks, damagedTreeBlocks, dataBlocks } = check;
  const lines = findings.map((finding) => `${name}: ${findingText(finding)}`);
  const more = damagedDataBlocks + damagedTreeBlocks - findings.length;
  if (more > 0) lines.push(`${name}: and ${formatCount(more)} more`);
  if (!check.clean) {
    const data = `${formatCount(damagedDataBlocks)} of ${formatCount(dataBlocks)} data blocks`;
    const tree = `${formatCount(damagedTreeBlocks)} blocks of the hash tree`;
    lines.push(`${name}: damaged: ${data}, ${tree}`);
  } else if (!quiet) {
    lines.push(`${name}: ${formatCount(dataBlocks)} blocks match ${check.rootHash}`);
  }
  return lines.map((line) => `${line}\n`).join("");
}

function findingText({ kind, offset, found, wanted }: VerityFinding): string {
  const what = { data: "data", tree: "hash tree", root: "root of the hash tree" }[kind];
  return `${what} (byte ${offset}): wrong hash: found ${found}, wanted ${wanted}`;
}

/** Checks the file system that a hash tree covers, and every block against the tree: `verify --root-hash`. */
export async function verifyProved(
  image: string,
  args: ParsedArguments,
  options: VerifyOptions,
): Promise<{ readonly report: VerifyReport; readonly verity: VerityCheck }> {
  const query = verityQuery(image, args);
  const found = openVerity(query);
  try {
    const report = await verifyImage(verityData(found), options);
    const { rootHash } = query;
    const verity = await verifyTree(found.place, { ...options, rootHash });
    return { report, verity };
  } catch (error) {
    throw faultInImage(image, error);
  } finally {
    found.close();
  }
}
