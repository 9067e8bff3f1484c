/**
 * The file behind a source, and recognition by its first bytes. It is opened once; from then on only the descriptor is
 * used. Sources without random access, such as pipes, are first copied to a spool.
 *
 * @module
 */
import { displayText } from "../bytes/byte_string.ts";
import { createReadStream } from "node:fs";
import { tmpdir } from "node:os";
import { join, sep } from "node:path";
import { BlessfsError, InputError, IoError, limitError } from "../errors.ts";
import { SUPERBLOCK_MAGIC, SUPERBLOCK_OFFSET_BYTES } from "../ext4/format/constants.ts";
import { createInflater, SNIFF_BYTES, sniffCompression } from "../io/inflate.ts";
import { openInputFile, type RandomReader, SharedDescriptor } from "../io/random_reader.ts";
import { realPathOf, statIfThere } from "../io/paths.ts";
import { createUnlinkedFile, singleFile, SpoolWriter } from "../io/spool.ts";
import { untilAborted } from "../io/streams.ts";
import { checkHeaderSum, isZeroBlock, TAR_BLOCK_SIZE_BYTES } from "../tar/header.ts";
import {
  type DocumentLimit,
  type ResolvedOptions,
  sourceLimits,
  type StoredFile,
} from "./types.ts";

/** An open file. Its owner releases `file`. */
export interface SourceFile {
  readonly name: string;
  readonly file: SharedDescriptor;
  readonly sizeBytes: number;
}

/** Opens a file or a block device, or reads a pipe to its end. @param wanted the expected kind of input, for errors */
export async function openSourceFile(
  path: string,
  wanted: string,
  options: ResolvedOptions,
): Promise<SourceFile> {
  const name = displayText(path);
  if (statIfThere(path)?.isFIFO()) return await spoolStream(name, createReadStream(path), options);
  const { descriptor, sizeBytes } = openInputFile(path, {
    what: wanted,
    directoryHint: "a directory is written oci:DIR, dir:DIR or rootfs:DIR, after what is in it",
  });
  return { name, file: new SharedDescriptor(descriptor), sizeBytes };
}

/** Reads a stream to its end into an unlinked file, up to the limit on inflated layers. */
export async function spoolStream(
  name: string,
  stream: AsyncIterable<Uint8Array>,
  options: ResolvedOptions,
): Promise<SourceFile> {
  const directory = options.tmpdir ?? tmpdir();
  const { unpackedBytes } = sourceLimits(options);
  const file = new SharedDescriptor(createUnlinkedFile(directory));
  try {
    const writer = new SpoolWriter(singleFile(file.descriptor, directory));
    const task = options.progress.begin(name);
    try {
      for await (const piece of untilAborted(stream, options.signal)) {
        writer.append(piece);
        if (writer.sizeBytes > unpackedBytes) {
          const why = `is longer than ${unpackedBytes} bytes, which is what layers may inflate to`;
          throw limitError(name, why, { name: "unpackedBytes", expected: unpackedBytes });
        }
        task.advance(piece.length);
      }
    } finally {
      task.end();
    }
    writer.flush();
    return { name, file, sizeBytes: writer.sizeBytes };
  } catch (error) {
    file.release();
    const code = (error as NodeJS.ErrnoException).code;
    if (code === undefined || error instanceof BlessfsError) throw error;
    throw new IoError(name, `cannot be read: ${(error as Error).message}`, { cause: error });
  }
}

export function fileReader({ name, file, sizeBytes }: SourceFile): RandomReader {
  return file.share().reader(name, 0, sizeBytes);
}

/** A part of a file as a layer's stored bytes; by default, all of it. */
export function storedPart(
  { file, sizeBytes }: SourceFile,
  offsetBytes = 0,
  lengthBytes = sizeBytes,
): StoredFile {
  return { kind: "file", offsetBytes, lengthBytes, open: () => file.share() };
}

