/**
 * What is known of a layer in a certain place, so that it need not be read again: on which layers it lies and how it is
 * stored decide which tree it gives, and what is to be said of it.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { asObject, asSizeBytes, asString, eachOf, required } from "../source/json.ts";
import type { JsonObject, JsonPlace } from "../source/json.ts";
import { layerFileName } from "./layered_chain.ts";
import { openSealedJson, sealJson } from "./sealed_json.ts";

/** Raised whenever layers begin to give other trees or warnings. */
const PLACEMENT_VERSION = 2;
const KEY_HEX_DIGITS = 16;

/** A layer in its place, as the source states it. */
export interface LayerPlace {
  readonly diffId: string;
  /** Of the layer and those below (layered_chain.ts). */
  readonly chainKey: string;
  /** Of the stored bytes; undefined where the source states none. */
  readonly digest: string | undefined;
  readonly mediaType: string | undefined;
  readonly sizeBytes: number | undefined;
}

/** What was found out about a layer while it was read. */
export interface LayerFacts {
  /** Of the stored bytes that it was read from. */
  readonly digest: string;
  readonly sizeBytes: number;
  readonly uncompressedBytes: number;
  readonly entries: number;
}

/** A warning that belongs to one layer. */
export interface LayerWarning {
  readonly kind: string;
  /** One text, or two that the name of the layer belongs between: it has another one in every image. */
  readonly what: readonly string[];
  readonly why: string;
  readonly count: number;
}

/** What is known of a layer in its place. */
export interface LayerPlacement {
  /** Its {@link placeKey}. */
  readonly place: string;
  /** Of the tree that the image must have (layered_digest.ts). */
  readonly tree: string;
  readonly facts: LayerFacts;
  /** Of reading the layer and of applying it. */
  readonly warnings: readonly LayerWarning[];
}

/** A place in words that differ whenever the layer could give another tree or other warnings there. */
export function placeKey(place: LayerPlace): string {
  const { diffId, chainKey, digest, mediaType, sizeBytes } = place;
  return JSON.stringify([diffId, chainKey, digest ?? null, mediaType ?? null, sizeBytes ?? null]);
}

/** The name, without an ending, of the file that says what is known of a layer in its place. */
export function placementFileName(place: LayerPlace): string {
  const hex = createHash("sha256").update(placeKey(place)).digest("hex");
  return `${layerFileName(place.diffId)}@${hex.slice(0, KEY_HEX_DIGITS)}`;
}

/** The bytes of a placement; they depend on the image alone. */
export function encodePlacement(placement: LayerPlacement): Uint8Array {
  return sealJson(PLACEMENT_VERSION, placement);
}

/**
 * Reads a placement.
 *
 * @param what the file, safe to print
 * @throws {InputError} when it is damaged, or of another version
 */
export function decodePlacement(bytes: Uint8Array, what: string): LayerPlacement {
  const body = openSealedJson(bytes, PLACEMENT_VERSION, what);
  const place = { what, field: "" };
  return {
    place: required(body, "place", place, asString),
    tree: required(body, "tree", place, asString),
    facts: required(body, "facts", place, asFacts),
    warnings: required(body, "warnings", place, eachOf(asWarning)),
  };
}

/** Reads one warning of a record. */
export function asWarning(value: unknown, place: JsonPlace): LayerWarning {
  const object = asObject(value, place);
  return {
    kind: required(object, "kind", place, asString),
    what: required(object, "what", place, eachOf(asString)),
    why: required(object, "why", place, asString),
    count: required(object, "count", place, asSizeBytes),
  };
}

function asFacts(value: unknown, place: JsonPlace): LayerFacts {
  const object: JsonObject = asObject(value, place);
  return {
    digest: required(object, "digest", place, asString),
    sizeBytes: required(object, "sizeBytes", place, asSizeBytes),
    uncompressedBytes: required(object, "uncompressedBytes", place, asSizeBytes),
    entries: required(object, "entries", place, asSizeBytes),
  };
}
