/**
 * Hard links whose target comes later in the same layer.
 *
 * @module
 */
import { type ByteString, displayName } from "../bytes/byte_string.ts";
import { InputError } from "../errors.ts";
import type { DirectoryNode, TreeNode } from "../model/node.ts";
import type { NamePlace } from "./changes.ts";

/** One hard link that waits for the end of its layer. */
export interface DeferredLink extends NamePlace {
  /** Normalised names of the target. */
  readonly target: readonly ByteString[];
  /** Names the entry in messages. */
  readonly what: () => string;
}

/** Where a link's target should be, and what is there. */
export interface LinkTarget extends NamePlace {
  readonly node: TreeNode | undefined;
}

/** What {@link DeferredLinks.settle} asks of the layer. */
export interface LinkPlacer {
  /** Undefined when the target's directory does not exist. */
  readonly find: (link: DeferredLink) => LinkTarget | undefined;
  readonly place: (link: DeferredLink, target: LinkTarget, node: TreeNode) => void;
}

/** The hard links of one layer that had no target yet when they were met. Nothing lies under their names. */
export class DeferredLinks {
  readonly #links = new PlaceMap<DeferredLink>();

  /** Sets the link aside; an earlier one with the same name is forgotten. */
  add(link: DeferredLink): void {
    this.#links.set(link, link);
  }

  /** True when a link of that name waits. */
  has(place: NamePlace): boolean {
    return this.#links.get(place) !== undefined;
  }

  /** Forgets the link, because a later entry has the same name. */
  cancel(place: NamePlace): void {
    this.#links.delete(place);
  }

  /**
   * Places all links, each after the link that it points to. Linear in their number.
   *
   * @throws InputError when a target does not exist, or links point at each other in a ring
   */
  settle(placer: LinkPlacer): void {
    const queue = this.#links.values();
    const waiting = new PlaceMap<DeferredLink[]>();
    // The queue grows while it is walked: a link that was waited for brings those that wait for it.
    for (const link of queue) {
      const target = placer.find(link);
      if (!target) continue;
      if (target.node) {
        this.cancel(link);
        placer.place(link, target, target.node);
        for (const next of waiting.get(link) ?? []) queue.push(next);
        waiting.delete(link);
      } else {
        const others = waiting.get(target);
        if (others) others.push(link);
        else waiting.set(target, [link]);
      }
    }
    const lost = this.#links.values()[0];
    if (lost) throw missingTarget(lost);
  }
}

/** The error for a hard link to a name that does not exist. */
export function missingTarget(link: DeferredLink): InputError {
  return new InputError(
    link.what(),
    `the hard link's target ${displayName(link.target.join("/").slice(0, 200))} exists ` +
      "neither in this layer nor below",
  );
}

/** A map from names in directories. */
class PlaceMap<V> {
  readonly #byDirectory = new Map<DirectoryNode, Map<ByteString, V>>();

  get({ directory, name }: NamePlace): V | undefined {
    return this.#byDirectory.get(directory)?.get(name);
  }

  set({ directory, name }: NamePlace, value: V): void {
    const names = this.#byDirectory.get(directory);
    if (names) names.set(name, value);
    else this.#byDirectory.set(directory, new Map([[name, value]]));
  }

  delete({ directory, name }: NamePlace): void {
    this.#byDirectory.get(directory)?.delete(name);
  }

  values(): V[] {
    return [...this.#byDirectory.values()].flatMap((names) => [...names.values()]);
  }
}
