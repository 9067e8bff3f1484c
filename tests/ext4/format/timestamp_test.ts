import { assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import {
  isMendedByFsck,
  TIMESTAMP_SECONDS_MAX,
  TIMESTAMP_SECONDS_MIN,
  timestampExtra,
  timestampFromWords,
} from "../../../lib/ext4/format/inode.ts";

Deno.test("timestamps match the table of the kernel's documentation", () => {
  // Kernel documentation, "Inode Timestamps": epoch bits, sign bit of the low word, seconds.
  const table: [number, number, number][] = [
    [0, 0x80000000, -(2 ** 31)],
    [0, 0xffffffff, -1],
    [0, 0x00000000, 0],
    [0, 0x7fffffff, 0x07fffffff],
    [1, 0x80000000, 0x080000000],
    [1, 0xffffffff, 0x0ffffffff],
    [1, 0x00000000, 0x100000000],
    [1, 0x7fffffff, 0x17fffffff],
    [2, 0x80000000, 0x180000000],
    [2, 0x7fffffff, 0x27fffffff],
    [3, 0x80000000, 0x280000000],
    [3, 0x7fffffff, 0x37fffffff],
  ];
  for (const [epoch, low, seconds] of table) {
    assertEquals(timestampFromWords(low, epoch), { seconds, nanoseconds: 0 });
    assertEquals(timestampExtra({ seconds, nanoseconds: 0 }), epoch);
  }
  assertEquals(TIMESTAMP_SECONDS_MAX, 0x37fffffff);
  assertEquals(TIMESTAMP_SECONDS_MIN, -0x80000000);
});

Deno.test("isMendedByFsck tells the times that e2fsck takes for old mistakes", () => {
  // fixtures/ext4/csum-4k: debugfs set epoch bits 3 with a low word of -1; e2fsck -y cleared them.
  for (const [seconds, mended] of [[0x27fffffff, false], [0x280000000, true]] as const) {
    assertEquals(isMendedByFsck(seconds), mended);
  }
  for (const [seconds, mended] of [[0x2ffffffff, true], [0x300000000, false]] as const) {
    assertEquals(isMendedByFsck(seconds), mended);
    const isEpoch3 = timestampExtra({ seconds, nanoseconds: 0 }) === 3;
    assertEquals(isEpoch3 && (seconds | 0) < 0, mended);
  }
  assertEquals(isMendedByFsck(-1), false);
});

Deno.test("timestamps survive a round trip", () => {
  fc.assert(fc.property(
    fc.integer({ min: 0, max: TIMESTAMP_SECONDS_MAX - TIMESTAMP_SECONDS_MIN }),
    fc.nat(999_999_999),
    (offset, nanoseconds) => {
      const time = { seconds: TIMESTAMP_SECONDS_MIN + offset, nanoseconds };
      assertEquals(timestampFromWords(time.seconds | 0, timestampExtra(time)), time);
    },
  ));
});

Deno.test("timestamps out of range are refused", () => {
  for (
    const time of [
      { seconds: TIMESTAMP_SECONDS_MIN - 1, nanoseconds: 0 },
      { seconds: TIMESTAMP_SECONDS_MAX + 1, nanoseconds: 0 },
      { seconds: 0.5, nanoseconds: 0 },
      { seconds: 0, nanoseconds: 1e9 },
      { seconds: 0, nanoseconds: -1 },
      { seconds: Number.NaN, nanoseconds: 0 },
    ]
  ) {
    assertThrows(() => timestampExtra(time), Error, "Invariant");
  }
});
