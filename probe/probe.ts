/**
 * Measures what a fixed grid saves across images, on the bytes that bless would write.
 *
 * @module
 */
import { optionError, UsageError } from "../lib/errors.ts";
import { LostFileWatch, type SelfShift, SelfShiftMeter } from "./details.ts";
import { FingerprintWriter } from "./fingerprints/writer.ts";
import {
  type ImageFacts,
  optionsOf,
  type ProbedImage,
  warnOfDoubtfulSets,
  withEachImage,
} from "./images.ts";
import {
  ContinuedImages,
  createStores,
  cutPlan,
  cutTogether,
  type MeasuredScheme,
  measureFile,
  measureImage,
  openSource,
  planPart,
  type ProbeStores,
} from "./measure.ts";
import { type ProbeDetails, type ProbeReport, probeReport, reportFacts } from "./report.ts";
import {
  chooseRow,
  type ProbeOptions,
  type ResolvedProbeOptions,
  resolveProbe,
  schemesOf,
} from "./schemes.ts";
import { storedSizes } from "./units/stored_sizes.ts";

/**
 * Measures images one after another. Options are checked before anything is read.
 *
 * Throws a UsageError for an option out of range, an InputError for a damaged or unsupported source, an IoError when
 * reading fails, and an InterruptedError when the signal is aborted.
 */
export async function probe(given: ProbeOptions): Promise<ProbeReport> {
  const options = resolveProbe(given);
  if (options.sources.length === 0) throw new UsageError("SOURCE", "wanted at least one");
  if (options.asIs) checkAsIs(options);
  const schemes = schemesOf(options);
  const row = chooseRow(schemes, options);
  const sizes = storedSizes(options.compression, options.jobs, options);
  const keepsPlaces = options.fingerprints !== undefined;
  const continued = new ContinuedImages(options);
  const stores = createStores(schemes, { sizes, keepsPlaces, continued });
  const main = stores.measured.find(({ scheme }) => scheme === row)!;
  const run = options.asIs ? probeFiles : probeImages;
  const writer = options.fingerprints &&
    new FingerprintWriter(options.fingerprints, stores, options);
  try {
    const details = await run(options, { stores, main, writer });
    await writer?.finish();
    await sizes?.settle(options.signal);
    warnOfDoubtfulSets(details.images, options.warnings);
    return probeReport(stores.measured, { ...details, main }, reportFacts(options));
  } finally {
    continued.close();
    await sizes?.close();
  }
}

type Findings = Omit<ProbeDetails, "main">;

interface Run {
  readonly stores: ProbeStores;
  readonly main: MeasuredScheme;
  readonly writer: FingerprintWriter | undefined;
}

async function probeImages(
  options: ResolvedProbeOptions,
  { stores, main, writer }: Run,
): Promise<Findings> {
  const images: ImageFacts[] = [];
  const watch = options.explain ? new LostFileWatch(main.scheme) : undefined;
  let selfShift: readonly SelfShift[] | undefined;
  await withEachImage(options, async (image, ownOptions) => {
    const { parts: _parts, ...facts } = image;
    images.push(facts);
    watch?.beginImage();
    await measureImage(image, ownOptions, stores, watch);
    await writer?.addImage(facts);
    if (options.selfShift) selfShift ??= await measureShifts(image, ownOptions, { stores, main });
  });
  return { images, selfShift, lostFiles: watch?.worst(main.store.images) };
}

/** Measures shifted copies of the first image, or of its lowest layer in layered mode. */
async function measureShifts(
  image: ProbedImage,
  options: ResolvedProbeOptions,
  { stores, main }: { readonly stores: ProbeStores; readonly main: MeasuredScheme },
): Promise<SelfShift[]> {
  const { contents } = main.store.images[0]!;
  const meter = new SelfShiftMeter(stores.table, contents, main.scheme.gridBytes);
  const plan = planPart(image.parts[0]!, main.scheme, options);
  await cutPlan(plan, cutTogether(meter.cutters(), options), options);
  return meter.results();
}

async function probeFiles(
  options: ResolvedProbeOptions,
  { stores, main, writer }: Run,
): Promise<Findings> {
  const images: ImageFacts[] = [];
  let selfShift: readonly SelfShift[] | undefined;
  for (const source of options.sources) openSource(source).close();
  for (const [i, source] of options.sources.entries()) {
    await measureFile(source, optionsOf(options, i), { stores });
    const facts = { source, manifestDigest: null, platform: null };
    images.push(facts);
    await writer?.addImage(facts);
    if (!options.selfShift || selfShift !== undefined) continue;
    const { contents } = main.store.images[0]!;
    const meter = new SelfShiftMeter(stores.table, contents, main.scheme.gridBytes);
    await measureFile(source, options, { cutters: meter.cutters() });
    selfShift = meter.results();
  }
  return { images, selfShift, lostFiles: undefined };
}

function checkAsIs(options: ResolvedProbeOptions): void {
  if (options.explain) {
    throw optionError("explain", "files cut as they are have no files inside", {
      remedies: [{ option: "explain", change: "omit" }, { option: "asIs", change: "omit" }],
    });
  }
  if (options.veritySalt !== undefined) {
    throw optionError("verity", "files cut as they are get no tree", {
      remedies: [{ option: "verity", change: "omit" }, { option: "asIs", change: "omit" }],
    });
  }
  if (options.mode === "layered") {
    throw optionError("mode", "files cut as they are have no layers", {
      remedies: [{ option: "mode", change: "set", value: "merged" }],
    });
  }
}
