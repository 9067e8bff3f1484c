import { assertEquals, assertRejects } from "@std/assert";
import { InputError } from "../../lib/errors.ts";
import { createInflater } from "../../lib/io/inflate.ts";
import { BIG_DICTIONARY_XZ, inflate, SAMPLE, SAMPLE_XZ, SHA256_XZ } from "./compressed_samples.ts";

Deno.test("createXzInflater refuses options that the decoder lacks, and a big dictionary", async () => {
  await assertRejects(() => inflate("xz", SHA256_XZ), InputError, "the check SHA-256");
  await assertRejects(() => inflate("xz", BIG_DICTIONARY_XZ), InputError, "a dictionary of");
});

Deno.test("an xz inflater that is closed early does not block the next one", async () => {
  for (const count of [0, 1, 100, SAMPLE_XZ.length]) {
    const inflater = createInflater("xz", { name: "first", emit: () => {} });
    if (count > 0) await inflater.push(SAMPLE_XZ.slice(0, count));
    inflater.close();
    assertEquals(await inflate("xz", SAMPLE_XZ), SAMPLE);
  }
});
