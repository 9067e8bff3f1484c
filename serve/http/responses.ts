/**
 * Responses other than JSON: the bytes of a file, whole or in part (RFC 9110, sections 13 and 14), and server-sent
 * events (HTML Living Standard, section 9.2).
 *
 * @module
 */
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { RequestError } from "../faults.ts";
import { FINAL_STATES } from "../schemas.ts";
import type { ServeService } from "../service.ts";

export type ByteRange =
  | { readonly kind: "whole" }
  | { readonly kind: "part"; readonly first: number; readonly last: number }
  | { readonly kind: "outside" };

/**
 * Reads a Range header. Invalid ranges and multiple ranges are answered with the whole file, as section 14.2 allows.
 *
 * @param sizeBytes size of the file
 */
function parseRange(header: string | undefined, sizeBytes: number): ByteRange {
  const match = /^bytes=(\d{0,15})-(\d{0,15})$/.exec(header?.trim() ?? "");
  if (match === null || match[1] === "" && match[2] === "") return { kind: "whole" };
  if (match[1] === "") {
    const length = Math.min(Number(match[2]), sizeBytes);
    if (length === 0) return { kind: "outside" };
    return { kind: "part", first: sizeBytes - length, last: sizeBytes - 1 };
  }
  const first = Number(match[1]);
  const last = match[2] === "" ? sizeBytes - 1 : Math.min(Number(match[2]), sizeBytes - 1);
  if (match[2] !== "" && Number(match[2]) < first) return { kind: "whole" };
  return first >= sizeBytes ? { kind: "outside" } : { kind: "part", first, last };
}

/** Responds with a file whose content never changes. */
export async function fileResponse(
  path: string,
  digest: string,
  header: (name: string) => string | undefined,
  method: string,
): Promise<Response> {
  const { size } = await stat(path);
  const etag = `"${digest}"`;
  const headers: Record<string, string> = {
    "Accept-Ranges": "bytes",
    "Cache-Control": "private, max-age=31536000, immutable",
    "Content-Type": "application/octet-stream",
    ETag: etag,
  };
  const known = header("if-none-match")?.split(",").map((tag) => tag.trim().replace(/^W\//, ""));
  if (known?.some((tag) => tag === etag || tag === "*")) {
    return new Response(null, { status: 304, headers });
  }
  const ifRange = header("if-range");
  const isSame = ifRange === undefined || ifRange === etag;
  const range = isSame ? parseRange(header("range"), size) : { kind: "whole" } as const;
  if (range.kind === "outside") {
    throw new RequestError(416, "range_outside", `the file has ${size} bytes`, {
      headers: { "Content-Range": `bytes */${size}` },
    });
  }
  const [first, last] = range.kind === "part" ? [range.first, range.last] : [0, size - 1];
  headers["Content-Length"] = String(last - first + 1);
  if (range.kind === "part") headers["Content-Range"] = `bytes ${first}-${last}/${size}`;
  const status = range.kind === "part" ? 206 : 200;
  const body = method === "HEAD" || size === 0 ? null : bodyOf(path, first, last);
  return new Response(body, { status, headers });
}

/** A stream that respects backpressure, and closes the file when its reader goes away. */
function bodyOf(path: string, start: number, end: number): ReadableStream<Uint8Array> {
  const pieces = createReadStream(path, { start, end, highWaterMark: 256 << 10 });
  const iterator = pieces[Symbol.asyncIterator]();
  return new ReadableStream<Uint8Array>({
    async pull(controller) {
      const { done, value } = await iterator.next();
      if (done) controller.close();
      else controller.enqueue(Uint8Array.from(value as Uint8Array));
    },
    async cancel() {
      await iterator.return?.();
      pieces.destroy();
    },
  }, { highWaterMark: 1 });
}

const HEARTBEAT_MS = 15_000;
/** A reader that falls this many events behind is disconnected; it can reconnect. */
const BEHIND_MAX = 256;

/** The open streams, which share one timer. */
const open = new Set<EventStream>();
let heartbeat: ReturnType<typeof setInterval> | undefined;

/** A stream of events to one reader. */
export class EventStream {
  readonly body: ReadableStream<Uint8Array>;
  readonly #encoder = new TextEncoder();
  #controller: ReadableStreamDefaultController<Uint8Array> | undefined;
  readonly #onClose: () => void;

  /** @param onClose called once, when the reader or the server has closed the stream */
  constructor(signal: AbortSignal, onClose: () => void) {
    this.#onClose = onClose;
    this.body = new ReadableStream({
      start: (controller) => {
        this.#controller = controller;
      },
      cancel: () => this.#closed(),
    });
    open.add(this);
    heartbeat ??= setInterval(() => {
      // A comment line, so that proxies do not consider the stream dead.
      for (const stream of open) stream.#write(": alive\n\n");
    }, HEARTBEAT_MS);
    if (signal.aborted) this.close();
    else signal.addEventListener("abort", () => this.close(), { once: true });
  }

  send(event: string, data: unknown): void {
    this.#write(`event: ${event}\ndata: ${JSON.stringify(data)}\n\n`);
  }

  close(): void {
    if (this.#controller === undefined) return;
    try {
      this.#controller.close();
    } catch {
      // The reader has gone.
    }
    this.#closed();
  }

  /** Closes all streams, before the server exits. */
  static closeAll(): void {
    for (const stream of [...open]) stream.close();
  }

  #write(text: string): void {
    if (this.#controller === undefined) return;
    if ((this.#controller.desiredSize ?? 0) < -BEHIND_MAX) return this.close();
    this.#controller.enqueue(this.#encoder.encode(text));
  }

  #closed(): void {
    if (this.#controller === undefined) return;
    this.#controller = undefined;
    open.delete(this);
    if (open.size === 0) {
      clearInterval(heartbeat);
      heartbeat = undefined;
    }
    this.#onClose();
  }
}

export function streamResponse(stream: EventStream): Response {
  return new Response(stream.body, {
    headers: {
      "Cache-Control": "no-store",
      "Content-Type": "text/event-stream; charset=utf-8",
      "X-Accel-Buffering": "no",
    },
  });
}

/** Follows a job, or the job it was merged into, until it ends. */
export async function eventStream(
  service: ServeService,
  id: string,
  signal: AbortSignal,
): Promise<Response> {
  const first = await service.job(id);
  const { events } = service.context;
  const stops: (() => void)[] = [];
  const stream = new EventStream(signal, () => {
    for (const stop of stops) stop();
  });
  let followed = first.id;
  let isAsking = false;
  let wasAsked = false;
  const sendState = async () => {
    wasAsked = true;
    if (isAsking) return;
    isAsking = true;
    try {
      while (wasAsked) {
        wasAsked = false;
        const job = await service.job(id);
        if (job.id !== followed) {
          followed = job.id;
          stops.push(events.listen(job.id, listener));
        }
        stream.send("state", job);
        if (FINAL_STATES.includes(job.state)) stream.close();
      }
    } catch {
      // The database is unavailable, or the job was forgotten: the reader can reconnect.
      stream.close();
    } finally {
      isAsking = false;
    }
  };
  const listener = (news: Parameters<Parameters<typeof events.listen>[1]>[0]) => {
    if (news.kind === "progress") stream.send("progress", news.progress);
    else void sendState();
  };
  for (const listened of new Set([id, first.id])) stops.push(events.listen(listened, listener));
  void sendState();
  return streamResponse(stream);
}
