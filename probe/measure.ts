/**
 * The stores of all schemes of one probe, over one table of contents.
 *
 * @module
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { planImage } from "../lib/bless/plan_image.ts";
import type { Continuation } from "../lib/ext4/plan/plan_ext4.ts";
import { openPrevious } from "../lib/bless/previous_image.ts";
import { InputError, throwIfAborted } from "../lib/errors.ts";
import type { ImagePlan } from "../lib/ext4/plan/image_plan.ts";
import { writeImage } from "../lib/ext4/write/write_image.ts";
import { createFileSink, NODE_FILE_OPERATIONS } from "../lib/io/file_sink.ts";
import { openFileReader, type RandomReader, readExactly } from "../lib/io/random_reader.ts";
import { type ImageSink, teeSink } from "../lib/io/sink.ts";
import { displayPath, ioErrorFrom } from "../lib/io/system_error.ts";
import { BLOCK_SIZE_BYTES, type Payload } from "../lib/model/node.ts";
import { treeShape } from "../lib/verity/format.ts";
import { TreeSink, VeritySink } from "../lib/verity/verity_sink.ts";
import { Warnings } from "../lib/warnings.ts";
import type { ImagePart, ProbedImage } from "./images.ts";
import { isContinued, layoutOf, type ResolvedProbeOptions, type Scheme } from "./schemes.ts";
import { addFileUnits, CellCutter, ChunkCutter } from "./units/cutters.ts";
import { CellCompositions, PlanCutter } from "./units/plan_cutter.ts";
import { ContentTable, type ImageCollector, SchemeStore } from "./units/store.ts";
import { pause, type StoredSizes } from "./units/stored_sizes.ts";

export interface MeasuredScheme {
  readonly scheme: Scheme;
  readonly store: SchemeStore;
}

export interface ProbeStores {
  readonly table: ContentTable;
  readonly sizes: StoredSizes | undefined;
  readonly measured: readonly MeasuredScheme[];
  readonly compositions: CellCompositions;
  /** For rows whose images are laid out like the previous ones. */
  readonly continued?: ContinuedImages | undefined;
}

export interface StoreChoices {
  /** Undefined when nothing is compressed here. */
  readonly sizes?: StoredSizes | undefined;
  /** Whether stored sizes differ from raw ones; by default, whether units are compressed here. */
  readonly isCompressed?: boolean | undefined;
  /** Whether to keep the places of units. */
  readonly keepsPlaces?: boolean | undefined;
  /** Required for rows whose images are laid out like the previous ones. */
  readonly continued?: ContinuedImages | undefined;
}

export function createStores(schemes: readonly Scheme[], choices: StoreChoices): ProbeStores {
  const { sizes, isCompressed = sizes !== undefined, keepsPlaces, continued } = choices;
  const table = new ContentTable();
  const measured = schemes.map((scheme) => ({
    scheme,
    store: new SchemeStore(table, isCompressed, keepsPlaces),
  }));
  return { table, sizes, measured, compositions: new CellCompositions(), continued };
}

/** Called with the content of each cell of the grid. */
export type CellListener = (cellIndex: number, content: number) => void;

function cutterOf(
  scheme: Scheme,
  collector: ImageCollector,
  stores: ProbeStores,
  listener?: CellListener,
): ImageSink {
  const { table, sizes } = stores;
  if (scheme.chunker !== undefined) {
    return new ChunkCutter(scheme.chunker, (chunk, rawBytes, offset) => {
      collector.add(table.indexOfBytes(chunk, sizes), rawBytes, offset);
    });
  }
  return new CellCutter(scheme.gridBytes, (cell, cellIndex, rawBytes) => {
    const content = table.indexOfBytes(cell, sizes);
    collector.add(content, rawBytes, cellIndex * scheme.gridBytes);
    listener?.(cellIndex, content);
  });
}

/** What a pause between pieces of work checks. */
export interface CutPauses {
  /** Undefined when nothing is compressed. */
  readonly sizes?: StoredSizes | undefined;
  readonly signal?: AbortSignal | undefined;
}

