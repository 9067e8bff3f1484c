/**
 * The files that starting an image's entry point reads, found without running it: the program, script interpreters, the
 * dynamic linker and its cache, and the shared libraries, searched for as in ld.so(8).
 *
 * ELF follows the System V ABI, chapters 4 and 5 ("Program Header", "Dynamic Section"). /etc/ld.so.cache follows
 * glibc's format ("glibc-ld.so.cache1.1", sysdeps/generic/dl-cache.h), which an older format may precede.
 *
 * @module
 */
import { type ByteString, byteStringFromBytes, byteStringFromText } from "../bytes/byte_string.ts";
import { InputError } from "../errors.ts";
import { type FileNode, type FileTree, readPayload } from "../model/node.ts";
import { containerConfig } from "../source/inspect.ts";
import { displayText } from "../source/json.ts";
import { type ResolvedPath, resolvePath } from "../tree/paths.ts";

/** The files that starting reads, in order. */
export interface Closure {
  readonly files: readonly FileNode[];
  /** Names that were looked for and not found. */
  readonly missing: readonly ByteString[];
}

const DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const LINKER_CACHE = "/etc/ld.so.cache";
const LINKER_PRELOAD = "/etc/ld.so.preload";
/** The depth of nested script interpreters that the kernel allows (BINPRM_MAX_RECURSION). */
const SCRIPTS_MAX = 5;
/** How much of a script's first line the kernel reads (BINPRM_BUF_SIZE). */
const SHEBANG_BYTES = 256;
const SMALL_FILE_BYTES_MAX = 16 << 20;
/** More than any program has. */
const LIBRARIES_MAX = 10_000;
const SHELLS = /(?:^|\/)(?:ba|da|a|k|z)?sh$/;

/** The default directories, searched after the file's own and the cache. Debian's contain the architecture. */
const DEFAULT_DIRECTORIES: Readonly<Record<string, readonly string[]>> = {
  // Keyed by ELF class, byte order and machine.
  "2.1.62": ["/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu"],
  "2.1.183": ["/lib/aarch64-linux-gnu", "/usr/lib/aarch64-linux-gnu"],
  "1.1.3": ["/lib/i386-linux-gnu", "/usr/lib/i386-linux-gnu"],
  "1.1.40": ["/lib/arm-linux-gnueabihf", "/usr/lib/arm-linux-gnueabihf"],
  "2.1.243": ["/lib/riscv64-linux-gnu", "/usr/lib/riscv64-linux-gnu"],
  "2.1.21": ["/lib/powerpc64le-linux-gnu", "/usr/lib/powerpc64le-linux-gnu"],
  "2.2.22": ["/lib/s390x-linux-gnu", "/usr/lib/s390x-linux-gnu"],
};
const MUSL_DIRECTORIES = ["/lib", "/usr/local/lib", "/usr/lib"];

/**
 * Finds the files that a config's entry point reads when it starts.
 *
 * @param source the image's name in errors
 * @throws {InputError} when the config has no entry point, or its program is not in the image
 */
export function entrypointClosure(tree: FileTree, config: unknown, source: string): Closure {
  const container = containerConfig(config);
  const words = [...texts(container?.Entrypoint), ...texts(container?.Cmd)];
  if (words.length === 0) {
    throw new InputError(displayText(source), "has no entry point and no command", {
      hint: "give a list of files in place of `entrypoint`",
    });
  }
  const finder = new ClosureFinder(tree, texts(container?.Env), container?.WorkingDir);
  const [program, ...rest] = words.map(byteStringFromText);
  if (!finder.addProgram(program!)) {
    const why = `the program of its entry point is missing: ${displayText(words[0]!)}`;
    throw new InputError(displayText(source), why);
  }
  finder.addArguments(program!, rest);
  return finder.closure;
}

function texts(value: unknown): string[] {
  return Array.isArray(value) ? value.filter((one) => typeof one === "string") : [];
}

interface Loaded {
  readonly elf: ElfFile;
  /** The directory that `$ORIGIN` stands for. */
  readonly origin: ByteString;
  /** The file that needs this one; undefined for the program. */
  readonly loader: Loaded | undefined;
}

class ClosureFinder {
  readonly #tree: FileTree;
  readonly #path: readonly ByteString[];
  readonly #libraryPath: readonly ByteString[];
  readonly #workingDir: ByteString;
  readonly #files = new Set<FileNode>();
  readonly #missing = new Set<ByteString>();
  #cache: LinkerCache | undefined;

