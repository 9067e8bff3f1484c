/**
 * Threads of this library: where their code is, how they are started, what both ends say first, and errors as plain data, to
 * cross from one thread to another.
 *
 * Their code is a module of its own, so that an application never runs twice. Beside the sources and in the npm package it
 * is the file worker.ts or worker.js; the packages have it as text, too, for bundles, which leave that file behind.
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

/** Where the code of the worker is. */
export interface ThreadOptions {
  /**
   * The module that threads load, for applications that ship it by themselves: a bundle of `@blessfs/blessfs/worker`. A
   * `file:`, `data:`, `http:` or `https:` URL. Found without it unless a package is taken apart.
   */
  readonly workerUrl?: string | URL | undefined;
}

/** What a thread is given when it starts. */
export interface ThreadData {
  /** Which of the jobs of worker.ts it does. */
  readonly role: string;
  /** Where its code is from, so that it can start threads itself. */
  readonly workerUrl: string;
  /** What the role needs. */
  readonly setup: unknown;
}

/** The first message of a thread. What is posted while its modules load would be dropped by Deno. */
const READY = "blessfs-ready";
/** The end of this module's URL unless it was bundled. */
const MODULE_PATH = /\/lib\/io\/thread(\.[jt]s)$/;

let programUrl: string | undefined;
let embeddedUrl: string | undefined;

/**
 * Names the module that threads load when a call names none. For programs that are their own worker, and for workers.
 */
export function useWorkerUrl(url: string | URL): void {
  programUrl = String(url);
}

/** The module that threads load. @throws {UsageError} when there is none, or its URL is invalid */
function findWorker({ workerUrl }: ThreadOptions): string {
  if (workerUrl !== undefined) return String(workerUrl);
  if (programUrl !== undefined) return programUrl;
  const extension = MODULE_PATH.exec(import.meta.url)?.[1];
  const beside = extension && new URL(`../../worker${extension}`, import.meta.url);
  if (beside && beside.protocol === "file:" && existsSync(fileURLToPath(beside))) {
    return beside.href;
  }
  // Before a file that would have to be downloaded: programs that were compiled may not.
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

/** Threads start from `file:` and `data:` URLs alone; a module that is text may import from anywhere. */
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

/** What a thread is started with. */
export interface ThreadSetup<Received> extends ThreadOptions {
  /** Which of the jobs of worker.ts it does. */
  readonly role: string;
  /** Plain data that the role needs. */
  readonly setup: unknown;
  /** What the thread does, for errors: `reads layers`. */
  readonly purpose: string;
  readonly receive: (message: Received) => void;
  /** The thread is gone, by `terminate` too; it may be called more than once. */
  readonly die: (reason: unknown) => void;
}

/** The calling thread's end. */
export class Thread<Sent, Received> {
  readonly #worker: Worker;
  /** What was posted before the thread listens. */
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

  /** Posts a message. What is transferred must not be used any more. */
  post(message: Sent, transfer: readonly Transferable[] = []): void {
    if (this.#unsent === undefined) this.#worker.postMessage(message, transfer);
    else this.#unsent.push({ message, transfer });
  }

  /** Lets the process end while the thread has nothing to do. */
  unref(): void {
    this.#worker.unref();
  }

  /** Keeps the process alive again. */
  ref(): void {
    this.#worker.ref();
  }

  /** Cuts the thread off. */
  async terminate(): Promise<void> {
    await this.#worker.terminate();
  }

  #sendWaiting(): void {
    const waiting = this.#unsent ?? [];
    this.#unsent = undefined;
    for (const { message, transfer } of waiting) this.#worker.postMessage(message, transfer);
  }
}

/** Tells the calling thread that this one listens. */
export function announceThread(port: MessagePort): void {
  port.postMessage(READY);
}

/** An error as plain data. */
export interface PlainError {
  /** `bug`: an error that nobody is expected to meet. */
  readonly category: BlessfsError["category"] | "bug";
  readonly name: string;
  readonly message: string;
  /** The system's code, such as `ENOSPC`. */
  readonly systemCode: string | undefined;
  /** Of an expected error. */
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

/** Causes of causes that are kept. */
const CAUSES_MAX = 8;

/** Makes an error fit to be posted. */
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

/** Builds the error again: its class, its words, its facts and its causes. */
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