const PAUSE_AFTER_BYTES = 16 * 1024 * 1024;

/**
 * Passes the same bytes to several synchronous sinks. It pauses from time to time, but creates no promise per write.
 */
export function cutTogether(sinks: readonly ImageSink[], pauses: CutPauses): ImageSink {
  let sincePause = 0;
  return {
    write: (bytes, offset) => {
      for (const sink of sinks) sink.write(bytes, offset);
      sincePause += bytes.length * sinks.length;
      if (sincePause < PAUSE_AFTER_BYTES) return;
      sincePause = 0;
      return pause(pauses.sizes, pauses.signal);
    },
    finish: (sizeBytes) => {
      for (const sink of sinks) sink.finish(sizeBytes);
    },
    abort: () => {
      for (const sink of sinks) sink.abort();
    },
  };
}

/** Collects details about the main scheme's images. */
export interface MainSchemeWatch {
  readonly scheme: Scheme;
  /** Begins a part of an image; the listener is called for its cells. */
  beginPart(plan: ImagePlan, contentOf: ReadonlyMap<Payload, number>): CellListener;
}

export async function measureImage(
  image: ProbedImage,
  options: ResolvedProbeOptions,
  stores: ProbeStores,
  watch?: MainSchemeWatch,
): Promise<void> {
  const contentOf = await measureFiles(image, options, stores);
  for (const group of layoutGroups(stores.measured)) {
    await measureLayout(group, { image, options, stores, contentOf, watch });
  }
}

async function measureFiles(
  image: ProbedImage,
  options: ResolvedProbeOptions,
  stores: ProbeStores,
): Promise<ReadonlyMap<Payload, number>> {
  const contentOf = new Map<Payload, number>();
  const { store } = stores.measured.find(({ scheme }) => scheme.kind === "file")!;
  const collector = store.beginImage();
  for (const [part, { tree }] of image.parts.entries()) {
    collector.beginPart(part);
    const { progress, signal } = options;
    const contents = await addFileUnits(tree, collector, { ...stores, progress, signal });
    for (const [payload, content] of contents) contentOf.set(payload, content);
  }
  collector.finish();
  return contentOf;
}

/** Groups schemes that cut the same bytes: FastCDC and the fixed grid on the unaligned image. */
function layoutGroups(measured: readonly MeasuredScheme[]): MeasuredScheme[][] {
  const groups = new Map<string, MeasuredScheme[]>();
  measured.forEach((item, i) => {
    const { kind, gridBytes } = item.scheme;
    if (kind === "file") return;
    const isAlone = kind === "aligned" || kind === "start-aligned" || isContinued(item.scheme);
    const key = isAlone ? `${kind} ${i}` : `unaligned ${gridBytes}`;
    groups.set(key, [...groups.get(key) ?? [], item]);
  });
  return [...groups.values()];
}

interface LayoutContext {
  readonly image: ProbedImage;
  readonly options: ResolvedProbeOptions;
  readonly stores: ProbeStores;
  readonly contentOf: ReadonlyMap<Payload, number>;
  readonly watch: MainSchemeWatch | undefined;
}

async function measureLayout(
  group: readonly MeasuredScheme[],
  context: LayoutContext,
): Promise<void> {
  const { image, options, stores } = context;
  const { scheme } = group[0]!;
  const collected = group.map(({ scheme, store }) => ({ scheme, collector: store.beginImage() }));
  for (const [number, part] of image.parts.entries()) {
    for (const { collector } of collected) collector.beginPart(number);
    if (!isContinued(scheme)) {
      await measurePlan(planPart(part, scheme, options), collected, context);
      continue;
    }
    // Images laid out like the previous one are written to files, so that the next one can be laid out like them.
    await stores.continued!.plan(part, scheme, async (plan, file) => {
      await measurePlan(plan, collected, context, file);
    });
  }
  for (const { collector } of collected) collector.finish();
}

interface CollectedScheme {
  readonly scheme: Scheme;
  readonly collector: ImageCollector;
}

