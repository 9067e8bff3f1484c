/**
 * Counts of what is dropped or changed between the input and the image, by kind, with a first example.
 *
 * @module
 */
import { InputError } from "./errors.ts";

/** One kind of warning: how often it came up and where first. */
export interface WarningSummary {
  /** A stable camelCase name for scripts, such as `clampedTime`. */
  readonly kind: string;
  /** A sentence for people, about the first case. */
  readonly message: string;
  /** How many times it came up. */
  readonly count: number;
}

/** Collects warnings by kind; under `strict` the first one is an error instead. */
export class Warnings {
  /** Whether a warning is an error. */
  readonly strict: boolean;
  readonly #byKind = new Map<string, { message: string; count: number }>();

  /**
   * Begins with nothing counted.
   *
   * @param strict whether `add` throws instead of counting
   */
  constructor(strict = false) {
    this.strict = strict;
  }

  /** Counts a case. `what` names the path (already safe to print), `why` says what was done with it. */
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

  /** Counts what another one has counted. Under `strict` this one does not throw: the other one did. */
  include(list: readonly WarningSummary[]): void {
    for (const { kind, message, count } of list) {
      const known = this.#byKind.get(kind);
      if (known) known.count += count;
      else this.#byKind.set(kind, { message, count });
    }
  }

  /** The kinds seen so far, in order of their names. */
  list(): WarningSummary[] {
    return [...this.#byKind]
      .map(([kind, { message, count }]) => ({ kind, message, count }))
      .sort((a, b) => (a.kind < b.kind ? -1 : 1));
  }
}
