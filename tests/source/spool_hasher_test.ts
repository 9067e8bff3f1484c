import { assertEquals } from "@std/assert";
import { closeSync, writeSync } from "node:fs";
import { digestOf } from "../../lib/io/digest.ts";
import { createUnlinkedFile } from "../../lib/io/spool.ts";
import { HashedSpool, SpoolHasher } from "../../lib/source/spool_hasher.ts";
import { noise } from "./helpers.ts";

const never = () => false;

Deno.test("SpoolHasher computes the digest of a spool while it grows", async () => {
  for (const algorithm of ["sha256", "sha512"] as const) {
    for (const sizeBytes of [0, 1, 5_000_001]) {
      const bytes = noise(sizeBytes);
      const descriptor = createUnlinkedFile();
      const hasher = new SpoolHasher(descriptor, algorithm);
      const spool = new HashedSpool(hasher.shared, descriptor, algorithm);
      for (let at = 0; at < bytes.length; at += 700_000) {
        const piece = bytes.subarray(at, at + 700_000);
        writeSync(descriptor, piece, 0, piece.length, at);
        spool.grewTo(at + piece.length);
        await new Promise((resolve) => setTimeout(resolve, 1));
      }
      assertEquals(spool.digest(never), digestOf(bytes, algorithm));
      await hasher.stop();
      closeSync(descriptor);
    }
  }
});

Deno.test("HashedSpool hashes the spool itself when the thread has failed", async () => {
  const bytes = noise(3_000_000);
  const descriptor = createUnlinkedFile();
  writeSync(descriptor, bytes, 0, bytes.length, 0);
  const hasher = new SpoolHasher(descriptor, "sha256");
  const spool = new HashedSpool(hasher.shared, descriptor, "sha256");
  await hasher.stop();
  spool.grewTo(bytes.length);
  assertEquals(spool.digest(never), digestOf(bytes));
  closeSync(descriptor);
});

Deno.test("HashedSpool has nothing to say once it is told to stop", async () => {
  const descriptor = createUnlinkedFile();
  const hasher = new SpoolHasher(descriptor, "sha256");
  const spool = new HashedSpool(hasher.shared, descriptor, "sha256");
  spool.grewTo(1000);
  assertEquals(spool.digest(() => true), undefined);
  await hasher.stop();
  closeSync(descriptor);
});
