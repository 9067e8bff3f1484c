/**
 * The files that starting an image's entry point reads, found without running it: the program, the interpreters of scripts,
 * the dynamic linker, its cache, and the shared libraries, searched for as ld.so(8) does.
 *
 * @module
 */
import { type ByteString, byteStringFromBytes, byteStringFromText } from "../bytes/byte_string.ts";
import { InputError } from "../errors.ts";
import type { FileNode, FileTree } from "../model/node.ts";
import { readPayload } from "../model/payload.ts";
import { containerConfig } from "../source/inspect.ts";
import { displayText } from "../source/json.ts";
import { type ResolvedPath, resolvePath } from "../tree/resolve.ts";
import { type ElfFile, readElf } from "./elf.ts";
import { type LinkerCache, readLinkerCache } from "./linker_cache.ts";

/** What starting reads, in order. */
export interface Closure {
  readonly files: readonly FileNode[];
  /** What is asked for by name and not there. */
  readonly missing: readonly ByteString[];
}

const DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const LINKER_CACHE = "/etc/ld.so.cache";
const LINKER_PRELOAD = "/etc/ld.so.preload";
/** The kernel follows so many scripts whose interpreters are scripts (BINPRM_MAX_RECURSION). */
const SCRIPTS_MAX = 5;
/** The kernel looks at so much of a script's first line (BINPRM_BUF_SIZE). */
const SHEBANG_BYTES = 256;
const SMALL_FILE_BYTES_MAX = 16 << 20;
/** More than any program has. */
const LIBRARIES_MAX = 10_000;
const SHELLS = /(?:^|\/)(?:ba|da|a|k|z)?sh$/;

/** Behind the directories that a file names and the cache. Debian's have the name of the architecture in them. */
const DEFAULT_DIRECTORIES: Readonly<Record<string, readonly string[]>> = {
  // By ELF's class, byte order and machine.
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
 * Finds what the entry point of a config reads when it starts.
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
    const shown = displayText(words[0]!);
    throw new InputError(
      displayText(source),
      `the program of its entry point is missing: ${shown}`,
    );
  }
  finder.addArguments(program!, rest);
  return finder.closure;
}

function texts(value: unknown): string[] {
  return Array.isArray(value) ? value.filter((one) => typeof one === "string") : [];
}

/** A library or a program that asks for libraries. */
interface Loaded {
  readonly elf: ElfFile;
  /** The directory that `$ORIGIN` stands for. */
  readonly origin: ByteString;
  /** What asked for it. */
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

  /** Adds a program, and all that loading it reads. @returns whether it is there */
  addProgram(name: ByteString): boolean {
    const found = this.#program(name);
    if (found === undefined) return false;
    this.#execute(found, SCRIPTS_MAX);
    return true;
  }

  /**
   * Adds what the arguments name: files, such as the script of an interpreter, and the program that a shell is told to
   * run, where that is one word.
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

  /** A file by its path, or by its name in the search path. */
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

  /** The regular file that a path leads to. */
  #file(path: ByteString): FoundFile | undefined {
    const found = resolvePath(this.#tree, path);
    return found?.node.kind === "file" ? found as FoundFile : undefined;
  }

  /** Reads a file as the kernel does when it executes it. */
  #execute(file: FoundFile, scriptsLeft: number): void {
    if (this.#files.has(file.node)) return;
    this.#files.add(file.node);
    const elf = readElf(partsOf(file.node));
    if (elf !== undefined) return this.#link(file, elf);
    const [interpreter, argument] = shebang(file.node);
    if (interpreter === undefined || scriptsLeft === 0) return;
    this.#executeNamed(interpreter, scriptsLeft - 1);
    // `#!/usr/bin/env -S name` searches for the name.
    const name = argument?.replace(/^-S\s*/, "").split(/\s+/).find((word) => !word.includes("="));
    if (!/(?:^|\/)env$/.test(interpreter) || name === undefined || name === "") return;
    const searched = this.#program(name);
    if (searched === undefined) this.#missing.add(name);
    else this.#execute(searched, scriptsLeft - 1);
  }

  #executeNamed(path: ByteString, scriptsLeft: number): void {
    const file = this.#file(path.startsWith("/") ? path : `${this.#workingDir}/${path}`);
    if (file === undefined) this.#missing.add(path);
    else this.#execute(file, scriptsLeft);
  }

  /** Loads the interpreter and then, level by level, all libraries. */
  #link(file: FoundFile, elf: ElfFile): void {
    const { interpreter } = elf;
    if (interpreter === undefined) return;
    const linker = this.#file(interpreter);
    if (linker === undefined) this.#missing.add(interpreter);
    else this.#files.add(linker.node);
    const isMusl = /\/ld-musl-/.test(interpreter);
    const preloaded = isMusl ? [] : this.#preloaded();
    if (!isMusl) this.#loadCache(elf);
    const queue: Loaded[] = [{ elf, origin: directoryOf(file.path), loader: undefined }];
    const seen = new Set<ByteString>();
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

  #preloaded(): ByteString[] {
    const file = this.#file(LINKER_PRELOAD);
    if (file === undefined) return [];
    this.#files.add(file.node);
    return byteStringFromBytes(smallFile(file.node)).split(/[\s:]+/).filter((name) => name !== "");
  }

  #loadCache({ isLittle }: ElfFile): void {
    const file = this.#file(LINKER_CACHE);
    if (file === undefined) {
      this.#cache ??= new Map();
      return;
    }
    this.#files.add(file.node);
    this.#cache ??= readLinkerCache(smallFile(file.node), isLittle);
  }

  /** The first candidate that is a library for the same machine. */
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

function defaultDirectories({ target, bits }: ElfFile): readonly string[] {
  const wide = bits === 64 ? ["/lib64", "/usr/lib64"] : [];
  return [...DEFAULT_DIRECTORIES[target] ?? [], ...wide, "/lib", "/usr/lib"];
}

/** `$ORIGIN` is where the file lies that says so; `$LIB` is `lib64` or `lib`. ld.so(8), "Dynamic string tokens". */
function expanded(text: ByteString, { origin, elf }: Loaded): ByteString {
  return text.replace(/\$(?:ORIGIN\b|\{ORIGIN\})/g, () => origin === "" ? "/" : origin)
    .replace(/\$(?:LIB\b|\{LIB\})/g, elf.bits === 64 ? "lib64" : "lib");
}

function directoryOf(path: ByteString): ByteString {
  return path.slice(0, path.lastIndexOf("/"));
}

function partsOf({ payload }: FileNode): (offset: number, lengthBytes: number) => Uint8Array {
  return (offset, lengthBytes) => {
    const isInside = Number.isSafeInteger(offset) && offset >= 0 && offset < payload.sizeBytes;
    const bytes = new Uint8Array(isInside ? Math.min(lengthBytes, payload.sizeBytes - offset) : 0);
    if (bytes.length > 0) readPayload(payload, bytes, offset);
    return bytes;
  };
}

function smallFile(node: FileNode): Uint8Array {
  return partsOf(node)(0, SMALL_FILE_BYTES_MAX);
}

/** The interpreter of a script and its one argument, execve(2). */
function shebang(node: FileNode): [interpreter?: ByteString, argument?: ByteString] {
  const head = byteStringFromBytes(partsOf(node)(0, SHEBANG_BYTES));
  const match = /^#![ \t]*([^ \t\n]+)(?:[ \t]+([^\n]*?))?[ \t\r]*(?:\n|$)/.exec(head);
  if (match === null) return [];
  return match[2] === undefined ? [match[1]!] : [match[1]!, match[2]];
}