async function measurePlan(
  plan: ImagePlan,
  collected: readonly CollectedScheme[],
  context: LayoutContext,
  file?: ImageSink,
): Promise<void> {
  const { options, stores, contentOf, watch } = context;
  const { veritySalt, workerUrl, signal } = options;
  const listeners = collected.map(({ scheme, collector }) => {
    collector.addSize(plan.summary.sizeBytes, plan.summary.paddingBytes);
    return watch?.scheme === scheme ? watch.beginPart(plan, contentOf) : undefined;
  });
  const [first] = collected;
  const isAlone = collected.length === 1;
  // FastCDC needs every byte of the unaligned image; other layouts only read cells that no earlier layout had.
  if (isAlone && file === undefined) {
    await cutAligned(plan, first!.collector, context, listeners[0]);
  } else {
    const cutters = collected.map(({ scheme, collector }, i) =>
      cutterOf(scheme, collector, stores, listeners[i])
    );
    let sink = cutTogether(cutters, { sizes: stores.sizes, signal });
    if (file !== undefined) sink = teeSink(sink, file);
    if (veritySalt !== undefined && !isAlone) {
      const { dataBlocks, sizeBytes } = treeShape(plan.totalBlocks);
      for (const { collector } of collected) collector.addSize(sizeBytes, 0);
      sink = new VeritySink(sink, { dataBlocks, salt: veritySalt(), workerUrl });
    }
    await cutPlan(plan, sink, options);
  }
  if (veritySalt !== undefined && isAlone) {
    await cutTree(plan, first!, veritySalt(), context);
  }
}

async function cutAligned(
  plan: ImagePlan,
  collector: ImageCollector,
  { options, stores, contentOf }: LayoutContext,
  listener: CellListener | undefined,
): Promise<void> {
  const { table, sizes, compositions } = stores;
  const cutter = new PlanCutter(plan, {
    compositions,
    contentOf,
    numberOf: (cell) => table.indexOfBytes(cell, sizes),
    progress: options.progress,
    sizes,
    signal: options.signal,
  }, ({ content, rawBytes }, cellIndex) => {
    collector.add(content, rawBytes, cellIndex * plan.gridBlocks * BLOCK_SIZE_BYTES);
    listener?.(cellIndex, content);
  });
  await cutter.run();
}

/** Cuts the hash tree that bless would append to an image. This reads every block. */
async function cutTree(
  plan: ImagePlan,
  { scheme, collector }: CollectedScheme,
  salt: Uint8Array,
  { options, stores }: LayoutContext,
): Promise<void> {
  const { workerUrl } = options;
  const sink = new TreeSink({ dataBlocks: plan.totalBlocks, salt, workerUrl });
  await cutPlan(plan, sink, options);
  const { tree } = sink;
  try {
    const { sizeBytes } = tree.shape;
    collector.addSize(sizeBytes, 0);
    const cutter = cutterOf(scheme, collector, stores);
    const offset = plan.totalBlocks * BLOCK_SIZE_BYTES;
    await tree.writeTo(cutter, offset);
    await cutter.finish(offset + sizeBytes);
  } finally {
    tree.close();
  }
}

export function planPart(
  part: ImagePart,
  scheme: Scheme,
  { mode, veritySalt, timestamp, warnings }: ResolvedProbeOptions,
  continuation?: Continuation,
): ImagePlan {
  return planImage(part.tree, {
    layout: layoutOf(scheme, mode, veritySalt !== undefined),
    ...part.identity,
    timestamp,
    // Planning gives the same warnings for every scheme, and bless gives better ones.
    warnings: warnings.strict ? warnings : new Warnings(),
    continuation,
  });
}

export async function cutPlan(
  plan: ImagePlan,
  cutters: ImageSink,
  options: ResolvedProbeOptions,
): Promise<void> {
  const { progress } = options;
  await writeImage(plan, cutters, { signal: options.signal, progress });
}

/** A multiple of every grid. */
const FILE_PIECE_BYTES = 16 * 1024 * 1024;

