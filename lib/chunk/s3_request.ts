/**
 * What is asked of S3 and where, and what its answers mean when it does not do what it was asked.
 *
 * An address is `s3+https://HOST[:PORT]/BUCKET[/PREFIX]`, as desync writes it. The bucket is in the path, which most servers
 * understand; `?lookup=dns` moves it into the host name, `BUCKET.HOST`. In messages, keys, tokens and signatures are masked,
 * wherever a server repeats them.
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

/** Whether a store is written as one on S3. */
export function isS3Address(text: string): boolean {
  return /^s3\+/i.test(text);
}

/** Reads an address. @throws {UsageError} when it is not one; what could be a secret in it is not shown */
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
  return optionError("store", `invalid address of a chunk store on S3: ${why}`, {
    hint: "write it as s3+https://HOST/BUCKET/PREFIX",
  });
}

/** A failure, and what decides whether to try again. */
export interface S3Failure {
  readonly error: IoError;
  /** Of HTTP; 0 where there was no answer. */
  readonly status: number;
  /** As S3 calls it, such as `SlowDown`; empty where it did not say. */
  readonly code: string;
  /** How long the server asks to wait. */
  readonly pauseMs: number;
}

/** Where a failure came from. */
interface FailureContext {
  readonly request: S3Request;
  readonly address: S3Address;
  readonly region: string;
  /** What must not be shown: keys and tokens. */
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
/** What is shorter is a test's, and would blank out half of a message. */
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

/** Codes with a meaning of their own, of Amazon and of servers that are compatible with it. */
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
    why: "the server wants the bucket in the host name",
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

/** What an answer with an unwanted status means. */
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

/** The code of an error document; empty where it has none. */
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
    // Deno's words have the whole URL in them.
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

/** What a request was about, safe to print. */
export function shownRequest(
  { request, address }: Pick<FailureContext, "request" | "address">,
): string {
  return request.key === undefined ? address.shown : `${address.shown}/${request.key}`;
}

/** An element of an error document. It is a few lines of flat XML, of which only plain text is wanted. */
export function elementOf(text: string, name: string): string {
  const found = new RegExp(`<${name}>([^<]{0,2000})</${name}>`).exec(text)?.[1] ?? "";
  return found
    .replaceAll("&lt;", "<").replaceAll("&gt;", ">").replaceAll("&quot;", '"')
    .replaceAll("&apos;", "'").replaceAll("&amp;", "&").trim();
}

/** A server's own words on one line, without keys, tokens, signatures and digests. */
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

/** `Retry-After` in seconds; a date is ignored, as nothing here reads a clock. */
function retryAfterMs(headers: Headers): number {
  const seconds = /^\d{1,6}$/.exec(headers.get("retry-after") ?? "")?.[0];
  return seconds === undefined ? 0 : Math.min(Number(seconds), LONGEST_RETRY_AFTER_SECONDS) * 1000;
}
