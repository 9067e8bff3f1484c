/**
 * What is asked of S3 and where: `s3+https://HOST[:PORT]/BUCKET[/PREFIX]`, as desync writes the address of a store. The
 * bucket is always in the path, which every S3 server understands.
 *
 * @module
 */
import { byteStringFromText, displayName } from "../bytes/byte_string.ts";
import { optionError, type UsageError } from "../errors.ts";

/** A store's place. */
export interface S3Address {
  /** `https://HOST[:PORT]`, without a slash at the end. */
  readonly origin: string;
  readonly bucket: string;
  /** What the key of each object begins with; empty, or with a slash at its end. */
  readonly prefix: string;
  /** Safe to print. */
  readonly shown: string;
}

const HINT = "write it as s3+https://HOST/BUCKET/PREFIX";

/** Whether a store is written as one on S3. */
export function isS3Address(text: string): boolean {
  return /^s3\+/i.test(text);
}

/**
 * Reads an address.
 *
 * @throws {UsageError} when it is none; what could be a secret in it is not shown
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { parseS3Address } from "./s3_request.ts";
 * const address = parseS3Address("s3+http://localhost:9000/images/chunks");
 * assertEquals(address.origin, "http://localhost:9000");
 * assertEquals([address.bucket, address.prefix], ["images", "chunks/"]);
 * ```
 */
export function parseS3Address(text: string): S3Address {
  const match = /^s3\+(https?):\/\/(.*)$/i.exec(text);
  if (match === null) throw addressFault("it does not begin with s3+http:// or s3+https://");
  let url: URL;
  try {
    url = new URL(`${match[1]!.toLowerCase()}://${match[2]!}`);
  } catch {
    throw addressFault("it is no URL");
  }
  if (url.username !== "" || url.password !== "") {
    throw optionError("store", "the address has a user or a password in it", {
      hint: "give the keys in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or in a profile",
    });
  }
  if (url.search !== "" || url.hash !== "") throw addressFault("it has something behind its path");
  const [bucket = "", ...rest] = pathParts(url.pathname);
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]{1,254}$/.test(bucket)) {
    throw addressFault(bucket === "" ? "it names no bucket" : "its bucket has no possible name");
  }
  const prefix = rest.map((part) => `${part}/`).join("");
  const shown = `s3+${url.origin}/${bucket}/${displayName(byteStringFromText(prefix))}`;
  return { origin: url.origin, bucket, prefix, shown: shown.replace(/\/$/, "") };
}

/** The path of an object in a URL, with everything encoded that a server could read in another way. */
export function objectPath({ bucket, prefix }: S3Address, key: string): string {
  const parts = [bucket, ...`${prefix}${key}`.split("/")];
  return `/${parts.map(encodePart).join("/")}`;
}

function encodePart(part: string): string {
  return encodeURIComponent(part).replace(
    /[!'()*]/g,
    (sign) => `%${sign.charCodeAt(0).toString(16).toUpperCase()}`,
  );
}

function pathParts(path: string): string[] {
  const parts = path.replace(/^\//, "").replace(/\/$/, "").split("/");
  if (parts.slice(1).some((part) => part === "")) throw addressFault("a part of its path is empty");
  try {
    return parts.map(decodeURIComponent);
  } catch {
    throw addressFault("its path has a % that begins nothing");
  }
}

function addressFault(why: string): UsageError {
  return optionError("store", `is not a valid S3 address: ${why}`, { hint: HINT });
}

/** One request. */
export interface S3Request {
  readonly method: "GET" | "HEAD" | "PUT";
  /** The object, without the store's prefix; undefined for the bucket itself. */
  readonly key?: string;
  readonly query?: Readonly<Record<string, string>>;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Uint8Array;
  /** Of the answer; one that is longer is a failure. */
  readonly mostBytes?: number;
  /** How often it is tried at most; default: as the client has it. */
  readonly tries?: number;
}

/** What came back. Statuses other than those asked for are failures and never come here. */
export interface S3Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly body: Uint8Array;
  /** Whether a request before this one may have been carried out, although its answer was lost. */
  readonly mayBeRepeated: boolean;
}
