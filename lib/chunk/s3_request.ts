/**
 * Requests to S3, their addresses, and the meaning of failures.
 *
 * An address is `s3+https://HOST[:PORT]/BUCKET[/PREFIX]`, as in desync. The bucket is part of the path, which most
 * servers support; `?lookup=dns` moves it into the host name, `BUCKET.HOST`. In messages, keys, tokens and signatures
 * are masked, even where a server repeats them.
 *
 * @module
 */
import { byteStringFromText, displayName } from "../bytes/byte_string.ts";
import {
  type ErrorCode,
  type ErrorDetails,
  IoError,
  optionError,
  type UsageError,
} from "../errors.ts";
import { displayPath } from "../io/system_error.ts";

/** The address of a store. */
export interface S3Address {
  /** `https://HOST[:PORT]`, without a trailing slash; includes the bucket for virtual hosts. */
  readonly origin: string;
  readonly bucket: string;
  /** Whether the bucket is in the host name instead of the path. */
  readonly isVirtualHost: boolean;
  /** The prefix of every key; empty, or with a trailing slash. */
  readonly prefix: string;
  /** The address, safe to print. */
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
  /** The longest acceptable answer; a longer one is a failure. */
  readonly mostBytes?: number | undefined;
  /** The largest number of attempts; default: the client's. */
  readonly tries?: number | undefined;
  /** The time limit of one attempt; default: the client's. */
  readonly timeoutMs?: number | undefined;
  /** Cancels the request when aborted. */
  readonly signal?: AbortSignal | undefined;
}

/** An answer with one of the expected statuses. Other statuses are failures. */
export interface S3Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly body: Uint8Array;
  /** Whether an earlier attempt may have succeeded although its answer was lost. */
  readonly mayBeRepeated: boolean;
}

/** Whether the text is the address of a store on S3. */
export function isS3Address(text: string): boolean {
  return /^s3\+/i.test(text);
}

/** Parses an address. @throws {UsageError} when it is invalid; possible secrets in it are not shown */
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
    throw optionError("store", "the address has a user or a password in it", {
      hint: "give the keys in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or in a profile",
    });
  }
  const isVirtualHost = url.search === "?lookup=dns";
  if (!["", "?lookup=dns", "?lookup=path"].includes(url.search) || url.hash !== "") {
    throw addressFault("nothing but ?lookup=dns or ?lookup=path may follow the path");
  }
  // URL resolves `..` even if its dots are encoded, so the path is checked as written.
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
 * The URL path of an object or of the bucket. Everything that a server could interpret differently is encoded.
 *
 * @param key the key without the prefix; undefined for the bucket
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

