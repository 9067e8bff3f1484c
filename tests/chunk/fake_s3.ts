/**
 * An S3 server in this process that keeps objects in memory. It computes every signature again, from the specification
 * and not with the library that is tested, and misbehaves where a test wants it to.
 * AWS General Reference, "Create a signed AWS API request".
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { createHash, createHmac } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import {
  createServer as createTlsServer,
  type ServerOptions as TlsServerOptions,
} from "node:https";
import type { AddressInfo, Socket } from "node:net";
import type { AwsKeys, AwsSettings } from "../../lib/chunk/aws_settings.ts";

/** A request as it arrived. */
export interface SeenRequest {
  readonly method: string;
  /** As sent, still encoded. */
  readonly path: string;
  readonly query: URLSearchParams;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer;
  /** The object's key, decoded, without the bucket. */
  readonly key: string;
}

/** What to answer instead of doing what was asked. */
export interface FakeAnswer {
  readonly status?: number;
  readonly headers?: Record<string, string>;
  readonly body?: string | Uint8Array;
  /** Closes the connection: before anything is done, after the object was stored, or in the middle of the answer. */
  readonly cut?: "before" | "after" | "within";
  /** Never answers. */
  readonly silent?: boolean;
}

/** How the server is to be. */
export interface FakeS3Options {
  readonly bucket?: string;
  readonly keys?: AwsKeys;
  /** Knows `If-None-Match`; without it such a PUT gets 501, or the header is passed over. */
  readonly conditions?: "kept" | "refused" | "ignored";
  /** Objects of one answer to a list; default: all. */
  readonly pageObjects?: number;
  /** Speaks TLS, in this way. */
  readonly tls?: TlsServerOptions;
  /** Asked at each request, with a count from 1. */
  readonly misbehave?: (request: SeenRequest, n: number) => FakeAnswer | undefined;
}

/** Keys for tests. */
export const TEST_KEYS: AwsKeys = {
  accessKeyId: "AKIDTESTTESTTEST",
  secretAccessKey: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
  sessionToken: undefined,
};
export const TEST_REGION = "eu-test-1";

/** Settings with such keys. */
export function settingsOf(keys: AwsKeys): AwsSettings {
  return { region: TEST_REGION, keys: () => Promise.resolve(keys) };
}

export const TEST_SETTINGS: AwsSettings = settingsOf(TEST_KEYS);

