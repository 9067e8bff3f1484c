import { assertEquals, assertRejects } from "@std/assert";
import { InputError } from "../../lib/errors.ts";
import { notRun } from "../oracle/notice.ts";
import { joinBytes } from "../tar/build.ts";
import { HAS_ZSTD, inflate, SAMPLE, skippableFrame, zstdOf } from "./compressed_samples.ts";

Deno.test("createZstdInflater passes over skippable zstd frames wherever they stand", async () => {
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

Deno.test("createZstdInflater reads thousands of small zstd frames", async () => {
  if (!HAS_ZSTD) return notRun("zstd", "this runtime's node:zlib does not know it");
  const parts = Array.from({ length: 3000 }, (_, i) => new TextEncoder().encode(`part ${i};`));
  assertEquals(await inflate("zstd", joinBytes(parts.map(zstdOf))), joinBytes(parts));
});

Deno.test("createZstdInflater refuses damage that lies far into the data", async () => {
  if (!HAS_ZSTD) return notRun("zstd", "this runtime's node:zlib does not know it");
  const plain = new Uint8Array(1_000_000);
  for (let i = 0; i < plain.length; i++) plain[i] = (i * i + (i >> 9)) >> 3;
  const stored = zstdOf(plain);
  assertEquals(await inflate("zstd", stored), plain);
  let refused = 0;
  for (let at = 6; at < stored.length; at += Math.ceil(stored.length / 60)) {
    const flipped = stored.slice();
    flipped[at]! ^= 0x10;
    await assertRejects(() => inflate("zstd", flipped), InputError, "sample: ");
    refused++;
  }
  assertEquals(refused > 50, true);
});
