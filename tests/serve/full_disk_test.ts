import { assertEquals } from "@std/assert";
import { spawnSync } from "node:child_process";
import { readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { notRun } from "../oracle/notice.ts";
import { noise } from "../source/helpers.ts";
import { writeOciLayout } from "../source/build_layout.ts";
import { buildTar } from "../tar/build.ts";
import { inDirectory, withServing, writeSmallImage } from "./serving.ts";

/** Runs a test with a file system of a few bytes. */
async function withSmallDisk(
  directory: string,
  sizeBytes: number,
  test: () => Promise<void>,
): Promise<void> {
  const run = spawnSync("mount", ["-t", "tmpfs", "-o", `size=${sizeBytes}`, "tmpfs", directory], {
    encoding: "utf8",
  });
  if (run.status !== 0) return notRun("a full disk", "a tmpfs cannot be mounted here");
  try {
    await test();
  } finally {
    spawnSync("umount", ["--lazy", directory]);
  }
}

Deno.test("a disk that is full fails the job that fills it, and no other", async () => {
  await withServing({ workers: 1 }, async ({ client, directory, server }) => {
    const work = join(directory, "images", ".serve", "work");
    const path = join(directory, "large");
    const data = noise(12 << 20);
    writeOciLayout(path, { layers: [buildTar([{ path: "data", data }])], compress: "none" });
    await withSmallDisk(work, 8 << 20, async () => {
      const large = await client.ended((await client.bless({ source: `oci:${path}` })).id);
      assertEquals([large.state, large.error?.code], ["failed", "no_space"]);
      assertEquals(readdirSync(work), []);
      const { status } = await client.ask("/readyz");
      assertEquals(status, 200);
    });
    const small = await client.bless({ source: writeSmallImage(directory, 1) });
    assertEquals((await client.ended(small.id)).state, "complete");
    await server.drain();
  });
});

Deno.test("where the state's own disk is full, work is refused until there is room", async () => {
  await inDirectory(async (disk) => {
    await withSmallDisk(disk, 4 << 20, async () => {
      const more = { workers: 0, state: join(disk, "state.db"), queueMax: 100_000 };
      await withServing(more, async ({ client, directory }) => {
        const filler = join(disk, "filler");
        spawnSync("sh", ["-c", `cat /dev/zero > ${filler} 2> /dev/null`]);
        let refused = 0;
        for (let number = 0; number < 400 && refused === 0; number++) {
          const { status, json, headers } = await client.ask("/v1/images", {
            json: { source: `oci:/nowhere/${number}-${"x".repeat(3000)}` },
          });
          if (status === 202) continue;
          assertEquals([status, json.error.code], [503, "no_state"]);
          assertEquals(headers["retry-after"], "5");
          refused++;
        }
        assertEquals(refused, 1, "the disk became full");
        assertEquals((await client.ask("/healthz")).status, 200);
        rmSync(filler);
        const source = writeSmallImage(directory, 1);
        assertEquals((await client.ask("/v1/images", { json: { source } })).status, 202);
      });
    });
  });
});
