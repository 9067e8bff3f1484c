/**
 * Layered mode: one ext4 image for each layer, stacked by overlayfs and shared by all images that have the layer, and
 * `image.json`, which tells a container runtime how to stack them.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { plainJson } from "../bytes/byte_string.ts";
import type { ChunkCounts } from "../chunk/chunk_sink.ts";
import { InputError, optionError, throwIfAborted } from "../errors.ts";
import { resolveSettings } from "../ext4/plan/settings.ts";
import { outputExistsError, statIfThere } from "../io/paths.ts";
import type { ImageSink } from "../io/sink.ts";
import { displayPath } from "../io/system_error.ts";
import { displayText, field, parseJsonObject } from "../source/json.ts";
import { formatPlatform } from "../source/platform.ts";
import {
  type OpenedImage,
  openImage,
  type ResolvedOptions,
  resolveOptions,
  type SourceOptions,
} from "../source/source.ts";
import {
  type ChunkedImage,
  LayerChunks,
  type LayerChunksTarget,
  sumOfChunked,
} from "./layered_chunks.ts";
import { checkEnvelope, type EnvelopeOptions } from "./envelope.ts";
import { diskName, imagesOnDisk, type LayeredDisk, writeLayeredDisk } from "./layered_disk.ts";
import { LayerImages, type UsedImage } from "./layered_images.ts";
import { PreviousLayers } from "./layered_previous.ts";
import {
  DESCRIPTION_FILE,
  DESCRIPTION_KIND,
  IMAGE_COUNTS,
  optionFacts,
} from "./layered_records.ts";
import {
  checkDirectory,
  LayerStore,
  makeDirectory,
  pathIn,
  readFileWhole,
  removeIfEmpty,
  writeFileWhole,
} from "./layered_store.ts";
import { type Admission, imageDigest } from "./load_tree.ts";
import { beginConfig } from "./merged.ts";
import { LAYERED_DEFAULTS, type LayoutOptions } from "./options.ts";
import { checkLike, type LikeReport } from "./previous_image.ts";
import { type ImageReport, type LayerReport, type SourceReport, sourceReport } from "./report.ts";
import { verityPath } from "../verity/texts.ts";
import type { VerityReport } from "../verity/verity_sink.ts";
import type { WarningSummary } from "../warnings.ts";

/** What to bless, how, and where to. */
export interface BlessLayeredOptions extends SourceOptions {
  /** A directory that an earlier build was blessed into: a new layer is laid out like one that is gone since. */
  readonly like?: string | undefined;
  /**
   * Blocks that are given up keep the bytes that they have in the previous image: its removed content stays readable on
   * the raw device. Default false.
   */
  readonly keepStale?: boolean | undefined;
  /** As on the command line: `oci:DIR:REF`, `tar:FILE` and so on. */
  readonly source: string;
  /**
   * The layout; what is not given is that of `LAYERED_DEFAULTS`. A UUID is only allowed for a source with one layer;
   * otherwise each is derived from its layer.
   */
  readonly layout?: Partial<LayoutOptions> | undefined;
  /** A hash tree behind each image, one disk for all, the footers of VHDs. */
  readonly envelope?: EnvelopeOptions | undefined;
  /** The output directory; created if missing. */
  readonly outputDir: string;
  /** Replace images that are not whole or were made with other options. */
  readonly force?: boolean | undefined;
  /** Unix time for everything that the source gives no time for; default 0. */
  readonly timestamp?: number | undefined;
  /** A chunk store for the images; their indexes are written to the output directory. */
  readonly chunks?: LayerChunksTarget | undefined;
  /** Receives the image's config as it is stored, in the end; it is an error if the source has none. */
  readonly configSink?: ImageSink | undefined;
  /** Write nothing; report what would be written. */
  readonly dryRun?: boolean | undefined;
}

/** Options with their defaults. */
type ResolvedLayeredOptions = BlessLayeredOptions & ResolvedOptions & Admission & {
  readonly layout: LayoutOptions;
};

/** One layer and its image. */
export interface LayeredLayerReport extends LayerReport {
  /** The image, a file in the output directory. */
  readonly file: string;
  /** The image existed already. */
  readonly isReused: boolean;
  /** The figures of the image. */
  readonly image: ImageReport;
  /** Of its hash tree; left out when there is none. */
  readonly verity?: VerityReport | undefined;
  /** The file of the hash tree in the output directory; left out when the tree is behind the image. */
  readonly hashFile?: string | undefined;
  /** Its number on the disk, from 1 on; left out when there is none. */
  readonly partition?: number | undefined;
  /** What was kept of an image of the build before, which is named by its file; left out when it was laid out afresh. */
  readonly like?: LikeReport | undefined;
  /** The index of its chunks, a file in the output directory; left out without a chunk store. */
  readonly index?: string | undefined;
  /** Its chunks in the store, old and new. */
  readonly chunks?: Readonly<ChunkCounts> | undefined;
}

