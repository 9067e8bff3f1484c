/**
 * Merged mode: all layers of a source in one ext4 image.
 *
 * Spools are freed while the image is written, so together they take little more space than the larger of the two.
 *
 * @module
 */
import { InputError } from "../errors.ts";
import type { ImagePlan, PayloadWrite } from "../ext4/plan/image_plan.ts";
import { resolveSettings } from "../ext4/plan/settings.ts";
import { partAt, type RandomReader } from "../io/random_reader.ts";
import type { ImageSink } from "../io/sink.ts";
import { BLOCK_SIZE_BYTES, type Payload } from "../model/node.ts";
import { storedConfig } from "../source/inspect.ts";
import { Warnings } from "../warnings.ts";
import { hostPlatform, parsePlatform } from "../source/platform.ts";
import {
  type OpenedImage,
  type ResolvedOptions,
  resolveOptions,
  type SourceOptions,
} from "../source/source.ts";
import {
  checkEnvelope,
  type EnvelopeOptions,
  layoutInside,
  withinDisk,
  writeEnveloped,
} from "./envelope.ts";
import { differingCells } from "./plan_cells.ts";
import {
  checkHot,
  chooseHot,
  type HotOptions,
  hotWithin,
  prefetchInOutput,
  prefetchOf,
} from "./hot.ts";
import {
  type Admission,
  checkLeastSize,
  type LoadedTree,
  planImage,
  type PlanImageOptions,
  type TreeBelow,
  withTree,
} from "./plan_image.ts";
import { type LayoutOptions, MERGED_DEFAULTS } from "./options.ts";
import {
  checkLike,
  type LikeOptions,
  type OpenedPrevious,
  openPrevious,
} from "./previous_image.ts";
import { type BlessReport, imageReport, sourceReport } from "./report.ts";

/** What to bless, how, and where. */
export interface BlessMergedOptions extends SourceOptions, LikeOptions, HotOptions {
  /** The source as on the command line: `oci:DIR:REF`, `tar:FILE` and so on. */
  readonly source: string;
  /** The layout; missing options are taken from `MERGED_DEFAULTS`. */
  readonly layout?: Partial<LayoutOptions> | undefined;
  /** What surrounds the file system: a hash tree, a disk, the footer of a VHD. */
  readonly envelope?: EnvelopeOptions | undefined;
  /** Receives the image; finished on success and aborted otherwise. */
  readonly sink: ImageSink;
  /** Receives the image's config as stored, once the image is complete; it is an error if the source has none. */
  readonly configSink?: ImageSink | undefined;
}

type ResolvedMergedOptions = BlessMergedOptions & ResolvedOptions & Admission & {
  readonly layout: LayoutOptions;
};

/**
 * Blesses a source into one image. Options are checked before anything is read.
 *
 * Throws a UsageError for an invalid option, an InputError for a source that is damaged, unsupported or impossible to
 * store, an IoError when reading or writing fails, an InterruptedError when the signal fires; the sink is aborted first.
 */
export async function blessMerged(options: BlessMergedOptions): Promise<BlessReport> {
  try {
    const layout = { ...MERGED_DEFAULTS, ...options.layout };
    return await bless({ ...resolveOptions(options), layout });
  } catch (error) {
    await options.envelope?.verity?.hashSink?.abort();
    await options.sink.abort();
    await options.configSink?.abort();
    throw error;
  }
}

async function bless(options: ResolvedMergedOptions): Promise<BlessReport> {
  const { source, layout, envelope, timestamp = 0 } = options;
  checkLike(options);
  checkHot(options);
  checkEnvelope(envelope, layout);
  const inside = layoutInside(layout, envelope);
  resolveSettings(inside, { derivedUuid: new Uint8Array(16), timestamp });
  const previous = await openPrevious(options, { ...options, layout: inside });
  const check = (image: OpenedImage) =>
    withinDisk(layout, envelope, () => checkLeastSize(image, inside, timestamp));
  try {
    const use = (loaded: LoadedTree) => blessTree(loaded, options, inside, previous);
    return await withTree(source, options, use, check);
  } finally {
    previous?.close();
  }
}

async function blessTree(
  loaded: LoadedTree,
  options: ResolvedMergedOptions,
  inside: LayoutOptions,
  previous: OpenedPrevious | undefined,
): Promise<BlessReport> {
  const { source, layout, envelope, warnings, signal, timestamp = 0 } = options;
  const { tree, image, identity, stores, layers } = loaded;
  const { continuation } = previous ?? {};
  const finishConfig = await beginConfig(image, options.configSink);
  // The architecture for partition types: from the image, else the requested platform, else this machine.
  const asked = options.platform === undefined ? hostPlatform() : parsePlatform(options.platform);
  const { architecture } = image.platform ?? asked;
  checkEnvelope(envelope, layout, architecture);
  const hot = options.hot && chooseHot(tree, options.hot, image, warnings);
  const placement = { continuation, hot: hot?.files };
  const plan = withinDisk(
    layout,
    envelope,
    () => planImage(tree, { layout: inside, ...identity, timestamp, warnings, ...placement }),
  );
  // This has to run before the write frees the payload.
  const { hotDigest: digest = "sha512-256" } = options;
  const prefetch = hot && await prefetchOf(plan, hot, { digest, signal });
  const differing = await cellsFromBelow(loaded, options, { layout: inside, continuation });
  const { tmpdir, workerUrl, progress } = options;
  const written = await writeEnveloped(plan, options.sink, {
    envelope,
    size: layout.size,
    architecture,
    tmpdir,
    workerUrl,
    progress,
    signal,
    onWritten: releaseAsWritten(stores, plan),
    onBytes: previous?.onBytes,
  });
  await finishConfig();
  return {
    mode: "merged",
    ...sourceReport(source, image, layout, differing),
    ...imageReport(plan, written),
    ...written.envelope,
    layers,
    ...previous === undefined ? {} : { like: previous.report(plan.kept!) },
    ...hot === undefined ? {} : { hot: hot.report },
    ...prefetch === undefined ? {} : { prefetch: prefetchInOutput(prefetch, written.envelope) },
    warnings: warnings.list(),
  };
}

