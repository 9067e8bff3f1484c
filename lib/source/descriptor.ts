/**
 * Descriptors: media type, digest and size of a blob. OCI image specification, descriptor.md.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { digestOf, parseDigest } from "../io/digest.ts";
import { InputError } from "../errors.ts";
import {
  asObject,
  asSizeBytes,
  asString,
  eachOf,
  inside,
  jsonFault,
  type JsonObject,
  type JsonPlace,
  optional,
  required,
} from "./json.ts";
import { normalizePlatform, type Platform } from "./platform.ts";

/** A checked descriptor. */
export interface Descriptor {
  readonly mediaType: string;
  /** Of a known algorithm and well-formed, hence safe in a path. */
  readonly digest: string;
  readonly sizeBytes: number;
  /** The blob itself, where the descriptor carries it. */
  readonly data: Uint8Array | undefined;
  /** Other places that the blob may be had from; they are never followed. */
  readonly urls: readonly string[];
  readonly annotations: ReadonlyMap<string, string>;
  /** Normalised. */
  readonly platform: Platform | undefined;
  /** What an artifact is; images have none, or that of their config. */
  readonly artifactType: string | undefined;
}

const MEDIA_TYPE =
  /^[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}\/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}$/;

/** Reads a descriptor at its place in a document. */
export function readDescriptor(value: unknown, place: JsonPlace): Descriptor {
  const object = asObject(value, place);
  const mediaType = required(object, "mediaType", place, asString);
  if (!MEDIA_TYPE.test(mediaType)) {
    throw jsonFault(inside(place, "mediaType"), mediaType, "a media type");
  }
  const digest = required(object, "digest", place, asString);
  parseDigest(digest, place.what);
  return {
    mediaType,
    digest,
    sizeBytes: required(object, "size", place, asSizeBytes),
    data: optional(object, "data", place, asBase64),
    urls: optional(object, "urls", place, eachOf(asString)) ?? [],
    annotations: readAnnotations(object, place),
    platform: optional(object, "platform", place, readPlatform),
    artifactType: optional(object, "artifactType", place, asString) || undefined,
  };
}

/** The `annotations` of any document; empty when there are none. */
export function readAnnotations(object: JsonObject, place: JsonPlace): ReadonlyMap<string, string> {
  const annotations = optional(object, "annotations", place, asObject) ?? {};
  const at = inside(place, "annotations");
  return new Map(Object.entries(annotations).map(([k, v]) => [k, asString(v, inside(at, k))]));
}

/** A platform object of a descriptor or of an image's config, normalised. */
export function readPlatform(value: unknown, place: JsonPlace): Platform {
  const object = asObject(value, place);
  const variant = optional(object, "variant", place, asString);
  return normalizePlatform({
    os: required(object, "os", place, asString),
    architecture: required(object, "architecture", place, asString),
    ...(variant ? { variant } : {}),
  });
}

/**
 * Compares a blob with its descriptor.
 *
 * @param what the blob's name in errors
 * @throws {InputError} when size or digest differ
 */
export function checkBlob(bytes: Uint8Array, descriptor: Descriptor, what: string): void {
  checkSize(bytes.length, descriptor.sizeBytes, what);
  const { algorithm } = parseDigest(descriptor.digest, what);
  const found = digestOf(bytes, algorithm);
  if (found !== descriptor.digest) throw digestFault(what, found, descriptor.digest);
}

/** @throws {InputError} when the sizes differ */
export function checkSize(found: number, wanted: number, what: string): void {
  if (found === wanted) return;
  throw new InputError(what, `its size is ${found} bytes: wanted ${wanted}`, {
    data: { expected: wanted, actual: found },
  });
}

/** The error for a blob that is not what its digest says. */
export function digestFault(what: string, found: string, wanted: string): InputError {
  return new InputError(what, `its digest is ${found}: wanted ${wanted}`, {
    data: { expected: wanted, actual: found },
  });
}

function asBase64(value: unknown, place: JsonPlace): Uint8Array {
  const text = asString(value, place);
  if (text.length % 4 !== 0 || !/^[A-Za-z0-9+/]*={0,2}$/.test(text)) {
    throw jsonFault(place, value, "base64");
  }
  return new Uint8Array(Buffer.from(text, "base64"));
}
