import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { InputError } from "../../lib/errors.ts";
import { BlobFiles } from "../../lib/source/blob_files.ts";

const DIGEST = `sha256:${"a".repeat(64)}`;
const descriptor = (digest: string, sizeBytes: number) => ({
  digest,
  sizeBytes,
  mediaType: "application/x",
  data: undefined,
  urls: [],
  annotations: new Map<string, string>(),
  platform: undefined,
  artifactType: undefined,
});

Deno.test("BlobFiles reads and locates a blob under the name that its digest gives", async () => {
  const directory = mkdtempSync(join(tmpdir(), "blessfs-blobs-"));
  try {
    const blobs = new BlobFiles(
      directory,
      ({ hex }, mediaType) => `${hex.slice(0, 4)}.${mediaType[12]}`,
    );
    assertThrows(() => blobs.locate(descriptor(DIGEST, 3)), InputError, "aaaa");
    writeFileSync(join(directory, "aaaa.x"), "abc");
    assertEquals(new TextDecoder().decode(await blobs.read(descriptor(DIGEST, 3))), "abc");
    const stored = blobs.locate(descriptor(DIGEST, 3));
    assertEquals([stored.kind, stored.kind === "file" && stored.lengthBytes], ["file", 3]);
    assertThrows(() => blobs.locate(descriptor(DIGEST, 4)), InputError, "aaaa.x");
    assertThrows(() => blobs.locate(descriptor("sha256:../../x", 4)), InputError);
    mkdirSync(join(directory, "bbbb.x"));
    const other = descriptor(`sha256:${"b".repeat(64)}`, 3);
    await assertRejects(async () => await blobs.read(other), InputError, "no regular file");
  } finally {
    rmSync(directory, { recursive: true });
  }
});
