/**
 * Layered mode: one ext4 image per layer, stacked by overlayfs and shared by all images that contain the layer, and
 * `image.json`, which describes to a container runtime how to stack them.
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
  diskName,
  imagesOnDisk,
  LayerChunks,
  type LayerChunksTarget,
  type LayeredDisk,
  sumOfChunked,
  writeLayeredDisk,
} from "./layered_outputs.ts";
import { checkEnvelope, type EnvelopeOptions } from "./envelope.ts";
import { LayerImages, type PreviousLayers, readPreviousLayers } from "./layered_images.ts";
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
import { type Admission, imageDigest, type LayerReport } from "./plan_image.ts";
import { beginConfig } from "./merged.ts";
import { LAYERED_DEFAULTS, type LayoutOptions } from "./options.ts";
import { checkLike, type LikeOptions, type LikeReport } from "./previous_image.ts";
import { type ImageReport, type SourceReport, sourceReport } from "./report.ts";
import { verityPath, type VerityReport } from "../verity/format.ts";
import type { WarningSummary } from "../warnings.ts";

/** What to bless, how, and where. */
export interface BlessLayeredOptions extends SourceOptions, LikeOptions {
  /** The output directory of an earlier build: a new layer is laid out like the one that it replaces. */
  readonly like?: string | undefined;
  /** The source as on the command line: `oci:DIR:REF`, `tar:FILE` and so on. */
  readonly source: string;
  /**
   * The layout; missing options are taken from `LAYERED_DEFAULTS`. A UUID is only allowed for a source with one layer;
   * otherwise each UUID is derived from its layer.
   */
  readonly layout?: Partial<LayoutOptions> | undefined;
  /** A hash tree for each image, one disk for all, VHD footers. */
  readonly envelope?: EnvelopeOptions | undefined;
  /** The output directory; created if missing. */
  readonly outputDir: string;
  /** Replace images that are damaged or were made with other options. */
  readonly force?: boolean | undefined;
  /** A chunk store for the images; their indexes go to the output directory. */
  readonly chunks?: LayerChunksTarget | undefined;
  /** Receives the image's config as stored, at the end; it is an error if the source has none. */
  readonly configSink?: ImageSink | undefined;
  /** Write nothing; only report what would be written. */
  readonly dryRun?: boolean | undefined;
}

type ResolvedLayeredOptions = BlessLayeredOptions & ResolvedOptions & Admission & {
  readonly layout: LayoutOptions;
};

/** One layer and its image. */
export interface LayeredLayerReport extends LayerReport {
  /** The file name of the image in the output directory. */
  readonly file: string;
  /** Whether the image existed already. */
  readonly isReused: boolean;
  /** The figures of the image. */
  readonly image: ImageReport;
  /** Its hash tree; left out when there is none. */
  readonly verity?: VerityReport | undefined;
  /** The file name of the hash tree in the output directory; left out when the tree is behind the image. */
  readonly hashFile?: string | undefined;
  /** Its partition number, starting at 1; left out when there is no disk. */
  readonly partition?: number | undefined;
  /**
   * What was kept of a previous image, which is identified by its file name; left out when the image was laid out
   * afresh.
   */
  readonly like?: LikeReport | undefined;
  /** The file name of its chunk index in the output directory; left out without a chunk store. */
  readonly index?: string | undefined;
  /** Its chunks in the store, new and reused. */
  readonly chunks?: Readonly<ChunkCounts> | undefined;
}

/** A layered image. The figures are sums over the images, each counted once. */
export interface LayeredReport extends SourceReport, Omit<ImageReport, "uuid"> {
  /** Distinguishes this report from that of a merged image. */
  readonly mode: "layered";
  /** The number of layers whose images existed already. */
  readonly reusedLayers: number;
  /** The layers, bottom to top. */
  readonly layers: readonly LayeredLayerReport[];
  /** The disk with all layers; left out when none was requested. */
  readonly disk?: LayeredDisk | undefined;
  /** What was changed or left out, one entry per kind. */
  readonly warnings: readonly WarningSummary[];
  /** Sums over the images; left out without a chunk store. */
  readonly chunks?: Readonly<ChunkCounts> | undefined;
}

