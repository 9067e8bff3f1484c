/**
 * Cuts one image as every scheme does. Each layout is planned; the bytes of the one without alignment go by once, and
 * of the others only the cells that no layout before had. The layers are not read again from their compressed form,
 * and no image is written anywhere.
 *
 * @module
 */
import { planImage } from "../lib/bless/plan_image.ts";
import type { ImagePlan } from "../lib/ext4/plan/image_plan.ts";
import { writeImage } from "../lib/ext4/write/write_image.ts";
import type { ImageSink } from "../lib/io/sink.ts";
import type { Payload } from "../lib/model/payload.ts";
import { BLOCK_SIZE_BYTES } from "../lib/model/payload.ts";
import type { Progress } from "../lib/progress.ts";
import { Warnings } from "../lib/warnings.ts";
import type { CellListener } from "./cutters.ts";
import { cutterOf, cutTogether } from "./cutters.ts";
import type { ImagePart, ProbedImage } from "./image_parts.ts";
import type { ProbeOptions, Scheme } from "./options.ts";
import { layoutOf } from "./options.ts";
import type { MeasuredScheme, ProbeStores } from "./stores.ts";
import { PlanCutter } from "./units/plan_cutter.ts";
import type { ImageCollector } from "./units/scheme_store.ts";
import { addFileUnits } from "./units/file_units.ts";

/** What the details of a probe want to know of the main scheme's images. */
export interface MainSchemeWatch {
  readonly scheme: Scheme;
  /** Begins a part of an image; the listener is told of its cells. */
  beginPart(plan: ImagePlan, contentOf: ReadonlyMap<Payload, number>): CellListener;
}

/** Measures one image in every scheme. */
export async function measureImage(
  image: ProbedImage,
  options: ProbeOptions,
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
  options: ProbeOptions,
  stores: ProbeStores,
): Promise<ReadonlyMap<Payload, number>> {
  const contentOf = new Map<Payload, number>();
  const { store } = stores.measured.find(({ scheme }) => scheme.kind === "file")!;
  const collector = store.beginImage();
  for (const [part, { tree }] of image.parts.entries()) {
    collector.beginPart(part);
    const context = {
      ...stores,
      progress: namedProgress(options.progress, image.source),
      signal: options.signal,
    };
    const contents = await addFileUnits(tree, collector, context);
    for (const [payload, content] of contents) contentOf.set(payload, content);
  }
  collector.finish();
  return contentOf;
}

/** Schemes that cut the same bytes stand together: FastCDC and the fixed grid on the unaligned image. */
function layoutGroups(measured: readonly MeasuredScheme[]): MeasuredScheme[][] {
  const groups = new Map<string, MeasuredScheme[]>();
  measured.forEach((item, i) => {
    const { kind, gridBytes } = item.scheme;
    if (kind === "file") return;
    const key = kind === "aligned" ? `aligned ${i}` : `unaligned ${gridBytes}`;
    groups.set(key, [...groups.get(key) ?? [], item]);
  });
  return [...groups.values()];
}

interface LayoutContext {
  readonly image: ProbedImage;
  readonly options: ProbeOptions;
  readonly stores: ProbeStores;
  readonly contentOf: ReadonlyMap<Payload, number>;
  readonly watch: MainSchemeWatch | undefined;
}

async function measureLayout(
  group: readonly MeasuredScheme[],
  context: LayoutContext,
): Promise<void> {
  const { image, options, stores, contentOf, watch } = context;
  const collected = group.map(({ scheme, store }) => ({ scheme, collector: store.beginImage() }));
  for (const [number, part] of image.parts.entries()) {
    for (const { collector } of collected) collector.beginPart(number);
    const plan = planPart(part, group[0]!.scheme, options);
    if (group[0]!.scheme.kind === "aligned") {
      const { scheme, collector } = collected[0]!;
      collector.addSize(plan.summary.sizeBytes, plan.summary.paddingBytes);
      const listener = watch?.scheme === scheme ? watch.beginPart(plan, contentOf) : undefined;
      await cutAligned(plan, collector, context, listener);
      continue;
    }
    const cutters = collected.map(({ scheme, collector }) => {
      collector.addSize(plan.summary.sizeBytes, plan.summary.paddingBytes);
      const listener = watch?.scheme === scheme ? watch.beginPart(plan, contentOf) : undefined;
      return cutterOf(scheme, collector, stores, listener);
    });
    await cutPlan(plan, cutTogether(cutters, { sizes: stores.sizes, ...options }), image, options);
  }
  for (const { collector } of collected) collector.finish();
}

async function cutAligned(
  plan: ImagePlan,
  collector: ImageCollector,
  { image, options, stores, contentOf }: LayoutContext,
  listener: CellListener | undefined,
): Promise<void> {
  const { table, sizes, compositions } = stores;
  const cutter = new PlanCutter(plan, {
    compositions,
    contentOf,
    numberOf: (cell) => table.indexOfBytes(cell, sizes),
    progress: namedProgress(options.progress, image.source),
    sizes,
    signal: options.signal,
  }, ({ content, rawBytes }, cellIndex) => {
    collector.add(content, rawBytes, cellIndex * plan.gridBlocks * BLOCK_SIZE_BYTES);
    listener?.(cellIndex, content);
  });
  await cutter.run();
}

/** Plans a part in the layout of a scheme. */
export function planPart(part: ImagePart, scheme: Scheme, options: ProbeOptions): ImagePlan {
  // A plan tells the same in every scheme, and bless tells it better.
  const warnings = options.warnings.strict ? options.warnings : new Warnings();
  return planImage(part.tree, {
    layout: layoutOf(scheme, options.mode),
    ...part.identity,
    timestamp: options.timestamp,
    warnings,
  });
}

/** Sends the bytes of a plan through cutters. */
export async function cutPlan(
  plan: ImagePlan,
  cutters: ImageSink,
  { source }: ProbedImage,
  options: ProbeOptions,
): Promise<void> {
  const progress = namedProgress(options.progress, source);
  await writeImage(plan, cutters, { signal: options.signal, progress });
}

function namedProgress(progress: Progress, source: string): Progress {
  return { begin: (_name, totalBytes) => progress.begin(`cut ${source}`, totalBytes) };
}
