/**
 * Going on behind what is damaged, so that the rest can be shown.
 *
 * @module
 */
import { InputError } from "../../errors.ts";

/** Does one look after the other, and keeps what was wrong. */
export class FaultCollector {
  readonly #faults = new Set<string>();

  /** What was wrong so far, each once, in the order in which it was found. */
  get faults(): readonly string[] {
    return [...this.#faults];
  }

  /** What a look gives; undefined when it throws an InputError, which is kept. Other errors are thrown on. */
  attempt<T>(look: () => T): T | undefined {
    try {
      return look();
    } catch (error) {
      if (!(error instanceof InputError)) throw error;
      this.#faults.add(error.message);
      return undefined;
    }
  }
}
