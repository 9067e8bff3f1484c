import { assertRejects } from "@std/assert";
import { InputError } from "../../lib/errors.ts";
import { openImage } from "../../lib/source/source.ts";
import { givesTars, layoutEntries, withArchive } from "./build_archives.ts";
import { openAndLoad, testOptions } from "./helpers.ts";

Deno.test("openOciArchive reads a layout in a tar, whatever its order and prefix", async () => {
  for (const compress of ["none", "gzip"] as const) {
    for (const prefix of ["", "./", "/"]) {
      const entries = layoutEntries({ compress }, prefix);
      for (const order of [entries, [...entries].reverse()]) {
        await withArchive(order, async (path) => {
          await givesTars(`oci-archive:${path}`);
          await givesTars(`oci-archive:${path}:latest`);
          await givesTars(path);
        });
      }
    }
  }
});

Deno.test("openOciArchive names what is missing", async () => {
  const entries = layoutEntries();
  for (const name of ["index.json", "oci-layout"]) {
    await withArchive(entries.filter(({ path }) => path !== name), async (path) => {
      const open = () => openImage(`oci-archive:${path}`, testOptions());
      await assertRejects(open, InputError, name);
    });
  }
  const blob = entries.findIndex(({ path }) =>
    path.startsWith("blobs/sha256/") && path.length > 20
  );
  await withArchive(entries.toSpliced(blob, 1), async (path) => {
    const load = () => openAndLoad(`oci-archive:${path}`, testOptions());
    await assertRejects(load, InputError, "is missing");
  });
});
