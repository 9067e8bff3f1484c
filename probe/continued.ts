/**
 * Rows in which each image is laid out like the one before it, as a chain of rebuilds is.
 *
 * @module
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { planImage } from "../lib/bless/plan_image.ts";
import { openPrevious } from "../lib/bless/previous_image.ts";
import type { ImagePlan } from "../lib/ext4/plan/image_plan.ts";
import { createFileSink, NODE_FILE_OPERATIONS } from "../lib/io/file_sink.ts";
import { ioErrorFrom } from "../lib/io/system_error.ts";
import { Warnings } from "../lib/warnings.ts";
import type { ImagePart } from "./images.ts";
import { layoutOf, type ResolvedProbeOptions, type Scheme } from "./schemes.ts";
import type { ImageSink } from "../lib/io/sink.ts";

/** The last image of each such row, in a directory for temporary files. */
export class ContinuedImages {
  readonly #options: ResolvedProbeOptions;
  readonly #images = new Map<Scheme, string>();
  #directory: string | undefined;
  #count = 0;

  constructor(options: ResolvedProbeOptions) {
    this.#options = options;
  }

  /** Plans the next image of a row, hands it over with a file for its bytes, and keeps that for the image behind it. */
  async plan(
    part: ImagePart,
    scheme: Scheme,
    use: (plan: ImagePlan, file: ImageSink) => Promise<void>,
  ): Promise<void> {
    const { mode, veritySalt, timestamp, warnings } = this.#options;
    const layout = layoutOf(scheme, mode, veritySalt !== undefined);
    const like = this.#images.get(scheme);
    const previous = await openPrevious({ like, keepStale: scheme.kind === "like-stale" }, {
      ...this.#options,
      layout,
    });
    const path = join(this.#directoryOf(), `${this.#count++}.ext4`);
    // Nobody needs the file when the machine stops.
    const files = { ...NODE_FILE_OPERATIONS, sync: () => Promise.resolve() };
    const file = createFileSink(path, { files });
    try {
      const plan = planImage(part.tree, {
        layout,
        ...part.identity,
        timestamp,
        warnings: warnings.strict ? warnings : new Warnings(),
        continuation: previous?.continuation,
      });
      await use(plan, file);
    } catch (error) {
      await file.abort();
      throw error;
    } finally {
      previous?.close();
    }
    if (like !== undefined) rmSync(like, { force: true });
    this.#images.set(scheme, path);
  }

  /** Removes what is left. */
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
