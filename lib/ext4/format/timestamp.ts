/**
 * Inode times (kernel documentation, "Inode Timestamps"): a signed 32-bit number of seconds, and in the extra word two
 * more bits of seconds (the epoch) below 30 bits of nanoseconds.
 *
 * @module
 */
import { invariant } from "../../errors.ts";

/** A point in time: seconds since 1970, which may be negative, and nanoseconds that count forward from there. */
export interface Timestamp {
  /** Whole seconds since 1970, rounded down. */
  readonly seconds: number;
  /** 0 to 999,999,999. */
  readonly nanoseconds: number;
}

/** 1901-12-13, the first second that fits. */
export const TIMESTAMP_SECONDS_MIN = -(2 ** 31);
/** 2446-05-10, the last second that fits with the epoch bits. */
export const TIMESTAMP_SECONDS_MAX = 2 ** 34 - 2 ** 31 - 1;
/** The start of 1970. */
export const TIMESTAMP_ZERO: Timestamp = Object.freeze({ seconds: 0, nanoseconds: 0 });

/**
 * Whether e2fsck takes this time for an old mistake: kernels before 3.14 wrote epoch bits 3 with times before 1970. Until
 * the year 2242 e2fsck reports the last 2^31 seconds of that epoch (2310-04-04 to 2378-04-22), exits 0 under -n
 * all the same, and moves them before 1970 under -p and -y.
 */
export function isMendedByFsck(seconds: number): boolean {
  return seconds >= 0x280000000 && seconds < 0x300000000;
}

/** The extra word (i_ctime_extra and so on): epoch bits below nanoseconds. */
export function timestampExtra(time: Timestamp): number {
  const { seconds, nanoseconds } = time;
  const isWhole = Number.isInteger(seconds) && Number.isInteger(nanoseconds);
  const fits = isWhole && seconds >= TIMESTAMP_SECONDS_MIN && seconds <= TIMESTAMP_SECONDS_MAX &&
    nanoseconds >= 0 && nanoseconds < 1e9;
  // The message is made only when it is needed: this runs four times for every inode.
  if (!fits) invariant(false, `a time of ${seconds} seconds and ${nanoseconds} nanoseconds`);
  const epoch = (seconds - (seconds | 0)) / 2 ** 32;
  return nanoseconds * 4 + epoch;
}

/**
 * The time of a signed low word and its extra word (0 where the inode has none). A stored nanosecond count can be
 * 10^9 or more in a damaged image; it is handed on as it is, for the caller to judge.
 */
export function timestampFromWords(low: number, extra: number): Timestamp {
  return { seconds: (low | 0) + (extra & 3) * 2 ** 32, nanoseconds: extra >>> 2 };
}
