import { assertEquals, assertRejects } from "@std/assert";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { blessMerged } from "../../lib/bless/merged.ts";
import { InputError } from "../../lib/errors.ts";
import { fileStream } from "../../lib/ext4/read/file_stream.ts";
import { openExt4Image } from "../../lib/ext4/read/image.ts";
import { MemorySink } from "../../lib/io/streams.ts";
import { loadLayers, openImage, openTar } from "../../lib/source/source.ts";
import { buildTar } from "../tar/build.ts";
import { openFilesBelow, withDirectory } from "./helpers.ts";

const BIG = new Uint8Array(700_001).map((_, i) => i % 253);
const TAR = buildTar([
  { path: "dir/" },
  { path: "dir/small", data: "hello\n" },
  { path: "empty", data: "" },
  { path: "big", data: BIG },
]);

async function bytesOf(stream: ReadableStream<Uint8Array<ArrayBuffer>>): Promise<Uint8Array> {
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

Deno.test("openTar gives entries with their bytes, from a file, memory or a stream", async () => {
  await withDirectory(async (directory) => {
    writeFileSync(join(directory, "plain.tar"), TAR);
    writeFileSync(join(directory, "packed.tar.gz"), gzipSync(TAR));
    const sources = [
      join(directory, "plain.tar"),
      join(directory, "packed.tar.gz"),
      TAR,
      new Blob([new Uint8Array(gzipSync(TAR))]).stream(),
    ];
    for (const source of sources) {
      using tar = await openTar(source);
      assertEquals(tar.entries.map(({ path }) => path), ["dir/", "dir/small", "empty", "big"]);
      const [folder, small, empty, big] = tar.entries;
      assertEquals(new TextDecoder().decode(tar.bytes(small!)), "hello\n");
      assertEquals(await bytesOf(tar.stream(big!)), BIG);
      for (const none of [folder, empty]) {
        assertEquals([tar.bytes(none!).length, (await bytesOf(tar.stream(none!))).length], [0, 0]);
      }
    }
    assertEquals(openFilesBelow(directory), []);
  });
});

Deno.test("openTar refuses what is none", async () => {
  const error = await assertRejects(() => openTar(new TextEncoder().encode("no tar")), InputError);
  assertEquals(error.code, "wrongKind");
  const missing = await assertRejects(() => openTar("/nowhere.tar"), InputError);
  assertEquals(missing.code, "notFound");
  const sink = new MemorySink();
  await blessMerged({ source: `oci:fixtures/oci-tiny`, sink });
  const image = await assertRejects(() => openTar(sink.bytes), InputError);
  assertEquals([image.code, image.message], [
    "wrongKind",
    "the given bytes: are ext4: wanted a tar",
  ]);
});

Deno.test("openImage takes bytes as a source, and what it opens can be disposed of", async () => {
  const sink = new MemorySink();
  await withDirectory(async (directory) => {
    writeFileSync(join(directory, "plain.tar"), TAR);
    await blessMerged({ source: `tar:${join(directory, "plain.tar")}`, sink });
    for (const source of [TAR, new Blob([sink.bytes]).stream()]) {
      using image = await openImage(source, { tmpdir: directory });
      using layers = await loadLayers(image, { tmpdir: directory });
      const names = layers[0]!.entries.map(({ path }) => path.replace(/^\.?\//, ""));
      assertEquals(names.includes("dir/small"), true);
    }
    assertEquals(openFilesBelow(directory), []);
  });
  using image = openExt4Image(sink.bytes);
  assertEquals(await bytesOf(fileStream(image, "/big")), BIG);
  const missing = await assertRejects(
    () => Promise.resolve().then(() => fileStream(image, "/none")),
    InputError,
  );
  assertEquals(missing.code, "notFound");
  await assertRejects(() => Promise.resolve().then(() => fileStream(image, "/dir")), InputError);
});
