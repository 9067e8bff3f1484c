/**
 * Warnings that are counted for the run and noted for the layer they are about, so that an image that is used again
 * tells them again, and `strict` holds for it too.
 *
 * @module
 */
import { Warnings } from "../warnings.ts";
import type { LayerWarning } from "./layered_placement.ts";

/** A warning as it was added. */
export interface NotedWarning extends Omit<LayerWarning, "what"> {
  readonly what: string;
}

/** What says something of the source, and nothing of the layer that was read. */
const SOURCE_KINDS: ReadonlySet<string> = new Set(["diffIdMismatch"]);

/** Passes warnings on and notes them. */
export class NotingWarnings extends Warnings {
  readonly #target: Warnings;
  readonly #isByKind: boolean;
  #notes = new Map<string, NotedWarning>();

  /** @param grouping `kind`: one note a kind, with its first case, as reports have them; `case`: one each */
  constructor(target: Warnings, grouping: "kind" | "case") {
    super(target.strict);
    this.#target = target;
    this.#isByKind = grouping === "kind";
  }

  override add(kind: string, what: string, why: string, count = 1): void {
    this.#target.add(kind, what, why, count);
    const key = this.#isByKind ? kind : `${kind} ${what}`;
    const known = this.#notes.get(key);
    this.#notes.set(key, { kind, what, why, ...known, count: (known?.count ?? 0) + count });
  }

  /** What was noted since the last time. */
  take(): NotedWarning[] {
    const notes = [...this.#notes.values()];
    this.#notes = new Map();
    return notes;
  }
}

/** The notes that name a layer; warnings about the source itself are left out. */
export function notesAbout(notes: readonly NotedWarning[], layerName: string): NotedWarning[] {
  return notes.filter(({ kind, what }) => what.includes(layerName) && !SOURCE_KINDS.has(kind));
}

/** Notes for a record, without the name that the layer has in this image only. */
export function recordedWarnings(
  notes: readonly NotedWarning[],
  layerName: string,
): LayerWarning[] {
  return notes.map(({ what, ...note }) => {
    const at = what.indexOf(layerName);
    if (at < 0) return { ...note, what: [what] };
    return { ...note, what: [what.slice(0, at), what.slice(at + layerName.length)] };
  });
}

/** Adds the warnings of a record, with the name that the layer has here. Under `strict` the first is thrown. */
export function addRecorded(
  recorded: readonly LayerWarning[],
  layerName: string,
  warnings: Warnings,
): void {
  for (const { kind, what, why, count } of recorded) {
    warnings.add(kind, what.join(layerName), why, count);
  }
}
