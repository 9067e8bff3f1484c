/**
 * Paired timing: two commands in turn, so that whatever else the machine does meets both, and medians of what they took.
 *
 * @module
 */
import { type Command, run } from "./command.ts";

/** A pair that takes longer is run once: its first run, with cold caches, counts. */
const LONG_PAIR_MILLISECONDS = 60_000;

/** What a pair of commands took. */
export interface PairResult {
  readonly oursMs: number;
  readonly peerMs: number;
  /** The median of the ratios, pair by pair. */
  readonly ratio: number;
  readonly peakBytes: number | undefined;
}

/** Runs a pair once uncounted and then `runCount` times, or only once when it takes over a minute. `before` runs ahead of each of ours, outside the clock. */
export function runPairs(
  ours: Command,
  peer: Command,
  options: { readonly runCount: number; readonly scratch: string; readonly before?: () => void },
): PairResult {
  const { runCount, scratch, before } = options;
  const oursMs: number[] = [];
  const peerMs: number[] = [];
  const ratios: number[] = [];
  let peakBytes: number | undefined;
  for (let i = 0; i <= runCount; i++) {
    before?.();
    const a = run(ours, scratch);
    const b = run(peer, scratch);
    const isLong = a.milliseconds + b.milliseconds > LONG_PAIR_MILLISECONDS;
    if (i === 0 && !isLong) continue;
    oursMs.push(a.milliseconds);
    peerMs.push(b.milliseconds);
    ratios.push(a.milliseconds / b.milliseconds);
    if (a.peakBytes !== undefined) peakBytes = Math.max(peakBytes ?? 0, a.peakBytes);
    if (isLong) break;
  }
  return { oursMs: median(oursMs), peerMs: median(peerMs), ratio: median(ratios), peakBytes };
}

/** The middle value; the lower one of two. */
export function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor((values.length - 1) / 2)]!;
}
