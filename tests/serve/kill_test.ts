import { assert, assertEquals } from "@std/assert";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { noise } from "../source/helpers.ts";
import { writeOciLayout } from "../source/build_layout.ts";
import { buildTar } from "../tar/build.ts";
import { assertNothingTemporary, assertWholeImages, leftProcesses } from "./crash.ts";
import {
  Client,
  inDirectory,
  pause,
  ServerProcess,
  TINY,
  withHeldImage,
  writeSmallImage,
} from "./serving.ts";

/** An image whose blessing takes long enough to be met in the middle. */
function writeLargeImage(directory: string): string {
  const path = join(directory, "large");
  const data = noise(24 << 20);
  writeOciLayout(path, { layers: [buildTar([{ path: "data", data }])], compress: "none" });
  return `oci:${path}`;
}

Deno.test("a server that is killed forgets no job, and leaves nothing half-made", async () => {
  await inDirectory(async (directory) => {
    const images = join(directory, "images");
    const client = new Client({ kind: "unix", path: join(images, "serve.sock") });
    const words = ["--images", images, "--workers", "2"];
    const large = writeLargeImage(directory);
    let server = await ServerProcess.start(words);
    const ids = [(await client.bless({ source: large, name: "large" })).id];
    for (let number = 0; number < 6; number++) {
      const source = writeSmallImage(directory, number);
      ids.push((await client.bless({ source, name: `n${number}` })).id);
    }
    // In as many states as can be met from outside.
    for (const wanted of ["resolving", "loading", "writing", "storing"]) {
      const untilMs = performance.now() + 3000;
      while (performance.now() < untilMs) {
        const { json } = await client.ask("/v1/jobs");
        const states = json.jobs.map(({ state }: { state: string }) => state);
        if (states.includes(wanted) || !states.includes("queued")) break;
      }
      await server.kill("SIGKILL");
      assertWholeImages(images);
      server = await ServerProcess.start(words);
      assertNothingTemporary(images);
      const { json } = await client.ask("/v1/jobs");
      assertEquals(json.jobs.length, ids.length);
    }
    for (const id of ids) {
      const job = await client.ended(id);
      assertEquals([job.state, job.error], ["complete", null], job.source);
    }
    for (let number = 0; number < 6; number++) {
      assertEquals((await client.ask(`/v1/names/n${number}`)).status, 200);
    }
    assertEquals(await server.kill("SIGTERM"), 0);
    assertWholeImages(images);
    assertNothingTemporary(images);
    assertEquals(leftProcesses(images), []);
  });
});

Deno.test("SIGTERM waits for what runs, and what waits is there the next time", async () => {
  await withHeldImage(async ({ source, release }) => {
    await inDirectory(async (directory) => {
      const images = join(directory, "images");
      const client = new Client({ kind: "unix", path: join(images, "serve.sock") });
      let server = await ServerProcess.start(["--images", images, "--workers", "1"]);
      const running = await client.bless({ source });
      const waiting = await client.bless({ source: TINY });
      await client.begun(running.id);
      const ended = server.kill("SIGTERM");
      while (!server.log.includes("draining")) await pause();
      release();
      assertEquals(await ended, 0);
      assertEquals(existsSync(join(images, "serve.sock")), false);
      assertNothingTemporary(images);
      server = await ServerProcess.start(["--images", images, "--workers=0"]);
      assertEquals((await client.ask(`/v1/jobs/${running.id}`)).json.state, "complete");
      assertEquals((await client.ask(`/v1/jobs/${waiting.id}`)).json.state, "queued");
      await server.kill("SIGTERM");
    });
  });
});

Deno.test("a second SIGTERM does not wait: what ran is run again", async () => {
  await withHeldImage(async ({ source, release }) => {
    await inDirectory(async (directory) => {
      const images = join(directory, "images");
      const client = new Client({ kind: "unix", path: join(images, "serve.sock") });
      let server = await ServerProcess.start(["--images", images, "--workers=1", "--drain=0"]);
      const { id } = await client.bless({ source });
      await client.begun(id);
      assertEquals(await server.kill("SIGTERM"), 0);
      assertEquals(leftProcesses(images), []);
      release();
      server = await ServerProcess.start(["--images", images]);
      const job = await client.ended(id);
      assertEquals([job.state, job.error], ["complete", null]);
      await server.kill("SIGTERM");
    });
  });
});

Deno.test("files that a server never finished are swept, and those of others are left alone", async () => {
  await inDirectory(async (directory) => {
    const images = join(directory, "images");
    mkdirSync(join(images, ".serve", "blobs", "sha256"), { recursive: true });
    mkdirSync(join(images, ".serve", "work", "some-job"), { recursive: true });
    mkdirSync(join(images, "layers", "0123"), { recursive: true });
    const hex = "a".repeat(64);
    const swept = [
      `${hex}.ext4`,
      `${"b".repeat(64)}.json`,
      "layers/0123/cdef.ext4",
      `.serve/blobs/sha256/${hex}.part-1-1`,
      ".serve/work/some-job/image.ext4",
    ];
    const kept = ["mine.ext4", "notes.txt", `.serve/blobs/sha256/${hex}`];
    for (const path of [...swept, ...kept]) writeFileSync(join(images, path), "x");
    const server = await ServerProcess.start(["--images", images]);
    for (const path of swept) assert(!existsSync(join(images, path)), path);
    for (const path of kept) assert(existsSync(join(images, path)), path);
    await server.kill("SIGTERM");
  });
});

Deno.test("a state that cannot be opened ends the start with a reason, and repeats no password", async () => {
  await inDirectory(async (directory) => {
    const images = join(directory, "images");
    const broken = join(directory, "state.db");
    writeFileSync(broken, "this is no database, and long enough to be taken for one ".repeat(20));
    for (const state of [broken, "postgres://user:hunter2@127.0.0.1:1/none"]) {
      const store = ["--store", directory];
      const start = ServerProcess.start(["--images", images, "--state", state, ...store]);
      const message = await start.then(() => "", (error: Error) => error.message);
      assert(message.includes("the state: cannot be opened: "), message);
      assert(!message.includes("hunter2"), message);
    }
  });
});
