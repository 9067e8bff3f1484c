/**
 * Digests of blocks: SHA-256 of the salt and then the block, here or in a thread that hashes while others read and write.
 * This module is both ends of that thread.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import type { MessagePort } from "node:worker_threads";
import { littleEndianWords } from "../bytes/words.ts";
import { invariant } from "../errors.ts";
import { Thread, type ThreadOptions } from "../io/thread.ts";
import { VERITY_BLOCK_BYTES } from "./format.ts";

/** Computes digests with one salt. That of a block of zeros is computed once. */
export class BlockDigests {
  readonly #salt: Uint8Array;
  readonly #zeroHex: string;
  readonly zeroDigest: Uint8Array;

  constructor(salt: Uint8Array) {
    this.#salt = salt;
    this.zeroDigest = this.digest(new Uint8Array(VERITY_BLOCK_BYTES));
    this.#zeroHex = Buffer.from(this.zeroDigest).toString("hex");
  }

  /** Of one block, whatever is in it. */
  digest(block: Uint8Array): Uint8Array {
    return createHash("sha256").update(this.#salt).update(block).digest();
  }

  /** Of several blocks, one behind the other. */
  digests(blocks: Uint8Array): Uint8Array<ArrayBuffer> {
    // Digests as text, and all of them to bytes at once: a buffer for each costs a third of what hashing does.
    let hex = "";
    for (let at = 0; at < blocks.length; at += VERITY_BLOCK_BYTES) {
      const block = blocks.subarray(at, at + VERITY_BLOCK_BYTES);
      hex += isZero(block)
        ? this.#zeroHex
        : createHash("sha256").update(this.#salt).update(block).digest("hex");
    }
    return new Uint8Array(Buffer.from(hex, "hex"));
  }
}

/** Most blocks end at the first word. */
function isZero(block: Uint8Array): boolean {
  if (block[0] !== 0 || block[1] !== 0) return false;
  const words = littleEndianWords(block);
  for (let i = 0; i < words.length; i++) if (words[i] !== 0) return false;
  return true;
}

export interface HashedBlocks {
  /** 32 bytes a block. */
  readonly digests: Uint8Array;
  /** The buffer that the blocks came in, to be filled again. */
  readonly buffer: ArrayBuffer;
}

export interface BlockHasher {
  /** Takes a buffer over until its blocks are hashed. What was given first is done first. */
  hash(buffer: ArrayBuffer, lengthBytes: number): HashedBlocks | Promise<HashedBlocks>;
  /** Lets go of the thread; what it was hashing fails. */
  close(): Promise<void>;
}

// Buffers and not views: Deno looks at every element of a view that is posted.
interface Job {
  readonly buffer: ArrayBuffer;
  readonly lengthBytes: number;
}

interface Outcome {
  readonly buffer: ArrayBuffer;
  readonly digests: ArrayBuffer;
}

/** Hashes where it is called: for so little that a thread would cost more than it saves. */
export function hashHere(salt: Uint8Array): BlockHasher {
  const digests = new BlockDigests(salt);
  return {
    hash: (buffer, lengthBytes) => ({
      buffer,
      digests: digests.digests(new Uint8Array(buffer, 0, lengthBytes)),
    }),
    close: () => Promise.resolve(),
  };
}

/** Hashes in a thread of its own. */
export class HashThread implements BlockHasher {
  readonly #thread: Thread<Job, Outcome>;
  readonly #pending: {
    readonly resolve: (hashed: HashedBlocks) => void;
    readonly reject: (reason: unknown) => void;
  }[] = [];
  #dead: { readonly reason: unknown } | undefined;

  constructor(salt: Uint8Array, options: ThreadOptions = {}) {
    this.#thread = new Thread({
      role: "hashes",
      setup: { salt },
      purpose: "hashes blocks",
      workerUrl: options.workerUrl,
      receive: ({ buffer, digests }) => {
        const next = this.#pending.shift();
        invariant(next !== undefined, "an answer that nobody waits for");
        next.resolve({ buffer, digests: new Uint8Array(digests) });
      },
      die: (reason) => this.#die(reason),
    });
  }

  hash(buffer: ArrayBuffer, lengthBytes: number): Promise<HashedBlocks> {
    if (this.#dead !== undefined) return Promise.reject(this.#dead.reason);
    const hashed = new Promise<HashedBlocks>((resolve, reject) => {
      this.#pending.push({ resolve, reject });
    });
    const job: Job = { buffer, lengthBytes };
    this.#thread.post(job, [buffer]);
    return hashed;
  }

  async close(): Promise<void> {
    this.#die(new Error("The thread that hashes blocks was closed"));
    await this.#thread.terminate();
  }

  #die(reason: unknown): void {
    this.#dead ??= { reason };
    for (const { reject } of this.#pending.splice(0)) reject(this.#dead.reason);
  }
}

/** The thread's end: hashes what it is sent. */
export function serveHashes(port: MessagePort, { salt }: { readonly salt: Uint8Array }): void {
  const hasher = new BlockDigests(new Uint8Array(salt));
  port.on("message", ({ buffer, lengthBytes }: Job) => {
    const { buffer: digests } = hasher.digests(new Uint8Array(buffer, 0, lengthBytes));
    const outcome: Outcome = { buffer, digests };
    port.postMessage(outcome, [buffer, digests]);
  });
}
