/**
 * What sources take and give: options and limits, an opened image whose layers were not touched yet, and layers that were read
 * and checked.
 *
 * @module
 */
import type { ByteString } from "../bytes/byte_string.ts";
import { type InputError, limitError } from "../errors.ts";
import type { CertificateFiles } from "../io/http_fetch.ts";
import type { RandomReader, SharedDescriptor } from "../io/random_reader.ts";
import type { ThreadOptions } from "../io/thread.ts";
import { NO_PROGRESS, type Progress } from "../progress.ts";
import type { Platform } from "./platform.ts";
import type { RegistryTiming } from "./registry/http.ts";
import type { TarEntry } from "../tar/entry.ts";
import type { TarLimits } from "../tar/header.ts";
import type { BuildTreeOptions } from "../tree/build.ts";
import type { AddedEntries } from "../tree/layer.ts";
import { type IdMaps, ownerMapper } from "../tree/owners.ts";
import type { TreeLimits } from "../tree/paths.ts";
import { Warnings } from "../warnings.ts";

/** The prefix of a source, without its colon. `tar`, `rootfs` and `ext4` are single trees, not images. */
export type SourceKind =
  | "oci"
  | "oci-archive"
  | "docker-archive"
  | "dir"
  | "docker"
  | "docker-daemon"
  | "containers-storage"
  | "tar"
  | "rootfs"
  | "ext4";

/** Adds a file or a directory tree of this machine. */
export interface AddPath {
  /** The discriminant. */
  readonly kind: "path";
  /** What to add: a file, a directory or a pipe; `-` is standard input. If it is a link, the link is followed. */
  readonly host: string;
  /**
   * The path in the image, from its root. Where it ends with a slash, a file keeps its name below it. A directory's content
   * goes into the directory of this name.
   */
  readonly guest: string;
  /** Permission bits of everything but symlinks, 0 to 0o7777; default: those of the host. */
  readonly mode?: number | undefined;
  /** Owner; default 0. */
  readonly uid?: number | undefined;
  /** Group; default 0. */
  readonly gid?: number | undefined;
}

/** Adds a tar, compressed or not, by the rules of layers. */
export interface AddTar {
  /** The discriminant. */
  readonly kind: "tar";
  /** The tar; `-` is standard input. */
  readonly path: string;
}

/** Removes what a pattern matches in the image and in the additions before it. */
export interface Exclude {
  /** The discriminant. */
  readonly kind: "exclude";
  /**
   * A pattern as in a .dockerignore file, matched with the paths of the image. Consecutive patterns are one list: the last
   * one that matches decides, and `!` keeps.
   */
  readonly pattern: string;
}

/** What is put on top of an image, as one more layer. */
export type Addition = AddPath | AddTar | Exclude;

/** What an addition put into the layer. */
export interface AddedReport {
  /** As it was given: `HOST:GUEST`, or the path of a tar. */
  readonly what: string;
  /** Entries of the layer that come from it. */
  readonly entries: number;
  /** Lengths of its files, holes included. */
  readonly sizeBytes: number;
}

/** The layer of additions. */
export interface AdditionsReport {
  /** Of the layer, an uncompressed tar: `sha256:...`. The UUID of the image is derived from it, too. */
  readonly digest: string;
  /** Of the layer. */
  readonly sizeBytes: number;
  /** All entries of the layer. */
  readonly entries: number;
  /** One for each path and tar that was added, in the order given. */
  readonly added: readonly AddedReport[];
  /** Names that patterns removed. */
  readonly excludedNames: number;
}

/** Layers that several images share, read once. */
export interface LayerCache {
  /** Announces that an image will be loaded once more, with these options. */
  announce(image: Pick<OpenedImage, "layers">, options: SourceOptions): void;
  /** Frees what is kept. */
  close(): void;
}

