/**
 * Refused requests and failed jobs, as errors for clients.
 *
 * @module
 */
import type { Fault } from "./schemas.ts";
import type { ProgramEnd } from "./program.ts";

export class RequestError extends Error {
  readonly status:
    | 400
    | 401
    | 403
    | 404
    | 405
    | 408
    | 409
    | 413
    | 415
    | 416
    | 421
    | 429
    | 500
    | 503;
  readonly code: string;
  readonly hint: string | undefined;
  readonly headers: Readonly<Record<string, string>>;

  constructor(
    status: RequestError["status"],
    code: string,
    message: string,
    { hint, headers = {} }: { hint?: string | undefined; headers?: Record<string, string> } = {},
  ) {
    super(message);
    this.name = "RequestError";
    this.status = status;
    this.code = code;
    this.hint = hint;
    this.headers = headers;
  }

  get response(): Response {
    const { code, message, hint = null, status, headers } = this;
    const error: Fault = { code, message, hint };
    return Response.json({ error }, { status, headers });
  }
}

export type Verdict =
  | { readonly kind: "done"; readonly document: Readonly<Record<string, unknown>> }
  | { readonly kind: "failed"; readonly fault: Fault; readonly isTransient: boolean };

interface ToldError {
  readonly category?: unknown;
  readonly message?: unknown;
  readonly hint?: unknown;
  readonly data?: Readonly<Record<string, unknown>>;
}

/**
 * Interprets how a process of this program ended. Only network failures can be temporary, and are worth another
 * attempt.
 *
 * @param usesNetwork whether the source is in a registry
 */
export function verdictOf(end: ProgramEnd, usesNetwork: boolean): Verdict {
  const { code, stopped, stdout, stderr } = end;
  if (stopped === "memory") {
    return failed("out_of_memory", "the job needed more memory than a job may have", {
      hint: "allow more with --job-memory",
    });
  }
  if (stopped === "deadline") {
    return failed("deadline", "the job took longer than a job may take", {
      hint: "allow more with --deadline",
    });
  }
  if (code === 0) {
    try {
      return { kind: "done", document: JSON.parse(stdout) };
    } catch {
      return failed("internal", "the job ended well, but its report cannot be read");
    }
  }
  const error = lastError(stderr);
  if (code === undefined || error === undefined) {
    const last = stderr.trim().split("\n").at(-1) ?? "";
    const how = code === undefined ? "was killed" : `ended with code ${code}`;
    return failed("crashed", `the job's process ${how}${last === "" ? "" : `: ${last}`}`);
  }
  const message = typeof error.message === "string" ? error.message : "failed";
  const hint = typeof error.hint === "string" ? error.hint : undefined;
  const { code: kind, isTransient } = classify(error, usesNetwork);
  return failed(kind, message, { hint, isTransient });
}

function failed(
  code: string,
  message: string,
  { hint, isTransient = false }: { hint?: string | undefined; isTransient?: boolean } = {},
): Verdict {
  return { kind: "failed", fault: { code, message, hint: hint ?? null }, isTransient };
}

function lastError(stderr: string): ToldError | undefined {
  for (const line of stderr.split("\n").reverse()) {
    if (!line.startsWith('{"error"')) continue;
    try {
      return JSON.parse(line).error;
    } catch {
      // The line was cut off.
    }
  }
  return undefined;
}

function classify(
  { category, data = {} }: ToldError,
  usesNetwork: boolean,
): { readonly code: string; readonly isTransient: boolean } {
  const { status } = data;
  if (data["code"] === "ENOSPC" || data["code"] === "EDQUOT") {
    return { code: "no_space", isTransient: false };
  }
  if (status === 401 || status === 403) return { code: "unauthorized", isTransient: false };
  if (status === 404) return { code: "not_found", isTransient: false };
  if (category !== "io") {
    const known = ["usage", "input"].find((name) => name === category);
    return { code: known ?? "internal", isTransient: false };
  }
  const isFile = typeof data["path"] === "string" || typeof data["code"] === "string";
  if (!usesNetwork || isFile) return { code: "io", isTransient: false };
  const isTransient = typeof status !== "number" || status === 408 || status === 429 ||
    status >= 500;
  return { code: status === 429 ? "too_many_requests" : "network", isTransient };
}
