/**
 * The inputs and outputs of sources: options and limits, an opened image whose layers have not been read, and layers that
 * have been read and checked.
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

/** A source's prefix, without the colon. `tar`, `rootfs` and `ext4` are single trees, not images. */
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

/** Adds a local file or directory tree. */
export interface AddPath {
  /** The discriminant. */
  readonly kind: "path";
  /** What to add: a file, a directory or a pipe; `-` is standard input. Links are followed. */
  readonly host: string;
  /**
   * The path in the image, from its root. If it ends with a slash, a file keeps its name below it. A directory's content
   * goes into the directory with this name.
   */
  readonly guest: string;
  /** Permission bits of everything but symlinks, 0 to 0o7777; default: the host's. */
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

/** Removes everything that a pattern matches in the image and in earlier additions. */
export interface Exclude {
  /** The discriminant. */
  readonly kind: "exclude";
  /**
   * A pattern in .dockerignore syntax, matched against paths in the image. Consecutive patterns are one list: the last
   * match decides, and `!` keeps.
   */
  readonly pattern: string;
}

/** Something to add to an image. All additions together form one more layer. */
export type Addition = AddPath | AddTar | Exclude;

/** What an addition contributed to the layer. */
export interface AddedReport {
  /** As given: `HOST:GUEST`, or the path of a tar. */
  readonly what: string;
  /** The number of the layer's entries that come from it. */
  readonly entries: number;
  /** The total length of its files, holes included. */
  readonly sizeBytes: number;
}

/** The layer of additions. */
export interface AdditionsReport {
  /** Digest of the layer, an uncompressed tar: `sha256:...`. The image's UUID is also derived from it. */
  readonly digest: string;
  /** Size of the layer. */
  readonly sizeBytes: number;
  /** The total number of entries in the layer. */
  readonly entries: number;
  /** One for each added path and tar, in the order given. */
  readonly added: readonly AddedReport[];
  /** The number of names removed by patterns. */
  readonly excludedNames: number;
}

/** Shares layers between several images, reading each once. */
export interface LayerCache {
  /** Announces that an image will be loaded once more, with these options. */
  announce(image: Pick<OpenedImage, "layers">, options: SourceOptions): void;
  /** Frees all cached layers. */
  close(): void;
}

/** How registries are reached. */
export interface RegistryOptions extends CertificateFiles {
  /** Directories of certificates, each with subdirectories named after registries; default: those of docker and podman. */
  readonly certificateDirectories?: readonly string[] | undefined;
  /** Use http instead of https. By default, http is tried only on loopback, if https fails. */
  readonly plainHttp?: boolean | undefined;
  /** The only credentials file to use, in the format of docker and podman; default: their files. */
  readonly authFile?: string | undefined;
  /** The variables that locate credentials files and helpers; default: the process's environment. */
  readonly environment?: Readonly<Record<string, string | undefined>>;
  /** A directory where layers are cached for later use. */
  readonly blobCache?: string | undefined;
  /** Replaces the clock. */
  readonly timing?: RegistryTiming | undefined;
}

/** Limits on one image, in addition to those on tars. */
export interface SourceLimits {
  /** Size of an index or a manifest; other tools have the same limit. */
  readonly manifestBytes: number;
  /** Size of an image's config. */
  readonly configBytes: number;
  /** Depth of nested indexes. */
  readonly indexDepth: number;
  /** Descriptors in all indexes of an image together. */
  readonly indexEntries: number;
  /** Layers of one image. Docker allows 127. */
  readonly layers: number;
  /** Entries of all layers together. */
  readonly imageEntries: number;
  /** The total size that all layers inflate to. */
  readonly unpackedBytes: number;
  /** The ratio of a layer's inflated to its stored size, above `unpackedRatioFloorBytes`. gzip reaches 1,032. */
  readonly unpackedRatio: number;
  /** Layers that inflate to no more than this may have any ratio. */
  readonly unpackedRatioFloorBytes: number;
}

/** How much of a document is read. Without a name, the limit cannot be raised. */
export interface DocumentLimit {
  readonly bytes: number;
  readonly name?: "manifestBytes" | "configBytes";
}

/** The default limits. */
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

/** Options for opening an image and loading its layers. */
export interface SourceOptions extends ThreadOptions, IdMaps {
  /**
   * `os/arch[/variant]`; default: linux on this machine's architecture. An image for another platform is an error; one that
   * states none is a warning if a platform was requested. `any` accepts every platform. `tar:`, `rootfs:` and `ext4:` have
   * no platform and cause no warning.
   */
  readonly platform?: string | undefined;
  /** Where inflated layers are stored; default: the system's directory for temporary files. */
  readonly tmpdir?: string | undefined;
  /** The number of layers read at the same time; default: the number of processors. */
  readonly jobs?: number | undefined;
  /** Aborting it stops the work with its reason. */
  readonly signal?: AbortSignal | undefined;
  /** Progress reporter; default: none. */
  readonly progress?: Progress | undefined;
  /** Counts what is changed or left out; by default a new collector, which reports list. */
  readonly warnings?: Warnings | undefined;
  /** False: a mismatched diff id is a warning, for images that were built wrong. Default true. */
  readonly verifyDiffIds?: boolean | undefined;
  /** False: the journal of an ext4 image that was not unmounted is ignored, not replayed. Default true. */
  readonly replay?: boolean | undefined;
  /** Called for anything in an ext4 image that cannot be read and is left out; without it, that is an error. */
  readonly onUnreadable?: ((path: ByteString, error: InputError) => void) | undefined;
  /** The path of an ext4 image's external journal, if it has one. */
  readonly externalJournal?: string | undefined;
  /** Limits on a source; missing ones use `DEFAULT_SOURCE_LIMITS`. */
  readonly limits?: Partial<SourceLimits> | undefined;
  /** Blocks of zeros do not end a tar, for concatenated tars. Default false. */
  readonly ignoreZeros?: boolean | undefined;
  /** Limits on a tar. */
  readonly tarLimits?: Partial<TarLimits> | undefined;
  /** Limits on the tree that the layers form together. */
  readonly treeLimits?: Partial<TreeLimits> | undefined;
  /**
   * Layers stored in no more bytes than this are read without a worker. Default: 256 KiB; in addition, one layer in a file
   * at a time is read that way, whatever its size.
   */
  readonly inlineLayerBytes?: number | undefined;
  /** A layer's spool is divided into files of this size; default 64 MiB. */
  readonly spoolPartBytes?: number | undefined;
  /** How registries are reached. */
  readonly registry?: RegistryOptions | undefined;
  /** The content of the source `-`; default: the process's standard input. */
  readonly stdin?: AsyncIterable<Uint8Array> | undefined;
  /** Caches layers shared with other images. */
  readonly layerCache?: LayerCache | undefined;
  /** What to add to the image, in this order. */
  readonly additions?: readonly Addition[] | undefined;
  /** Unix time for anything without a time, such as added files; default 0. */
  readonly timestamp?: number | undefined;
}

/** Options with progress reporter and warnings filled in. */
export interface ResolvedOptions extends SourceOptions {
  /** Progress reporter. */
  readonly progress: Progress;
  /** Counts what is changed or left out. */
  readonly warnings: Warnings;
}

/** Fills in the progress reporter and warnings. */
export function resolveOptions<T extends SourceOptions>(options: T): T & ResolvedOptions {
  const { progress = NO_PROGRESS, warnings = new Warnings() } = options;
  return { ...options, progress, warnings };
}

/** The options' limits, with defaults. */
export function sourceLimits({ limits }: SourceOptions): SourceLimits {
  return { ...DEFAULT_SOURCE_LIMITS, ...limits };
}

export function documentLimit(
  options: SourceOptions,
  name: NonNullable<DocumentLimit["name"]>,
): DocumentLimit {
  return { bytes: sourceLimits(options)[name], name };
}

/** Counts the layers' total size and entries, and throws at the limits. */
export class ImageBudget {
  readonly #limits: SourceLimits;
  #unpackedBytes = 0;
  #entryCount = 0;

