/**
 * Images of machines that stopped: made with mke2fs, written to by the kernel, and copied while they are mounted. What is
 * in such a copy depends on when the kernel wrote what; how it must be read does not: the kernel itself says that.
 *
 * @module
 */
import { closeSync, fsyncSync, openSync } from "node:fs";
import { byteStringFromText } from "../../../lib/bytes/byte_string.ts";
import { mustRun } from "../../oracle/command.ts";
import { unmount } from "../../oracle/kernel.ts";
import { closeDescriptor, openDirectory } from "../../oracle/libc.ts";
import { SystemCallError } from "../../oracle/libc_calls.ts";
import { setXattrAt } from "../../oracle/libc_changes.ts";
import { Random } from "../../oracle/noise.ts";

/** One way to make such an image. */
export interface CrashSpec {
  readonly seed: number;
  readonly fsType: "ext2" | "ext3" | "ext4";
  readonly blockSizeBytes: number;
  /** For mke2fs -O, such as `^metadata_csum,^64bit`; empty for its defaults. */
  readonly features: string;
  /** For mount -o. */
  readonly mountOptions: string;
  /** For mke2fs -J. */
  readonly journalOptions?: string;
  /** Changes after the last time that everything was in place. */
  readonly changes: number;
  /** What happens before the copy: nothing, one file is synced now and then, or everything is. */
  readonly sync: "none" | "fsync" | "all";
  /** Only files are changed after that time, and often synced: what fast commits are for. */
  readonly filesOnly?: boolean;
  /** Called when the image is copied, to copy what belongs to it. */
  readonly copied?: () => void;
}

const EXT4_FEATURES = [
  "",
  "^metadata_csum",
  "^64bit",
  "^metadata_csum,^64bit",
  "orphan_file",
  "metadata_csum_seed,inline_data,ea_inode",
  "meta_bg,^resize_inode",
];
const MOUNT_OPTIONS = [
  "",
  "data=journal",
  "journal_checksum",
  "journal_async_commit,data=writeback",
  "nodelalloc",
];

/** One of many specs that differ in all there is. */
export function sweptSpec(seed: number): CrashSpec {
  const random = new Random(seed);
  const fsType = random.pick(["ext4", "ext4", "ext3"] as const);
  return {
    seed,
    fsType,
    blockSizeBytes: random.pick([1024, 2048, 4096]),
    features: fsType === "ext4" ? random.pick(EXT4_FEATURES) : "",
    mountOptions: random.pick(MOUNT_OPTIONS),
    changes: random.pick([20, 100, 400]),
    sync: random.pick(["fsync", "fsync", "none", "all"] as const),
  };
}

/** A spec in one line, for messages. */
export function describeSpec(spec: CrashSpec): string {
  return Object.entries(spec).map(([key, value]) => `${key}=${value}`).join(" ");
}

const IMAGE_SIZE = "48M";
/** Changes that are in place before the ones that only the journal may hold. */
const SETTLED_CHANGES = 60;
const FSYNC_CHANCE = 0.08;

/** Makes `path`. `scratch` is a directory for what is needed on the way. */
export function makeCrashImage(spec: CrashSpec, path: string, scratch: string): void {
  const live = `${scratch}/live.img`;
  const mountPoint = `${scratch}/live`;
  Deno.mkdirSync(mountPoint, { recursive: true });
  const options = [
    ...spec.features === "" ? [] : ["-O", spec.features],
    ...spec.journalOptions === undefined ? [] : ["-J", spec.journalOptions],
    ...spec.fsType === "ext4" ? [] : ["-I", "256"],
  ];
  mustRun("mke2fs", [
    ...["-q", "-F", "-t", spec.fsType, "-b", `${spec.blockSizeBytes}`],
    ...options,
    live,
    IMAGE_SIZE,
  ]);
  const mountOptions = ["loop", spec.mountOptions].filter((option) => option !== "").join(",");
  mustRun("mount", ["-t", "ext4", "-o", mountOptions, live, mountPoint]);
  const writer = new Writer(mountPoint, spec.seed);
  try {
    writer.change(SETTLED_CHANGES);
    mustRun("sync", ["-f", mountPoint]);
    if (spec.filesOnly) writer.changeFilesOnly();
    writer.change(spec.changes, spec.sync === "fsync" ? FSYNC_CHANCE : 0);
    if (spec.sync === "fsync") writer.syncOneFile();
    if (spec.sync === "all") mustRun("sync", ["-f", mountPoint]);
    if (!spec.filesOnly) writer.change(5);
    mustRun("cp", ["--sparse=always", live, path]);
    spec.copied?.();
  } finally {
    writer.close();
    unmount(mountPoint);
    Deno.removeSync(live);
  }
}