  constructor(tree: FileTree, environment: readonly string[], workingDir: unknown) {
    const valueOf = (name: string) =>
      environment.find((text) => text.startsWith(`${name}=`))?.slice(name.length + 1);
    const directories = (text: string) =>
      byteStringFromText(text).split(":").filter((one) => one !== "");
    this.#tree = tree;
    this.#path = directories(valueOf("PATH") ?? DEFAULT_PATH);
    this.#libraryPath = directories(valueOf("LD_LIBRARY_PATH") ?? "");
    this.#workingDir = typeof workingDir === "string" && workingDir !== ""
      ? byteStringFromText(workingDir)
      : "/";
  }

  get closure(): Closure {
    return { files: [...this.#files], missing: [...this.#missing] };
  }

  /** Adds a program and everything that loading it reads. @returns whether the program exists */
  addProgram(name: ByteString): boolean {
    const found = this.#program(name);
    if (found !== undefined) this.#execute(found, SCRIPTS_MAX);
    return found !== undefined;
  }

  /**
   * Adds the files that arguments name, such as an interpreter's script, and the program that a shell runs with `-c`,
   * if it is a plain word.
   */
  addArguments(program: ByteString, words: readonly ByteString[]): void {
    words.forEach((word, i) => {
      const isCommand = words[i - 1] === "-c" && SHELLS.test(program);
      const first = isCommand ? /^\s*(?:exec\s+)?([\w./+-]+)/.exec(word)?.[1] : undefined;
      if (first !== undefined) this.addProgram(first);
      if (isCommand || word.startsWith("-")) return;
      const file = this.#program(word, []) ??
        (word.includes("/") ? undefined : this.#program(word));
      if (file !== undefined) this.#execute(file, SCRIPTS_MAX);
    });
  }

  /** Finds a file by its path, or by its name in the search path. */
  #program(name: ByteString, searchPath = this.#path): FoundFile | undefined {
    const places = name.includes("/") || searchPath.length === 0
      ? [name.startsWith("/") ? name : `${this.#workingDir}/${name}`]
      : searchPath.map((directory) => `${directory}/${name}`);
    for (const place of places) {
      const found = this.#file(place);
      if (found !== undefined) return found;
    }
    return undefined;
  }

  #file(path: ByteString): FoundFile | undefined {
    const found = resolvePath(this.#tree, path);
    return found?.node.kind === "file" ? found as FoundFile : undefined;
  }

  /** Adds a file as the kernel reads it to execute it. */
  #execute(file: FoundFile, scriptsLeft: number): void {
    if (this.#files.has(file.node)) return;
    this.#files.add(file.node);
    const elf = readElf(partsOf(file.node));
    if (elf !== undefined) return this.#link(file, elf);
    const [interpreter, argument] = shebang(file.node);
    if (interpreter === undefined || scriptsLeft === 0) return;
    this.#executeNamed(interpreter, [], scriptsLeft - 1);
    // `#!/usr/bin/env -S name` searches for the name.
    const name = argument?.replace(/^-S\s*/, "").split(/\s+/).find((word) => !word.includes("="));
    if (!/(?:^|\/)env$/.test(interpreter) || name === undefined || name === "") return;
    this.#executeNamed(name, this.#path, scriptsLeft - 1);
  }

  #executeNamed(name: ByteString, searchPath: readonly ByteString[], scriptsLeft: number): void {
    const file = this.#program(name, searchPath);
    if (file === undefined) this.#missing.add(name);
    else this.#execute(file, scriptsLeft);
  }

  /** Adds the dynamic linker and then all libraries, breadth first. */
  #link(file: FoundFile, elf: ElfFile): void {
    const { interpreter } = elf;
    if (interpreter === undefined) return;
    if (this.#read(interpreter) === undefined) this.#missing.add(interpreter);
    const isMusl = /\/ld-musl-/.test(interpreter);
    const preloaded = isMusl ? [] : textOf(this.#read(LINKER_PRELOAD)).split(/[\s:]+/);
    const cached = isMusl ? undefined : this.#read(LINKER_CACHE);
    if (cached !== undefined) this.#cache ??= readLinkerCache(contentOf(cached), elf.isLittle);
    const queue: Loaded[] = [{ elf, origin: directoryOf(file.path), loader: undefined }];
    const seen = new Set<ByteString>([""]);
    for (let i = 0; i < queue.length && queue.length < LIBRARIES_MAX; i++) {
      const loader = queue[i]!;
      for (const name of [...i === 0 ? preloaded : [], ...loader.elf.needed]) {
        if (seen.has(name)) continue;
        seen.add(name);
        const library = this.#library(name, loader, isMusl);
        if (library === undefined) this.#missing.add(name);
        else if (!this.#files.has(library.file.node)) {
          this.#files.add(library.file.node);
          const origin = directoryOf(library.file.path);
          queue.push({ elf: library.elf, origin, loader });
        }
      }
    }
  }

  #read(path: ByteString): FileNode | undefined {
    const node = this.#file(path)?.node;
    if (node !== undefined) this.#files.add(node);
    return node;
  }

  /** The first candidate library for the same machine. */
  #library(
    name: ByteString,
    loader: Loaded,
    isMusl: boolean,
  ): { readonly file: FoundFile; readonly elf: ElfFile } | undefined {
    for (const path of this.#candidates(name, loader, isMusl)) {
      const file = this.#file(path);
      const elf = file && readElf(partsOf(file.node));
      if (file !== undefined && elf?.target === loader.elf.target) return { file, elf };
    }
    return undefined;
  }

