/**
 * How long work tells where it is. The library only counts; drawing belongs to cli/.
 *
 * @module
 */

/** One piece of work with a known or unknown number of bytes. */
export interface ProgressTask {
  /** Counts bytes done. */
  advance(bytes: number): void;
  /** The work is done, or was given up. */
  end(): void;
}

/** Receives the pieces of work as they begin. */
export interface Progress {
  /** @param totalBytes undefined when it is not known */
  /** Begins a piece of work; `totalBytes` where it is known. */
  begin(name: string, totalBytes?: number): ProgressTask;
}

/** Shows nothing. */
export const NO_PROGRESS: Progress = {
  begin: () => ({ advance: () => {}, end: () => {} }),
};
