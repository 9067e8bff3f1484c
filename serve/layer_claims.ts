/**
 * Layers of registries that are being fetched. A job that needs one that another job fetches waits for it, so that each layer
 * is read from its registry once.
 *
 * @module
 */

/** Who fetches which layer. */
export class LayerClaims {
  readonly #fetching = new Map<string, string>();
  readonly #needed = new Map<string, readonly string[]>();
  #waiting: (() => void)[] = [];

  /** The layers that running jobs need. */
  get neededDigests(): ReadonlySet<string> {
    return new Set([...this.#needed.values()].flat());
  }

  /**
   * Waits until nobody else fetches what a job needs, and takes what is missing for that job.
   *
   * @param presentOf which of some layers are there
   * @returns how many the job has to fetch, and how many are there
   */
  async take(
    jobId: string,
    digests: readonly string[],
    presentOf: (digests: readonly string[]) => Promise<ReadonlySet<string>>,
    signal: AbortSignal,
  ): Promise<{ readonly fetched: number; readonly shared: number }> {
    const wanted = [...new Set(digests)];
    this.#needed.set(jobId, wanted);
    for (;;) {
      const present = await presentOf(wanted);
      signal.throwIfAborted();
      const missing = wanted.filter((digest) => !present.has(digest));
      if (!missing.some((digest) => this.#fetching.has(digest))) {
        for (const digest of missing) this.#fetching.set(digest, jobId);
        return { fetched: missing.length, shared: wanted.length - missing.length };
      }
      await this.#nextRelease(signal);
    }
  }

  /** The job has fetched its layers, or has given up. */
  release(jobId: string): void {
    for (const [digest, owner] of this.#fetching) {
      if (owner === jobId) this.#fetching.delete(digest);
    }
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const wake of waiting) wake();
  }

  /** The job has ended. */
  forget(jobId: string): void {
    this.release(jobId);
    this.#needed.delete(jobId);
  }

  #nextRelease(signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const onAbort = () => reject(signal.reason);
      signal.addEventListener("abort", onAbort, { once: true });
      this.#waiting.push(() => {
        signal.removeEventListener("abort", onAbort);
        resolve();
      });
    });
  }
}