/** A layered image. The figures are sums over the images, each counted once. */
export interface LayeredReport extends SourceReport, Omit<ImageReport, "uuid"> {
  /** Distinguishes this report from that of a merged image. */
  readonly mode: "layered";
  /** Layers whose images existed already. */
  readonly reusedLayers: number;
  /** Bottom to top. */
  readonly layers: readonly LayeredLayerReport[];
  /** All layers in one; left out when none was asked for. */
  readonly disk?: LayeredDisk | undefined;
  /** What was changed or left out, one for each kind. */
  readonly warnings: readonly WarningSummary[];
  /** Sums over the images; left out without a chunk store. */
  readonly chunks?: Readonly<ChunkCounts> | undefined;
}

/**
 * Blesses every layer of a source into `outputDir`, `<diff id in hex>.ext4`, with a record beside it, and writes
 * `image.json` at the end. An existing image that is intact and was made with the same options is reused; if all are,
 * no layer is read. A failure leaves complete images and nothing half-written.
 *
 * Throws a UsageError for an invalid option, an InputError for a source that is damaged, unsupported or impossible to
 * store, an IoError when reading or writing fails or an existing image does not match, an InterruptedError when the
 * signal fires.
 */
export async function blessLayered(given: BlessLayeredOptions): Promise<LayeredReport> {
  const options: ResolvedLayeredOptions = {
    ...resolveOptions(given),
    layout: { ...LAYERED_DEFAULTS, ...given.layout },
  };
  const { layout, envelope, outputDir, timestamp = 0 } = options;
  checkLike(options);
  checkLayeredEnvelope(envelope, layout);
  resolveSettings(imageLayout(options), { derivedUuid: new Uint8Array(16), timestamp });
  const isMissing = checkDirectory(outputDir);
  if (!isMissing && !options.force) checkDescription(outputDir);
  const { like } = options;
  const previousLayers = like === undefined ? undefined : new PreviousLayers(like);
  const image = await openImage(options.source, options);
  let isMade = false;
  try {
    await options.admit?.(image);
    if (image.layers.length > STACKED_LAYERS_MAX) {
      throw stackFault(options.source, image.layers.length);
    }
    if (layout.uuid !== undefined && image.layers.length > 1) {
      throw optionError(
        "uuid",
        `needs a source with one layer, and this one has ${image.layers.length}`,
        {
          hint: "leave it out: each image gets a UUID derived from its layer",
        },
      );
    }
    const finishConfig = await beginConfig(image, options.configSink);
    isMade = isMissing && !options.dryRun && makeDirectory(outputDir);
    const report = await bless(image, options, previousLayers);
    await finishConfig();
    return report;
  } catch (error) {
    await options.configSink?.abort();
    if (isMade) removeIfEmpty(outputDir);
    throw error;
  } finally {
    image.close();
  }
}

async function bless(
  image: OpenedImage,
  options: ResolvedLayeredOptions,
  previousLayers: PreviousLayers | undefined,
): Promise<LayeredReport> {
  const { envelope, outputDir, signal, progress, dryRun = false, timestamp = 0 } = options;
  const layout = imageLayout(options);
  const chunks = layerChunks(options);
  const store = new LayerStore(outputDir, {
    options: optionFacts(layout, timestamp, envelope),
    force: options.force ?? false,
    signal,
    progress,
    dryRun,
    alsoTo: chunks && ((name) => chunks.sinkOf(name)),
  });
  const images = new LayerImages(store, { ...options, layout, timestamp, previousLayers });
  const used = await images.ofAll(image);
  throwIfAborted(signal);
  const contentDigest = imageDigest(image, used.map(({ report }) => report.diffId));
  const disk = await diskOf(used, contentDigest, options, chunks);
  const onDisk = disk === undefined ? [] : [{ name: diskName(contentDigest), isReused: false }];
  const chunked = await chunks?.finish([...used, ...onDisk]);
  const described = used.map(({ name, report, record }) => ({
    file: `${name}.ext4`,
    diffId: report.diffId,
    digest: report.digest,
    mediaType: report.mediaType,
    uuid: record.image.uuid,
    sizeBytes: record.image.sizeBytes,
    ...aroundOf({ name, record }, disk, used),
    ...indexOf(chunked, name),
  }));
  const description = encodeDescription(image, contentDigest, described, disk);
  if (!dryRun) await writeDescription(outputDir, contentDigest, description, signal);
  return {
    mode: "layered",
    ...sourceReport(
      options.source,
      image,
      layout,
      image.additions && used.at(-1)!.record.image.cellBytes / layout.gridBytes,
    ),
    ...sums(used),
    reusedLayers: used.filter(({ isReused }) => isReused).length,
    layers: used.map(({ name, report, record, isReused }) => ({
      ...report,
      file: `${name}.ext4`,
      isReused,
      image: record.image,
      ...record.like === undefined ? {} : { like: record.like },
      ...aroundOf({ name, record }, disk, used),
      ...indexOf(chunked, name),
      ...chunked === undefined ? {} : { chunks: chunked.get(name)!.counts },
    })),
    ...disk === undefined ? {} : { disk },
    ...chunked === undefined ? {} : { chunks: sumOfChunked(chunked) },
    warnings: options.warnings.list(),
  };
}

