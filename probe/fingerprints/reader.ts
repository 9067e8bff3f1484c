/**
 * Reads fingerprint files back into stores.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import {
  type AsyncBuffer,
  type FileMetaData,
  parquetMetadataAsync,
  parquetReadObjects,
} from "hyparquet";
import { byteStringFromText, displayName } from "../../lib/bytes/byte_string.ts";
import { BlessfsError, InputError, throwIfAborted, UsageError } from "../../lib/errors.ts";
import { openFileReader, type RandomReader, readExactly } from "../../lib/io/random_reader.ts";
import type { Warnings } from "../../lib/warnings.ts";
import { warnOfDoubtfulSets } from "../images.ts";
import { createStores, type MeasuredScheme, type ProbeStores } from "../measure.ts";
import { type ProbeReport, probeReport } from "../report.ts";
import { chooseRow, describeScheme, schemeLabel } from "../schemes.ts";
import type { ImageCollector } from "../units/store.ts";
import {
  decodeMetadata,
  type FingerprintMetadata,
  METADATA_KEY,
  UNIT_DIGEST_BYTES,
  unitsCrc32,
} from "./format.ts";

export interface FingerprintFile {
  readonly name: string;
  readonly metadata: FingerprintMetadata;
  /** Adds the file's images to stores of the same schemes. */
  readonly load: (stores: ProbeStores, signal: AbortSignal | undefined) => Promise<void>;
  readonly close: () => void;
}

/** Larger groups cannot come from this program's writer; a row takes about a hundred bytes. */
const ROWS_PER_GROUP_MOST = 1_000_000;
const COLUMNS = ["image_number", "layout", "unit", "unit_bytes", "raw", "stored"] as const;
type ReadRow = Readonly<Record<typeof COLUMNS[number], unknown>>;

/** Opens a file. Throws an InputError when it is missing or not a fingerprint file, otherwise an IoError. */
async function openFingerprints(path: string): Promise<FingerprintFile> {
  const name = displayName(byteStringFromText(path));
  const reader = openFileReader(path, { what: "a file of fingerprints" });
  const file = asyncBuffer(reader);
  try {
    const parquet = await understood(name, () => parquetMetadataAsync(file));
    const text = parquet.key_value_metadata?.find(({ key }) => key === METADATA_KEY)?.value;
    if (text === undefined) {
      throw new InputError(name, "is a Parquet file without fingerprints", {
        code: "wrongKind",
        hint: "`blessfs probe` writes one",
      });
    }
    const metadata = decodeMetadata(text, name);
    return {
      name,
      metadata,
      load: (stores, signal) => new Loader({ name, file, parquet, metadata }, stores).run(signal),
      close: () => reader.close(),
    };
  } catch (error) {
    reader.close();
    throw error;
  }
}

interface LoadedFile {
  readonly name: string;
  readonly file: AsyncBuffer;
  readonly parquet: FileMetaData;
  readonly metadata: FingerprintMetadata;
}

class Loader {
  readonly #source: LoadedFile;
  readonly #stores: ProbeStores;
  readonly #schemeOf: ReadonlyMap<string, number>;
  /** The collectors of the current image, by scheme. */
  #collectors: readonly ImageCollector[] = [];
  #checksums: number[] = [];
  #imageNumber = -1;
  #rowNumber = 0;

