/**
 * Waiting: for news about jobs, and for registry layers that another job is fetching.
 *
 * @module
 */
import type { JobProgress } from "./schemas.ts";

type JobNews =
  | { readonly kind: "state" }
  | { readonly kind: "progress"; readonly progress: JobProgress };

type Listener = (news: JobNews) => void;

export class JobEvents {
  readonly #listeners = new Map<string, Set<Listener>>();
  readonly #anyListeners = new Set<() => void>();

  get watchedIds(): readonly string[] {
    return [...this.#listeners.keys()];
  }

  get listenerCount(): number {
    let count = 0;
    for (const listeners of this.#listeners.values()) count += listeners.size;
    return count;
  }

  publish(id: string, news: JobNews): void {
    for (const listener of [...this.#listeners.get(id) ?? []]) listener(news);
    if (news.kind === "state") { for (const listener of [...this.#anyListeners]) listener(); }
  }

  /** Listens to a job until the returned function is called. */
  listen(id: string, listener: Listener): () => void {
    const listeners = this.#listeners.get(id) ?? new Set();
    this.#listeners.set(id, listeners);
    listeners.add(listener);
    return () => {
      listeners.delete(listener);
      if (listeners.size === 0 && this.#listeners.get(id) === listeners) this.#listeners.delete(id);
    };
  }

  listenToAll(listener: () => void): () => void {
    this.#anyListeners.add(listener);
    return () => void this.#anyListeners.delete(listener);
  }
}

export class LayerClaims {
  readonly #fetching = new Map<string, string>();
  readonly #needed = new Map<string, readonly string[]>();
  #waiting: (() => void)[] = [];

  get neededDigests(): ReadonlySet<string> {
    return new Set([...this.#needed.values()].flat());
  }

  /**
   * Waits until no other job is fetching a layer that this job needs, then claims the missing layers for it.
   *
   * @param presentOf returns which of the given layers are already here
   * @returns how many layers the job has to fetch, and how many are here
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

  /** Releases a job's claims, once it has fetched its layers or given up. */
  release(jobId: string): void {
    for (const [digest, owner] of this.#fetching) {
      if (owner === jobId) this.#fetching.delete(digest);
    }
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const wake of waiting) wake();
  }

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
