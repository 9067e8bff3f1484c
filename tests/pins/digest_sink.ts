/**
 * Digests of images that are never kept: of every byte, or of what is not a hole.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { createHash, type Hash } from "node:crypto";
import type { ImageSink } from "../../lib/io/sink.ts";

const BLOCK_BYTES = 4096;
const ZEROS = Buffer.alloc(1 << 20);

/** A sink that keeps the digest of what it was given, once it is finished. */
export interface DigestSink extends ImageSink {
  /** In hex. */
  digest(): string;
}

/** SHA-256 of the image as sha256sum would give it for the file. */
export function wholeDigestSink(): DigestSink {
  const hash = createHash("sha256");
  let end = 0;
  const fillTo = (offset: number): void => {
    while (end < offset) {
      const length = Math.min(ZEROS.length, offset - end);
      hash.update(ZEROS.subarray(0, length));
      end += length;
    }
  };
  return sinkOf(hash, {
    write(bytes, offset) {
      fillTo(offset);
      hash.update(bytes);
      end += bytes.length;
    },
    finish: fillTo,
  });
}

/**
 * SHA-256 of every block of 4 KiB that is not all zero, each behind its number, and of the length. It is the same for
 * equal images however they were written, and costs nothing for the free space of a large one.
 */
export function sparseDigestSink(): DigestSink {
  const hash = createHash("sha256");
  const block = Buffer.alloc(BLOCK_BYTES);
  const number = Buffer.alloc(8);
  let current = -1;
  const endBlock = (): void => {
    if (current >= 0 && !block.equals(ZEROS.subarray(0, BLOCK_BYTES))) {
      number.writeBigUInt64LE(BigInt(current));
      hash.update(number).update(block);
    }
    block.fill(0);
  };
  return sinkOf(hash, {
    write(bytes, offset) {
      for (let done = 0; done < bytes.length;) {
        const at = offset + done;
        const blockNumber = Math.floor(at / BLOCK_BYTES);
        if (blockNumber !== current) endBlock();
        current = blockNumber;
        const inBlock = at % BLOCK_BYTES;
        const length = Math.min(BLOCK_BYTES - inBlock, bytes.length - done);
        block.set(bytes.subarray(done, done + length), inBlock);
        done += length;
      }
    },
    finish(sizeBytes) {
      endBlock();
      hash.update(`length ${sizeBytes}`);
    },
  });
}

function sinkOf(
  hash: Hash,
  steps: {
    write: (bytes: Uint8Array, offset: number) => void;
    finish: (sizeBytes: number) => void;
  },
): DigestSink {
  let digest: string | undefined;
  return {
    write: steps.write,
    finish(sizeBytes) {
      steps.finish(sizeBytes);
      digest = hash.digest("hex");
    },
    abort() {},
    digest() {
      if (digest === undefined) throw new Error("the image was not finished");
      return digest;
    },
  };
}
