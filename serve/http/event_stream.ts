/**
 * Server-sent events. HTML Living Standard, section 9.2.
 *
 * @module
 */
import { FINAL_STATES } from "../schemas.ts";
import type { ServeService } from "../service.ts";

const HEARTBEAT_MS = 15_000;
/** A reader that is so many events behind is let go; it can ask again. */
const BEHIND_MAX = 256;

/** The open streams: one timer for all of them. */
const open = new Set<EventStream>();
let heartbeat: ReturnType<typeof setInterval> | undefined;

/** A stream of events to one reader. */
export class EventStream {
  readonly body: ReadableStream<Uint8Array>;
  readonly #encoder = new TextEncoder();
  #controller: ReadableStreamDefaultController<Uint8Array> | undefined;
  readonly #onClose: () => void;

  /** @param onClose when the reader or the server has closed it, once */
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
      // A comment: nothing between here and the reader takes the stream for dead.
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

  /** Closes all streams, before the server ends. */
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

/** The answer that carries a stream. */
export function streamResponse(stream: EventStream): Response {
  return new Response(stream.body, {
    headers: {
      "Cache-Control": "no-store",
      "Content-Type": "text/event-stream; charset=utf-8",
      "X-Accel-Buffering": "no",
    },
  });
}

/** Follows a job, or the one that does its work, until it ends. */
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
  const tellState = async () => {
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
      // The state is away, or the job is forgotten: the reader can ask again.
      stream.close();
    } finally {
      isAsking = false;
    }
  };
  const listener = (news: Parameters<Parameters<typeof events.listen>[1]>[0]) => {
    if (news.kind === "progress") stream.send("progress", news.progress);
    else void tellState();
  };
  for (const listened of new Set([id, first.id])) stops.push(events.listen(listened, listener));
  void tellState();
  return streamResponse(stream);
}
