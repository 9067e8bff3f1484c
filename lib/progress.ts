/**
 * Progress of work. The library only counts; showing it is up to the caller.
 *
 * @module
 */

/** One piece of work. */
export interface ProgressTask {
  /** Counts bytes done. */
  advance(bytes: number): void;
  /** The work is done, or was given up. */
  end(): void;
}

/** Receives the pieces of work as they begin. */
export interface Progress {
  /** Begins a piece of work; `totalBytes` where it is known. */
  begin(name: string, totalBytes?: number): ProgressTask;
}

/** Shows nothing. */
export const NO_PROGRESS: Progress = {
  begin: () => ({ advance: () => {}, end: () => {} }),
};
