/**
 * Writes the units of all rows to a Parquet file, one image after another. Equal probes give equal bytes.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import type { DecodedArray, KeyValue } from "hyparquet";
import { ByteWriter, ParquetWriter } from "hyparquet-writer";
import type { ImageSink } from "../../lib/io/sink.ts";
import type { ImageFacts } from "../images.ts";
import { describeScheme, type ResolvedProbeOptions, schemeLabel } from "../schemes.ts";
import { reportFacts } from "../report.ts";
import type { MeasuredScheme, ProbeStores } from "../measure.ts";
import type { UnitPlace } from "../units/store.ts";
import {
  COLUMN_NAMES,
  encodeMetadata,
  type FingerprintedImage,
  type FingerprintRow,
  METADATA_KEY,
  PARQUET_SCHEMA,
  unitsCrc32,
} from "./format.ts";

/** How many rows are held in memory at a time. */
const ROWS_PER_GROUP = 32_768;

export class FingerprintWriter {
  readonly #sink: ImageSink;
  readonly #stores: ProbeStores;
  readonly #options: ResolvedProbeOptions;
  readonly #bytes = new ByteWriter(1 << 20);
  readonly #metadata: KeyValue[] = [];
  readonly #parquet: ParquetWriter;
  readonly #images: FingerprintedImage[] = [];
  #writtenBytes = 0;

  /** @param stores must keep places */
  constructor(sink: ImageSink, stores: ProbeStores, options: ResolvedProbeOptions) {
    this.#sink = sink;
    this.#stores = stores;
    this.#options = options;
    this.#parquet = new ParquetWriter({
      writer: this.#bytes,
      schema: PARQUET_SCHEMA,
      kvMetadata: this.#metadata,
      createdBy: "blessfs",
    });
  }

  /** Writes the most recent image of every store. */
  async addImage(facts: ImageFacts): Promise<void> {
    await this.#stores.sizes?.settle(this.#options.signal);
    const counts: FingerprintedImage["counts"][number][] = [];
    for (const measured of this.#stores.measured) {
      const { logicalBytes, nonZeroBytes, unitCount, paddingBytes } = measured.store.images.at(-1)!;
      let checksum = 0;
      let group: FingerprintRow[] = [];
      for (const row of this.#rows(facts, measured)) {
        group.push(row);
        checksum = unitsCrc32(checksum, {
          id: Buffer.from(row.unit).toString("latin1"),
          sizeBytes: Number(row.unit_bytes),
          raw: Number(row.raw),
          stored: Number(row.stored),
        });
        if (group.length < ROWS_PER_GROUP) continue;
        await this.#writeGroup(group);
        group = [];
      }
      if (group.length > 0) await this.#writeGroup(group);
      counts.push({ logicalBytes, nonZeroBytes, unitCount, paddingBytes, unitsCrc32: checksum });
    }
    this.#images.push({ ...facts, counts });
  }

  async finish(): Promise<void> {
    const { mode, compress } = reportFacts(this.#options);
    const value = encodeMetadata({
      mode,
      compress,
      schemes: this.#stores.measured.map(({ scheme }) => scheme),
      images: this.#images,
    });
    this.#metadata.push({ key: METADATA_KEY, value });
    await this.#parquet.finish();
    await this.#flush();
    await this.#sink.finish(this.#writtenBytes);
  }

  *#rows(facts: ImageFacts, { scheme, store }: MeasuredScheme): Generator<FingerprintRow> {
    const { table } = this.#stores;
    const description = describeScheme(scheme);
    const { grid, threshold, packing, cdc } = description;
    const common = {
      image: facts.source,
      image_digest: facts.manifestDigest,
      image_number: this.#images.length,
      layout: schemeLabel(description, true),
      scheme: description.scheme,
      grid: grid === null ? null : BigInt(grid),
      threshold: threshold === null ? null : BigInt(threshold),
      packing,
      cdc,
    };
    const own = ([content, { raw, offsetBytes, part }]: [number, UnitPlace]) => ({
      ...common,
      unit: Buffer.from(table.id(content), "latin1"),
      unit_bytes: BigInt(table.sizeBytes(content)),
      raw: BigInt(raw),
      stored: BigInt(store.storedBytes(content, raw)),
      part,
      offset: offsetBytes === undefined ? null : BigInt(offsetBytes),
    });
    for (const unit of store.places) yield own(unit);
  }

  async #writeGroup(rows: readonly FingerprintRow[]): Promise<void> {
    const columnData = COLUMN_NAMES.map((name) => ({
      name,
      data: rows.map((row) => row[name]) as DecodedArray,
    }));
    await this.#parquet.write({ columnData, rowGroupSize: ROWS_PER_GROUP });
    await this.#flush();
  }

  async #flush(): Promise<void> {
    const bytes = this.#bytes.getBytes();
    await this.#sink.write(bytes, this.#writtenBytes);
    this.#writtenBytes += bytes.length;
    this.#bytes.index = 0;
  }
}
