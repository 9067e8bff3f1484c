/**
 * Sinks made of other sinks, and the one that keeps nothing.
 *
 * @module
 */
import type { ImageSink } from "./sink.ts";

/** Takes an image and keeps nothing: for measuring what the rest costs. */
export const nullSink: ImageSink = { write: () => {}, finish: () => {}, abort: () => {} };

/**
 * Gives the same image to several sinks, one after the other. A failure of one is a failure of the whole; the caller
 * then aborts it. They finish in the order given, so a sink whose end cannot be undone, such as a file, belongs last.
 */
export function teeSink(...sinks: readonly ImageSink[]): ImageSink {
  return {
    async write(bytes, offset) {
      for (const sink of sinks) await sink.write(bytes, offset);
    },
    async finish(sizeBytes) {
      for (const sink of sinks) await sink.finish(sizeBytes);
    },
    async abort() {
      const outcomes = await Promise.allSettled(sinks.map(async (sink) => await sink.abort()));
      for (const outcome of outcomes) if (outcome.status === "rejected") throw outcome.reason;
    },
  };
}