/** A server that runs. */
export class FakeS3 {
  readonly objects = new Map<string, Buffer>();
  /** When objects were stored that were not stored at the beginning of 2026. */
  readonly times = new Map<string, string>();
  readonly requests: SeenRequest[] = [];
  /** Signatures that were wrong, and why. */
  readonly faults: string[] = [];
  readonly bucket: string;
  readonly #options: FakeS3Options;
  readonly #keys: AwsKeys;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  constructor(options: FakeS3Options = {}) {
    this.#options = options;
    const serve = (request: IncomingMessage, response: ServerResponse) =>
      void this.#serve(request, response);
    const { tls } = options;
    this.#server = tls === undefined ? createServer(serve) : createTlsServer(tls, serve);
    this.bucket = options.bucket ?? "bucket";
    this.#keys = options.keys ?? TEST_KEYS;
    this.#server.on("connection", (socket: Socket) => {
      this.#sockets.add(socket);
      socket.on("close", () => this.#sockets.delete(socket));
      socket.on("error", () => {});
    });
  }

  /** `http://127.0.0.1:PORT`, or `https://`. */
  get origin(): string {
    const scheme = this.#options.tls === undefined ? "http" : "https";
    return `${scheme}://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** The address of a store in it. */
  store(prefix = "chunks"): string {
    return `s3+${this.origin}/${this.bucket}/${prefix}`;
  }

  count(method: string): number {
    return this.requests.filter((request) => request.method === method).length;
  }

  async listen(): Promise<void> {
    await new Promise<void>((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  async #serve(message: IncomingMessage, response: ServerResponse): Promise<void> {
    const pieces: Buffer[] = [];
    try {
      for await (const piece of message) pieces.push(piece as Buffer);
    } catch {
      return;
    }
    const url = new URL(message.url!, "http://x");
    const path = message.url!.split("?")[0]!;
    const seen: SeenRequest = {
      method: message.method!,
      path,
      query: url.searchParams,
      headers: message.headers as Record<string, string>,
      body: Buffer.concat(pieces),
      key: decodeURIComponent(path).slice(this.bucket.length + 2),
    };
    this.requests.push(seen);
    const answer = this.#options.misbehave?.(seen, this.requests.length);
    if (answer === undefined) return this.#answer(response, this.#do(seen));
    if (answer.silent) return;
    if (answer.cut === "after") this.#do(seen);
    if (answer.cut === "within") {
      response.writeHead(200, { "content-length": "1000" });
      response.write("x");
      setTimeout(() => message.socket.destroy(), 5);
    } else if (answer.cut !== undefined) message.socket.destroy();
    else this.#answer(response, answer);
  }

  #answer(response: ServerResponse, { status = 200, headers = {}, body = "" }: FakeAnswer): void {
    response.writeHead(status, { "content-length": String(Buffer.byteLength(body)), ...headers });
    response.end(body);
  }

  #do(request: SeenRequest): FakeAnswer {
    const fault = signatureFault(request, this.#keys);
    if (fault !== undefined) {
      this.faults.push(fault);
      return errorAnswer(403, "SignatureDoesNotMatch", "The signature is not the one computed");
    }
    if (request.path.split("/")[1] !== this.bucket) return errorAnswer(404, "NoSuchBucket", "No");
    if (request.method === "PUT") return this.#put(request);
    if (request.key === "") return this.#list(request.query);
    if (request.method === "DELETE") {
      this.objects.delete(request.key);
      return { status: 204 };
    }
    const object = this.objects.get(request.key);
    if (object === undefined) return errorAnswer(404, "NoSuchKey", "No such key");
    // Other clients insist on these.
    const headers = {
      etag: `"${createHash("md5").update(object).digest("hex")}"`,
      "last-modified": "Thu, 01 Jan 2026 00:00:00 GMT",
      "content-type": "application/octet-stream",
    };
    if (request.method === "GET") return { body: object, headers };
    return { headers: { ...headers, "content-length": String(object.length) } };
  }

  /** In the order of keys; a token is the last key of the page before, in base64 as real ones look. */
  #list(query: URLSearchParams): FakeAnswer {
    const prefix = query.get("prefix") ?? "";
    const after = Buffer.from(query.get("continuation-token") ?? "", "base64").toString();
    const keys = [...this.objects.keys()].filter((key) => key.startsWith(prefix) && key > after)
      .sort();
    const page = keys.slice(0, this.#options.pageObjects ?? keys.length);
    const entries = page.map((key) =>
      `<Contents><Key>${key}</Key>` +
      `<LastModified>${this.times.get(key) ?? "2026-01-01T00:00:00.000Z"}</LastModified>` +
      `<Size>${this.objects.get(key)!.length}</Size></Contents>`
    );
    const token = page.length === keys.length
      ? "<IsTruncated>false</IsTruncated>"
      : "<IsTruncated>true</IsTruncated><NextContinuationToken>" +
        `${Buffer.from(page.at(-1)!).toString("base64")}</NextContinuationToken>`;
    return { body: `<ListBucketResult>${token}${entries.join("")}</ListBucketResult>` };
  }

  #put({ key, body, headers }: SeenRequest): FakeAnswer {
    if (headers["if-none-match"] !== undefined) {
      if (this.#options.conditions === "refused") return errorAnswer(501, "NotImplemented", "No");
      const isKept = this.#options.conditions !== "ignored";
      if (isKept && this.objects.has(key)) return errorAnswer(412, "PreconditionFailed", "There");
    }
    this.objects.set(key, body);
    return { headers: { etag: '"stored"' } };
  }
}

/** An error document of S3. */
export function errorAnswer(
  status: number,
  code: string,
  message: string,
  more = "",
): FakeAnswer {
  const head = `<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>${code}</Code>`;
  return { status, body: `${head}<Message>${message}</Message>${more}</Error>` };
}

/** Runs a test against a server, which is gone afterwards. */
export async function withFakeS3<T>(
  options: FakeS3Options,
  test: (server: FakeS3) => Promise<T>,
): Promise<T> {
  const server = new FakeS3(options);
  await server.listen();
  try {
    return await test(server);
  } finally {
    await server.close();
  }
}

/** What is wrong with a request's signature; undefined for nothing. */
export function signatureFault(request: SeenRequest, keys: AwsKeys): string | undefined {
  const { headers } = request;
  const given =
    /^AWS4-HMAC-SHA256 Credential=([^,]+), SignedHeaders=([^,]+), Signature=([0-9a-f]{64})$/
      .exec(headers["authorization"] ?? "");
  if (given === null) return "no authorization of version 4";
  const [, credential, signedHeaders, signature] = given;
  const date = headers["x-amz-date"] ?? "";
  if (!/^\d{8}T\d{6}Z$/.test(date)) return `date ${date}`;
  const scope = `${date.slice(0, 8)}/${TEST_REGION}/s3/aws4_request`;
  if (credential !== `${keys.accessKeyId}/${scope}`) return `credential ${credential}`;
  const names = signedHeaders!.split(";");
  for (const name of ["host", "x-amz-content-sha256", "x-amz-date"]) {
    if (!names.includes(name)) return `${name} is not signed`;
  }
  if (headers["if-none-match"] !== undefined && !names.includes("if-none-match")) {
    return "if-none-match is not signed";
  }
  if (headers["x-amz-security-token"] !== keys.sessionToken) return "session token";
  if (keys.sessionToken !== undefined && !names.includes("x-amz-security-token")) {
    return "the session token is not signed";
  }
  // Amazon takes no body whose length it does not know.
  if (request.method === "PUT" && headers["content-length"] !== String(request.body.length)) {
    return `content-length ${headers["content-length"]}`;
  }
  const bodyDigest = createHash("sha256").update(request.body).digest("hex");
  if (headers["x-amz-content-sha256"] !== bodyDigest) return "digest of the body";
  const canonical = [
    request.method,
    decodeURIComponent(request.path).split("/").map(encode).join("/"),
    [...request.query].map(([name, value]) => `${encode(name)}=${encode(value)}`).sort().join("&"),
    ...names.map((name) => `${name}:${(headers[name] ?? "").trim().replace(/ +/g, " ")}`),
    "",
    signedHeaders,
    bodyDigest,
  ].join("\n");
  const text = [
    "AWS4-HMAC-SHA256",
    date,
    scope,
    createHash("sha256").update(canonical).digest("hex"),
  ];
  let key: Buffer | string = `AWS4${keys.secretAccessKey}`;
  for (const part of scope.split("/")) key = createHmac("sha256", key).update(part).digest();
  const wanted = createHmac("sha256", key).update(text.join("\n")).digest("hex");
  return wanted === signature ? undefined : `signature ${signature}, wanted ${wanted}`;
}

function encode(text: string): string {
  return encodeURIComponent(text)
    .replace(/[!'()*]/g, (sign) => `%${sign.charCodeAt(0).toString(16).toUpperCase()}`);
}
