/**
 * What a program of ELF asks of the dynamic linker: its interpreter and the shared libraries that it needs.
 * System V ABI, chapters 4 and 5 ("Program Header", "Dynamic Section").
 *
 * @module
 */
import { type ByteString, byteStringFromBytes } from "../bytes/byte_string.ts";

/** A program or a library. */
export interface ElfFile {
  /** Class, byte order and machine: what two files must have in common to be linked. */
  readonly target: string;
  /** 64 or 32 bits. */
  readonly bits: 64 | 32;
  /** Little-endian. */
  readonly isLittle: boolean;
  /** DT_INTERP; undefined for libraries and static programs. */
  readonly interpreter: ByteString | undefined;
  /** DT_NEEDED, in order. */
  readonly needed: readonly ByteString[];
  /** Directories of DT_RPATH; empty where there is a DT_RUNPATH, which takes its place. */
  readonly rpath: readonly ByteString[];
  /** Directories of DT_RUNPATH. */
  readonly runpath: readonly ByteString[];
}

/** Reads a part of a file; fewer bytes than asked for where it ends. */
export type ReadPart = (offset: number, lengthBytes: number) => Uint8Array;

const HEADER_BYTES = 64;
/** No real file has more, and none makes us read more than this. */
const SEGMENTS_MAX = 512;
const DYNAMIC_BYTES_MAX = 1 << 20;
const STRINGS_BYTES_MAX = 16 << 20;
const INTERPRETER_BYTES_MAX = 4096;
const PT_LOAD = 1;
const PT_DYNAMIC = 2;
const PT_INTERP = 3;
const DT_NULL = 0;
const DT_NEEDED = 1;
const DT_STRTAB = 5;
const DT_STRSZ = 10;
const DT_RPATH = 15;
const DT_RUNPATH = 29;

interface Segment {
  readonly type: number;
  readonly offset: number;
  readonly address: number;
  readonly fileBytes: number;
}

/** Numbers of an ELF file, by its class and byte order. */
class ElfView {
  readonly #view: DataView;
  readonly #isLittle: boolean;
  readonly is64: boolean;

  constructor(bytes: Uint8Array, is64: boolean, isLittle: boolean) {
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    this.#isLittle = isLittle;
    this.is64 = is64;
  }

  half(at: number): number {
    return this.#view.getUint16(at, this.#isLittle);
  }

  word(at: number): number {
    return this.#view.getUint32(at, this.#isLittle);
  }

