import { assertEquals, assertThrows } from "@std/assert";
import { InputError } from "../../../lib/errors.ts";
import { memoryReader } from "../../../lib/io/random_reader.ts";
import { defaultSuperblock } from "../../../lib/ext4/format/superblock.ts";
import { readSuperblock, warnOfState } from "../../../lib/ext4/volume/superblock.ts";
import { openExt4Image } from "../../../lib/ext4/read/image.ts";
import { Warnings } from "../../../lib/warnings.ts";
import { unpackFixture } from "../format/fixture_image.ts";

Deno.test("readSuperblock shows a wrong checksum, and an image with one is refused", () => {
  const bytes = unpackFixture("csum-4k");
  const right = readSuperblock(memoryReader(bytes));
  assertEquals(right.checksum!.stored, right.checksum!.computed);
  bytes[1024 + 0x78]! ^= 1;
  const wrong = readSuperblock(memoryReader(bytes));
  assertEquals(wrong.checksum!.stored === wrong.checksum!.computed, false);
  const open = () => openExt4Image(memoryReader(bytes), { warnings: new Warnings() });
  assertThrows(open, InputError, "superblock: checksum: found 0x");
  assertEquals(readSuperblock(memoryReader(unpackFixture("plain-4k"))).checksum, undefined);
});

Deno.test("readSuperblock refuses what is too short or something else", () => {
  const short = memoryReader(new Uint8Array(2047), "short");
  assertThrows(
    () => readSuperblock(short),
    InputError,
    "short: not an ext4 image: it has only 2047 bytes",
  );
  const other = memoryReader(new Uint8Array(4096), "other");
  assertThrows(() => readSuperblock(other), InputError, "magic number is 0x0");
});

Deno.test("warnOfState tells of journals, errors and orphans, and under strict refuses them", () => {
  const clean = { ...defaultSuperblock(), state: 1, featureCompat: 4 };
  const kindsOf = (fields: object): string[] => {
    const warnings = new Warnings();
    warnOfState({ ...clean, ...fields }, "image", warnings);
    return warnings.list().map(({ kind }) => kind);
  };
  assertEquals(kindsOf({}), []);
  assertEquals(kindsOf({ featureIncompat: 4 }), ["dirtyJournal"]);
  assertEquals(kindsOf({ featureIncompat: 4, state: 0 }), ["dirtyJournal"]);
  assertEquals(kindsOf({ state: 0 }), ["notUnmounted"]);
  assertEquals(kindsOf({ state: 3 }), ["recordedErrors"]);
  assertEquals(kindsOf({ lastOrphan: 12 }), ["orphanInodes"]);
  assertEquals(kindsOf({ featureRoCompat: 0x10000 }), ["orphanInodes"]);
  const dirty = { ...clean, featureIncompat: 4 };
  assertThrows(
    () => warnOfState(dirty, "image", new Warnings(true)),
    InputError,
    "image: its journal",
  );
  const odd = { ...dirty, featureCompat: 0 };
  assertThrows(() => warnOfState(odd, "image", new Warnings()), InputError, "it has no journal");
});
