import { assert, assertEquals } from "@std/assert";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { notRun } from "../oracle/notice.ts";
import {
  assertNothingTemporary,
  assertWholeImages,
  leftProcesses,
  randomNumbers,
} from "./crash.ts";
import { postgresMissing, PostgresServer } from "./postgres_server.ts";
import {
  type Answer,
  Client,
  inDirectory,
  pause,
  ServerProcess,
  writeSmallImage,
} from "./serving.ts";

const ROUNDS = Number(process.env["SERVE_KILL_ROUNDS"] ?? 100);
const SEED = Number(process.env["SERVE_KILL_SEED"] ?? 1);
/** Each so many rounds the database is restarted, too, without a warning. */
const RESTART_EVERY = 10;

/** Asks until the server is there and has its state. */
async function insist(client: Client, path: string, json?: unknown): Promise<Answer> {
  for (let tries = 0;; tries++) {
    try {
      const answer = await client.ask(path, json === undefined ? {} : { json });
      if (answer.status !== 503 || tries > 1000) return answer;
    } catch (error) {
      if (tries > 1000) throw error;
    }
    await pause(50);
  }
}

Deno.test(`one of two hosts is killed ${ROUNDS} times, and the database restarted: no job is lost (seed ${SEED})`, async () => {
  const missing = postgresMissing();
  if (missing !== undefined) return notRun("two hosts that are killed", missing);
  await inDirectory(async (directory) => {
    const postgres = PostgresServer.start(directory);
    const store = join(directory, "chunks");
    mkdirSync(store);
    const random = randomNumbers(SEED);
    const hosts = ["one", "two"].map((host) => {
      const images = join(directory, host);
      const words = ["--images", images, "--state", postgres.address, "--store", store];
      const client = new Client({ kind: "unix", path: join(images, "serve.sock") });
      const limits = ["--workers=2", "--lease=2", "--queue=100000"];
      return { images, client, words: [...words, ...limits, `--host-name=${host}`] };
    });
    const servers = await Promise.all(hosts.map(({ words }) => ServerProcess.start(words)));
    try {
      const ids: string[] = [];
      for (let round = 0; round < ROUNDS; round++) {
        const victim = random() < 0.5 ? 0 : 1;
        const other = hosts[1 - victim]!;
        for (let i = 0; i < 2; i++) {
          const source = writeSmallImage(directory, ids.length);
          const { status, json } = await insist(other.client, "/v1/images", { source });
          assertEquals(status, 202);
          ids.push(json.id);
        }
        await pause(random() * 1500);
        await servers[victim]!.kill("SIGKILL");
        assertWholeImages(hosts[victim]!.images);
        if (round % RESTART_EVERY === RESTART_EVERY - 1) {
          postgres.end();
          await pause(random() * 1000);
          postgres.begin();
        }
        servers[victim] = await ServerProcess.start(hosts[victim]!.words);
      }
      const made = new Map<string, string>();
      for (const id of ids) {
        let answer = await insist(hosts[0]!.client, `/v1/jobs/${id}?wait=20s`);
        while (answer.json.finishedAt === null) {
          answer = await insist(hosts[0]!.client, `/v1/jobs/${id}?wait=20s`);
        }
        assertEquals([answer.json.state, answer.json.error], ["complete", null], id);
        made.set(id, answer.json.image);
      }
      assertEquals(new Set(made.values()).size, ids.length);
      // Either host gives out whatever either has made.
      for (const image of [...made.values()].slice(0, 10)) {
        for (const { client } of hosts) {
          const { status, headers } = await client.ask(`/v1/images/${image}/bytes`);
          assertEquals([status, headers.etag], [200, `"${image}"`]);
        }
      }
      for (const server of servers) assertEquals(await server.kill("SIGTERM"), 0);
      for (const { images } of hosts) {
        assertWholeImages(images);
        assertNothingTemporary(images);
        assertEquals(leftProcesses(images), []);
      }
      assert(made.size === ids.length);
    } finally {
      await ServerProcess.endAll();
      postgres.end();
    }
  });
});
