/**
 * The library's threads: where their code is, how they start and report ready, and errors as plain data that can be posted
 * between threads.
 *
 * Their code is a separate module, so that an application never runs twice. It is the file worker.ts or worker.js beside
 * the sources and in the npm package; the packages also contain it as text, for bundles, which leave that file out.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { type MessagePort, type Transferable, Worker } from "node:worker_threads";
import { gunzipSync } from "node:zlib";
import {
  BlessfsError,
  type ErrorDetails,
  InputError,
  InterruptedError,
  IoError,
  UsageError,
} from "../errors.ts";
import { WORKER_CODE } from "./worker_code.ts";

/** Where the worker's code is. */
export interface ThreadOptions {
  /**
   * The module that threads load, for applications that ship it separately: a bundle of `@blessfs/blessfs/worker`. A
   * `file:`, `data:`, `http:` or `https:` URL. It is needed only if the package's files have been separated.
   */
  readonly workerUrl?: string | URL | undefined;
}

/** The data a thread starts with. */
export interface ThreadData {
  /** Which of the jobs in worker.ts to do. */
  readonly role: string;
  /** The URL of its code, so that it can start threads itself. */
  readonly workerUrl: string;
  /** The data the role needs. */
  readonly setup: unknown;
}

/** The first message from a thread. Deno would drop messages posted while the thread's modules load. */
const READY = "blessfs-ready";
/** How this module's URL ends unless it was bundled. */
const MODULE_PATH = /\/lib\/io\/thread(\.[jt]s)$/;

let programUrl: string | undefined;
let embeddedUrl: string | undefined;

/**
 * Sets the module that threads load if a call does not name one. For programs that are their own worker, and for workers.
 */
export function useWorkerUrl(url: string | URL): void {
  programUrl = String(url);
}

/** The module that threads load. @throws {UsageError} if there is none or its URL is invalid */
function findWorker({ workerUrl }: ThreadOptions): string {
  if (workerUrl !== undefined) return String(workerUrl);
  if (programUrl !== undefined) return programUrl;
  const extension = MODULE_PATH.exec(import.meta.url)?.[1];
  const beside = extension && new URL(`../../worker${extension}`, import.meta.url);
  if (beside && beside.protocol === "file:" && existsSync(fileURLToPath(beside))) {
    return beside.href;
  }
  // Preferred to a file that would have to be downloaded, which compiled programs may not do.
  if (WORKER_CODE !== undefined) return embeddedUrl ??= codeUrl(WORKER_CODE);
  if (beside) return beside.href;
  throw new UsageError("workerUrl", "is needed: this bundle was made from sources without it", {
    option: "workerUrl",
    hint: "bundle @blessfs/blessfs/worker as a file of its own and pass its URL as workerUrl",
  });
}

function codeUrl(code: string): string {
  const source = gunzipSync(Buffer.from(code, "base64"));
  return `data:text/javascript;base64,${source.toString("base64")}`;
}

/** Threads start only from `file:` and `data:` URLs, but a module given as text may import from anywhere. */
function startableUrl(workerUrl: string): URL {
  let url: URL;
  try {
    url = new URL(workerUrl);
  } catch (cause) {
    throw new UsageError("workerUrl", `wanted a URL, found ${JSON.stringify(workerUrl)}`, {
      option: "workerUrl",
      cause,
    });
  }
  if (url.protocol !== "http:" && url.protocol !== "https:") return url;
  const code = `import ${JSON.stringify(url.href)};`;
  return new URL(`data:text/javascript,${encodeURIComponent(code)}`);
}

/** What is needed to start a thread. */
export interface ThreadSetup<Received> extends ThreadOptions {
  /** Which of the jobs in worker.ts to do. */
  readonly role: string;
  /** Plain data that the role needs. */
  readonly setup: unknown;
  /** What the thread does, for errors: `reads layers`. */
  readonly purpose: string;
  readonly receive: (message: Received) => void;
  /** Called when the thread has ended, even by `terminate`; may be called more than once. */
  readonly die: (reason: unknown) => void;
}

