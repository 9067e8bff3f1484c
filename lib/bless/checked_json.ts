/**
 * JSON documents that state their version and end with a CRC-32 of what comes before it, so that damage is noticed.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { crc32 } from "node:zlib";
import { inside, jsonFault, type JsonObject, parseJsonObject } from "../source/json.ts";

/** The bytes of a document; equal documents give equal bytes. */
export function encodeCheckedJson(version: number, document: object): Uint8Array {
  const body = { version, ...document };
  return Buffer.from(`${JSON.stringify({ ...body, crc32: crc32(JSON.stringify(body)) })}\n`);
}

/**
 * Reads a document.
 *
 * @param what the document's file, safe to print
 * @throws {InputError} when it is damaged, or of another version
 * @example
 * ```ts
 * import { assertEquals, assertThrows } from "@std/assert";
 * import { decodeCheckedJson, encodeCheckedJson } from "./checked_json.ts";
 * const bytes = encodeCheckedJson(1, { name: "base" });
 * assertEquals(decodeCheckedJson(bytes, 1, "record"), { version: 1, name: "base" });
 * assertThrows(() => decodeCheckedJson(bytes, 2, "record"), Error, "version is 1: wanted 2");
 * ```
 */
export function decodeCheckedJson(bytes: Uint8Array, version: number, what: string): JsonObject {
  const { crc32: checksum, ...body } = parseJsonObject(bytes, what);
  const place = { what, field: "" };
  const { version: found } = body;
  if (found !== version) throw jsonFault(inside(place, "version"), found, String(version));
  const computed = crc32(JSON.stringify(body));
  if (computed !== checksum) {
    throw jsonFault(inside(place, "crc32"), checksum, `${computed}, the checksum of the rest`);
  }
  return body;
}