/** Reads a regular file whole. @throws {InputError} if it exceeds the limit or is not a regular file */
export function readSmallFile(path: string, limit: DocumentLimit): Uint8Array {
  const name = displayText(path);
  if (!statIfThere(path)?.isFile()) {
    throw new InputError(name, "is not a regular file", { code: "wrongKind" });
  }
  const file = SharedDescriptor.openFile(path);
  try {
    const { sizeBytes } = file;
    return readSmallPart({ name, file, sizeBytes }, 0, sizeBytes, limit);
  } finally {
    file.release();
  }
}

/**
 * Reads a document of a layout in a directory. A link may lead to another file in the layout, but not outside it; otherwise
 * an image could make this program read any local file.
 */
export function readDocumentFile(
  directory: string,
  file: string,
  limit: DocumentLimit,
): Uint8Array {
  const path = join(directory, file);
  const root = realPathOf(directory);
  if (!realPathOf(path).startsWith(root.endsWith(sep) ? root : root + sep)) {
    throw new InputError(displayText(path), "is a link to a file outside of the layout");
  }
  return readSmallFile(path, limit);
}

/** Reads a part of a file whole, unless it exceeds the limit. */
export function readSmallPart(
  { name, file }: SourceFile,
  offsetBytes: number,
  lengthBytes: number,
  limit: DocumentLimit = { bytes: lengthBytes },
): Uint8Array {
  checkDocumentSize(name, lengthBytes, limit);
  const bytes = new Uint8Array(lengthBytes);
  const reader = file.share().reader(name, offsetBytes, lengthBytes);
  try {
    return bytes.subarray(0, reader.readAt(bytes, 0));
  } finally {
    reader.close();
  }
}

/** @throws {InputError} if the document is too long */
export function checkDocumentSize(
  what: string,
  actual: number,
  { bytes: expected, name }: DocumentLimit,
): void {
  if (actual <= expected) return;
  const why = `is ${actual} bytes long: at most ${expected} are read`;
  const isFixed = name === undefined;
  throw limitError(what, why, { name: name ?? "documentBytes", expected, actual, isFixed });
}

/** A known but unsupported format, and what to do about it. */
export interface KnownContent {
  /** With an article, such as `an EROFS image`. */
  readonly what: string;
  readonly hint: string;
  /** Set for a disk with a partition table. */
  readonly isDisk?: boolean | undefined;
}

/** How much of a file is examined: the magic of btrfs comes last. */
export const HEAD_BYTES = (64 << 10) + 4096;

/** The offset of s_magic in the image. */
const EXT4_MAGIC_OFFSET = SUPERBLOCK_OFFSET_BYTES + 0x38;

const mounted = (type: string) =>
  `mount it (mount -t ${type} -o ro,loop FILE DIR), and name the directory, rootfs:DIR`;
const unpacked = (command: string) => `unpack it first: ${command}`;
const inflated = (command: string, ending: string) =>
  unpacked(`${command} -dc FILE.${ending} > FILE.tar`);
const raw = (format: string) =>
  `convert it first: qemu-img convert -f ${format} -O raw FILE disk.img`;
const DPKG = unpacked("dpkg-deb --fsys-tarfile FILE > FILE.tar");
const PARTITION_HINT = "a partition of it is named ext4:FILE#NUMBER";

