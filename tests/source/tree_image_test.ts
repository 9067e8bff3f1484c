import { assertEquals, assertRejects } from "@std/assert";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { InputError } from "../../lib/errors.ts";
import { digestOf } from "../../lib/bytes/digest.ts";
import { joinBytes } from "../tar/build.ts";
import { compressLayer } from "./build_layout.ts";
import {
  openAndLoad,
  sampleTar,
  storeBytes,
  testOptions,
  withDirectory,
  withLoaded,
} from "./helpers.ts";

function gzipMembers(tar: Uint8Array): Uint8Array {
  const cuts = [0, 700, 701, 9_000, tar.length];
  const members = cuts.slice(1).map((end, i) => compressLayer(tar.subarray(cuts[i]!, end), "gzip"));
  return joinBytes([compressLayer(new Uint8Array(0), "gzip"), ...members]);
}

const WAYS: readonly [string, (tar: Uint8Array) => Uint8Array][] = [
  ["plain", (tar) => tar],
  ["gzip", (tar) => compressLayer(tar, "gzip")],
  ["multi-member gzip", gzipMembers],
  ["zero-padded gzip", (tar) => joinBytes([compressLayer(tar, "gzip"), new Uint8Array(600)])],
];

for (const [way, store] of WAYS) {
  Deno.test(`openImage reads a ${way} tar without looking at its name`, async () => {
    await withDirectory(async (directory) => {
      const path = join(directory, "root.data");
      const tar = sampleTar();
      const stored = store(tar);
      writeFileSync(path, stored);
      await withLoaded(`tar:${path}`, testOptions(), ([layer], image) => {
        assertEquals(image.kind, "tar");
        assertEquals(image.config, undefined);
        assertEquals(layer!.whiteouts, false);
        assertEquals(layer!.diffId, digestOf(tar));
        assertEquals(layer!.digest, digestOf(stored));
        assertEquals(storeBytes(layer!), tar);
      });
    });
  });
}

Deno.test("openImage refuses a tar that is missing, empty, a directory or no tar", async () => {
  await withDirectory(async (directory) => {
    const path = join(directory, "x.tar");
    const load = () => openAndLoad(`tar:${path}`, testOptions());
    await assertRejects(load, InputError, "does not exist");
    writeFileSync(path, "");
    await assertRejects(load, InputError, "is empty");
    writeFileSync(path, "no tar at all".repeat(100));
    await assertRejects(load, InputError);
    const whole = () => openAndLoad(`tar:${directory}`, testOptions());
    await assertRejects(whole, InputError, "is a directory");
  });
});