/** How registries are reached. */
export interface RegistryOptions extends CertificateFiles {
  /** Where directories of certificates lie, each named after its registry; default: those of docker and podman. */
  readonly certificateDirectories?: readonly string[] | undefined;
  /** Speak http, not https. Without it, http is only tried on loopback, when https fails. */
  readonly plainHttp?: boolean | undefined;
  /** The only file that credentials are looked for in, as docker and podman write them; default: theirs. */
  readonly authFile?: string | undefined;
  /** Where files of credentials and their helpers are looked for; default: the process's environment. */
  readonly environment?: Readonly<Record<string, string | undefined>>;
  /** A directory that layers are kept in when they have been read, and read from when they are needed again. */
  readonly blobCache?: string | undefined;
  /** Replaces the clock. */
  readonly timing?: RegistryTiming | undefined;
}

/** What one image may ask of this program, beside what a tar may. */
export interface SourceLimits {
  /** An index or a manifest, as other tools limit it. */
  readonly manifestBytes: number;
  /** An image's config. */
  readonly configBytes: number;
  /** Indexes inside indexes. */
  readonly indexDepth: number;
  /** Descriptors in all indexes of an image together. */
  readonly indexEntries: number;
  /** Layers of one image. Docker allows 127. */
  readonly layers: number;
  /** Entries of all layers together. */
  readonly imageEntries: number;
  /** What all layers inflate to together. */
  readonly unpackedBytes: number;
  /** How many times bigger than stored a layer may be, above `unpackedRatioFloorBytes`. gzip reaches 1,032. */
  readonly unpackedRatio: number;
  /** Layers that inflate to no more than this may have any ratio. */
  readonly unpackedRatioFloorBytes: number;
}

/** How much is read of a document. Without a name, the limit cannot be raised. */
export interface DocumentLimit {
  readonly bytes: number;
  readonly name?: "manifestBytes" | "configBytes";
}

/** The limits used where none are given. */
export const DEFAULT_SOURCE_LIMITS: SourceLimits = {
  manifestBytes: 4 << 20,
  configBytes: 4 << 20,
  indexDepth: 4,
  indexEntries: 4096,
  layers: 1024,
  imageEntries: 2 ** 20,
  unpackedBytes: 256 * 2 ** 30,
  unpackedRatio: 2000,
  unpackedRatioFloorBytes: 2 ** 30,
};

/** What opening an image and loading its layers need. */
export interface SourceOptions extends ThreadOptions, IdMaps {
  /**
   * `os/arch[/variant]`; without it, linux on this machine's architecture. An image for another platform is an error, one
   * that states none a warning when a platform was asked for. `any` takes whatever there is. `tar:`, `rootfs:` and `ext4:`
   * have no platform, and say nothing.
   */
  readonly platform?: string | undefined;
  /** Where inflated layers are kept; default: the system's directory for temporary files. */
  readonly tmpdir?: string | undefined;
  /** Layers read at the same time; default: the number of processors. */
  readonly jobs?: number | undefined;
  /** Ends the work with its reason. */
  readonly signal?: AbortSignal | undefined;
  /** Progress reporter; default: none. */
  readonly progress?: Progress | undefined;
  /** Counts what is changed or left out; default: one of its own, which reports list. */
  readonly warnings?: Warnings | undefined;
  /** False: a diff id that does not match is a warning, for images that were made wrong. Default true. */
  readonly verifyDiffIds?: boolean | undefined;
  /** False: the journal of an ext4 image that was not unmounted is ignored, not replayed. Default true. */
  readonly replay?: boolean | undefined;
  /** Called for what cannot be read in an ext4 image and is left out; without it, that is an error. */
  readonly onUnreadable?: ((path: ByteString, error: InputError) => void) | undefined;
  /** The path of the external journal of an ext4 image that has one. */
  readonly externalJournal?: string | undefined;
  /** Bounds on what a source may ask for; what is not given is `DEFAULT_SOURCE_LIMITS`. */
  readonly limits?: Partial<SourceLimits> | undefined;
  /** Blocks of zeros do not end a tar, for concatenated tars. Default false. */
  readonly ignoreZeros?: boolean | undefined;
  /** Bounds on what a tar may ask for. */
  readonly tarLimits?: Partial<TarLimits> | undefined;
  /** Bounds on the tree that the layers make together. */
  readonly treeLimits?: Partial<TreeLimits> | undefined;
  /**
   * Layers stored in no more bytes than this are read without a worker. Default: 256 KiB, and one layer of a file at a time
   * whatever its size.
   */
  readonly inlineLayerBytes?: number | undefined;
  /** The spool of a layer is cut into files of this size; default 64 MiB. */
  readonly spoolPartBytes?: number | undefined;
  /** How registries are reached. */
  readonly registry?: RegistryOptions | undefined;
  /** What the source `-` is read from; default: the process's standard input. */
  readonly stdin?: AsyncIterable<Uint8Array> | undefined;
  /** Keeps layers that other images have as well. */
  readonly layerCache?: LayerCache | undefined;
  /** What is put on top of the image, in this order. */
  readonly additions?: readonly Addition[] | undefined;
  /** Unix time for what states none, such as files that are added; default 0. */
  readonly timestamp?: number | undefined;
}

