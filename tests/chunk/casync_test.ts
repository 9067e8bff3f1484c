/** What is written to a store is what casync writes and reads. */
import { assert, assertEquals } from "@std/assert";
import { readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { chunkPath } from "../../lib/chunk/chunk.ts";
import { decodeChunkIndex, encodeChunkIndex } from "../../lib/chunk/chunk_index.ts";
import { DirectoryStore } from "../../lib/chunk/directory_store.ts";
import { COMMANDS } from "../../cli/commands.ts";
import { runFake } from "../cli/fake_io.ts";
import {
  CHUNK_BYTES,
  idAt,
  noise,
  sampleFile,
  store,
  uploaderOf,
  withDirectory,
} from "./helpers.ts";
import { mustRunBeside, programOrNotice, run, withFileServer } from "./programs.ts";

const SOURCE = `oci:${fileURLToPath(new URL("../../fixtures/oci-tiny", import.meta.url))}`;

Deno.test("casync make writes the same index, whatever the size and the digest", async () => {
  if (!programOrNotice("casync", "indexes compared with those of casync make")) return;
  await withDirectory(async (directory) => {
    const path = join(directory, "file");
    const files = [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 9 * CHUNK_BYTES + 77]
      .map((size) => noise(size));
    for (const file of [sampleFile(), new Uint8Array(5 * CHUNK_BYTES), ...files]) {
      writeFileSync(path, file);
      for (const [digest, chunkBytes] of [["sha512-256", CHUNK_BYTES], ["sha256", 4096]] as const) {
        const theirs = join(directory, "theirs.caibx");
        await mustRunBeside("casync", [
          "make",
          `--digest=${digest}`,
          `--store=${join(directory, "theirs")}`,
          `--chunk-size=${chunkBytes}:${chunkBytes}:${chunkBytes}`,
          theirs,
          path,
        ]);
        const uploader = uploaderOf(new DirectoryStore(join(directory, `ours-${digest}`)));
        const { index } = await store(file, uploader, { digest, chunkBytes });
        assertEquals(encodeChunkIndex(index), new Uint8Array(readFileSync(theirs)));
      }
    }
  });
});

Deno.test("casync gives back a blessed image from a directory and over HTTP, bit for bit", async () => {
  if (!programOrNotice("casync", "images got back by casync extract and casync digest")) return;
  for (const digest of ["sha512-256", "sha256"]) {
    await withDirectory(async (directory) => {
      const at = (name: string) => join(directory, name);
      const words = [
        "--create-store",
        "--store",
        at("store"),
        "--index",
        at("image.caibx"),
        "--digest",
        digest,
      ];
      const blessed = await runFake(["bless", SOURCE, "-o", at("image"), ...words], COMMANDS);
      assertEquals(blessed.code, 0, blessed.stderr);
      const image = readFileSync(at("image"));
      await mustRunBeside("casync", [
        "extract",
        `--store=${at("store")}`,
        at("image.caibx"),
        at("copy"),
      ]);
      assert(readFileSync(at("copy")).equals(image));
      const digests = [at("image.caibx"), at("image")].map((path) =>
        mustRunBeside("casync", ["digest", `--store=${at("store")}`, path])
      );
      assertEquals(await digests[0], await digests[1]);
      await withFileServer(directory, async (url) => {
        const remote = [`--store=${url}/store`, `${url}/image.caibx`, at("remote")];
        await mustRunBeside("casync", ["extract", ...remote]);
        assert(readFileSync(at("remote")).equals(image));
      });
    });
  }
});

Deno.test("casync needs the chunk of zeros, and finds it", async () => {
  if (!programOrNotice("casync", "the chunk of zeros")) return;
  await withDirectory(async (directory) => {
    const at = (name: string) => join(directory, name);
    writeFileSync(at("file"), "");
    truncateSync(at("file"), 50 * CHUNK_BYTES);
    const words = [
      "chunk",
      at("file"),
      "--create-store",
      "--store",
      at("store"),
      "-o",
      at("x.caibx"),
      "--quiet",
    ];
    assertEquals((await runFake(words, COMMANDS)).code, 0);
    const extract = ["extract", `--store=${at("store")}`, at("x.caibx"), at("copy")];
    await mustRunBeside("casync", extract);
    assertEquals(readFileSync(at("copy")).length, 50 * CHUNK_BYTES);
    const id = idAt(decodeChunkIndex(new Uint8Array(readFileSync(at("x.caibx"))), "x"), 0);
    rmSync(join(at("store"), chunkPath(id)));
    rmSync(at("copy"));
    assert((await run("casync", extract)).status !== 0);
  });
});
