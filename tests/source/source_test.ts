import { assertEquals, assertRejects } from "@std/assert";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { InputError, InterruptedError, UsageError } from "../../lib/errors.ts";
import { openImage } from "../../lib/source/source.ts";
import { Warnings } from "../../lib/warnings.ts";
import { buildTar } from "../tar/build.ts";
import { layoutEntries } from "./build_archives.ts";
import { writeOciLayout } from "./build_layout.ts";
import { openFilesBelow, sampleTar, testOptions, withDirectory } from "./helpers.ts";

Deno.test("openImage opens every kind of source as what it is", async () => {
  await withDirectory(async (directory) => {
    writeOciLayout(join(directory, "layout"), { layers: [sampleTar()] });
    writeFileSync(join(directory, "root.tar"), sampleTar());
    writeFileSync(join(directory, "archive.tar"), buildTar(layoutEntries()));
    const kinds: readonly [string, string][] = [
      [`oci:${directory}/layout`, "oci"],
      [`oci:${directory}/layout:latest`, "oci"],
      [`oci-archive:${directory}/archive.tar`, "oci-archive"],
      [`docker-archive:${directory}/archive.tar`, "docker-archive"],
      [`tar:${directory}/root.tar`, "tar"],
      [`tar:${directory}/archive.tar`, "tar"],
      [`rootfs:${directory}`, "rootfs"],
      [`${directory}/layout`, "oci"],
      [`${directory}/root.tar`, "tar"],
      [`${directory}/archive.tar`, "oci-archive"],
      [directory, "rootfs"],
    ];
    for (const [source, kind] of kinds) {
      const image = await openImage(source, testOptions());
      assertEquals([image.source, image.kind], [source, kind]);
      image.close();
    }
  });
});

Deno.test("openImage refuses what cannot be meant before it looks at anything", async () => {
  await assertRejects(() => openImage("", testOptions()), UsageError);
  await assertRejects(() => openImage("oic:/x", testOptions()), UsageError, "not a kind");
  const signal = AbortSignal.abort();
  await assertRejects(() => openImage("/nowhere", testOptions({ signal })), InterruptedError);
});

Deno.test("openImage warns of --platform for what turns out to be a tree, unless it was named as one", async () => {
  await withDirectory(async (directory) => {
    mkdirSync(join(directory, "root"));
    const tar = join(directory, "root.tar");
    writeFileSync(tar, sampleTar());
    for (const source of [tar, join(directory, "root"), "-"]) {
      const stdin = (async function* () {
        await Promise.resolve();
        yield sampleTar();
      })();
      const options = testOptions({ platform: "linux/arm64", stdin });
      (await openImage(source, options)).close();
      assertEquals(options.warnings.list().map(({ kind }) => kind), ["platformUnknown"], source);
      const strict = testOptions({ platform: "linux/arm64", warnings: new Warnings(true), stdin });
      await assertRejects(() => openImage(source, strict), InputError);
    }
    assertEquals(openFilesBelow(directory), []);
    const options = testOptions({ platform: "linux/arm64" });
    (await openImage(`tar:${tar}`, options)).close();
    assertEquals(options.warnings.list(), []);
    const wrong = testOptions({ platform: "arm64" });
    await assertRejects(() => openImage(tar, wrong), UsageError, "OS/ARCH");
  });
});

Deno.test("a stream that is too long, or given up, is told as that and not as a fault of reading", async () => {
  async function* endless() {
    for (;;) {
      await Promise.resolve();
      yield new Uint8Array(1 << 16);
    }
  }
  const limits = { unpackedBytes: 1 << 20 };
  const error = await assertRejects(() => openImage("-", { stdin: endless(), limits }), InputError);
  assertEquals(error.code, "limitExceeded");
  const abort = new AbortController();
  async function* abortingStream() {
    yield* [await Promise.resolve(new Uint8Array(1))];
    abort.abort(new Error("enough"));
    yield new Uint8Array(1);
  }
  const { signal } = abort;
  const aborted = await assertRejects(
    () => openImage("-", { stdin: abortingStream(), signal }),
    InterruptedError,
  );
  assertEquals(aborted.cause, signal.reason);
});
