/**
 * What a verity signature partition holds (Discoverable Partitions Specification, "Verity"): a JSON object with the root
 * hash, its PKCS#7 signature and the fingerprint of the certificate, and zeros behind it.
 *
 * @module
 */
import { alignUp } from "../bytes/arithmetic.ts";
import { InputError } from "../errors.ts";

/** A signature that was read. */
export interface VeritySignature {
  /** That was signed, in lower-case hexadecimal. */
  readonly rootHash: string;
  /** The partition, padded with zeros to whole blocks. */
  readonly bytes: Uint8Array;
}

const BLOCK_BYTES = 4096;
/** systemd reads no larger ones. */
const SIGNATURE_BYTES_MAX = 4 << 20;

const WANTED = "wanted JSON with rootHash, signature and certificateFingerprint";

/**
 * Reads the JSON of a signature.
 *
 * @param name of the file, for errors
 * @throws {InputError} when it is not such JSON
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { parseVeritySignature } from "./verity_signature.ts";
 * const rootHash = "0".repeat(64);
 * const text = JSON.stringify({ rootHash, signature: "AAAA", certificateFingerprint: rootHash });
 * assertEquals(parseVeritySignature(new TextEncoder().encode(text), "sig").bytes.length, 4096);
 * ```
 */
export function parseVeritySignature(content: Uint8Array, name: string): VeritySignature {
  if (content.length > SIGNATURE_BYTES_MAX) {
    throw new InputError(
      name,
      `has ${content.length} bytes: wanted at most ${SIGNATURE_BYTES_MAX}`,
      { code: "limitExceeded" },
    );
  }
  const document = parseObject(content, name);
  const rootHash = hexField(document, "rootHash", name);
  hexField(document, "certificateFingerprint", name);
  const signature = document["signature"];
  const isBase64 = typeof signature === "string" && signature.length > 0 &&
    /^[A-Za-z0-9+/]+={0,2}$/.test(signature);
  if (!isBase64) {
    throw new InputError(name, "`signature` is not base64: wanted that of PKCS#7 in DER");
  }
  const bytes = new Uint8Array(alignUp(content.length, BLOCK_BYTES));
  bytes.set(content);
  return { rootHash, bytes };
}

function parseObject(content: Uint8Array, name: string): Readonly<Record<string, unknown>> {
  let document: unknown;
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(content);
    // A partition that was read back has zeros behind it.
    document = JSON.parse(text.replace(/\0+$/, ""));
  } catch (cause) {
    throw new InputError(name, `is not JSON: ${WANTED}`, {
      hint: "the certificate's fingerprint is `openssl x509 -fingerprint -sha256`, without colons",
      cause,
    });
  }
  if (typeof document !== "object" || document === null || Array.isArray(document)) {
    throw new InputError(name, `is not a JSON object: ${WANTED}`);
  }
  return document as Readonly<Record<string, unknown>>;
}

function hexField(
  document: Readonly<Record<string, unknown>>,
  key: string,
  name: string,
): string {
  const value = document[key];
  if (typeof value === "string" && /^[0-9a-f]{64}$/i.test(value)) return value.toLowerCase();
  const found = value === undefined ? "is missing" : "is not a SHA-256 in hexadecimal";
  throw new InputError(name, `\`${key}\` ${found}: ${WANTED}`);
}