  /** An address, offset or size. One that no number holds is beyond every file. */
  wide(at: number): number {
    return this.is64 ? Number(this.#view.getBigUint64(at, this.#isLittle)) : this.word(at);
  }
}

/**
 * Reads the headers of an ELF file.
 *
 * @returns undefined for whatever is not one, or is damaged: the dynamic linker would not load it either
 */
export function readElf(read: ReadPart): ElfFile | undefined {
  const header = read(0, HEADER_BYTES);
  const isElf = header.length >= 52 && header[0] === 0x7f && header[1] === 0x45 &&
    header[2] === 0x4c && header[3] === 0x46;
  const [fileClass, order] = [header[4], header[5]];
  if (!isElf || (fileClass !== 1 && fileClass !== 2) || (order !== 1 && order !== 2)) {
    return undefined;
  }
  const is64 = fileClass === 2;
  const isLittle = order === 1;
  if (is64 && header.length < HEADER_BYTES) return undefined;
  const view = new ElfView(header, is64, isLittle);
  const segments = readSegments(read, view, isLittle);
  if (segments === undefined) return undefined;
  const interpreter = segments.find(({ type }) => type === PT_INTERP);
  const dynamic = segments.find(({ type }) => type === PT_DYNAMIC);
  return {
    target: `${fileClass}.${order}.${view.half(18)}`,
    bits: is64 ? 64 : 32,
    isLittle,
    interpreter: interpreter && textAt(
      read(interpreter.offset, Math.min(interpreter.fileBytes, INTERPRETER_BYTES_MAX)),
      0,
    ),
    ...dynamic === undefined
      ? { needed: [], rpath: [], runpath: [] }
      : readDynamic(read, dynamic, segments, { is64, isLittle }),
  };
}

function readSegments(
  read: ReadPart,
  header: ElfView,
  isLittle: boolean,
): readonly Segment[] | undefined {
  const { is64 } = header;
  const [at, size, count] = is64
    ? [header.wide(32), header.half(54), header.half(56)]
    : [header.wide(28), header.half(42), header.half(44)];
  const least = is64 ? 56 : 32;
  if (count > SEGMENTS_MAX || (count > 0 && size < least)) return undefined;
  const bytes = read(at, size * count);
  if (bytes.length < size * count) return undefined;
  const view = new ElfView(bytes, is64, isLittle);
  return Array.from({ length: count }, (_, i): Segment => {
    const start = i * size;
    return is64
      ? {
        type: view.word(start),
        offset: view.wide(start + 8),
        address: view.wide(start + 16),
        fileBytes: view.wide(start + 32),
      }
      : {
        type: view.word(start),
        offset: view.word(start + 4),
        address: view.word(start + 8),
        fileBytes: view.word(start + 16),
      };
  });
}

function readDynamic(
  read: ReadPart,
  dynamic: Segment,
  segments: readonly Segment[],
  { is64, isLittle }: { readonly is64: boolean; readonly isLittle: boolean },
): Pick<ElfFile, "needed" | "rpath" | "runpath"> {
  const bytes = read(dynamic.offset, Math.min(dynamic.fileBytes, DYNAMIC_BYTES_MAX));
  const view = new ElfView(bytes, is64, isLittle);
  const entryBytes = is64 ? 16 : 8;
  const found: { readonly tag: number; readonly value: number }[] = [];
  for (let at = 0; at + entryBytes <= bytes.length; at += entryBytes) {
    const tag = view.wide(at);
    if (tag === DT_NULL) break;
    found.push({ tag, value: view.wide(at + entryBytes / 2) });
  }
  const valueOf = (wanted: number) => found.find(({ tag }) => tag === wanted)?.value;
  const strings = stringTable(read, segments, valueOf(DT_STRTAB), valueOf(DT_STRSZ));
  const textsOf = (wanted: number) =>
    found.filter(({ tag }) => tag === wanted).map(({ value }) => textAt(strings, value))
      .filter((text) => text !== "");
  const directories = (tag: number) => textsOf(tag).flatMap((text) => text.split(":"));
  const runpath = directories(DT_RUNPATH);
  const hasRunpath = valueOf(DT_RUNPATH) !== undefined;
  return {
    needed: textsOf(DT_NEEDED),
    rpath: hasRunpath ? [] : directories(DT_RPATH),
    runpath,
  };
}

/** The table is named by its address in memory; the segment that is loaded there says where it is in the file. */
function stringTable(
  read: ReadPart,
  segments: readonly Segment[],
  address: number | undefined,
  sizeBytes: number | undefined,
): Uint8Array {
  if (address === undefined || sizeBytes === undefined) return new Uint8Array(0);
  const home = segments.find(({ type, address: start, fileBytes }) =>
    type === PT_LOAD && address >= start && address < start + fileBytes
  );
  if (home === undefined) return new Uint8Array(0);
  const offset = home.offset + (address - home.address);
  return read(offset, Math.min(sizeBytes, STRINGS_BYTES_MAX));
}

/** The text up to a zero byte; empty outside of the bytes. */
function textAt(bytes: Uint8Array, at: number): ByteString {
  if (!(at < bytes.length)) return "";
  const end = bytes.indexOf(0, at);
  return byteStringFromBytes(bytes.subarray(at, end < 0 ? bytes.length : end));
}
