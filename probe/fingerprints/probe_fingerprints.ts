/**
 * The report of a probe from what earlier probes wrote down.
 *
 * @module
 */
import { InputError, UsageError } from "../../lib/errors.ts";
import type { Warnings } from "../../lib/warnings.ts";
import { chooseRow } from "../choose_row.ts";
import { warnOfDoubtfulSets } from "../doubtful_sets.ts";
import { schemeLabel } from "../labels.ts";
import { describeScheme, type ProbeReport, probeReport } from "../report.ts";
import { createStores } from "../stores.ts";
import type { FingerprintMetadata } from "./metadata.ts";
import { type FingerprintFile, openFingerprints } from "./reader.ts";

/** What can be chosen when nothing is measured. */
export interface FromFingerprintsOptions {
  /** In the order that new bytes are counted in. */
  readonly paths: readonly string[];
  /** Whether the report has the matrix of overlaps. */
  readonly pairwise: boolean;
  /** As in ProbeOptions. */
  readonly row?: string | undefined;
  /** Where doubtful sets are told of. */
  readonly warnings: Warnings;
  /** Ends the reading with an InterruptedError. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * Puts files of fingerprints together. All must have the same rows, mode and compression.
 *
 * @throws InputError for a file that is damaged or differs from the first; IoError when reading fails
 */
export async function probeFingerprints(options: FromFingerprintsOptions): Promise<ProbeReport> {
  const { paths, pairwise, row, warnings, signal } = options;
  if (paths.length === 0) throw new UsageError("FILE", "wanted at least one");
  const files: FingerprintFile[] = [];
  try {
    for (const path of paths) {
      const file = await openFingerprints(path);
      files.push(file);
      checkSame(file, files[0]!);
    }
    const { schemes, mode, compress } = files[0]!.metadata;
    const main = chooseRow(schemes, { row, explain: false, selfShift: false });
    const stores = createStores(schemes, { isCompressed: compress !== "none" });
    for (const file of files) await file.load(stores, signal);
    const images = files.flatMap(({ metadata }) =>
      metadata.images.map(({ source, manifestDigest, platform }) => ({
        source,
        manifestDigest,
        platform,
      }))
    );
    warnOfDoubtfulSets(images, warnings);
    const details = {
      images,
      main: stores.measured.find(({ scheme }) => scheme === main)!,
      selfShift: undefined,
      lostFiles: undefined,
    };
    return probeReport(stores.measured, details, { mode, compress, pairwise, warnings });
  } finally {
    for (const file of files) file.close();
  }
}

function checkSame({ name, metadata }: FingerprintFile, first: FingerprintFile): void {
  const facts = ({ mode, compress, schemes }: FingerprintMetadata) => ({
    mode,
    compression: compress,
    rows: schemes.map((scheme) => schemeLabel(describeScheme(scheme), true)).join(", "),
  });
  const [own, wanted] = [facts(metadata), facts(first.metadata)];
  for (const key of ["mode", "compression", "rows"] as const) {
    if (own[key] === wanted[key]) continue;
    throw new InputError(
      name,
      `${key}: ${own[key]}; wanted those of ${first.name}: ${wanted[key]}`,
      { hint: "fingerprint all images with the same options" },
    );
  }
}
