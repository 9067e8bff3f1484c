/**
 * A thread that hashes a spool while the one that inflates writes it. It takes a part of the work off a large layer that is
 * read alone. What it reads lies in the page cache. This module is both ends of the thread, as
 * layer_worker.ts is, and what they tell each other is shared memory: neither looks at messages while it works.
 *
 * @module
 */
import { closeSync } from "node:fs";
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import { IoError } from "../errors.ts";
import { type DigestAlgorithm, Digester } from "../io/digest.ts";
import { descriptorReader } from "../io/random_reader.ts";
import { reopenDescriptor } from "../io/spool.ts";

const ROLE = "blessfs-spool-hasher";
const PIECE_BYTES = 1 << 20;
/** Who waits looks up this often, whatever happens. */
const WAIT_MILLISECONDS = 100;
/** How long the thread may take to let go of the spool before it is cut off. */
const GRACE_MILLISECONDS = 5000;

const STATE = { writing: 0, written: 1, hashed: 2, failed: 3 } as const;
/** Of the 32-bit words: the state, and a counter of changes that the hasher waits on. */
const WORD = { state: 0, changes: 1 } as const;
const SIZE_OFFSET = 8;
/** A byte that says how long the digest is, and the digest. */
const TEXT_OFFSET = 16;
const SHARED_BYTES = 256;

/** The shared memory of the three: who writes the spool, who hashes it, and who started both. */
class SpoolState {
  readonly #words: Int32Array;
  readonly #size: BigInt64Array;
  readonly #text: Uint8Array;

  constructor(shared: SharedArrayBuffer) {
    this.#words = new Int32Array(shared, 0, 2);
    this.#size = new BigInt64Array(shared, SIZE_OFFSET, 1);
    this.#text = new Uint8Array(shared, TEXT_OFFSET);
  }

