/**
 * Who waits for news of jobs: streams of events, and requests that wait for an end.
 *
 * @module
 */
import type { JobProgress } from "./schemas.ts";

/** News of a job. */
export type JobNews =
  | { readonly kind: "state" }
  | { readonly kind: "progress"; readonly progress: JobProgress };

type Listener = (news: JobNews) => void;

/** Brings news to those who listen. */
export class JobEvents {
  readonly #listeners = new Map<string, Set<Listener>>();
  readonly #anyListeners = new Set<() => void>();

  /** The jobs that somebody listens to. */
  get watchedIds(): readonly string[] {
    return [...this.#listeners.keys()];
  }

  /** How many listen to single jobs. */
  get listenerCount(): number {
    let count = 0;
    for (const listeners of this.#listeners.values()) count += listeners.size;
    return count;
  }

  /** Tells those who listen to a job. */
  tell(id: string, news: JobNews): void {
    for (const listener of [...this.#listeners.get(id) ?? []]) listener(news);
    if (news.kind === "state") { for (const listener of [...this.#anyListeners]) listener(); }
  }

  /** Listens to a job until the function that is returned is called. */
  listen(id: string, listener: Listener): () => void {
    const listeners = this.#listeners.get(id) ?? new Set();
    this.#listeners.set(id, listeners);
    listeners.add(listener);
    return () => {
      listeners.delete(listener);
      if (listeners.size === 0 && this.#listeners.get(id) === listeners) this.#listeners.delete(id);
    };
  }

  /** Listens to the states of all jobs. */
  listenToAll(listener: () => void): () => void {
    this.#anyListeners.add(listener);
    return () => void this.#anyListeners.delete(listener);
  }
}