/** On a disk, the given size is that of the disk. */
function imageLayout({ layout, envelope }: ResolvedLayeredOptions): LayoutOptions {
  const isOfDisk = envelope?.disk !== undefined && layout.size.kind === "total";
  return isOfDisk ? { ...layout, size: { kind: "exact" } } : layout;
}

function checkLayeredEnvelope(
  envelope: EnvelopeOptions | undefined,
  layout: LayoutOptions,
): void {
  checkEnvelope(envelope && { verity: envelope.verity, vhd: envelope.vhd }, layout);
  const { disk, verity } = envelope ?? {};
  if (disk?.esp !== undefined) throw optionError("esp", "a disk of layers is not booted from");
  if (disk?.signature !== undefined) {
    throw optionError("veritySignature", "a disk of layers has no partition for a signature");
  }
  if (verity?.hashSink !== undefined) {
    throw optionError("verity", "each layer has a tree of its own: wanted append or beside");
  }
  if (verity?.beside && disk !== undefined) {
    throw optionError("verity", "the trees of layers on a disk are on it: wanted append");
  }
}

async function diskOf(
  used: readonly UsedImage[],
  contentDigest: string,
  { envelope, outputDir, layout: { size }, dryRun = false, signal }: ResolvedLayeredOptions,
  chunks: LayerChunks | undefined,
): Promise<LayeredDisk | undefined> {
  if (envelope?.disk === undefined || dryRun) return undefined;
  return await writeLayeredDisk(used, {
    outputDir,
    contentDigest,
    vhd: envelope.vhd ?? false,
    diskBytes: size.kind === "total" ? size.sizeBytes : undefined,
    alsoTo: chunks && ((name) => chunks.sinkOf(name)),
    signal,
  });
}

/** What is around one image. */
function aroundOf(
  { name, record }: Pick<UsedImage, "name" | "record">,
  disk: LayeredDisk | undefined,
  used: readonly UsedImage[],
): Pick<LayeredLayerReport, "verity" | "hashFile" | "partition"> {
  const partition = imagesOnDisk(used).findIndex((image) => image.name === name) + 1;
  return {
    ...record.verity === undefined ? {} : { verity: record.verity },
    ...record.hashFile === undefined ? {} : { hashFile: verityPath(`${name}.ext4`) },
    ...disk === undefined ? {} : { partition },
  };
}

function layerChunks(options: ResolvedLayeredOptions): LayerChunks | undefined {
  const { chunks, layout, outputDir, dryRun = false, force = false, signal, progress } = options;
  if (chunks === undefined) return undefined;
  const chunkBytes = layout.gridBytes;
  return new LayerChunks({ ...chunks, outputDir, chunkBytes, dryRun, force, signal, progress });
}

function indexOf(
  chunked: ReadonlyMap<string, ChunkedImage> | undefined,
  name: string,
): { readonly index?: string } {
  const index = chunked?.get(name)?.index;
  return index === undefined ? {} : { index };
}

/** Adds up the figures of all images, each counted once. */
function sums(used: readonly UsedImage[]): Omit<ImageReport, "uuid"> {
  const images = [...new Map(used.map(({ name, record }) => [name, record.image])).values()];
  const sum = (key: keyof typeof IMAGE_COUNTS) =>
    images.reduce((total, image) => total + image[key], 0);
  const keys = Object.keys(IMAGE_COUNTS) as (keyof typeof IMAGE_COUNTS)[];
  return Object.fromEntries(keys.map((key) => [key, sum(key)])) as Omit<ImageReport, "uuid">;
}

/** The kernel's limit on lower directories (OVL_MAX_STACK in Linux, fs/overlayfs). */
export const STACKED_LAYERS_MAX = 500;

const DESCRIPTION_BYTES_MAX = 64 << 20;

/** One layer, bottom to top. */
export interface DescribedLayer {
  /** The image, a file in the same directory. */
  readonly file: string;
  readonly diffId: string;
  readonly digest: string;
  readonly mediaType: string | null;
  readonly uuid: string;
  /** Of the image. */
  readonly sizeBytes: number;
  /** Of its hash tree; left out when there is none. */
  readonly verity?: VerityReport | undefined;
  /** The file of the hash tree in the same directory; left out when the tree is behind the file system. */
  readonly hashFile?: string | undefined;
  /** Its number on the disk, from 1 on; left out when there is none. */
  readonly partition?: number | undefined;
  /** The index of its chunks, a file in the same directory; left out without a chunk store. */
  readonly index?: string | undefined;
}

