/**
 * What a file holds, told by its first bytes: tars are hard to tell from other things that begin with zeros, and whoever
 * takes one for the other makes an empty image.
 *
 * @module
 */
import { InputError } from "../errors.ts";
import { SUPERBLOCK_MAGIC, SUPERBLOCK_OFFSET_BYTES } from "../ext4/format/constants.ts";
import { createInflater, SNIFF_BYTES, sniffCompression } from "../io/inflate.ts";
import { checkHeaderSum, isZeroBlock, TAR_BLOCK_SIZE_BYTES } from "../tar/header.ts";
import { fileReader, readSmallPart, type SourceFile } from "./source_file.ts";

/** Something that is not read here, and what to do with it. */
export interface KnownContent {
  /** With its article, such as `an EROFS image`. */
  readonly what: string;
  readonly hint: string;
  /** A disk with a partition table. */
  readonly isDisk?: boolean | undefined;
}

/** How much of a file is looked at: the magic of btrfs comes last. */
export const HEAD_BYTES = (64 << 10) + 4096;

/** Where s_magic lies in a superblock. */
const EXT4_MAGIC_OFFSET = SUPERBLOCK_OFFSET_BYTES + 0x38;

const mounted = (type: string) =>
  `mount it (mount -t ${type} -o ro,loop FILE DIR), and name the directory, rootfs:DIR`;
const unpacked = (command: string) => `unpack it first: ${command}`;
const raw = (format: string) =>
  `convert it first: qemu-img convert -f ${format} -O raw FILE disk.img`;
const PARTITION_HINT = "a partition of it is named ext4:FILE#NUMBER";

/** Where something stands in a file, the bytes as Latin-1 text, and what the file is then. */
const MAGICS: readonly (readonly [number, string, string, string])[] = [
  [1024, "\xe2\xe1\xf5\xe0", "an EROFS image", mounted("erofs")],
  [1024, "\x10\x20\xf5\xf2", "an F2FS image", mounted("f2fs")],
  [65600, "_BHRfS_M", "a btrfs image", mounted("btrfs")],
  [32769, "CD001", "an ISO 9660 image", mounted("iso9660")],
  [32769, "NSR0", "a UDF image", mounted("udf")],
  [0, "XFSB", "an XFS image", mounted("xfs")],
  [
    0,
    "hsqs",
    "a SquashFS image",
    "unpack it first: unsquashfs -d DIR FILE; then name it rootfs:DIR",
  ],
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
  [0, "\x1f\x9d", "compressed with compress", unpacked("gzip -dc FILE.Z > FILE.tar")],
  [0, "\x1f\x1e", "compressed with pack", unpacked("gzip -dc FILE.z > FILE.tar")],
  [0, "\x1f\xa0", "compressed with compress -H", unpacked("gzip -dc FILE.Z > FILE.tar")],
  [0, "\x1f\x8b", "compressed with gzip", unpacked("gzip -dc FILE.gz > FILE.tar")],
  [0, "\x28\xb5\x2f\xfd", "compressed with zstd", unpacked("zstd -dc FILE.zst > FILE.tar")],
  [0, "\xfd7zXZ\0", "compressed with xz", unpacked("xz -dc FILE.xz > FILE.tar")],
  [0, "BZh", "compressed with bzip2", unpacked("bzip2 -dc FILE.bz2 > FILE.tar")],
  [0, "\x04\x22\x4d\x18", "compressed with lz4", unpacked("lz4 -dc FILE.lz4 > FILE.tar")],
  [0, "\x02\x21\x4c\x18", "compressed with lz4", unpacked("lz4 -dc FILE.lz4 > FILE.tar")],
  [0, "LZIP", "compressed with lzip", unpacked("lzip -dc FILE.lz > FILE.tar")],
  [0, "\x89LZO\0\r\n\x1a\n", "compressed with lzop", unpacked("lzop -dc FILE.lzo > FILE.tar")],
  [0, "\x5d\0\0", "compressed with lzma", unpacked("xz --format=lzma -dc FILE.lzma > FILE.tar")],
  [0, "7z\xbc\xaf\x27\x1c", "a 7z archive", unpacked("7z x -so FILE > FILE.tar")],
  [0, "PK\x03\x04", "a ZIP archive", unpacked("unzip -d DIR FILE; then name it rootfs:DIR")],
  [0, "PK\x05\x06", "an empty ZIP archive", "it holds no files"],
  [0, "Rar!", "a RAR archive", unpacked("unrar x FILE DIR; then name it rootfs:DIR")],
  [0, "070701", "a cpio archive", unpacked("bsdtar -cf FILE.tar @FILE")],
  [0, "070702", "a cpio archive", unpacked("bsdtar -cf FILE.tar @FILE")],
  [0, "070707", "a cpio archive", unpacked("bsdtar -cf FILE.tar @FILE")],
  [0, "\xc7\x71", "a cpio archive", unpacked("bsdtar -cf FILE.tar @FILE")],
  [
    0,
    "!<arch>\n",
    "an ar archive or a Debian package",
    unpacked("dpkg-deb --fsys-tarfile FILE > FILE.tar"),
  ],
  [0, "\xed\xab\xee\xdb", "an RPM package", unpacked("rpm2archive -n FILE > FILE.tar")],
  [0, "\x7fELF", "a program (ELF)", "name a tar, an image or a directory"],
];

