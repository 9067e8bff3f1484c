/**
 * Counts whatever is dropped or changed between the input and the image, by kind, with the first example of each.
 *
 * @module
 */
import { InputError } from "./errors.ts";

/** One kind of warning: how often it occurred, and where it first did. */
export interface WarningSummary {
  /** A stable camelCase name for scripts, such as `clampedTime`. */
  readonly kind: string;
  /** A sentence for the user, about the first case. */
  readonly message: string;
  /** How many times it occurred. */
  readonly count: number;
}

/** Collects warnings by kind; with `strict`, the first warning is thrown as an error instead. */
export class Warnings {
  /** Whether a warning is an error. */
  readonly strict: boolean;
  readonly #byKind = new Map<string, { message: string; count: number }>();

  /**
   * Starts with no warnings.
   *
   * @param strict whether `add` throws instead of counting
   */
  constructor(strict = false) {
    this.strict = strict;
  }

  /** Counts one case. `what` names the path (already safe to print); `why` says what was done with it. */
  add(kind: string, what: string, why: string, count = 1): void {
    if (this.strict) {
      throw new InputError(what, why, {
        code: "rejectedWarning",
        remedies: [{ option: "strict", change: "omit", to: "accept this" }],
        data: { kind },
      });
    }
    this.include([{ kind, message: `${what}: ${why}`, count }]);
  }

  /** Adds counts from another collector. This never throws, even with `strict`: the other collector already did. */
  include(list: readonly WarningSummary[]): void {
    for (const { kind, message, count } of list) {
      const known = this.#byKind.get(kind);
      if (known) known.count += count;
      else this.#byKind.set(kind, { message, count });
    }
  }

  /** The kinds seen so far, sorted by name. */
  list(): WarningSummary[] {
    return [...this.#byKind]
      .map(([kind, { message, count }]) => ({ kind, message, count }))
      .sort((a, b) => (a.kind < b.kind ? -1 : 1));
  }
}