/** How to stack mounted layers. */
export interface OverlayMount {
  /** `mount -t overlay overlay -o OPTIONS TARGET`, in the directory of the mount points. */
  readonly options: string;
  /** Empty directories to create: overlayfs needs at least two lower directories. */
  readonly emptyDirectories: readonly string[];
}

/**
 * The mount points of layers, bottom to top: numbers, because all mount options together must fit into a page. Null for a
 * layer whose image appears again higher up: the kernel refuses to stack a file system twice (ELOOP in ovl_check_layer),
 * and the lower one has no effect, since the higher one has all of its names, whiteouts and opaque directories.
 */
export function layerMountPoints(files: readonly string[]): (string | null)[] {
  return files.map((file, i) => files.lastIndexOf(file) === i ? String(i) : null);
}

/**
 * The mount of a stack.
 *
 * @param mountPoints bottom to top
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { layerMountPoints, overlayMount } from "./layered.ts";
 * const options = (...files: string[]) => overlayMount(layerMountPoints(files)).options;
 * assertEquals(options("base.ext4", "app.ext4"), "ro,lowerdir=1:0");
 * assertEquals(options("base.ext4"), "ro,lowerdir=0:empty");
 * ```
 */
export function overlayMount(mountPoints: readonly (string | null)[]): OverlayMount {
  const lower = mountPoints.filter((mountPoint) => mountPoint !== null).reverse();
  const emptyDirectories = ["empty", "empty2"].slice(0, Math.max(0, 2 - lower.length));
  return { options: `ro,lowerdir=${[...lower, ...emptyDirectories].join(":")}`, emptyDirectories };
}

/** The bytes of image.json; equal images give equal bytes. */
export function encodeDescription(
  image: OpenedImage,
  contentDigest: string,
  layers: readonly DescribedLayer[],
  disk?: LayeredDisk,
): Uint8Array {
  const mountPoints = layerMountPoints(layers.map(({ file }) => file));
  const description = {
    kind: DESCRIPTION_KIND,
    contentDigest,
    manifestDigest: image.manifestDigest ?? null,
    configDigest: image.configDigest ?? null,
    platform: image.platform === undefined ? null : formatPlatform(image.platform),
    config: containerConfig(image.config),
    layers: layers.map((layer, i) => ({ mountPoint: mountPoints[i], ...layer })),
    overlay: overlayMount(mountPoints),
    ...disk === undefined ? {} : { disk },
  };
  return Buffer.from(`${plainJson(description, 2)}\n`);
}

/**
 * Refuses a directory whose image.json is not such a description. That of another image may be replaced, because images
 * of layers are shared.
 *
 * @throws {IoError} when it may not be replaced
 */
export function checkDescription(directory: string): void {
  const path = pathIn(directory, DESCRIPTION_FILE);
  const found = statIfThere(path);
  if (found === undefined) return;
  const shown = displayPath(path);
  if (!found.isFile() || found.size > DESCRIPTION_BYTES_MAX) throw outputExistsError(shown);
  try {
    const document = parseJsonObject(readFileWhole(path), shown);
    if (field(document, "kind") === DESCRIPTION_KIND) return;
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
  }
  throw outputExistsError(shown);
}

/**
 * Writes image.json, and a copy named by the image's digest, which stays when another image is blessed into the
 * directory.
 */
export async function writeDescription(
  directory: string,
  contentDigest: string,
  bytes: Uint8Array,
  signal: AbortSignal | undefined,
): Promise<void> {
  const hex = contentDigest.slice(contentDigest.indexOf(":") + 1);
  for (const name of [`image-${hex}.json`, DESCRIPTION_FILE]) {
    const path = pathIn(directory, name);
    const found = statIfThere(path);
    const isSame = found?.isFile() && found.size === bytes.length &&
      Buffer.compare(readFileWhole(path), bytes) === 0;
    if (!isSame) await writeFileWhole(path, bytes, signal);
  }
}

/** `Entrypoint`, `Env` and so on; null where the source has none. */
function containerConfig(config: unknown): unknown {
  if (typeof config !== "object" || config === null) return null;
  return field(config as Readonly<Record<string, unknown>>, "config") ?? null;
}

/** The error for more layers than overlayfs can stack. */
export function stackFault(source: string, layerCount: number): InputError {
  return new InputError(
    displayText(source),
    `has ${layerCount} layers: overlayfs stacks at most ${STACKED_LAYERS_MAX}`,
    { code: "notStorable", hint: "bless it into one merged image" },
  );
}