  constructor(limits: SourceLimits) {
    this.#limits = limits;
  }

  /** @param name the layer, for the error */
  takeUnpacked(bytes: number, name: string): void {
    this.#unpackedBytes += bytes;
    const limit = this.#limits.unpackedBytes;
    if (this.#unpackedBytes > limit) throw unpackedFault(name, limit);
  }

  /** @param name the layer that contains them, for the error */
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
  /** A reference to the open file; the caller releases it. */
  open(): SharedDescriptor;
  /** Where they begin in the file. */
  readonly offsetBytes: number;
  /** The number of bytes. */
  readonly lengthBytes: number;
}

/** Stored bytes that arrive once, in order, such as from a registry. */
export interface StoredStream {
  /** The discriminant. */
  readonly kind: "stream";
  /** Pieces of any size, which the receiver may keep. */
  open(signal: AbortSignal | undefined): AsyncIterable<Uint8Array>;
}

/** Uncompressed stored bytes that another program writes. */
export interface StoredOutput {
  /** The discriminant. */
  readonly kind: "output";
  /**
   * Has them written to an empty file; resolves when all are there. The caller may read the file's current content
   * meanwhile.
   */
  writeTo(descriptor: number, signal: AbortSignal | undefined): Promise<void>;
  /** Access to the same bytes without copying them; undefined if there is none. */
  readonly inPlace?: (() => StoredInPlace) | undefined;
}

/** Stored bytes assembled from their sources, first in order. */
export interface StoredInPlace {
  /**
   * The bytes of a tar in pieces, each valid until the next is requested, and its entries. Throws LeftToTar if only the
   * external program can produce them.
   */
  pieces(emit: (entry: TarEntry) => void): Iterable<Uint8Array>;
  /** Reads earlier bytes again. It is reference-counted; the caller owns the first reference. */
  readonly files: {
    share(): StoredInPlace["files"];
    release(): void;
    /** Takes over a reference and releases it on `close`. */
    reader(name: string, offsetBytes: number, lengthBytes: number): RandomReader;
  };
}

/** A layer that had to be read to recognise it. */
export interface StoredLoaded {
  /** The discriminant. */
  readonly kind: "loaded";
  /** Passes the layer to the caller, who closes it. */
  take(): LoadedLayer;
}

/** Where a layer's stored bytes come from. */
export type StoredBytes = StoredFile | StoredStream | StoredOutput | StoredLoaded;

/** A layer as described by the manifest and the config. */
export interface LayerSource {
  /** The layer's name in messages. */
  readonly name: string;
  /** Digest of the stored bytes; undefined if not stated. */
  readonly digest: string | undefined;
  /** Digest of the uncompressed tar, from the config. */
  readonly diffId: string | undefined;
  /** From the manifest; undefined if there is none. */
  readonly mediaType: string | undefined;
  /** Size of the stored bytes; undefined if it is not known before reading them. */
  readonly sizeBytes: number | undefined;
  /** Whether `.wh.` names remove names in the layers below. */
  readonly whiteouts: boolean;
  /** Where the bytes come from. */
  readonly stored: StoredBytes;
  /** What the bytes are once inflated; default: a tar. */
  readonly content?: "tar" | "bytes" | undefined;
  /** Set only for the layer of additions: its entries added by path. */
  readonly added?: AddedEntries | undefined;
}

/** An image whose manifest and config have been read and checked, but not its layers. */
export interface OpenedImage {
  /** As the user wrote it. */
  readonly source: string;
  /** The kind of source. */
  readonly kind: SourceKind;
  /** `sha256:...`; undefined if there is no manifest. */
  readonly manifestDigest: string | undefined;
  /** `sha256:...`; undefined if there is no config. */
  readonly configDigest: string | undefined;
  /** The manifest document; undefined if there is none. */
  readonly manifest?: unknown;
  /** The config document; undefined for a tar or a directory. */
  readonly config: unknown;
  /** The config exactly as stored; undefined if there is none. */
  readonly configBytes?: Uint8Array | undefined;
  /** From the config. */
  readonly platform: Platform | undefined;
  /** Bottom to top. */
  readonly layers: readonly LayerSource[];
  /** The layer of additions; undefined if there is none. */
  readonly additions?: AdditionsReport | undefined;
  /** The maps applied to its owners; undefined if there are none. */
  readonly idMaps?: IdMaps | undefined;
  /** Closes everything the image holds open. Loaded layers stay readable. */
  close(): void;
}

/** A layer that has been read and verified. */
export interface LoadedLayer
  extends Pick<LayerSource, "name" | "mediaType" | "whiteouts" | "added"> {
  /** Computed digest of the stored bytes; for an ext4 image the same as its diff id. */
  readonly digest: string;
  /** Computed digest of the uncompressed tar; for an ext4 image, of its entries and their data. */
  readonly diffId: string;
  /** Size of the stored bytes. */
  readonly sizeBytes: number;
  /** Size of the uncompressed tar. */
  readonly uncompressedBytes: number;
  /** The UUID of the image it was exported from; undefined if not stated. */
  readonly statedUuid: string | undefined;
  /** In tar order. */
  readonly entries: readonly TarEntry[];
  /** The uncompressed tar. */
  readonly store: RandomReader;
}

/** The options for building trees. */
export function treeOptions(options: SourceOptions): BuildTreeOptions {
  const { warnings, timestamp = 0, treeLimits } = options;
  return {
    warnings,
    defaultTime: { seconds: timestamp, nanoseconds: 0 },
    defaultOwner: ownerMapper(options)?.implied,
    ...treeLimits === undefined ? {} : { limits: treeLimits },
  };
}