/** Options with what reports progress and counts warnings. */
export interface ResolvedOptions extends SourceOptions {
  /** Progress reporter. */
  readonly progress: Progress;
  /** Counts what is changed or left out. */
  readonly warnings: Warnings;
}

/** Fills in what reports progress and counts warnings. */
export function resolveOptions<T extends SourceOptions>(options: T): T & ResolvedOptions {
  const { progress = NO_PROGRESS, warnings = new Warnings() } = options;
  return { ...options, progress, warnings };
}

/** The limits of the options. */
export function sourceLimits({ limits }: SourceOptions): SourceLimits {
  return { ...DEFAULT_SOURCE_LIMITS, ...limits };
}

export function documentLimit(
  options: SourceOptions,
  name: NonNullable<DocumentLimit["name"]>,
): DocumentLimit {
  return { bytes: sourceLimits(options)[name], name };
}

/** Counts what the layers take, and stops at the limits. */
export class ImageBudget {
  readonly #limits: SourceLimits;
  #unpackedBytes = 0;
  #entryCount = 0;

  constructor(limits: SourceLimits) {
    this.#limits = limits;
  }

  /** @param name the layer that takes it, for the error */
  takeUnpacked(bytes: number, name: string): void {
    this.#unpackedBytes += bytes;
    const limit = this.#limits.unpackedBytes;
    if (this.#unpackedBytes > limit) throw unpackedFault(name, limit);
  }

  /** @param name the layer that they are in, for the error */
  takeEntries(count: number, name: string): void {
    this.#entryCount += count;
    const expected = this.#limits.imageEntries;
    if (this.#entryCount <= expected) return;
    const why = `with it the image has more than ${expected} entries`;
    throw limitError(name, why, { name: "imageEntries", expected });
  }
}

/** The error for layers that inflate to too much. */
export function unpackedFault(name: string, expected: number): InputError {
  const why = `with it the image inflates to more than ${expected} bytes`;
  return limitError(name, why, { name: "unpackedBytes", expected });
}

/** Stored bytes in a file. */
export interface StoredFile {
  /** The discriminant. */
  readonly kind: "file";
  /** A share in the open file; the caller releases it. */
  open(): SharedDescriptor;
  /** Where in the file they begin. */
  readonly offsetBytes: number;
  /** How many there are. */
  readonly lengthBytes: number;
}

/** Stored bytes that come in order, once, such as from a registry. */
export interface StoredStream {
  /** The discriminant. */
  readonly kind: "stream";
  /** Pieces of any size, which the receiver may keep. */
  open(signal: AbortSignal | undefined): AsyncIterable<Uint8Array>;
}

/** Stored bytes, not compressed, that another program writes. */
export interface StoredOutput {
  /** The discriminant. */
  readonly kind: "output";
  /** Has all of them written to an empty file; resolves when they are there. The caller may read what is there before. */
  writeTo(descriptor: number, signal: AbortSignal | undefined): Promise<void>;
  /** A way to the same bytes without a copy of them; undefined where there is none. */
  readonly inPlace?: (() => StoredInPlace) | undefined;
}

/** Stored bytes that are put together from where they lie, in order first. */
export interface StoredInPlace {
  /**
   * The bytes of a tar in pieces, lent until the next is taken, and its entries. Throws LeftToTar where only the other program
   * can make them.
   */
  pieces(emit: (entry: TarEntry) => void): Iterable<Uint8Array>;
  /** What passed, to be read again: with counted shares in what is held open, the first of which is the caller's. */
  readonly files: {
    share(): StoredInPlace["files"];
    release(): void;
    /** Takes a share over, and gives it back when it is closed. */
    reader(name: string, offsetBytes: number, lengthBytes: number): RandomReader;
  };
}

/** A layer that had to be read to find out what it is. */
export interface StoredLoaded {
  /** The discriminant. */
  readonly kind: "loaded";
  /** Gives the layer to the caller, who closes it. */
  take(): LoadedLayer;
}

/** Where a layer's stored bytes come from. */
export type StoredBytes = StoredFile | StoredStream | StoredOutput | StoredLoaded;

/** A layer as the manifest and the config describe it. */
export interface LayerSource {
  /** What to call it in messages. */
  readonly name: string;
  /** Of the stored bytes; undefined where nothing states one. */
  readonly digest: string | undefined;
  /** Of the uncompressed tar, from the config. */
  readonly diffId: string | undefined;
  /** From the manifest; undefined where there is none. */
  readonly mediaType: string | undefined;
  /** Of the stored bytes; undefined when it is not known before they are read. */
  readonly sizeBytes: number | undefined;
  /** Whether `.wh.` names remove things of the layers below. */
  readonly whiteouts: boolean;
  /** Where the bytes come from. */
  readonly stored: StoredBytes;
  /** What they are once they are inflated: a tar, unless it says something else. */
  readonly content?: "tar" | "bytes" | undefined;
  /** Set for the layer of additions alone: what was added by its path. */
  readonly added?: AddedEntries | undefined;
}

/** An image whose manifest and config were read and checked; its layers were not. */
export interface OpenedImage {
  /** As the user wrote it. */
  readonly source: string;
  /** What kind of source it is. */
  readonly kind: SourceKind;
  /** `sha256:...`; undefined where there is no manifest. */
  readonly manifestDigest: string | undefined;
  /** `sha256:...`; undefined where there is no config. */
  readonly configDigest: string | undefined;
  /** The manifest document; undefined where there is none. */
  readonly manifest?: unknown;
  /** The config document; undefined for a tar or a directory. */
  readonly config: unknown;
  /** The config as it is stored; undefined where there is none. */
  readonly configBytes?: Uint8Array | undefined;
  /** From the config. */
  readonly platform: Platform | undefined;
  /** Bottom to top. */
  readonly layers: readonly LayerSource[];
  /** What was put on top; undefined where nothing was. */
  readonly additions?: AdditionsReport | undefined;
  /** The maps that its owners go through; undefined where there are none. */
  readonly idMaps?: IdMaps | undefined;
  /** Closes what the image holds open. Loaded layers stay readable. */
  close(): void;
}

/** A layer that was read once and found right. */
export interface LoadedLayer
  extends Pick<LayerSource, "name" | "mediaType" | "whiteouts" | "added"> {
  /** Of the stored bytes, computed; of an ext4 image the same as its diff id. */
  readonly digest: string;
  /** Of the uncompressed tar, computed; of an ext4 image that of its entries and their data. */
  readonly diffId: string;
  /** Of the stored bytes. */
  readonly sizeBytes: number;
  /** Of the uncompressed tar. */
  readonly uncompressedBytes: number;
  /** The UUID of the image that it was exported from; undefined where nothing states one. */
  readonly statedUuid: string | undefined;
  /** In the tar's order. */
  readonly entries: readonly TarEntry[];
  /** The uncompressed tar. */
  readonly store: RandomReader;
}

/** The options of building trees. */
export function treeOptions(options: SourceOptions): BuildTreeOptions {
  const { warnings, timestamp = 0, treeLimits } = options;
  return {
    warnings,
    defaultTime: { seconds: timestamp, nanoseconds: 0 },
    defaultOwner: ownerMapper(options)?.implied,
    ...treeLimits === undefined ? {} : { limits: treeLimits },
  };
}