/** Offset, the bytes there as Latin-1 text, the format, and what to do about it. */
const MAGICS: readonly (readonly [number, string, string, string])[] = [
  [1024, "\xe2\xe1\xf5\xe0", "an EROFS image", mounted("erofs")],
  [1024, "\x10\x20\xf5\xf2", "an F2FS image", mounted("f2fs")],
  [65600, "_BHRfS_M", "a btrfs image", mounted("btrfs")],
  [32769, "CD001", "an ISO 9660 image", mounted("iso9660")],
  [32769, "NSR0", "a UDF image", mounted("udf")],
  [0, "XFSB", "an XFS image", mounted("xfs")],
  [0, "hsqs", "a SquashFS image", unpacked("unsquashfs -d DIR FILE; then name it rootfs:DIR")],
  [0, "\x45\x3d\xcd\x28", "a cramfs image", mounted("cramfs")],
  [0, "-rom1fs-", "a romfs image", mounted("romfs")],
  [3, "NTFS    ", "an NTFS image", mounted("ntfs3")],
  [3, "EXFAT   ", "an exFAT image", mounted("exfat")],
  [54, "FAT1", "a FAT image", mounted("vfat")],
  [82, "FAT32", "a FAT image", mounted("vfat")],
  [0, "LUKS\xba\xbe", "an encrypted disk (LUKS)", "open it with cryptsetup, and name the device"],
  [512, "LABELONE", "a physical volume of LVM", "activate it, and name the logical volume"],
  [4086, "SWAPSPACE2", "swap space", "it holds no files"],
  [512, "EFI PART", "a disk with partitions (GPT)", PARTITION_HINT],
  [0, "QFI\xfb", "a qcow2 image", raw("qcow2")],
  [0, "KDMV", "a VMDK image", raw("vmdk")],
  [64, "\x7f\x10\xda\xbe", "a VDI image", raw("vdi")],
  [0, "conectix", "a VHD image", raw("vpc")],
  [0, "vhdxfile", "a VHDX image", raw("vhdx")],
  [0, "\x3a\xff\x26\xed", "an Android sparse image", "name it ext4:FILE"],
  [0, "\x1f\x9d", "compressed with compress", inflated("gzip", "Z")],
  [0, "\x1f\x1e", "compressed with pack", inflated("gzip", "z")],
  [0, "\x1f\xa0", "compressed with compress -H", inflated("gzip", "Z")],
  [0, "\x1f\x8b", "compressed with gzip", inflated("gzip", "gz")],
  [0, "\x28\xb5\x2f\xfd", "compressed with zstd", inflated("zstd", "zst")],
  [0, "\xfd7zXZ\0", "compressed with xz", inflated("xz", "xz")],
  [0, "BZh", "compressed with bzip2", inflated("bzip2", "bz2")],
  [0, "\x04\x22\x4d\x18", "compressed with lz4", inflated("lz4", "lz4")],
  [0, "\x02\x21\x4c\x18", "compressed with lz4", inflated("lz4", "lz4")],
  [0, "LZIP", "compressed with lzip", inflated("lzip", "lz")],
  [0, "\x89LZO\0\r\n\x1a\n", "compressed with lzop", inflated("lzop", "lzo")],
  [0, "\x5d\0\0", "compressed with lzma", inflated("xz --format=lzma", "lzma")],
  [0, "7z\xbc\xaf\x27\x1c", "a 7z archive", unpacked("7z x -so FILE > FILE.tar")],
  [0, "PK\x03\x04", "a ZIP archive", unpacked("unzip -d DIR FILE; then name it rootfs:DIR")],
  [0, "PK\x05\x06", "an empty ZIP archive", "it holds no files"],
  [0, "Rar!", "a RAR archive", unpacked("unrar x FILE DIR; then name it rootfs:DIR")],
  [0, "070701", "a cpio archive", unpacked("bsdtar -cf FILE.tar @FILE")],
  [0, "070702", "a cpio archive", unpacked("bsdtar -cf FILE.tar @FILE")],
  [0, "070707", "a cpio archive", unpacked("bsdtar -cf FILE.tar @FILE")],
  [0, "\xc7\x71", "a cpio archive", unpacked("bsdtar -cf FILE.tar @FILE")],
  [0, "!<arch>\n", "an ar archive or a Debian package", DPKG],
  [0, "\xed\xab\xee\xdb", "an RPM package", unpacked("rpm2archive -n FILE > FILE.tar")],
  [0, "\x7fELF", "a program (ELF)", "name a tar, an image or a directory"],
];

/** Whether the bytes are those of an ext2, ext3 or ext4 image. */
export function isExt4(head: Uint8Array): boolean {
  return head.length >= EXT4_MAGIC_OFFSET + 2 &&
    head[EXT4_MAGIC_OFFSET]! + head[EXT4_MAGIC_OFFSET + 1]! * 256 === SUPERBLOCK_MAGIC &&
    // Those two bytes may also occur in a tar, but a superblock is not preceded by a tar header.
    (isZeroBlock(head, 0) || !isTarHeader(head));
}