/**
 * The number of cells that the additions change; undefined without additions, and null if the image cannot be made
 * without them. The plans are made only for this.
 */
async function cellsFromBelow(
  { tree, image, identity, below }: LoadedTree,
  { timestamp = 0, signal, hot }: ResolvedMergedOptions,
  options: Pick<PlanImageOptions, "layout" | "continuation">,
): Promise<number | null | undefined> {
  if (below === undefined) return undefined;
  const planOf = (of: TreeBelow) =>
    planImage(of.tree, {
      ...options,
      ...of.identity,
      timestamp,
      warnings: new Warnings(),
      hot: hotWithin(of.tree, hot, image),
    });
  const plan = planOf({ tree, identity });
  let without: ImagePlan;
  try {
    without = planOf(below);
  } catch (error) {
    // The size may only be large enough for the files that patterns leave.
    if (error instanceof InputError) return null;
    throw error;
  }
  return await differingCells(plan, without, signal);
}

/**
 * Writes the config of an image to a sink, so that a full disk is noticed early.
 *
 * @returns a function that makes the config visible, to be called when the image is complete
 */
export async function beginConfig(
  image: OpenedImage,
  sink: ImageSink | undefined,
): Promise<() => Promise<void>> {
  if (sink === undefined) return () => Promise.resolve();
  const bytes = storedConfig(image);
  await sink.write(bytes, 0);
  return async () => await sink.finish(bytes.length);
}

/** The last read of a part of a store: a write; metadata, which is encoded until the very end; or none. */
type LastRead = PayloadWrite | "metadata" | undefined;

/** The parts of a store that can only be released as a whole. */
const ONE_PART = { count: 1, partBytes: Infinity };

/**
 * Closes the stores that are not needed, and releases the others as they are read. Stores that metadata is made from
 * stay open until the caller closes them.
 *
 * @returns a function to call after each write of the plan, in order; it frees what will not be read again
 */
export function releaseAsWritten(
  stores: Iterable<RandomReader>,
  { payload, inlinePayloads }: Pick<ImagePlan, "payload" | "inlinePayloads">,
): (write: PayloadWrite) => void {
  const lastReads = new Map<RandomReader, LastRead[]>();
  for (const store of stores) lastReads.set(store, Array(store.parts?.count ?? 1).fill(undefined));
  /** Notes a read for the parts that a range touches, and those in between. */
  const note = (content: Payload, read: LastRead, startBytes = 0, lengthBytes = Infinity) => {
    const ofParts = lastReads.get(content.store);
    if (ofParts === undefined) return;
    const parts = content.store.parts ?? ONE_PART;
    const { start, end } = storedRange(content, startBytes, lengthBytes);
    const last = partAt(parts, Math.max(start, end - 1));
    for (let part = partAt(parts, start); part <= last; part++) ofParts[part] = read;
  };
  for (const write of payload) {
    const { logicalBlock, blockCount } = write;
    note(write.payload, write, logicalBlock * BLOCK_SIZE_BYTES, blockCount * BLOCK_SIZE_BYTES);
  }
  for (const inline of inlinePayloads) note(inline, "metadata");
  const releases = new Map<PayloadWrite, (() => void)[]>();
  for (const [store, ofParts] of lastReads) {
    ofParts.forEach((write, part) => {
      const release = () => store.parts ? store.parts.release(part) : store.close();
      if (write === undefined) return release();
      if (write === "metadata") return;
      const known = releases.get(write);
      if (known) known.push(release);
      else releases.set(write, [release]);
    });
  }
  return (write) => releases.get(write)?.forEach((release) => release());
}

/**
 * The stored range of a part of a file. A sparse file can have very many segments, so its range simply extends from the
 * first to the last of them.
 */
function storedRange({ segments }: Payload, fileOffset: number, lengthBytes: number) {
  if (segments.length === 1) {
    const segment = segments[0]!;
    const start = segment.storeOffset + Math.max(0, fileOffset - segment.fileOffset);
    const end = Math.min(start + lengthBytes, segment.storeOffset + segment.lengthBytes);
    return { start, end };
  }
  let [start, end] = [Infinity, 0];
  for (const { storeOffset, lengthBytes } of segments) {
    start = Math.min(start, storeOffset);
    end = Math.max(end, storeOffset + lengthBytes);
  }
  return { start: Math.min(start, end), end };
}
