import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { InputError, IoError } from "../../lib/errors.ts";
import { type Compression, createInflater, sniffCompression } from "../../lib/io/inflate.ts";
import { notRun } from "../oracle/notice.ts";
import { joinBytes } from "../tar/build.ts";
import {
  BIG_DICTIONARY_XZ,
  gzipOf,
  HAS_ZSTD,
  SAMPLE,
  SAMPLE_XZ,
  SHA256_XZ,
  skippableFrame,
  zstdOf,
} from "./compressed_samples.ts";

type Known = Exclude<Compression, "none" | "bzip2">;

/** Inflates bytes that come in pieces of one size, all through one buffer as files do. */
async function inflate(kind: Known, bytes: Uint8Array, pieceBytes = 1 << 20): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  const inflater = createInflater(kind, { name: "sample", emit: (part) => parts.push(part) });
  const buffer = new Uint8Array(pieceBytes);
  try {
    for (let at = 0; at < bytes.length; at += pieceBytes) {
      const piece = bytes.subarray(at, at + pieceBytes);
      buffer.set(piece);
      await inflater.push(buffer.subarray(0, piece.length));
      buffer.fill(0xee);
    }
    await inflater.end();
    return joinBytes(parts);
  } finally {
    inflater.close();
  }
}

function samples(): [Known, Uint8Array][] {
  return [
    ["gzip", gzipOf(SAMPLE)],
    ["xz", SAMPLE_XZ],
    ...(HAS_ZSTD ? [["zstd", zstdOf(SAMPLE)] as [Known, Uint8Array]] : []),
  ];
}

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

Deno.test("createInflater allows zeros after gzip data, and nothing else", async () => {
  const stored = gzipOf(SAMPLE);
  const zeros = new Uint8Array(1000);
  const padded = joinBytes([stored, zeros]);
  for (const pieceBytes of [1, 300, 1 << 20]) {
    assertEquals(await inflate("gzip", padded, pieceBytes), SAMPLE);
    for (const tail of [[1], [0, 1], [0x1f, 0x8b], [0, 0x1f, 0x8b, 8]]) {
      const spoilt = joinBytes([stored, new Uint8Array(tail), zeros]);
      await assertRejects(() => inflate("gzip", spoilt, pieceBytes), InputError);
    }
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

Deno.test("createInflater passes over skippable zstd frames wherever they stand", async () => {
  if (!HAS_ZSTD) return notRun("zstd", "this runtime's node:zlib does not know it");
  const frame = zstdOf(SAMPLE);
  const all = joinBytes([
    skippableFrame(0),
    skippableFrame(20, 7),
    frame,
    skippableFrame(5, 15),
    frame,
    zstdOf(new Uint8Array(0)),
    skippableFrame(300_000),
  ]);
  for (const pieceBytes of [1, 3, 4096, 1 << 20]) {
    assertEquals(await inflate("zstd", all, pieceBytes), joinBytes([SAMPLE, SAMPLE]));
  }
  assertEquals(await inflate("zstd", skippableFrame(9)), new Uint8Array(0));
  await assertRejects(
    () => inflate("zstd", skippableFrame(9).subarray(0, 12)),
    InputError,
    "early",
  );
});

Deno.test("createInflater reads thousands of small zstd frames", async () => {
  if (!HAS_ZSTD) return notRun("zstd", "this runtime's node:zlib does not know it");
  const parts = Array.from({ length: 3000 }, (_, i) => new TextEncoder().encode(`part ${i};`));
  assertEquals(await inflate("zstd", joinBytes(parts.map(zstdOf))), joinBytes(parts));
});

Deno.test("createInflater refuses xz options that the decoder lacks, and a big dictionary", async () => {
  await assertRejects(() => inflate("xz", SHA256_XZ), InputError, "not supported");
  await assertRejects(() => inflate("xz", BIG_DICTIONARY_XZ), InputError, "more memory");
});

Deno.test("createInflater stops at what its receiver throws, and says just that", async () => {
  for (const [kind, stored] of samples()) {
    const full = new IoError("disk", "is full");
    const inflater = createInflater(kind, {
      name: "sample",
      emit: () => {
        throw full;
      },
    });
    const error = await assertRejects(async () => {
      await inflater.push(stored);
      await inflater.end();
    });
    assertEquals(error, full);
    await assertRejects(() => inflater.push(stored));
    inflater.close();
    inflater.close();
  }
});

Deno.test("an xz inflater that is closed early does not block the next one", async () => {
  for (const count of [0, 1, 100, SAMPLE_XZ.length]) {
    const inflater = createInflater("xz", { name: "first", emit: () => {} });
    if (count > 0) await inflater.push(SAMPLE_XZ.slice(0, count));
    inflater.close();
    assertEquals(await inflate("xz", SAMPLE_XZ), SAMPLE);
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
