/**
 * Paired timing: two commands in turn, so that whatever else the machine does meets both, and medians of what they took.
 *
 * @module
 */
import { type Command, type Run, run } from "./command.ts";

/** A pair that takes longer is run once: its first run, with cold caches, counts. */
const LONG_PAIR_MILLISECONDS = 30_000;

/** What a pair of commands took. */
export interface PairResult {
  readonly oursMs: number;
  readonly peerMs: number;
  /** The median of the ratios, pair by pair. */
  readonly ratio: number;
  /** The same of processor time. */
  readonly processor: Pick<PairResult, "oursMs" | "peerMs" | "ratio">;
  readonly peakBytes: number | undefined;
}

/** Runs a pair once uncounted and then `runCount` times, or only once when it takes over half a minute. `before` runs ahead of each of ours, outside the clock. */
export function runPairs(
  ours: Command,
  peer: Command,
  options: { readonly runCount: number; readonly scratch: string; readonly before?: () => void },
): PairResult {
  const { runCount, scratch, before } = options;
  const runs: { readonly ours: Run; readonly peer: Run }[] = [];
  for (let i = 0; i <= runCount; i++) {
    before?.();
    const pair = { ours: run(ours, scratch), peer: run(peer, scratch) };
    const isLong = pair.ours.milliseconds + pair.peer.milliseconds > LONG_PAIR_MILLISECONDS;
    if (i > 0 || isLong) runs.push(pair);
    if (isLong) break;
  }
  const medians = (of: (run: Run) => number) => ({
    oursMs: median(runs.map((pair) => of(pair.ours))),
    peerMs: median(runs.map((pair) => of(pair.peer))),
    ratio: median(runs.map((pair) => of(pair.ours) / of(pair.peer))),
  });
  const peaks = runs.flatMap(({ ours }) => ours.peakBytes ?? []);
  return {
    ...medians(({ milliseconds }) => milliseconds),
    processor: medians(({ processorMs }) => processorMs),
    peakBytes: peaks.length > 0 ? Math.max(...peaks) : undefined,
  };
}

/** The middle value; the lower one of two. */
export function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor((values.length - 1) / 2)]!;
}