  *#candidates(name: ByteString, loader: Loaded, isMusl: boolean): Generator<ByteString> {
    if (name.includes("/")) {
      yield expanded(name, loader);
      return;
    }
    const inDirectories = function* (directories: readonly ByteString[], from: Loaded) {
      for (const directory of directories) yield `${expanded(directory, from)}/${name}`;
    };
    if (loader.elf.runpath.length === 0) {
      for (let at: Loaded | undefined = loader; at !== undefined; at = at.loader) {
        yield* inDirectories(at.elf.rpath, at);
      }
    }
    yield* inDirectories(this.#libraryPath, loader);
    yield* inDirectories(loader.elf.runpath, loader);
    yield* isMusl ? [] : this.#cache?.get(name) ?? [];
    const defaults = isMusl ? MUSL_DIRECTORIES : defaultDirectories(loader.elf);
    yield* inDirectories(defaults, loader);
  }
}

type FoundFile = ResolvedPath & { readonly node: FileNode };

function defaultDirectories({ target, is64 }: ElfFile): readonly string[] {
  const wide = is64 ? ["/lib64", "/usr/lib64"] : [];
  return [...DEFAULT_DIRECTORIES[target] ?? [], ...wide, "/lib", "/usr/lib"];
}

/**
 * `$ORIGIN` is the directory of the file that contains the token; `$LIB` is `lib64` or `lib`. ld.so(8), "Dynamic string
 * tokens".
 */
function expanded(text: ByteString, { origin, elf }: Loaded): ByteString {
  return text.replace(/\$(?:ORIGIN\b|\{ORIGIN\})/g, () => origin === "" ? "/" : origin)
    .replace(/\$(?:LIB\b|\{LIB\})/g, elf.is64 ? "lib64" : "lib");
}

function directoryOf(path: ByteString): ByteString {
  return path.slice(0, path.lastIndexOf("/"));
}

function partsOf({ payload }: FileNode): ReadPart {
  return (offset, lengthBytes) => {
    const isInside = Number.isSafeInteger(offset) && offset >= 0 && offset < payload.sizeBytes;
    const bytes = new Uint8Array(isInside ? Math.min(lengthBytes, payload.sizeBytes - offset) : 0);
    if (bytes.length > 0) readPayload(payload, bytes, offset);
    return bytes;
  };
}

function contentOf(node: FileNode): Uint8Array {
  return partsOf(node)(0, SMALL_FILE_BYTES_MAX);
}

function textOf(node: FileNode | undefined): ByteString {
  return node === undefined ? "" : byteStringFromBytes(contentOf(node));
}

/** The interpreter of a script and its one argument, execve(2). */
function shebang(node: FileNode): [interpreter?: ByteString, argument?: ByteString] {
  const head = byteStringFromBytes(partsOf(node)(0, SHEBANG_BYTES));
  const match = /^#![ \t]*([^ \t\n]+)(?:[ \t]+([^\n]*?))?[ \t\r]*(?:\n|$)/.exec(head);
  if (match === null) return [];
  return match[2] === undefined ? [match[1]!] : [match[1]!, match[2]];
}

interface ElfFormat {
  readonly is64: boolean;
  readonly isLittle: boolean;
}