/**
 * Blesses every layer of a source into `outputDir`, as `<diff id in hex>.ext4` with a record beside it, and writes
 * `image.json` at the end. An existing image that is intact and was made with the same options is reused; if all are,
 * no layer is read. After a failure, complete images stay and nothing half-written is left.
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
  const { layout, envelope, outputDir, like, timestamp = 0 } = options;
  checkLike(options);
  checkLayeredEnvelope(envelope, layout);
  resolveSettings(imageLayout(options), { derivedUuid: new Uint8Array(16), timestamp });
  const isMissing = checkDirectory(outputDir);
  if (!isMissing && !options.force) checkDescription(outputDir);
  const previousLayers = like === undefined ? undefined : readPreviousLayers(like);
  const image = await openImage(options.source, options);
  let isMade = false;
  try {
    await options.admit?.(image);
    checkLayerCount(image, layout);
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

function checkLayerCount(
  { source, layers: { length: count } }: OpenedImage,
  layout: LayoutOptions,
) {
  if (count > STACKED_LAYERS_MAX) throw stackFault(source, count);
  if (layout.uuid === undefined || count <= 1) return;
  throw optionError("uuid", `needs a source with one layer, and this one has ${count}`, {
    hint: "leave it out: each image gets a UUID derived from its layer",
  });
}

async function bless(
  image: OpenedImage,
  options: ResolvedLayeredOptions,
  previousLayers: PreviousLayers | undefined,
): Promise<LayeredReport> {
  const { envelope, outputDir, signal, dryRun = false, timestamp = 0 } = options;
  const layout = imageLayout(options);
  const chunks = options.chunks &&
    new LayerChunks({ ...options, ...options.chunks, chunkBytes: layout.gridBytes });
  const alsoTo = chunks && ((name: string) => chunks.sinkOf(name));
  const facts = optionFacts(layout, timestamp, envelope);
  const store = new LayerStore(outputDir, { ...options, options: facts, alsoTo });
  const images = new LayerImages(store, { ...options, layout, timestamp, previousLayers });
  const used = await images.ofAll(image);
  throwIfAborted(signal);
  const contentDigest = imageDigest(image, used.map(({ report }) => report.diffId));
  const disk = envelope?.disk === undefined || dryRun ? undefined : await writeLayeredDisk(used, {
    outputDir,
    contentDigest,
    vhd: envelope.vhd ?? false,
    diskBytes: options.layout.size.kind === "total" ? options.layout.size.sizeBytes : undefined,
    alsoTo,
    signal,
  });
  const onDisk = disk === undefined ? [] : [{ name: diskName(contentDigest), isReused: false }];
  const chunked = await chunks?.finish([...used, ...onDisk]);
  const numbered = imagesOnDisk(used).map(({ name }) => name);
  const layers = used.map(({ name, report, record, isReused }): LayeredLayerReport => ({
    ...report,
    file: `${name}.ext4`,
    isReused,
    image: record.image,
    like: record.like,
    verity: record.verity,
    hashFile: record.hashFile && verityPath(`${name}.ext4`),
    partition: disk && numbered.indexOf(name) + 1,
    index: chunked?.get(name)?.index,
    chunks: chunked?.get(name)?.counts,
  }));
  const description = encodeDescription(image, contentDigest, layers, disk);
  if (!dryRun) await writeDescription(outputDir, contentDigest, description, signal);
  const addedCells = image.additions && layers.at(-1)!.image.cellBytes / layout.gridBytes;
  return {
    mode: "layered",
    ...sourceReport(options.source, image, layout, addedCells),
    ...sums(layers),
    reusedLayers: used.filter(({ isReused }) => isReused).length,
    layers,
    disk,
    chunks: chunked && sumOfChunked(chunked),
    warnings: options.warnings.list(),
  };
}

/** On a disk, the requested size is the size of the disk. */
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
    throw optionError("verity", "each layer has its own tree: wanted append or beside");
  }
  if (verity?.beside && disk !== undefined) {
    throw optionError("verity", "the trees of layers on a disk are on it: wanted append");
  }
}