/** The caller's end of a thread. */
export class Thread<Sent, Received> {
  readonly #worker: Worker;
  /** Messages posted before the thread listens. */
  #unsent: { readonly message: Sent; readonly transfer: readonly Transferable[] }[] | undefined =
    [];

  constructor({ role, setup, purpose, receive, die, workerUrl: given }: ThreadSetup<Received>) {
    const workerUrl = findWorker({ workerUrl: given });
    const data: ThreadData = { role, workerUrl, setup };
    this.#worker = new Worker(startableUrl(workerUrl), { workerData: data });
    this.#worker.on("message", (message: Received | typeof READY) => {
      if (message === READY) this.#sendWaiting();
      else receive(message as Received);
    });
    this.#worker.on("messageerror", die);
    this.#worker.on("error", die);
    this.#worker.on("exit", (code: number) => {
      const when = this.#unsent === undefined ? "" : " before it was ready";
      die(new Error(`The thread that ${purpose} ended early${when}, with exit code ${code}`));
    });
  }

  /** Posts a message. Transferred objects must not be used afterwards. */
  post(message: Sent, transfer: readonly Transferable[] = []): void {
    if (this.#unsent === undefined) this.#worker.postMessage(message, transfer);
    else this.#unsent.push({ message, transfer });
  }

  /** Allows the process to exit while the thread is idle. */
  unref(): void {
    this.#worker.unref();
  }

  /** Keeps the process alive again. */
  ref(): void {
    this.#worker.ref();
  }

  /** Stops the thread immediately. */
  async terminate(): Promise<void> {
    await this.#worker.terminate();
  }

  #sendWaiting(): void {
    const waiting = this.#unsent ?? [];
    this.#unsent = undefined;
    for (const { message, transfer } of waiting) this.#worker.postMessage(message, transfer);
  }
}

/** Reports to the parent thread that this one is listening. */
export function announceThread(port: MessagePort): void {
  port.postMessage(READY);
}

/** An error as plain data. */
export interface PlainError {
  /** `bug` means an unexpected error. */
  readonly category: BlessfsError["category"] | "bug";
  readonly name: string;
  readonly message: string;
  /** The system's code, such as `ENOSPC`. */
  readonly systemCode: string | undefined;
  /** Set for expected errors only. */
  readonly facts: (Pick<BlessfsError, "what" | "why"> & Omit<ErrorDetails, "cause">) | undefined;
  readonly stack: string | undefined;
  readonly cause: PlainError | undefined;
}

const CLASSES = {
  usage: UsageError,
  input: InputError,
  io: IoError,
  interrupted: InterruptedError,
} as const;

/** The maximum depth of nested causes to keep. */
const CAUSES_MAX = 8;

/** Converts an error to plain data that can be posted. */
export function plainError(error: unknown, causesLeft = CAUSES_MAX): PlainError {
  const { name, message, stack, cause } = error instanceof Error ? error : new Error(String(error));
  const { code } = Object(error) as { readonly code?: unknown };
  const plain = {
    name,
    message,
    stack,
    systemCode: typeof code === "string" ? code : undefined,
    cause: cause === undefined || causesLeft === 0 ? undefined : plainError(cause, causesLeft - 1),
  };
  if (!(error instanceof BlessfsError)) return { category: "bug", facts: undefined, ...plain };
  const { category, what, why, hint, option, remedies, differences, data } = error;
  const facts = { what, why, code: error.code, hint, option, remedies, differences, data };
  return { category, facts, ...plain };
}

/** Recreates the error: its class, message, details and causes. */
export function rebuiltError({ category, facts, ...plain }: PlainError): Error {
  const cause = plain.cause === undefined ? undefined : rebuiltError(plain.cause);
  if (category === "bug" || facts === undefined) {
    const error = new Error(plain.message, cause === undefined ? undefined : { cause });
    error.name = plain.name;
    if (plain.systemCode !== undefined) Object.assign(error, { code: plain.systemCode });
    if (plain.stack !== undefined) error.stack = plain.stack;
    return error;
  }
  const { what, why, ...details } = facts;
  return new CLASSES[category](what, why, { ...details, cause });
}
