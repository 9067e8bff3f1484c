import { assertEquals, assertThrows } from "@std/assert";
import {
  formatClock,
  formatCount,
  formatDuration,
  formatSize,
  parseSize,
  sizeOption,
} from "../../cli/values.ts";
import { UsageError } from "../../lib/errors.ts";

Deno.test("parseSize reads bytes and binary units in any case", () => {
  const table: [text: string, sizeBytes: number][] = [
    ["0", 0],
    ["1", 1],
    ["131072", 131072],
    ["010", 10],
    ["512B", 512],
    ["128K", 131072],
    ["128k", 131072],
    ["128KiB", 131072],
    ["128kib", 131072],
    ["128.0 KiB", 131072],
    ["4M", 4194304],
    ["1.5G", 1610612736],
    ["0.5K", 512],
    ["1.3G", 1395864371],
    ["2T", 2 ** 41],
    ["7P", 7 * 2 ** 50],
    ["0.001E", 1152921504606846],
    ["9007199254740991", Number.MAX_SAFE_INTEGER],
  ];
  for (const [text, sizeBytes] of table) assertEquals(parseSize(text, "--size"), sizeBytes, text);
});

Deno.test("parseSize refuses everything else and names the option and the value", () => {
  const junk = [
    "",
    " ",
    "K",
    "-1",
    "+1",
    "-4K",
    "1.",
    ".5K",
    "1.5",
    "1,5G",
    "1_000",
    "0x10",
    "1e3",
    "4 M B",
    "4X",
  ];
  for (
    const text of [
      ...junk,
      "4MM",
      "4 MiBs",
      "4Ki",
      "NaN",
      "Infinity",
      "1\n",
      "\u0661K",
      " 4K",
      "4K ",
      "4  K",
    ]
  ) {
    const error = assertThrows(() => parseSize(text, "--size"), UsageError, undefined, text);
    assertEquals(
      error.message,
      `--size: \`${text}\`: ${text === "1.5" ? "wanted a whole number of bytes" : "wanted a size"}`,
    );
  }
});

Deno.test("parseSize says what to write in place of decimal units", () => {
  assertThrows(() => parseSize("128KB", "--grid"), UsageError, "write `128KiB` or `128K`");
  assertThrows(() => parseSize("1.5gb", "--grid"), UsageError, "write `1.5giB` or `1.5g`");
});

Deno.test("parseSize refuses what does not fit into an exact number", () => {
  for (
    const text of [
      "9007199254740992",
      "8P",
      "8192T",
      "1E",
      "99999999999999999999",
      "1" + "0".repeat(400),
    ]
  ) {
    assertThrows(() => parseSize(text, "--size"), UsageError, "is too large");
  }
});

Deno.test("formatSize shows bytes exactly and the rest with one digit", () => {
  const table: [sizeBytes: number, text: string][] = [
    [0, "0 B"],
    [1023, "1023 B"],
    [1024, "1.0 KiB"],
    [131072, "128.0 KiB"],
    [1048524, "1023.9 KiB"],
    [1048575, "1.0 MiB"],
    [1610612736, "1.5 GiB"],
    [2 ** 50, "1.0 PiB"],
    [Number.MAX_SAFE_INTEGER, "8.0 PiB"],
  ];
  for (const [sizeBytes, text] of table) assertEquals(formatSize(sizeBytes), text);
});

Deno.test("sizeOption gives what parseSize reads back exactly", () => {
  for (const sizeBytes of [0, 1, 1023, 1024, 1536, 131072, 131073, 4194304, 5 * 2 ** 40]) {
    assertEquals(parseSize(sizeOption(sizeBytes), "x"), sizeBytes);
  }
  assertEquals(sizeOption(131072), "128K");
});

Deno.test("formatDuration and formatClock never round up into a sixtieth second", () => {
  assertEquals([0, 420, 9994, 9995, 59949].map(formatDuration), [
    "0.00 s",
    "0.42 s",
    "9.99 s",
    "10.0 s",
    "59.9 s",
  ]);
  assertEquals([59950, 83000, 3723000].map(formatDuration), ["1:00", "1:23", "1:02:03"]);
  assertEquals([0, 7, 59.6, 3599.9].map(formatClock), ["0:00", "0:07", "1:00", "1:00:00"]);
});

Deno.test("formatCount sets thousands apart", () => {
  assertEquals([0, 999, 1000, 1234567].map(formatCount), ["0", "999", "1,000", "1,234,567"]);
});
