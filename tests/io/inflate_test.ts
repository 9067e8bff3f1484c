import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { InputError } from "../../lib/errors.ts";
import { createInflater, sniffCompression } from "../../lib/io/inflate.ts";
import { notRun } from "../oracle/notice.ts";
import { joinBytes } from "../tar/build.ts";
import {
  gzipOf,
  HAS_ZSTD,
  inflate,
  SAMPLE,
  SAMPLE_XZ,
  samples,
  skippableFrame,
} from "./compressed_samples.ts";

Deno.test("createInflater gives the same bytes for pieces of any size", async () => {
  if (!HAS_ZSTD) notRun("zstd", "this runtime's node:zlib does not know it");
  for (const [kind, stored] of samples()) {
    for (const pieceBytes of [1, 2, 3, 7, 64, 1000, 1 << 20]) {
      assertEquals(await inflate(kind, stored, pieceBytes), SAMPLE, `${kind} by ${pieceBytes}`);
    }
  }
});

Deno.test("createInflater reads streams that follow one another as one", async () => {
  for (const [kind, stored] of samples()) {
    const twice = joinBytes([stored, stored, stored]);
    const wanted = joinBytes([SAMPLE, SAMPLE, SAMPLE]);
    for (const pieceBytes of [1, 5, stored.length, stored.length + 1, 1 << 20]) {
      assertEquals(await inflate(kind, twice, pieceBytes), wanted, `${kind} by ${pieceBytes}`);
    }
  }
});

Deno.test("createInflater refuses a stream cut anywhere", async () => {
  for (const [kind, stored] of samples()) {
    for (let length = 1; length < stored.length; length++) {
      const cut = stored.subarray(0, length);
      await assertRejects(() => inflate(kind, cut), InputError, "sample: ", `${kind} to ${length}`);
    }
  }
});

Deno.test("createInflater refuses or survives a flipped bit, never gives wrong bytes", async () => {
  for (const [kind, stored] of samples()) {
    let refused = 0;
    for (let at = 0; at < stored.length; at++) {
      const flipped = stored.slice();
      flipped[at]! ^= 1 << (at % 8);
      try {
        // Bits without meaning (a gzip header's time) may flip; the content may not.
        assertEquals(await inflate(kind, flipped), SAMPLE, `${kind} at ${at}`);
      } catch (error) {
        assert(error instanceof InputError, `${kind} at ${at}: ${error}`);
        refused++;
      }
    }
    assert(refused > stored.length * 0.9, `${kind}: ${refused} of ${stored.length}`);
  }
});

Deno.test("createInflater refuses what follows zstd and xz data", async () => {
  for (const [kind, stored] of samples()) {
    for (const tail of [[1], [0], [0x28, 0xb5], [0xfd, 0x37, 0x7a, 0x58]]) {
      const spoilt = joinBytes([stored, new Uint8Array(tail)]);
      if (kind === "gzip") continue;
      await assertRejects(() => inflate(kind, spoilt), InputError);
      await assertRejects(() => inflate(kind, spoilt, 1), InputError);
    }
  }
});

Deno.test("createInflater refuses bzip2 with a hint", () => {
  try {
    createInflater("bzip2", { name: "sample", emit: () => {} });
    throw new Error("it was accepted");
  } catch (error) {
    assert(error instanceof InputError);
    assertStringIncludes(error.message, "bzip2");
    assertStringIncludes(error.hint ?? "", "bunzip2");
  }
});

Deno.test("sniffCompression tells by the first bytes alone", () => {
  const sniff = (text: string) => sniffCompression(Uint8Array.from(text, (c) => c.charCodeAt(0)));
  assertEquals(sniffCompression(gzipOf(SAMPLE).subarray(0, 10)), "gzip");
  assertEquals(sniffCompression(SAMPLE_XZ.subarray(0, 10)), "xz");
  assertEquals(sniff("\x28\xb5\x2f\xfd\x04\x00"), "zstd");
  for (let kind = 0; kind < 16; kind++) {
    assertEquals(sniffCompression(skippableFrame(1, kind)), "zstd");
  }
  assertEquals(sniff("BZh91AY&SY"), "bzip2");
  assertEquals(sniff("BZh9 is a name"), "none");
  assertEquals(sniff("\x1f\x8b"), "none");
  assertEquals(sniff(""), "none");
  assertEquals(sniff("./\0\0\0\0\0\0\0\0"), "none");
});
