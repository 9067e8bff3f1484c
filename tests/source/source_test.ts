import { assertEquals, assertRejects } from "@std/assert";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { InterruptedError, UsageError } from "../../lib/errors.ts";
import { openImage } from "../../lib/source/source.ts";
import { buildTar } from "../tar/build.ts";
import { layoutEntries } from "./build_archives.ts";
import { writeOciLayout } from "./build_layout.ts";
import { sampleTar, testOptions, withDirectory } from "./helpers.ts";

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
  await assertRejects(() => openImage("oic:/x", testOptions()), UsageError, "no known kind");
  const signal = AbortSignal.abort();
  await assertRejects(() => openImage("/nowhere", testOptions({ signal })), InterruptedError);
});