/** A parsed ELF program or library. */
export interface ElfFile extends ElfFormat {
  /** Class, byte order and machine: files can be linked only if they have the same target. */
  readonly target: string;
  /** DT_INTERP; undefined for libraries and static programs. */
  readonly interpreter: ByteString | undefined;
  /** DT_NEEDED, in order. */
  readonly needed: readonly ByteString[];
  /** The directories in DT_RPATH; empty if there is a DT_RUNPATH, which overrides it. */
  readonly rpath: readonly ByteString[];
  /** The directories in DT_RUNPATH. */
  readonly runpath: readonly ByteString[];
}

/** Reads a part of a file; returns fewer bytes at the end of the file. */
type ReadPart = (offset: number, lengthBytes: number) => Uint8Array;

/** Field offsets by class: in the file header, and in each segment header. */
const ELF_LAYOUTS = {
  64: { table: 32, entrySize: 54, count: 56, least: 56, offset: 8, address: 16, fileBytes: 32 },
  32: { table: 28, entrySize: 42, count: 44, least: 32, offset: 4, address: 8, fileBytes: 16 },
} as const;
const ELF_HEADER_BYTES = { 64: 64, 32: 52 } as const;
const ELF_MAGIC = "\x7fELF";
/** Upper bounds on what is read; no real file exceeds them. */
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

/** Readers for the numbers of an ELF file, by its class and byte order. */
function numbersOf(bytes: Uint8Array, { is64, isLittle }: ElfFormat) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const half = (at: number) => view.getUint16(at, isLittle);
  const word = (at: number) => view.getUint32(at, isLittle);
  /** An address, offset or size. Values too large for an exact number lie beyond the end of any file. */
  const wide = (at: number) => is64 ? Number(view.getBigUint64(at, isLittle)) : word(at);
  return { half, word, wide };
}

/**
 * Reads the headers of an ELF file.
 *
 * @returns undefined if the file is not ELF or is damaged: the dynamic linker would not load it either
 */
export function readElf(read: ReadPart): ElfFile | undefined {
  const header = read(0, ELF_HEADER_BYTES[64]);
  const [fileClass, order] = [header[4], header[5]];
  const isKnown = startsWith(header, 0, ELF_MAGIC) && (fileClass === 1 || fileClass === 2) &&
    (order === 1 || order === 2);
  if (!isKnown) return undefined;
  const format = { is64: fileClass === 2, isLittle: order === 1 };
  if (header.length < ELF_HEADER_BYTES[format.is64 ? 64 : 32]) return undefined;
  const segments = readSegments(read, header, format);
  if (segments === undefined) return undefined;
  const interpreter = segments.find(({ type }) => type === PT_INTERP);
  const dynamic = segments.find(({ type }) => type === PT_DYNAMIC);
  return {
    ...format,
    target: `${fileClass}.${order}.${numbersOf(header, format).half(18)}`,
    interpreter: interpreter && textAt(
      read(interpreter.offset, Math.min(interpreter.fileBytes, INTERPRETER_BYTES_MAX)),
      0,
    ),
    ...dynamic === undefined
      ? { needed: [], rpath: [], runpath: [] }
      : readDynamic(read, dynamic, segments, format),
  };
}

function readSegments(
  read: ReadPart,
  header: Uint8Array,
  format: ElfFormat,
): readonly Segment[] | undefined {
  const layout = ELF_LAYOUTS[format.is64 ? 64 : 32];
  const { half, wide: wideOfHeader } = numbersOf(header, format);
  const [at, size, count] = [
    wideOfHeader(layout.table),
    half(layout.entrySize),
    half(layout.count),
  ];
  if (count > SEGMENTS_MAX || (count > 0 && size < layout.least)) return undefined;
  const bytes = read(at, size * count);
  if (bytes.length < size * count) return undefined;
  const { word, wide } = numbersOf(bytes, format);
  return Array.from({ length: count }, (_, i): Segment => ({
    type: word(i * size),
    offset: wide(i * size + layout.offset),
    address: wide(i * size + layout.address),
    fileBytes: wide(i * size + layout.fileBytes),
  }));
}