/** Each image counts once. */
function sums(layers: readonly LayeredLayerReport[]): Omit<ImageReport, "uuid"> {
  const images = [...new Map(layers.map(({ file, image }) => [file, image])).values()];
  const keys = Object.keys(IMAGE_COUNTS) as (keyof typeof IMAGE_COUNTS)[];
  return Object.fromEntries(
    keys.map((key) => [key, images.reduce((total, image) => total + image[key], 0)]),
  ) as Omit<ImageReport, "uuid">;
}

/** The kernel's limit on lower directories (OVL_MAX_STACK in Linux, fs/overlayfs). */
export const STACKED_LAYERS_MAX = 500;

const DESCRIPTION_BYTES_MAX = 64 << 20;

/**
 * The mount points of layers, bottom to top. They are numbers, because all mount options together must fit into a page.
 * Null for a layer whose image appears again higher up: the kernel refuses to stack a file system twice (ELOOP in
 * ovl_check_layer), and the lower one has no effect, since the higher one has all of its names, whiteouts and opaque
 * directories.
 */
export function layerMountPoints(files: readonly string[]): (string | null)[] {
  return files.map((file, i) => files.lastIndexOf(file) === i ? String(i) : null);
}

/**
 * The overlay mount of a stack, bottom to top: `mount -t overlay overlay -o OPTIONS TARGET`, run in the directory of
 * the mount points. Overlayfs needs at least two lower directories, so empty ones may have to be created.
 */
export function overlayMount(
  mountPoints: readonly (string | null)[],
): { readonly options: string; readonly emptyDirectories: readonly string[] } {
  const lower = mountPoints.filter((mountPoint) => mountPoint !== null).reverse();
  const emptyDirectories = ["empty", "empty2"].slice(0, Math.max(0, 2 - lower.length));
  return { options: `ro,lowerdir=${[...lower, ...emptyDirectories].join(":")}`, emptyDirectories };
}

/** Encodes image.json; equal images give equal bytes. */
export function encodeDescription(
  image: OpenedImage,
  contentDigest: string,
  layers: readonly LayeredLayerReport[],
  disk?: LayeredDisk,
): Uint8Array {
  const mountPoints = layerMountPoints(layers.map(({ file }) => file));
  const { manifestDigest = null, configDigest = null, platform, config } = image;
  const container = typeof config === "object" && config !== null
    ? field(config as Readonly<Record<string, unknown>>, "config")
    : undefined;
  const description = {
    kind: DESCRIPTION_KIND,
    contentDigest,
    manifestDigest,
    configDigest,
    platform: platform === undefined ? null : formatPlatform(platform),
    config: container ?? null,
    layers: layers.map((layer, i) => ({
      mountPoint: mountPoints[i],
      file: layer.file,
      diffId: layer.diffId,
      digest: layer.digest,
      mediaType: layer.mediaType,
      uuid: layer.image.uuid,
      sizeBytes: layer.image.sizeBytes,
      verity: layer.verity,
      hashFile: layer.hashFile,
      partition: layer.partition,
      index: layer.index,
    })),
    overlay: overlayMount(mountPoints),
    disk,
  };
  return Buffer.from(`${plainJson(description, 2)}\n`);
}

/**
 * Refuses a directory with an image.json from elsewhere. The description of another image may be replaced, because
 * images share layers.
 *
 * @throws {IoError} when image.json must not be replaced
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
 * Writes image.json, and a copy named after the image's digest, which stays when another image is blessed into the
 * directory.
 */
export async function writeDescription(
  directory: string,
  contentDigest: string,
  bytes: Uint8Array,
  signal: AbortSignal | undefined,
): Promise<void> {
  for (const name of [`${diskName(contentDigest)}.json`, DESCRIPTION_FILE]) {
    await writeFileWhole(pathIn(directory, name), bytes, signal);
  }
}

/** The error for more layers than overlayfs can stack. */
export function stackFault(source: string, layerCount: number): InputError {
  return new InputError(
    displayText(source),
    `has ${layerCount} layers: overlayfs stacks at most ${STACKED_LAYERS_MAX}`,
    { code: "notStorable", hint: "bless it into one merged image" },
  );
}