  constructor(source: LoadedFile, stores: ProbeStores) {
    this.#source = source;
    this.#stores = stores;
    this.#schemeOf = new Map(stores.measured.map(({ scheme }: MeasuredScheme, i) => [
      schemeLabel(describeScheme(scheme), true),
      i,
    ]));
  }

  async run(signal: AbortSignal | undefined): Promise<void> {
    const { name, file, parquet, metadata } = this.#source;
    for (const { num_rows } of parquet.row_groups) {
      const count = Number(num_rows);
      if (!(count >= 0 && count <= ROWS_PER_GROUP_MOST)) {
        throw new InputError(name, `has a group of ${num_rows} rows: wanted at most a million`);
      }
      throwIfAborted(signal);
      const [rowStart, rowEnd] = [this.#rowNumber, this.#rowNumber + count];
      const options = { file, metadata: parquet, columns: [...COLUMNS], rowStart, rowEnd };
      const rows = await understood(name, () => parquetReadObjects({ ...options, utf8: false }));
      if (rows.length !== count) {
        throw new InputError(name, `row ${rowStart}: ${rows.length} rows, wanted ${count}`);
      }
      for (const row of rows) this.#add(row as ReadRow);
    }
    while (this.#imageNumber < metadata.images.length) this.#nextImage();
  }

  #add(row: ReadRow): void {
    const wanted = this.#size(row.image_number, "image_number");
    if (wanted < this.#imageNumber || wanted >= this.#source.metadata.images.length) {
      throw this.#fault("image_number", wanted, "images in the order of the metadata");
    }
    while (this.#imageNumber < wanted) this.#nextImage();
    const scheme = typeof row.layout === "string" ? this.#schemeOf.get(row.layout) : undefined;
    if (scheme === undefined) throw this.#fault("layout", row.layout, "a row of the metadata");
    if (!(row.unit instanceof Uint8Array) || row.unit.length !== UNIT_DIGEST_BYTES) {
      throw this.#fault("unit", row.unit, `${UNIT_DIGEST_BYTES} bytes`);
    }
    const unit = {
      id: Buffer.from(row.unit).toString("latin1"),
      sizeBytes: this.#size(row.unit_bytes, "unit_bytes"),
      raw: this.#size(row.raw, "raw"),
      stored: this.#size(row.stored, "stored"),
    };
    this.#checksums[scheme] = unitsCrc32(this.#checksums[scheme]!, unit);
    const { table } = this.#stores;
    const content = table.indexOf(unit.id, unit.sizeBytes, (take) => take(unit.stored));
    this.#collectors[scheme]!.add(content, unit.raw);
    this.#rowNumber++;
  }

  #nextImage(): void {
    const done = this.#source.metadata.images[this.#imageNumber];
    done?.counts.forEach((counts, i) => {
      if (this.#checksums[i] !== counts.unitsCrc32) {
        throw new InputError(
          this.#source.name,
          `image ${this.#imageNumber}: the CRC-32 of its units is ${this.#checksums[i]} in row ` +
            `${i + 1}: wanted ${counts.unitsCrc32}`,
        );
      }
      const collector = this.#collectors[i]!;
      collector.addSize(counts.logicalBytes, counts.paddingBytes);
      collector.finish(counts);
    });
    this.#imageNumber++;
    if (this.#imageNumber === this.#source.metadata.images.length) return;
    this.#checksums = this.#stores.measured.map(() => 0);
    this.#collectors = this.#stores.measured.map(({ store }) => store.beginImage());
  }

  #size(value: unknown, column: string): number {
    const size = typeof value === "bigint" ? Number(value) : value;
    if (typeof size === "number" && Number.isSafeInteger(size) && size >= 0) return size;
    throw this.#fault(column, value, "a whole number, not negative");
  }

  #fault(column: string, found: unknown, wanted: string): InputError {
    const shown = found instanceof Uint8Array
      ? `${found.length} bytes`
      : String(found).slice(0, 80);
    return new InputError(
      this.#source.name,
      `row ${this.#rowNumber}: ${column} is ${displayName(byteStringFromText(shown))}: ` +
        `wanted ${wanted}`,
    );
  }
}

function asyncBuffer(reader: RandomReader): AsyncBuffer {
  return {
    byteLength: reader.sizeBytes,
    slice: (start, end = reader.sizeBytes) => {
      // The library follows lengths in a damaged footer without checking them.
      if (start < 0 || start > reader.sizeBytes) {
        throw new InputError(
          reader.name,
          `is not a readable Parquet file: its footer points to offset ${start}, ` +
            `wanted 0 to ${reader.sizeBytes}`,
          { code: "wrongKind" },
        );
      }
      const bytes = new Uint8Array(Math.max(0, Math.min(end, reader.sizeBytes) - start));
      readExactly(reader, bytes, start);
      return bytes.buffer;
    },
  };
}

/** Turns the library's errors into errors about the file. */
async function understood<T>(name: string, read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (cause) {
    if (cause instanceof BlessfsError) throw cause;
    const why = displayName(byteStringFromText((cause as Error).message ?? String(cause)));
    throw new InputError(name, `is not a readable Parquet file: ${why}`, {
      code: "wrongKind",
      cause,
    });
  }
}

/** The options that still apply when nothing is measured. */
export interface FromFingerprintsOptions {
  /** Fingerprint files, in the order in which new bytes are counted. */
  readonly paths: readonly string[];
  /** Whether the report includes the matrix of overlaps. */
  readonly pairwise: boolean;
  /** As in ResolvedProbeOptions. */
  readonly row?: string | undefined;
  /** Where to report doubtful sets of images. */
  readonly warnings: Warnings;
  /** Aborting it stops reading with an InterruptedError. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * Combines fingerprint files into one report. All must have the same rows, mode and compression.
 *
 * @throws InputError for a file that is damaged or differs from the first, IoError when reading fails
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
      metadata.images.map(({ counts: _counts, ...facts }) => facts)
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
    const why = `${key}: ${own[key]}; wanted those of ${first.name}: ${wanted[key]}`;
    throw new InputError(name, why, { hint: "fingerprint all images with the same options" });
  }
}