function readDynamic(
  read: ReadPart,
  dynamic: Segment,
  segments: readonly Segment[],
  format: ElfFormat,
): Pick<ElfFile, "needed" | "rpath" | "runpath"> {
  const bytes = read(dynamic.offset, Math.min(dynamic.fileBytes, DYNAMIC_BYTES_MAX));
  const { wide } = numbersOf(bytes, format);
  const entryBytes = format.is64 ? 16 : 8;
  const found: { readonly tag: number; readonly value: number }[] = [];
  for (let at = 0; at + entryBytes <= bytes.length; at += entryBytes) {
    const tag = wide(at);
    if (tag === DT_NULL) break;
    found.push({ tag, value: wide(at + entryBytes / 2) });
  }
  const valueOf = (wanted: number) => found.find(({ tag }) => tag === wanted)?.value;
  const strings = stringTable(read, segments, valueOf(DT_STRTAB), valueOf(DT_STRSZ));
  const textsOf = (wanted: number) =>
    found.filter(({ tag }) => tag === wanted).map(({ value }) => textAt(strings, value))
      .filter((text) => text !== "");
  const directories = (tag: number) => textsOf(tag).flatMap((text) => text.split(":"));
  return {
    needed: textsOf(DT_NEEDED),
    rpath: valueOf(DT_RUNPATH) === undefined ? directories(DT_RPATH) : [],
    runpath: directories(DT_RUNPATH),
  };
}

/** The table is given by its memory address; the segment loaded there determines its offset in the file. */
function stringTable(
  read: ReadPart,
  segments: readonly Segment[],
  address: number | undefined,
  sizeBytes: number | undefined,
): Uint8Array {
  const home = segments.find(({ type, address: start, fileBytes }) =>
    type === PT_LOAD && address !== undefined && address >= start && address < start + fileBytes
  );
  if (home === undefined || sizeBytes === undefined) return new Uint8Array(0);
  const offset = home.offset + (address! - home.address);
  return read(offset, Math.min(sizeBytes, STRINGS_BYTES_MAX));
}

/** The text up to a zero byte; empty if `at` is out of range. */
function textAt(bytes: Uint8Array, at: number): ByteString {
  if (!(at < bytes.length)) return "";
  const end = bytes.indexOf(0, at);
  return byteStringFromBytes(bytes.subarray(at, end < 0 ? bytes.length : end));
}

function startsWith(bytes: Uint8Array, at: number, text: string): boolean {
  return byteStringFromBytes(bytes.subarray(at, at + text.length)) === text;
}

const OLD_CACHE_MAGIC = "ld.so-1.7.0";
const OLD_CACHE_HEADER_BYTES = 16;
const OLD_CACHE_ENTRY_BYTES = 12;
const CACHE_MAGIC = "glibc-ld.so.cache1.1";
const CACHE_HEADER_BYTES = 48;
const CACHE_ENTRY_BYTES = 24;
/** More entries than any cache has. */
const CACHE_ENTRIES_MAX = 1 << 20;

/** The files for each name, in cache order; those for any processor come first. */
type LinkerCache = ReadonlyMap<ByteString, readonly ByteString[]>;

/** Reads the linker cache; empty if it is invalid. @param isLittle the byte order of the image's machine */
export function readLinkerCache(bytes: Uint8Array, isLittle: boolean): LinkerCache {
  const files = new Map<ByteString, ByteString[]>();
  const cache = bytes.subarray(cacheStart(bytes, isLittle));
  if (cache.length < CACHE_HEADER_BYTES || !startsWith(cache, 0, CACHE_MAGIC)) return files;
  const view = new DataView(cache.buffer, cache.byteOffset, cache.length);
  const count = view.getUint32(20, isLittle);
  const isWhole = CACHE_HEADER_BYTES + count * CACHE_ENTRY_BYTES <= cache.length;
  if (count > CACHE_ENTRIES_MAX || !isWhole) return files;
  // The processor that will run the image is unknown.
  for (const isForAny of [true, false]) {
    for (let i = 0; i < count; i++) {
      const at = CACHE_HEADER_BYTES + i * CACHE_ENTRY_BYTES;
      if ((view.getBigUint64(at + 16, isLittle) === 0n) !== isForAny) continue;
      const name = textAt(cache, view.getUint32(at + 4, isLittle));
      const path = textAt(cache, view.getUint32(at + 8, isLittle));
      if (name === "" || !path.startsWith("/")) continue;
      const known = files.get(name);
      if (known === undefined) files.set(name, [path]);
      else known.push(path);
    }
  }
  return files;
}

/** Where the new format begins: after an old cache, aligned to 8 bytes. */
function cacheStart(bytes: Uint8Array, isLittle: boolean): number {
  if (!startsWith(bytes, 0, OLD_CACHE_MAGIC) || bytes.length < OLD_CACHE_HEADER_BYTES) return 0;
  const count = new DataView(bytes.buffer, bytes.byteOffset).getUint32(12, isLittle);
  return Math.ceil((OLD_CACHE_HEADER_BYTES + count * OLD_CACHE_ENTRY_BYTES) / 8) * 8;
}
