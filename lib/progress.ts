/**
 * Progress reporting. The library only counts; displaying it is up to the caller.
 *
 * @module
 */

/** One piece of work. */
export interface ProgressTask {
  /** Counts bytes done. */
  advance(bytes: number): void;
  /** The work is finished or was abandoned. */
  end(): void;
}

/** Receives the pieces of work as they begin. */
export interface Progress {
  /** Begins a piece of work; `totalBytes` is given if it is known. */
  begin(name: string, totalBytes?: number): ProgressTask;
}

/** Reports nothing. */
export const NO_PROGRESS: Progress = {
  begin: () => ({ advance: () => {}, end: () => {} }),
};
