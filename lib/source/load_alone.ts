/**
 * Loading a single layer to find out what it is.
 *
 * @module
 */
import { InterruptedError, invariant, throwIfAborted } from "../errors.ts";
import { SharedDescriptor } from "../io/shared_descriptor.ts";
import { ImageBudget } from "./image_budget.ts";
import { LayerWorker } from "./layer_worker.ts";
import { DEFAULT_SOURCE_LIMITS } from "./limits.ts";
import { loadLayer, type ReadLayer } from "./load_layer.ts";
import type { LayerSource, SourceOptions } from "./types.ts";

/**
 * Reads one layer, in a worker unless it is small.
 *
 * @returns with a share of the one file that its uncompressed tar lies in, which the caller releases
 */
export async function loadAlone(
  source: LayerSource,
  options: SourceOptions,
): Promise<ReadLayer & { readonly file: SharedDescriptor }> {
  throwIfAborted(options.signal);
  const abort = new AbortController();
  let worker: LayerWorker | undefined;
  const onAbort = () => {
    const reason = new InterruptedError("interrupted", "the work was told to stop");
    abort.abort(reason);
    worker?.stop(reason);
  };
  options.signal?.addEventListener("abort", onAbort, { once: true });
  const bar = options.progress.begin(source.name, source.sizeBytes);
  try {
    const read = await loadLayer(source, {
      options,
      signal: abort.signal,
      worker: () => worker ??= new LayerWorker(),
      budget: new ImageBudget({ ...DEFAULT_SOURCE_LIMITS, ...options.limits }),
      spoolPartsMax: 1,
      progress: bar,
    });
    const { file } = read;
    invariant(file instanceof SharedDescriptor, "a spool of one part is one file");
    return { ...read, file };
  } finally {
    bar.end();
    options.signal?.removeEventListener("abort", onAbort);
    await worker?.stop(new InterruptedError("interrupted", "the layer is loaded"));
  }
}