  get state(): number {
    return Atomics.load(this.#words, WORD.state);
  }

  get sizeBytes(): number {
    return Number(Atomics.load(this.#size, 0));
  }

  set sizeBytes(sizeBytes: number) {
    Atomics.store(this.#size, 0, BigInt(sizeBytes));
    this.#changed();
  }

  /** Changes the state if it is `from`. */
  move(from: number, to: number): void {
    Atomics.compareExchange(this.#words, WORD.state, from, to);
    this.#changed();
  }

  /** Of no more use; what was hashed already stays. */
  fail(): void {
    this.move(STATE.writing, STATE.failed);
    this.move(STATE.written, STATE.failed);
  }

  get changes(): number {
    return Atomics.load(this.#words, WORD.changes);
  }

  /** Waits until something has changed since `changes` was read, or for a while. */
  wait(changes: number): void {
    Atomics.wait(this.#words, WORD.changes, changes, WAIT_MILLISECONDS);
  }

  get digest(): string {
    return String.fromCharCode(...this.#text.slice(1, 1 + this.#text[0]!));
  }

  set digest(text: string) {
    this.#text[0] = text.length;
    for (let i = 0; i < text.length; i++) this.#text[1 + i] = text.charCodeAt(i);
    this.move(STATE.written, STATE.hashed);
  }

  #changed(): void {
    Atomics.add(this.#words, WORD.changes, 1);
    Atomics.notify(this.#words, WORD.changes);
  }
}

/** The end of who writes the spool, in a thread that may block. */
export class HashedSpool {
  readonly #state: SpoolState;
  readonly #descriptor: number;
  readonly #algorithm: DigestAlgorithm;

  /**
   * @param shared of a {@linkcode SpoolHasher}
   * @param descriptor of the spool; stays open as long as this is used
   */
  constructor(shared: SharedArrayBuffer, descriptor: number, algorithm: DigestAlgorithm) {
    this.#state = new SpoolState(shared);
    this.#descriptor = descriptor;
    this.#algorithm = algorithm;
  }

  /** Says how many bytes of the spool are in the file. */
  grewTo(sizeBytes: number): void {
    this.#state.sizeBytes = sizeBytes;
  }

  /**
   * Says that all is written, and waits for the digest. It is computed here when the thread has failed.
   *
   * @returns undefined when `stopped` says so
   */
  digest(stopped: () => boolean): string | undefined {
    const state = this.#state;
    state.move(STATE.writing, STATE.written);
    while (!stopped()) {
      const { changes } = state;
      if (state.state === STATE.hashed) return state.digest;
      if (state.state === STATE.failed) {
        return followedDigest(this.#descriptor, this.#algorithm, {
          size: () => ({ sizeBytes: state.sizeBytes, isAll: true }),
          stopped,
          wait: () => {},
        });
      }
      state.wait(changes);
    }
    return undefined;
  }
}

interface ThreadData {
  readonly role: typeof ROLE;
  readonly descriptor: number;
  readonly algorithm: DigestAlgorithm;
  readonly shared: SharedArrayBuffer;
}

/** The thread, as who starts it sees it. The descriptor must stay open until it is stopped. */
export class SpoolHasher {
  /** For {@linkcode HashedSpool}. */
  readonly shared = new SharedArrayBuffer(SHARED_BYTES);
  readonly #state = new SpoolState(this.shared);
  readonly #worker: Worker;
  readonly #over: Promise<void>;

  /** @param descriptor of the spool */
  constructor(descriptor: number, algorithm: DigestAlgorithm) {
    const data: ThreadData = { role: ROLE, descriptor, algorithm, shared: this.shared };
    this.#worker = new Worker(new URL(import.meta.url), { workerData: data });
    this.#over = new Promise((resolve) => {
      const onOver = () => {
        this.#state.fail();
        resolve();
      };
      this.#worker.on("message", onOver);
      this.#worker.on("error", onOver);
      this.#worker.on("exit", onOver);
    });
  }

  /** Ends the thread, once it has let go of the spool. */
  async stop(): Promise<void> {
    this.#state.fail();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const patience = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, GRACE_MILLISECONDS);
    });
    await Promise.race([this.#over, patience]);
    clearTimeout(timer);
    await this.#worker.terminate();
  }
}

function hashSpool({ descriptor, algorithm, shared }: ThreadData): void {
  const state = new SpoolState(shared);
  if (state.state === STATE.failed) return;
  const own = reopenDescriptor(descriptor, "r");
  if (own === undefined) return;
  let digest: string | undefined;
  try {
    let changes = 0;
    digest = followedDigest(own, algorithm, {
      size: () => {
        changes = state.changes;
        const isAll = state.state === STATE.written;
        // Read behind the state: once all is written it grows no more.
        return { sizeBytes: state.sizeBytes, isAll };
      },
      stopped: () => state.state === STATE.failed,
      wait: () => state.wait(changes),
    });
  } finally {
    closeSync(own);
  }
  if (digest !== undefined) state.digest = digest;
}

/** A file that may still grow. */
interface GrowingFile {
  size(): { readonly sizeBytes: number; readonly isAll: boolean };
  stopped(): boolean;
  /** Until the size may have changed. */
  wait(): void;
}

/** The digest of a file once it is whole; undefined when it is given up. */
function followedDigest(
  descriptor: number,
  algorithm: DigestAlgorithm,
  file: GrowingFile,
): string | undefined {
  const digester = new Digester(algorithm);
  const reader = descriptorReader(descriptor, "spool", Infinity);
  const buffer = new Uint8Array(PIECE_BYTES);
  for (let done = 0; !file.stopped();) {
    const { sizeBytes, isAll } = file.size();
    if (done < sizeBytes) {
      const wanted = buffer.subarray(0, Math.min(PIECE_BYTES, sizeBytes - done));
      const count = reader.readAt(wanted, done);
      if (count !== wanted.length) throw new IoError("spool", `ends at offset ${done + count}`);
      digester.update(wanted);
      done += count;
    } else if (isAll) return digester.digest();
    else file.wait();
  }
  return undefined;
}

if (!isMainThread && parentPort && workerData?.role === ROLE) {
  try {
    hashSpool(workerData as ThreadData);
  } catch {
    // Who writes the spool hashes it then, and says what is wrong with it.
  }
  parentPort.postMessage("over");
}
