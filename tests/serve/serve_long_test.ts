import { assert, assertEquals, assertLessOrEqual } from "@std/assert";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import {
  assertNothingTemporary,
  assertWholeImages,
  killAgainAndAgain,
  leftProcesses,
  randomNumbers,
} from "./crash.ts";
import type { Job } from "../../serve/schemas.ts";
import { Client, inDirectory, pause, ServerProcess, writeSmallImage } from "./serving.ts";

const ROUNDS = Number(process.env["SERVE_KILL_ROUNDS"] ?? 100);
const SEED = Number(process.env["SERVE_KILL_SEED"] ?? 1);
const P99_MS_MAX = 50;
/** Who asks at the same time. */
const CLIENTS = 8;

/** Resident memory of a process now. */
function residentMebibytes(pid: number): number {
  return Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "latin1"))![1]) / 1024;
}

Deno.test(`a server that is killed at ${ROUNDS} random moments loses no job (seed ${SEED})`, async () => {
  await inDirectory(async (directory) => {
    const images = join(directory, "images");
    const client = new Client({ kind: "unix", path: join(images, "serve.sock") });
    const random = randomNumbers(SEED);
    const told: string[] = [];
    let number = 0;
    const server = await killAgainAndAgain({
      words: ["--images", images, "--workers", "3", "--queue", "100000"],
      client,
      images,
      rounds: ROUNDS,
      lifeMs: 2500,
      random,
      ask: async (client) => {
        for (let i = 0; i < 3; i++) {
          const mode = random() < 0.3 ? "layered" : "merged";
          const source = writeSmallImage(directory, number++);
          // What was answered is on disk; what was not may be there or not.
          told.push((await client.bless({ source, mode, name: `n${number}` })).id);
        }
      },
    });
    assert(told.length > ROUNDS, `${told.length} jobs were taken`);
    for (const id of told) {
      const job = await client.ended(id, 600);
      assertEquals([job.state, job.error], ["complete", null], id);
      const { json, status } = await client.ask(`/v1/images/${job.image}`);
      assertEquals(status, 200);
      for (const { position, digest } of json.files) {
        const path = `/v1/images/${job.image}/layers/${position}/bytes`;
        assertEquals((await client.ask(path)).headers.etag, `"${digest}"`);
      }
    }
    assertEquals(await server.kill("SIGTERM"), 0);
    assertWholeImages(images);
    assertNothingTemporary(images);
    assertEquals(leftProcesses(images), []);
  });
});

Deno.test("five hundred small images at once: all complete, and the API stays quick", async () => {
  await inDirectory(async (directory) => {
    const images = join(directory, "images");
    const client = new Client({ kind: "unix", path: join(images, "serve.sock") });
    const sources = Array.from({ length: 500 }, (_, i) => writeSmallImage(directory, i));
    const server = await ServerProcess.start(["--images", images, "--workers", "2"]);
    const beforeMebibytes = residentMebibytes(server.child.pid!);
    const jobs: Job[] = [];
    const waiting = [...sources];
    await Promise.all(
      Array.from({ length: CLIENTS }, async () => {
        for (let source = waiting.shift(); source; source = waiting.shift()) {
          jobs.push(await client.bless({ source }));
        }
      }),
    );
    assertEquals(new Set(jobs.map(({ id }) => id)).size, 500);
    let mostMebibytes = 0;
    for (;;) {
      const { json } = await client.ask("/v1/jobs?state=queued&limit=1");
      mostMebibytes = Math.max(mostMebibytes, residentMebibytes(server.child.pid!));
      await client.ask(`/v1/jobs/${jobs[250]!.id}`);
      await client.ask("/v1/images?limit=20");
      if (json.jobs.length === 0) break;
      await pause(50);
    }
    for (const { id } of jobs) {
      const { state, error } = await client.ended(id);
      assertEquals([state, error], ["complete", null]);
    }
    // The client's own work is not the server's: the server says itself how long it took.
    const seconds = server.log.split("\n").filter((line) => line.includes('"message":"request"'))
      .map((line) => JSON.parse(line)).filter(({ path }) => !path.includes("/v1/jobs/"))
      .map(({ seconds }) => seconds as number).sort((a, b) => a - b);
    const p99Ms = seconds[Math.floor(seconds.length * 0.99)]! * 1000;
    // deno-lint-ignore no-console -- what was measured is what the test is for
    console.log(
      `${seconds.length} requests: p50 ${
        seconds[seconds.length >> 1]! * 1000
      } ms, p99 ${p99Ms} ms, ` +
        `most ${seconds.at(-1)! * 1000} ms; ${Math.round(beforeMebibytes)} MiB before, ` +
        `${Math.round(mostMebibytes)} MiB at most`,
    );
    assertLessOrEqual(p99Ms, P99_MS_MAX);
    assertLessOrEqual(mostMebibytes, beforeMebibytes + 200);
    await server.kill("SIGTERM");
  });
});
