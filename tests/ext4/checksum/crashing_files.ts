/**
 * Files of a machine that stops at a chosen call. What was written and not yet brought to the disk is then there in
 * part, sector by sector, as after a loss of power.
 *
 * @module
 */
import { closeSync, type Stats } from "node:fs";
import { type ImageFiles, NODE_IMAGE_FILES } from "../../../lib/ext4/checksum/change_journal.ts";
import type { Random } from "../../oracle/noise.ts";

const SECTOR_SIZE_BYTES = 512;

/** Thrown by every call from the chosen one on. */
export class MachineStopped extends Error {}

interface PendingWrite {
  readonly descriptor: number;
  readonly bytes: Uint8Array;
  readonly position: number;
}

/** Real files behind a cache that is lost in part. */
export class CrashingFiles implements ImageFiles {
  /** Calls so far that change anything. */
  callCount = 0;
  readonly #stopAt: number;
  readonly #random: Random;
  #pending: PendingWrite[] = [];
  #isStopped = false;

  /** @param stopAt the number of the call that is the last; Infinity for none */
  constructor(stopAt: number, random: Random) {
    this.#stopAt = stopAt;
    this.#random = random;
  }

  openExclusive(path: string): number {
    this.#count();
    return NODE_IMAGE_FILES.openExclusive(path);
  }

  openForUpdate(path: string): number {
    if (this.#isStopped) throw new MachineStopped();
    return NODE_IMAGE_FILES.openForUpdate(path);
  }

  write(descriptor: number, bytes: Uint8Array, position: number): number {
    // Sometimes only a part is taken, as write(2) may.
    const length = this.#random.chance(0.2) && bytes.length > 1
      ? this.#random.between(1, bytes.length)
      : bytes.length;
    this.#pending.push({ descriptor, bytes: bytes.slice(0, length), position });
    this.#count();
    return length;
  }

  // deno-lint-ignore require-await -- what it throws must come as a rejection
  async writeBehind(descriptor: number, bytes: Uint8Array, position: number): Promise<number> {
    return this.write(descriptor, bytes, position);
  }

  takeAttributes(descriptor: number, from: Stats): void {
    NODE_IMAGE_FILES.takeAttributes(descriptor, from);
  }

  truncate(descriptor: number, sizeBytes: number): void {
    this.#flush(descriptor);
    this.#count();
    NODE_IMAGE_FILES.truncate(descriptor, sizeBytes);
  }

  sync(descriptor: number): Promise<void> {
    this.#count();
    this.#flush(descriptor);
    return Promise.resolve();
  }

  close(descriptor: number): void {
    if (!this.#isStopped) this.#flush(descriptor);
    closeSync(descriptor);
  }

  link(from: string, to: string): void {
    this.#count();
    NODE_IMAGE_FILES.link(from, to);
  }

  rename(from: string, to: string): void {
    this.#count();
    NODE_IMAGE_FILES.rename(from, to);
  }

  unlink(path: string): void {
    this.#count();
    NODE_IMAGE_FILES.unlink(path);
  }

  syncDirectory(path: string): void {
    this.#count();
    NODE_IMAGE_FILES.syncDirectory(path);
  }

  #count(): void {
    if (this.#isStopped) throw new MachineStopped();
    if (++this.callCount < this.#stopAt) return;
    this.#isStopped = true;
    for (const { descriptor, bytes, position } of this.#pending) {
      for (let at = 0; at < bytes.length;) {
        const end = at + SECTOR_SIZE_BYTES - (position + at) % SECTOR_SIZE_BYTES;
        if (this.#random.chance(0.5)) {
          NODE_IMAGE_FILES.write(descriptor, bytes.subarray(at, end), position + at);
        }
        at = end;
      }
    }
    throw new MachineStopped();
  }

  #flush(descriptor: number): void {
    for (const write of this.#pending) {
      if (write.descriptor !== descriptor) continue;
      NODE_IMAGE_FILES.write(descriptor, write.bytes, write.position);
    }
    this.#pending = this.#pending.filter((write) => write.descriptor !== descriptor);
  }
}
