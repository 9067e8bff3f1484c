/**
 * What is sent to S3, and what comes back.
 *
 * @module
 */

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
