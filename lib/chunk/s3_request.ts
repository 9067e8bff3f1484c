/**
 * What is asked of S3 and where: `s3+https://HOST[:PORT]/BUCKET[/PREFIX]`, as desync writes the address of a store. The
 * bucket is in the path, which most servers understand; `?lookup=dns` moves it into the host name, `BUCKET.HOST`.
 *
 * @module
 */
import { byteStringFromText, displayName } from "../bytes/byte_string.ts";
import { type ErrorDetails, optionError, type UsageError } from "../errors.ts";

/** Where a store is. */
export interface S3Address {
  /** `https://HOST[:PORT]`, without a slash at the end; with the bucket in it for virtual hosts. */
  readonly origin: string;
  readonly bucket: string;
  /** Whether the bucket is in the host name and not in the path. */
  readonly isVirtualHost: boolean;
  /** What the key of each object begins with; empty, or with a slash at its end. */
  readonly prefix: string;
  /** Safe to print. */
  readonly shown: string;
}

/** One request. */
export interface S3Request {
  readonly method: "GET" | "HEAD" | "PUT" | "DELETE";
  /** The object, without the store's prefix; undefined for the bucket itself. */
  readonly key?: string | undefined;
  readonly query?: Readonly<Record<string, string>> | undefined;
  readonly headers?: Readonly<Record<string, string>> | undefined;
  readonly body?: Uint8Array | undefined;
  /** The longest answer to expect; a longer one is a failure. */
  readonly mostBytes?: number | undefined;
  /** How often it is tried at most; default: as the client has it. */
  readonly tries?: number | undefined;
  /** How long one try may take; default: as the client has it. */
  readonly timeoutMs?: number | undefined;
  /** Ends the request with its reason. */
  readonly signal?: AbortSignal | undefined;
}

/** What came back. Statuses other than those asked for are failures and never come here. */
export interface S3Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly body: Uint8Array;
  /** Whether a request before this one may have been carried out, although its answer was lost. */
  readonly mayBeRepeated: boolean;
}

const HINT = "write it as s3+https://HOST/BUCKET/PREFIX";

/** Whether a store is written as one on S3. */
export function isS3Address(text: string): boolean {
  return /^s3\+/i.test(text);
}

/**
 * Reads an address.
 *
 * @throws {UsageError} when it is not one; what could be a secret in it is not shown
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { parseS3Address } from "./s3_request.ts";
 * const address = parseS3Address("s3+http://localhost:9000/images/chunks");
 * assertEquals(address.origin, "http://localhost:9000");
 * assertEquals([address.bucket, address.prefix], ["images", "chunks/"]);
 * const virtual = parseS3Address("s3+https://host/images?lookup=dns");
 * assertEquals(virtual.origin, "https://images.host");
 * ```
 */
export function parseS3Address(text: string): S3Address {
  const match = /^s3\+(https?):\/\/(.*)$/i.exec(text);
  if (match === null) throw addressFault("it does not begin with s3+http:// or s3+https://");
  const [, scheme, rest] = match;
  let url: URL;
  try {
    url = new URL(`${scheme!.toLowerCase()}://${rest!}`);
  } catch {
    throw addressFault("it is not a URL");
  }
  if (url.username !== "" || url.password !== "") {
    throw storeError("the address has a user or a password in it", {
      hint: "give the keys in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or in a profile",
    });
  }
  const isVirtualHost = url.search === "?lookup=dns";
  if (!["", "?lookup=dns", "?lookup=path"].includes(url.search) || url.hash !== "") {
    throw addressFault("nothing but ?lookup=dns or ?lookup=path may follow the path");
  }
  // URL resolves `..`, also when its dots are encoded, so the path is looked at as it is written.
  const path = /^[^/?#]*([^?#]*)/.exec(rest!)![1]!;
  const [bucket = "", ...prefixParts] = pathParts(path);
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]{1,254}$/.test(bucket)) {
    throw addressFault(bucket === "" ? "it names no bucket" : "its bucket has an invalid name");
  }
  const prefix = prefixParts.map((part) => `${part}/`).join("");
  const shown = `s3+${url.origin}/${bucket}/${displayName(byteStringFromText(prefix))}`;
  return {
    origin: isVirtualHost ? `${url.protocol}//${bucket}.${url.host}` : url.origin,
    bucket,
    isVirtualHost,
    prefix,
    shown: shown.replace(/\/$/, ""),
  };
}

/**
 * The path of an object, or of the bucket, in a URL, with everything encoded that a server could read in another way.
 *
 * @param key without the prefix; undefined for the bucket
 */
export function objectPath(address: S3Address, key?: string): string {
  const { bucket, prefix, isVirtualHost } = address;
  const parts = key === undefined ? [] : `${prefix}${key}`.split("/");
  return `/${(isVirtualHost ? parts : [bucket, ...parts]).map(encodePart).join("/")}`;
}

function encodePart(part: string): string {
  return encodeURIComponent(part).replace(
    /[!'()*]/g,
    (sign) => `%${sign.charCodeAt(0).toString(16).toUpperCase()}`,
  );
}

/** The parts of a path, decoded. One that leads elsewhere is refused: it could write into another bucket. */
function pathParts(path: string): string[] {
  const encoded = path.replace(/^\//, "").replace(/\/$/, "").split("/");
  let parts: string[];
  try {
    parts = encoded.map(decodeURIComponent);
  } catch {
    throw addressFault("its path has a % that begins nothing");
  }
  if (parts.slice(1).some((part) => part === "")) throw addressFault("a part of its path is empty");
  // What `..%2F` or `..\\` means to a server, or to what stands before it, is not known.
  const leadsElsewhere = parts.some((part) =>
    part.split(/[/\\]/).some((name) => /^\.\.?$/.test(name))
  );
  if (leadsElsewhere) throw addressFault("its path has a part `.` or `..`");
  return parts.flatMap((part) => part.split("/"));
}

function addressFault(why: string): UsageError {
  return storeError(`invalid address of a chunk store on S3: ${why}`, { hint: HINT });
}

function storeError(why: string, details: ErrorDetails): UsageError {
  return optionError("store", why, details);
}
