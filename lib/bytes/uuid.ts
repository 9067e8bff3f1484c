/**
 * UUIDs (RFC 9562): as text, as bytes, and derived from content.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";

const UUID_PATTERN = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

/** 16 bytes in the usual form. */
export function formatUuid(uuid: Uint8Array): string {
  const hex = Buffer.from(uuid).toString("hex");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

/** The 16 bytes of a UUID in its usual form; undefined for anything else. */
export function uuidBytes(text: string): Uint8Array | undefined {
  if (!UUID_PATTERN.test(text)) return undefined;
  return new Uint8Array(Buffer.from(text.replaceAll("-", ""), "hex"));
}

/**
 * A UUID of version 8 (RFC 9562, section 5.8) that equal content always gets.
 *
 * @param purpose keeps the UUIDs apart that different things of one content have
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { derivedUuid, formatUuid } from "./uuid.ts";
 * assertEquals(formatUuid(derivedUuid("example", Uint8Array.of(1)))[14], "8");
 * ```
 */
export function derivedUuid(purpose: string, content: Uint8Array | string): Uint8Array {
  const digest = createHash("sha256").update(`${purpose}\n`).update(content).digest();
  const uuid = new Uint8Array(digest.subarray(0, 16));
  uuid[6] = (uuid[6]! & 0x0f) | 0x80;
  uuid[8] = (uuid[8]! & 0x3f) | 0x80;
  return uuid;
}