/** Opens a file to be cut as it is. Throws when it is missing, empty or not a file. */
export function openSource(source: string): RandomReader {
  const path = source.startsWith("ext4:") ? source.slice("ext4:".length) : source;
  const reader = openFileReader(path, {
    what: "a disk image or any file",
    directoryHint: "a tree is measured as the image that is made of it, not as it is",
  });
  if (reader.sizeBytes > 0) return reader;
  reader.close();
  throw new InputError(displayPath(path), "is empty: wanted a disk image or any file", {
    code: "wrongKind",
  });
}

/**
 * Cuts one file, into the stores or with the caller's cutters.
 *
 * @param source a path, or `ext4:` followed by a path
 */
export async function measureFile(
  source: string,
  options: ResolvedProbeOptions,
  target: { readonly stores: ProbeStores } | { readonly cutters: readonly ImageSink[] },
): Promise<void> {
  const reader = openSource(source);
  const name = displayPath(reader.name);
  try {
    const { sizeBytes } = reader;
    if ("cutters" in target) {
      await cutReader(reader, cutTogether(target.cutters, options), name, options);
      return;
    }
    const collected = target.stores.measured.map(({ scheme, store }) => {
      const collector = store.beginImage();
      collector.addSize(sizeBytes, 0);
      return { collector, cutter: cutterOf(scheme, collector, target.stores) };
    });
    const pauses = { sizes: target.stores.sizes, signal: options.signal };
    const cutters = cutTogether(collected.map(({ cutter }) => cutter), pauses);
    await cutReader(reader, cutters, name, options);
    for (const { collector } of collected) collector.finish();
  } finally {
    reader.close();
  }
}

async function cutReader(
  reader: ReturnType<typeof openFileReader>,
  sink: ImageSink,
  name: string,
  options: ResolvedProbeOptions,
): Promise<void> {
  const { sizeBytes } = reader;
  const task = options.progress.begin(name, sizeBytes);
  const buffer = new Uint8Array(FILE_PIECE_BYTES);
  for (let at = 0; at < sizeBytes; at += FILE_PIECE_BYTES) {
    const piece = buffer.subarray(0, Math.min(FILE_PIECE_BYTES, sizeBytes - at));
    readExactly(reader, piece, at);
    await sink.write(piece, at);
    task.advance(piece.length);
    throwIfAborted(options.signal);
  }
  await sink.finish(sizeBytes);
  task.end();
}

/** The last image of each such row, in a temporary directory. */
export class ContinuedImages {
  readonly #options: ResolvedProbeOptions;
  readonly #images = new Map<Scheme, string>();
  #directory: string | undefined;
  #count = 0;

  constructor(options: ResolvedProbeOptions) {
    this.#options = options;
  }

  /**
   * Plans the next image of a row, passes it on with a file for its bytes, and keeps that file for the image after it.
   */
  async plan(
    part: ImagePart,
    scheme: Scheme,
    use: (plan: ImagePlan, file: ImageSink) => Promise<void>,
  ): Promise<void> {
    const { mode, veritySalt } = this.#options;
    const layout = layoutOf(scheme, mode, veritySalt !== undefined);
    const like = this.#images.get(scheme);
    const previous = await openPrevious({ like, keepStale: scheme.kind === "like-stale" }, {
      ...this.#options,
      layout,
    });
    const path = join(this.#directoryOf(), `${this.#count++}.ext4`);
    // The file need not survive a crash.
    const files = { ...NODE_FILE_OPERATIONS, sync: () => Promise.resolve() };
    const file = createFileSink(path, { files });
    try {
      await use(planPart(part, scheme, this.#options, previous?.continuation), file);
    } catch (error) {
      await file.abort();
      throw error;
    } finally {
      previous?.close();
    }
    if (like !== undefined) rmSync(like, { force: true });
    this.#images.set(scheme, path);
  }

  close(): void {
    if (this.#directory !== undefined) rmSync(this.#directory, { recursive: true, force: true });
    this.#directory = undefined;
  }

  #directoryOf(): string {
    const parent = this.#options.tmpdir ?? tmpdir();
    try {
      return this.#directory ??= mkdtempSync(join(parent, "blessfs-probe-"));
    } catch (cause) {
      throw ioErrorFrom(parent, "no directory can be made in it", cause);
    }
  }
}