export function isTarHeader(head: Uint8Array): boolean {
  if (head.length < TAR_BLOCK_SIZE_BYTES || isZeroBlock(head, 0)) return false;
  try {
    checkHeaderSum(head, 0, { tarName: "", headerOffset: 0, path: "" });
    return true;
  } catch {
    return false;
  }
}

/** Whether the file begins with zeros, as an empty tar does. */
export function isZeroLed(head: Uint8Array): boolean {
  return head.length >= TAR_BLOCK_SIZE_BYTES && isZeroBlock(head, 0);
}

/** What the first {@link HEAD_BYTES} are, if they cannot be read as a tar. */
export function recogniseContent(head: Uint8Array): KnownContent | undefined {
  if (isTarHeader(head)) return undefined;
  if (isExt4(head)) return { what: "an ext4 image", hint: "name it ext4:FILE" };
  for (const [offset, magic, what, hint] of MAGICS) {
    const found = String.fromCharCode(...head.subarray(offset, offset + magic.length));
    if (found === magic) return { what, hint, isDisk: hint === PARTITION_HINT };
  }
  if (head[510] === 0x55 && head[511] === 0xaa) {
    return { what: "a disk with partitions (MBR)", hint: PARTITION_HINT, isDisk: true };
  }
  if (head.length > 0 && isText(head.subarray(0, TAR_BLOCK_SIZE_BYTES))) {
    return { what: "a text file", hint: "name a tar, an image or a directory" };
  }
  return undefined;
}

/** The error for unexpected content, which names the format if it is known. */
export function contentFault(name: string, head: Uint8Array, wanted: string): InputError {
  const known = recogniseContent(head);
  const why = known
    ? `is ${known.what}`
    : head.length === 0
    ? "is empty"
    : isZeroLed(head)
    ? "begins with zeros, and is not a tar"
    : head.length < TAR_BLOCK_SIZE_BYTES
    ? `is only ${head.length} bytes long`
    : "is not recognised: its first 512 bytes are not the header of a tar";
  return new InputError(name, `${why}: wanted ${wanted}`, { code: "wrongKind", hint: known?.hint });
}

/** The first bytes of a file as stored. */
export function storedHead(file: SourceFile): Uint8Array {
  return readSmallPart(file, 0, Math.min(HEAD_BYTES, file.sizeBytes));
}

/** Whether a file's first bytes indicate a known compression. */
export function isCompressed(file: SourceFile): boolean {
  const head = readSmallPart(file, 0, Math.min(SNIFF_BYTES, file.sizeBytes));
  return sniffCompression(head) !== "none";
}

/** The first bytes of a file's content, inflated if it is compressed. Damage is reported when the file is read. */
export async function inflatedHead(file: SourceFile): Promise<Uint8Array> {
  const stored = storedHead(file);
  const compression = sniffCompression(stored);
  if (compression === "none") return stored;
  const head = new Uint8Array(HEAD_BYTES);
  let length = 0;
  const inflater = createInflater(compression, {
    name: file.name,
    emit: (bytes) => {
      const count = Math.min(bytes.length, HEAD_BYTES - length);
      head.set(bytes.subarray(0, count), length);
      length += count;
    },
  });
  const reader = fileReader(file);
  const piece = new Uint8Array(HEAD_BYTES);
  try {
    let at = 0;
    while (length < HEAD_BYTES && at < file.sizeBytes) {
      const count = reader.readAt(piece, at);
      if (count === 0) break;
      await inflater.push(piece.subarray(0, count));
      at += count;
    }
    if (length < HEAD_BYTES) await inflater.end();
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
  } finally {
    inflater.close();
    reader.close();
  }
  return head.subarray(0, length);
}

function isText(bytes: Uint8Array): boolean {
  return bytes.every((byte) => byte >= 0x20 && byte !== 0x7f || byte >= 0x09 && byte <= 0x0d);
}