/** Whether the bytes are those of an ext2, ext3 or ext4 image. */
export function isExt4(head: Uint8Array): boolean {
  return head.length >= EXT4_MAGIC_OFFSET + 2 &&
    head[EXT4_MAGIC_OFFSET]! + head[EXT4_MAGIC_OFFSET + 1]! * 256 === SUPERBLOCK_MAGIC &&
    // Those two bytes may stand in a tar, too; but in front of a superblock is nothing like a header.
    (isZeroBlock(head, 0) || !isTarHeader(head));
}

/** Whether the first block is a tar header. */
export function isTarHeader(head: Uint8Array): boolean {
  if (head.length < TAR_BLOCK_SIZE_BYTES || isZeroBlock(head, 0)) return false;
  try {
    checkHeaderSum(head, 0, { tarName: "", headerOffset: 0, path: "" });
    return true;
  } catch {
    return false;
  }
}

/** Whether the file begins as an empty tar does. */
export function isZeroLed(head: Uint8Array): boolean {
  return head.length >= TAR_BLOCK_SIZE_BYTES && isZeroBlock(head, 0);
}

/**
 * What the first bytes are of, if it is nothing that could be read as a tar.
 *
 * @param head the first {@link HEAD_BYTES}, fewer if there are no more
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { recogniseContent } from "./content.ts";
 * const head = new Uint8Array(2048);
 * head.set([0xe2, 0xe1, 0xf5, 0xe0], 1024);
 * assertEquals(recogniseContent(head)?.what, "an EROFS image");
 * ```
 */
export function recogniseContent(head: Uint8Array): KnownContent | undefined {
  if (isTarHeader(head)) return undefined;
  if (isExt4(head)) return { what: "an ext4 image", hint: "name it ext4:FILE" };
  for (const [offset, magic, what, hint] of MAGICS) {
    if (hasBytes(head, offset, magic)) return { what, hint, isDisk: hint === PARTITION_HINT };
  }
  if (head[510] === 0x55 && head[511] === 0xaa) {
    return { what: "a disk with partitions (MBR)", hint: PARTITION_HINT, isDisk: true };
  }
  if (head.length > 0 && isText(head.subarray(0, TAR_BLOCK_SIZE_BYTES))) {
    return { what: "a text file", hint: "name a tar, an image or a directory" };
  }
  return undefined;
}

/** The error for content that is not what was wanted, by its name if it has a known one. */
export function contentFault(name: string, head: Uint8Array, wanted: string): InputError {
  const known = recogniseContent(head);
  if (known) {
    return new InputError(name, `is ${known.what}: wanted ${wanted}`, {
      code: "wrongKind",
      hint: known.hint,
    });
  }
  if (head.length === 0) {
    return new InputError(name, `is empty: wanted ${wanted}`, { code: "wrongKind" });
  }
  const why = isZeroLed(head)
    ? "begins with zeros, and is not a tar"
    : head.length < TAR_BLOCK_SIZE_BYTES
    ? `is only ${head.length} bytes long`
    : "is not recognised: its first 512 bytes are not the header of a tar";
  return new InputError(name, `${why}: wanted ${wanted}`, { code: "wrongKind" });
}

/** The first bytes of a file, as they are stored. */
export function storedHead(file: SourceFile): Uint8Array {
  return readSmallPart(file, 0, Math.min(HEAD_BYTES, file.sizeBytes), HEAD_BYTES);
}

/** Whether a file's first bytes are those of a known compression. */
export function isCompressed(file: SourceFile): boolean {
  const head = readSmallPart(file, 0, Math.min(SNIFF_BYTES, file.sizeBytes), SNIFF_BYTES);
  return sniffCompression(head) !== "none";
}

/** The first bytes of what a file holds: inflated if it is compressed. Damage is reported when the file is read. */
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

function hasBytes(head: Uint8Array, offset: number, magic: string): boolean {
  if (head.length < offset + magic.length) return false;
  for (let i = 0; i < magic.length; i++) {
    if (head[offset + i] !== magic.charCodeAt(i)) return false;
  }
  return true;
}

function isText(bytes: Uint8Array): boolean {
  return bytes.every((byte) => byte >= 0x20 && byte !== 0x7f || byte >= 0x09 && byte <= 0x0d);
}