/** The decoded parts of a path. Parts that lead elsewhere are refused: they could write into another bucket. */
function pathParts(path: string): string[] {
  const encoded = path.replace(/^\//, "").replace(/\/$/, "").split("/");
  let parts: string[];
  try {
    parts = encoded.map(decodeURIComponent);
  } catch {
    throw addressFault("its path has a % that begins nothing");
  }
  if (parts.slice(1).some((part) => part === "")) throw addressFault("a part of its path is empty");
  // How a server or a proxy interprets `..%2F` or `..\\` is unknown.
  const leadsElsewhere = parts.some((part) =>
    part.split(/[/\\]/).some((name) => /^\.\.?$/.test(name))
  );
  if (leadsElsewhere) throw addressFault("its path has a part `.` or `..`");
  return parts.flatMap((part) => part.split("/"));
}

function addressFault(why: string): UsageError {
  return optionError("store", `invalid address of a chunk store on S3: ${why}`, {
    hint: "write it as s3+https://HOST/BUCKET/PREFIX",
  });
}

/** A failure, with the facts that decide whether to retry. */
export interface S3Failure {
  readonly error: IoError;
  /** The HTTP status; 0 if there was no answer. */
  readonly status: number;
  /** The S3 error code, such as `SlowDown`; empty if there is none. */
  readonly code: string;
  /** The delay that the server asks for. */
  readonly pauseMs: number;
}

/** The context of a failure. */
interface FailureContext {
  readonly request: S3Request;
  readonly address: S3Address;
  readonly region: string;
  /** Keys and tokens, which must not be shown. */
  readonly secrets: readonly string[];
}

const PASSING_STATUSES: readonly number[] = [408, 409, 425, 429, 500, 502, 503, 504, 509];
const PASSING_CODES: readonly string[] = [
  "InternalError",
  "RequestTimeout",
  "ServiceUnavailable",
  "SlowDown",
  "Throttling",
  "ThrottlingException",
];
const MESSAGE_LENGTH_MAX = 300;
/** Shorter secrets occur only in tests, and masking them would blank out half of a message. */
const SECRET_LENGTH_MIN = 4;
const LONGEST_RETRY_AFTER_SECONDS = 20;

interface Meaning {
  readonly why: string;
  readonly hint?: ErrorDetails["hint"] | undefined;
}

const NO_SPACE: Meaning = {
  why: "the store is full",
  hint: "free some space, or raise the quota of the bucket",
};
const EXPIRED: Meaning = {
  why: "the session has expired",
  hint: "get new keys and try again: what was stored is not sent twice",
};

/** Error codes of Amazon and compatible servers that deserve their own message. */
const MEANINGS: Readonly<Record<string, Meaning>> = {
  AccountProblem: { why: "there is a problem with the account", hint: "ask its owner" },
  ExpiredToken: EXPIRED,
  TokenRefreshRequired: EXPIRED,
  InvalidToken: {
    why: "the session token is invalid",
    hint: "check AWS_SESSION_TOKEN: it must belong to the keys, and be empty without a session",
  },
  InvalidAccessKeyId: {
    why: "access is denied",
    hint: "check AWS_ACCESS_KEY_ID, or the profile",
  },
  NoSuchBucket: {
    why: "there is no such bucket",
    hint: "create the bucket first, or correct its name: s3+https://HOST/BUCKET/PREFIX",
  },
  NoSuchKey: { why: "there is no such object" },
  QuotaExceeded: NO_SPACE,
  XMinioStorageFull: NO_SPACE,
  XMinioAdminBucketQuotaExceeded: NO_SPACE,
  RequestTimeTooSkewed: {
    why: "access is denied",
    hint: "set the clock of this machine",
  },
  SecondLevelDomainForbidden: {
    why: "the server requires the bucket in the host name",
    hint: "add ?lookup=dns to the address of the store",
  },
  SignatureDoesNotMatch: {
    why: "access is denied",
    hint: "check AWS_SECRET_ACCESS_KEY and AWS_REGION",
  },
};

const ACCESS_DENIED: Meaning = {
  why: "access is denied",
  hint:
    "the keys need s3:GetObject, s3:PutObject, s3:DeleteObject and, for the bucket, s3:ListBucket",
};

function failureCode(status: number, why: string): ErrorCode {
  if (why === NO_SPACE.why) return "noSpace";
  if (status === 404) return "notFound";
  return PASSING_STATUSES.includes(status) ? "unreachable" : "refused";
}

/** Interprets an answer with an unexpected status. */
export function s3Failure(
  answer: Omit<S3Answer, "mayBeRepeated">,
  context: FailureContext,
): S3Failure {
  const { status } = answer;
  const text = new TextDecoder().decode(answer.body);
  const code = errorCode(text);
  const message = masked(elementOf(text, "Message"), context.secrets).replace(/\.$/, "");
  const { why, hint } = meaningOf(answer, { code, text }, context);
  const said = [code, message].filter((part) => part !== "").join(", ");
  return {
    error: new IoError(
      shownRequest(context),
      `${why} (status ${status}${said === "" ? "" : `: ${said}`})`,
      { code: failureCode(status, why), hint, data: { status, code: code === "" ? null : code } },
    ),
    status,
    code,
    pauseMs: retryAfterMs(answer.headers),
  };
}

function meaningOf(
  { status, headers }: Omit<S3Answer, "mayBeRepeated">,
  { code, text }: { readonly code: string; readonly text: string },
  { region: used, secrets }: FailureContext,
): Meaning {
  const region = headers.get("x-amz-bucket-region") ?? elementOf(text, "Region");
  if (/^[a-z0-9-]{2,32}$/.test(region) && region !== used) {
    return {
      why: `the bucket is in the region ${region}, not in ${used}`,
      hint: `set AWS_REGION=${region}, and name a host of that region`,
    };
  }
  if (status >= 300 && status < 400) {
    const location = elementOf(text, "Endpoint") || (headers.get("location") ?? "");
    const where = masked(location.replace(/[?#].*$/s, ""), secrets);
    return {
      why: `the server redirects${where === "" ? "" : ` to ${where}`}`,
      hint:
        "name that host as the store: redirects are not followed, because they would carry the signature along",
    };
  }
  const known = MEANINGS[code];
  if (known !== undefined) return known;
  if (status === 403) return ACCESS_DENIED;
  if (status === 401) return { ...ACCESS_DENIED, why: "authentication failed" };
  if (status === 404) return { why: "not found" };
  if (status === 405) return { why: "the server does not allow this request" };
  if (status === 507) return NO_SPACE;
  if (status === 429 || status === 503) return { why: "the server was busy at every try" };
  if (status >= 500) return { why: "the server failed at every try" };
  return { why: "the server refused the request" };
}

/** The code of an error document; empty if it has none. */
export function errorCode(text: string): string {
  return /^[A-Za-z0-9.]{1,64}$/.exec(elementOf(text, "Code"))?.[0] ?? "";
}

/** Whether a failure may be temporary. */
export function isPassing({ status, code }: S3Failure): boolean {
  if (code === "QuotaExceeded" || status === 507) return false;
  if (status === 409) return code === "ConditionalRequestConflict" || code === "OperationAborted";
  return status === 0 || PASSING_STATUSES.includes(status) || PASSING_CODES.includes(code);
}

/** The failure of a request that got no answer. */
export function networkError(
  address: S3Address,
  cause: unknown,
  secrets: readonly string[],
): IoError {
  const reasons: string[] = [];
  let current = cause;
  for (let depth = 0; depth < 4 && current instanceof Error; depth++) {
    const code = (current as { code?: unknown }).code;
    // Deno's messages contain the whole URL.
    const said = current.message.replace(/ for url \(\S*\)/, "");
    const reason = said || (typeof code === "string" ? code : current.name);
    if (!reasons.includes(reason)) reasons.push(reason);
    current = current.cause;
  }
  const said = masked(reasons.join(": "), secrets).replace(/\.$/, "") || "no answer";
  return new IoError(address.shown, `the server cannot be reached: ${said}`, {
    code: "unreachable",
    hint: "check the host and the network, and try again: what was stored is not sent twice",
    cause,
  });
}

/** The subject of a request, safe to print. */
export function shownRequest(
  { request, address }: Pick<FailureContext, "request" | "address">,
): string {
  return request.key === undefined ? address.shown : `${address.shown}/${request.key}`;
}

/** The text of an element in an error document, which is a few lines of flat XML. */
export function elementOf(text: string, name: string): string {
  const found = new RegExp(`<${name}>([^<]{0,2000})</${name}>`).exec(text)?.[1] ?? "";
  return found
    .replaceAll("&lt;", "<").replaceAll("&gt;", ">").replaceAll("&quot;", '"')
    .replaceAll("&apos;", "'").replaceAll("&amp;", "&").trim();
}

/** A server's message on one line, without keys, tokens, signatures and digests. */
function masked(text: string, secrets: readonly string[]): string {
  let shown = text;
  for (const secret of secrets) {
    for (const form of [secret, encodeURIComponent(secret)]) {
      if (form.length >= SECRET_LENGTH_MIN) shown = shown.replaceAll(form, "***");
    }
  }
  shown = shown.replace(/[0-9a-f]{64}/gi, "***");
  return displayPath(shown.slice(0, MESSAGE_LENGTH_MAX));
}

/** `Retry-After` in milliseconds. Dates are ignored, because the library reads no clock. */
function retryAfterMs(headers: Headers): number {
  const seconds = /^\d{1,6}$/.exec(headers.get("retry-after") ?? "")?.[0];
  return seconds === undefined ? 0 : Math.min(Number(seconds), LONGEST_RETRY_AFTER_SECONDS) * 1000;
}
