/**
 * Content digests as OCI writes them, `ALGORITHM:HEX` (OCI image specification, descriptor.md, "Digests"), and UUIDs (RFC
 * 9562): as text, as bytes, and derived from content.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { createHash, type Hash } from "node:crypto";
import { InputError } from "../errors.ts";

/** The algorithms that the specification registers. */
export type DigestAlgorithm = "sha256" | "sha512";

/** A validated digest; both parts are safe to use in a path. */
export interface ParsedDigest {
  readonly algorithm: DigestAlgorithm;
  /** Lower-case hex of the algorithm's exact length. */
  readonly hex: string;
}

const HEX_LENGTHS: ReadonlyMap<string, number> = new Map([["sha256", 64], ["sha512", 128]]);
const DIGEST_GRAMMAR = /^[a-z0-9]+(?:[+._-][a-z0-9]+)*:[a-zA-Z0-9=_-]+$/;

/**
 * Validates a digest before it is used in a path or compared.
 *
 * @param what the document that contains the digest, for the error
 * @throws {InputError} if it is not a digest, or its algorithm is not supported
 */
export function parseDigest(text: string, what: string): ParsedDigest {
  const shown = JSON.stringify(text.slice(0, 160)).replace(/[^\x20-\x7e]/g, "?");
  if (text.length > 1024 || !DIGEST_GRAMMAR.test(text)) {
    throw new InputError(what, `${shown} is not a digest: wanted ALGORITHM:HEX`);
  }
  const colon = text.indexOf(":");
  const algorithm = text.slice(0, colon);
  const hex = text.slice(colon + 1);
  const hexLength = HEX_LENGTHS.get(algorithm);
  if (hexLength === undefined) {
    throw new InputError(
      what,
      `the digest ${shown} is of an unknown kind: wanted sha256 or sha512`,
      { code: "unsupported" },
    );
  }
  if (hex.length !== hexLength || !/^[0-9a-f]+$/.test(hex)) {
    throw new InputError(
      what,
      `the digest ${shown} is malformed: wanted ${hexLength} lower-case hex digits after ${algorithm}`,
    );
  }
  return { algorithm: algorithm as DigestAlgorithm, hex };
}

/** Computes the digest of bytes that arrive in pieces. */
export class Digester {
  readonly algorithm: DigestAlgorithm;
  readonly #hash: Hash;

  constructor(algorithm: DigestAlgorithm = "sha256") {
    this.algorithm = algorithm;
    this.#hash = createHash(algorithm);
  }

  update(bytes: Uint8Array): void {
    this.#hash.update(bytes);
  }

  /** Finishes the computation. */
  digest(): string {
    return `${this.algorithm}:${this.#hash.digest("hex")}`;
  }
}

/** The digest of a byte array. */
export function digestOf(bytes: Uint8Array, algorithm: DigestAlgorithm = "sha256"): string {
  const digester = new Digester(algorithm);
  digester.update(bytes);
  return digester.digest();
}

const UUID_PATTERN = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

/** Formats 16 bytes in the usual UUID form. */
export function formatUuid(uuid: Uint8Array): string {
  const hex = Buffer.from(uuid).toString("hex");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

/** The 16 bytes of a UUID in the usual form; undefined for anything else. */
export function uuidBytes(text: string): Uint8Array | undefined {
  if (!UUID_PATTERN.test(text)) return undefined;
  return new Uint8Array(Buffer.from(text.replaceAll("-", ""), "hex"));
}

/**
 * A version 8 UUID (RFC 9562, section 5.8) that depends only on the purpose and the content.
 *
 * @param purpose distinguishes the UUIDs of different things with the same content
 */
export function derivedUuid(purpose: string, content: Uint8Array | string): Uint8Array {
  const digest = createHash("sha256").update(`${purpose}\n`).update(content).digest();
  const uuid = new Uint8Array(digest.subarray(0, 16));
  uuid[6] = (uuid[6]! & 0x0f) | 0x80;
  uuid[8] = (uuid[8]! & 0x3f) | 0x80;
  return uuid;
}
