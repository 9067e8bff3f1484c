/**
 * What S3 says when it does not do what it was asked, in words that say what to do. Nothing that is secret gets into
 * them: neither keys, nor tokens, nor signatures.
 *
 * @module
 */
import { type ErrorDetails, IoError } from "../errors.ts";
import { displayPath } from "../io/system_error.ts";
import type { AwsSettings } from "./aws_settings.ts";
import type { S3Address, S3Answer, S3Request } from "./s3_request.ts";

/** A failure, and what tells whether to try again. */
export interface S3Failure {
  readonly error: IoError;
  /** Of HTTP; 0 where there was no answer. */
  readonly status: number;
  /** As S3 calls it, such as `SlowDown`; empty where it did not say. */
  readonly code: string;
  /** How long the server wants to be left alone. */
  readonly pauseMs: number;
}

/** Where a failure came from. */
export interface FailureContext {
  readonly request: S3Request;
  readonly address: S3Address;
  readonly settings: AwsSettings;
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
const LONGEST_WISH_SECONDS = 20;

const HINTS: Readonly<Record<string, string>> = {
  AccessDenied: "the keys need s3:GetObject, s3:PutObject and, for the bucket, s3:ListBucket",
  ExpiredToken: "get new keys: those of a session last for some hours only",
  InvalidAccessKeyId: "check AWS_ACCESS_KEY_ID, or the profile",
  InvalidToken:
    "check AWS_SESSION_TOKEN: it must belong to the keys, and be empty without a session",
  NoSuchBucket: "create the bucket first, or correct its name: s3+https://HOST/BUCKET/PREFIX",
  RequestTimeTooSkewed: "set the clock of this machine",
  SignatureDoesNotMatch: "check AWS_SECRET_ACCESS_KEY and AWS_REGION",
};

/** What an answer with an unwanted status means. */
export function s3Failure(
  answer: Omit<S3Answer, "mayBeRepeated">,
  context: FailureContext,
): S3Failure {
  const { status, headers } = answer;
  const text = new TextDecoder().decode(answer.body);
  const code = /^[A-Za-z0-9.]{1,64}$/.exec(elementOf(text, "Code"))?.[0] ?? "";
  const message = cleanMessage(elementOf(text, "Message"), context.settings);
  const region = headers.get("x-amz-bucket-region") ?? elementOf(text, "Region");
  const endpoint = elementOf(text, "Endpoint");
  const isWrongRegion = /^[a-z0-9-]{2,32}$/.test(region) && region !== context.settings.region;
  const details = isWrongRegion
    ? wrongRegion(region, context.settings.region)
    : status >= 300 && status < 400
    ? redirect(endpoint || (headers.get("location") ?? ""))
    : known(status, code);
  const what = placeOf(context);
  const said = [code, message].filter((part) => part !== "").join(", ");
  const why = `${details.why} (status ${status}${said === "" ? "" : `: ${said}`})`;
  return {
    error: new IoError(what, why, {
      ...details.hint === undefined ? {} : { hint: details.hint },
      data: { status, code: code === "" ? null : code },
    }),
    status,
    code,
    pauseMs: wishOf(headers),
  };
}

/** Whether a failure may pass by itself. */
export function isPassing({ status, code }: S3Failure): boolean {
  if (status === 409) return code === "ConditionalRequestConflict" || code === "OperationAborted";
  return status === 0 || PASSING_STATUSES.includes(status) || PASSING_CODES.includes(code);
}

/** The failure of a request that got no answer. */
export function networkError(
  address: S3Address,
  cause: unknown,
  settings: AwsSettings,
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
  const said = cleanMessage(reasons.join(": "), settings) || "no answer";
  return new IoError(address.shown, `the server cannot be reached: ${said}`, {
    hint: "check the host and the network, and try again: what was stored is not sent twice",
    cause,
  });
}

function placeOf({ request, address }: FailureContext): string {
  return request.key === undefined ? address.shown : `${address.shown}/${request.key}`;
}

interface Meaning {
  readonly why: string;
  readonly hint?: ErrorDetails["hint"];
}

function known(status: number, code: string): Meaning {
  const hint = HINTS[code] ?? (status === 403 ? HINTS["AccessDenied"] : undefined);
  const why = code === "NoSuchBucket"
    ? "there is no such bucket"
    : status === 403
    ? "access is denied"
    : status === 401
    ? "the server does not know who asks"
    : status === 404
    ? "there is nothing of that name"
    : status === 429 || status === 503
    ? "the server is too busy, also after several tries"
    : status >= 500
    ? "the server failed, also after several tries"
    : "the server refused";
  return hint === undefined ? { why } : { why, hint };
}

function wrongRegion(found: string, used: string): Meaning {
  return {
    why: `the bucket is in the region ${found}, not in ${used}`,
    hint: `set AWS_REGION=${found}, and name a host of that region`,
  };
}

function redirect(where: string): Meaning {
  const shown = displayPath(where.replace(/\?.*$/s, "").slice(0, MESSAGE_LENGTH_MAX));
  return {
    why: `the server sends elsewhere${shown === "" ? "" : `, to ${shown}`}`,
    hint:
      "name that host as the store: redirects are not followed, because they would carry the signature along",
  };
}

/** An element of an error document. It is a few lines of flat XML, of which only plain text is wanted. */
function elementOf(text: string, name: string): string {
  const found = new RegExp(`<${name}>([^<]{0,2000})</${name}>`).exec(text)?.[1] ?? "";
  return found
    .replaceAll("&lt;", "<").replaceAll("&gt;", ">").replaceAll("&quot;", '"')
    .replaceAll("&apos;", "'").replaceAll("&amp;", "&").trim();
}

/** A server's own words, without line breaks, keys and tokens. */
function cleanMessage(text: string, settings: AwsSettings): string {
  let message = text;
  for (const secret of [settings.secretAccessKey, settings.sessionToken, settings.accessKeyId]) {
    if (secret !== undefined && secret !== "") message = message.replaceAll(secret, "***");
  }
  return displayPath(message.slice(0, MESSAGE_LENGTH_MAX)).replace(/\.$/, "");
}

/** `Retry-After` in seconds; a date is passed over, as nothing here reads a clock. */
function wishOf(headers: Headers): number {
  const seconds = /^\d{1,6}$/.exec(headers.get("retry-after") ?? "")?.[0];
  return seconds === undefined ? 0 : Math.min(Number(seconds), LONGEST_WISH_SECONDS) * 1000;
}