/** Changes a mounted file system at random: the same calls for the same seed. */
class Writer {
  readonly #random: Random;
  #files: string[] = [];
  #directories: string[];
  readonly #held: Deno.FsFile[] = [];
  #count = 0;
  #filesOnly = false;

  constructor(root: string, seed: number) {
    this.#random = new Random(seed);
    this.#directories = [root];
  }

  close(): void {
    for (const file of this.#held) file.close();
  }

  changeFilesOnly(): void {
    this.#filesOnly = true;
  }

  change(count: number, fsyncChance = 0): void {
    for (let i = 0; i < count; i++) {
      try {
        this.#changeOnce();
      } catch (error) {
        // A full disk, or a directory that is not empty, is no reason to stop.
        if (error instanceof SystemCallError || error instanceof Deno.errors.NotFound) continue;
        if (!/ENOSPC|No space|ENOTEMPTY|not empty|EMLINK/.test(`${error}`)) throw error;
      }
      if (fsyncChance > 0 && this.#random.chance(fsyncChance)) this.syncOneFile();
    }
  }

  syncOneFile(): void {
    const path = this.#files.at(-1);
    if (path === undefined) return;
    const descriptor = openSync(path, "r+");
    fsyncSync(descriptor);
    closeSync(descriptor);
  }

  #newPath(): string {
    const name = `n${this.#count++}${"x".repeat(this.#random.below(40))}`;
    return `${this.#random.pick(this.#directories)}/${name}`;
  }

  #changeOnce(): void {
    if (this.#filesOnly) {
      this.#random.pick([
        ...[() => this.#create(), () => this.#create(), () => this.#overwrite()],
        ...[() => this.#truncate(), () => this.#rename(), () => this.#remove(), () => this.#link()],
        () => this.#attributes(),
      ])();
      return;
    }
    const kinds = [
      ...[() => this.#create(), () => this.#create(), () => this.#create()],
      ...[() => this.#overwrite(), () => this.#truncate(), () => this.#truncate()],
      ...[() => this.#rename(), () => this.#rename(), () => this.#remove(), () => this.#remove()],
      ...[() => this.#link(), () => this.#symlink(), () => this.#xattr(), () => this.#attributes()],
      ...[() => this.#makeDirectory(), () => this.#removeDirectory(), () => this.#hold()],
      ...[() => this.#manyNames(), () => this.#sparse()],
    ];
    this.#random.pick(kinds)();
  }

  #create(): void {
    const path = this.#newPath();
    const most = this.#random.pick([10, 5000, 60_000, 400_000]);
    Deno.writeFileSync(path, this.#random.bytes(this.#random.below(most)));
    this.#files.push(path);
  }

  /** Also with blocks that begin as blocks of a journal do, which it must escape. */
  #overwrite(): void {
    if (this.#files.length === 0) return;
    using file = Deno.openSync(this.#random.pick(this.#files), { write: true });
    const bytes = this.#random.bytes(9000);
    if (this.#random.chance(0.5)) {
      for (let at = 0; at + 4 <= bytes.length; at += 1024) bytes.set([0xc0, 0x3b, 0x39, 0x98], at);
    }
    file.seekSync(1024 * this.#random.below(40), Deno.SeekMode.Start);
    file.writeSync(bytes);
  }

  #truncate(): void {
    if (this.#files.length === 0) return;
    Deno.truncateSync(this.#random.pick(this.#files), this.#random.below(300_000));
  }

  #sparse(): void {
    const path = this.#newPath();
    using file = Deno.openSync(path, { write: true, create: true });
    for (let i = 0; i < 12; i++) {
      file.seekSync(20_000 * this.#random.below(600), Deno.SeekMode.Start);
      file.writeSync(this.#random.bytes(3000));
    }
    this.#files.push(path);
  }

  #rename(): void {
    if (this.#files.length === 0) return;
    const from = this.#takeFile();
    const onto = this.#random.chance(0.3) && this.#files.length > 0;
    const to = onto ? this.#takeFile() : this.#newPath();
    Deno.renameSync(from, to);
    this.#files.push(to);
  }

  #remove(): void {
    if (this.#files.length > 0) Deno.removeSync(this.#takeFile());
  }

  #takeFile(): string {
    return this.#files.splice(this.#random.below(this.#files.length), 1)[0]!;
  }

  #link(): void {
    if (this.#files.length === 0) return;
    const path = this.#newPath();
    Deno.linkSync(this.#random.pick(this.#files), path);
    this.#files.push(path);
  }

  #symlink(): void {
    Deno.symlinkSync("t".repeat(1 + this.#random.below(200)), this.#newPath());
  }

  #xattr(): void {
    if (this.#files.length > 0) this.#setXattr(this.#random.pick(this.#files));
  }

  /** Some values are the same in many files, so that they share a block; some need an inode of their own. */
  #setXattr(path: string): void {
    const slash = path.lastIndexOf("/");
    const directory = openDirectory(byteStringFromText(path.slice(0, slash)));
    try {
      const name = byteStringFromText(`user.a${this.#random.below(4)}`);
      const sizeBytes = this.#random.below(this.#random.pick([20, 700, 6000]));
      const value = this.#random.chance(0.4)
        ? new Uint8Array(400).fill(this.#random.below(2))
        : this.#random.bytes(sizeBytes);
      setXattrAt(directory, byteStringFromText(path.slice(slash + 1)), name, value);
    } finally {
      closeDescriptor(directory);
    }
  }

  #attributes(): void {
    if (this.#files.length === 0) return;
    const path = this.#random.pick(this.#files);
    Deno.chmodSync(path, 0o400 + this.#random.below(0o400));
    Deno.chownSync(path, this.#random.below(100_000), this.#random.below(100_000));
    Deno.utimeSync(path, this.#random.below(2 ** 31), this.#random.below(2 ** 33));
  }

  #makeDirectory(): void {
    const path = this.#newPath();
    Deno.mkdirSync(path);
    this.#directories.push(path);
  }

  #removeDirectory(): void {
    if (this.#directories.length < 3) return;
    const path = this.#directories.splice(
      1 + this.#random.below(this.#directories.length - 1),
      1,
    )[0]!;
    Deno.removeSync(path, { recursive: true });
    const isBelow = (other: string) => other.startsWith(`${path}/`);
    this.#files = this.#files.filter((file) => !isBelow(file));
    this.#directories = this.#directories.filter((directory) => !isBelow(directory));
  }

  /** A file that is open and has no name any more. */
  #hold(): void {
    const path = this.#newPath();
    const file = Deno.openSync(path, { write: true, create: true });
    this.#held.push(file);
    file.writeSync(this.#random.bytes(this.#random.below(200_000)));
    try {
      if (this.#random.chance(0.5)) this.#setXattr(path);
    } finally {
      Deno.removeSync(path);
    }
  }

  /** Enough names in one directory for an index. */
  #manyNames(): void {
    const directory = this.#newPath();
    Deno.mkdirSync(directory);
    this.#directories.push(directory);
    for (let i = 0; i < 60; i++) {
      Deno.writeFileSync(`${directory}/${"m".repeat(30)}${i}`, new Uint8Array());
    }
    for (let i = 0; i < 60; i += 3) Deno.removeSync(`${directory}/${"m".repeat(30)}${i}`);
  }
}
