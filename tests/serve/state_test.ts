import { assert, assertEquals } from "@std/assert";
import { join } from "node:path";
import type { BlessRequest, ImageRecord } from "../../serve/schemas.ts";
import { JobStore } from "../../serve/state/jobs.ts";
import { openPostgres } from "../../serve/state/postgres.ts";
import { openSqlite } from "../../serve/state/sqlite.ts";
import { newJobId } from "../../serve/state/store.ts";
import { notRun } from "../oracle/notice.ts";
import { postgresMissing, PostgresServer } from "./postgres_server.ts";
import { inDirectory, pause } from "./serving.ts";

const TRACE = `00-${"1".repeat(32)}-${"2".repeat(16)}-00`;

function request(number: number, more: Partial<BlessRequest> = {}): BlessRequest {
  return { source: `oci:/${number}`, mode: "merged", options: {}, priority: 0, ...more };
}

function image(digit: string, jobId: string): ImageRecord {
  return {
    digest: `sha256:${digit.repeat(64)}`,
    mode: "merged",
    jobId,
    source: "oci:/x",
    manifestDigest: null,
    createdMs: 1,
    sizeBytes: 2 ** 40,
    cellBytes: 3,
    newBytes: 2,
    sharedBytes: 1,
    rootHash: null,
    document: '{"what?":"a question mark"}',
  };
}

/** Runs a test with each kind of database. */
function onBoth(
  name: string,
  test: (store: JobStore, another: () => Promise<JobStore>) => Promise<void>,
): void {
  Deno.test(`SQLite: ${name}`, async () => {
    await inDirectory(async (directory) => {
      const store = new JobStore(openSqlite(join(directory, "state.db")));
      // There is one server to a file.
      await test(store, () => Promise.resolve(store)).finally(() => store.close());
    });
  });
  Deno.test(`PostgreSQL: ${name}`, async () => {
    const missing = postgresMissing();
    if (missing !== undefined) return notRun("state in PostgreSQL", missing);
    await inDirectory(async (directory) => {
      const server = PostgresServer.start(directory);
      try {
        const stores: JobStore[] = [];
        const open = async () => {
          const store = new JobStore(await openPostgres(server.address));
          stores.push(store);
          return store;
        };
        await test(await open(), open).finally(() => Promise.all(stores.map((s) => s.close())));
      } finally {
        server.end();
      }
    });
  });
}

onBoth("equal requests are one job, whoever asks when", async (store, another) => {
  const other = await another();
  const posted = await Promise.all(
    Array.from({ length: 60 }, (_, i) => (i % 2 ? store : other).post(request(1), TRACE, 10)),
  );
  assertEquals(posted.filter(({ kind }) => kind === "created").length, 1);
  assertEquals(new Set(posted.map((one) => one.kind === "full" ? "" : one.id)).size, 1);
});

onBoth("each job is taken once, however many take jobs", async (store, another) => {
  const stores = [store, await another(), await another()];
  for (let i = 0; i < 40; i++) await store.post(request(i), TRACE, 100);
  const taken = await Promise.all(
    Array.from({ length: 60 }, (_, i) => stores[i % 3]!.claim(`host${i % 3}`, 60_000)),
  );
  const ids = taken.flatMap((job) => job ? [job.id] : []);
  assertEquals(new Set(ids).size, ids.length);
  for (let job = await store.claim("last", 1000); job; job = await store.claim("last", 1000)) {
    ids.push(job.id);
  }
  assertEquals(new Set(ids).size, 40);
});

onBoth(
  "a job whose host is silent goes to another, and the first can end nothing",
  async (store) => {
    await store.post(request(1), TRACE, 10);
    const first = await store.claim("first", 1);
    while ((await store.recover({ kind: "expired" })).length === 0) await pause();
    const second = await store.claim("second", 60_000);
    assertEquals([second!.id, second!.runs], [first!.id, 2]);
    const claim = { id: first!.id, owner: "first" };
    assertEquals(await store.complete(claim, image("a", first!.id), [], {}), false);
    assertEquals(await store.end(claim, "failed", undefined, {}), false);
    assertEquals(await store.advance(claim, "writing", {}), false);
    assertEquals(await store.putBack(claim, 0, true), false);
    assertEquals((await store.renew([{ ...claim, progress: { tasks: [] } }], 1000)).size, 0);
    assertEquals(await store.image(image("a", "").digest), undefined);
    assertEquals((await store.recover({ kind: "expired" })).length, 0);
    assert(await store.complete({ id: first!.id, owner: "second" }, image("a", first!.id), [], {}));
    assertEquals((await store.job(first!.id))!.state, "complete");
  },
);

onBoth("equal work is one job, while it goes on and afterwards", async (store) => {
  const post = async (number: number, name: string) => {
    const posted = await store.post(request(number, { name }), TRACE, 10);
    return posted.kind === "full" ? "" : posted.id;
  };
  const first = await post(1, "one");
  const second = await post(2, "two");
  await store.claim("a", 60_000);
  await store.claim("b", 60_000);
  const work = { key: "k", manifestDigest: "sha256:m" };
  assertEquals(await store.resolved({ id: first, owner: "a" }, work), "bless");
  assertEquals(await store.resolved({ id: second, owner: "b" }, work), "joined");
  assertEquals((await store.job(second))!.id, first);
  const index = Uint8Array.of(0, 255, 1);
  const made = image("a", first);
  const indexes = [{ position: 0, bytes: index }];
  assert(await store.complete({ id: first, owner: "a" }, made, indexes, { writing: 1.5 }));
  for (const name of ["one", "two"]) assertEquals((await store.name(name))!.image, made.digest);
  assertEquals(new Uint8Array((await store.chunkIndex(made.digest, 0))!), index);
  assertEquals((await store.image(made.digest))!.sizeBytes, 2 ** 40);
  assertEquals((await store.job(first))!.seconds, { writing: 1.5 });

  const third = await post(3, "three");
  await store.claim("c", 60_000);
  assertEquals(await store.resolved({ id: third, owner: "c" }, work), "joined");
  assertEquals((await store.job(third))!.id, first);
  assertEquals((await store.name("three"))!.image, made.digest);
  assertEquals((await store.counts()).get("complete"), 1);

  assertEquals((await store.deleteImage(made.digest, false)).kind, "named");
  assertEquals((await store.deleteImage(made.digest, true)).kind, "deleted");
  const fourth = await post(4, "four");
  await store.claim("d", 60_000);
  assertEquals(await store.resolved({ id: fourth, owner: "d" }, work), "bless");
});

onBoth("a name stands for the image of the request that came last", async (store) => {
  const ids: string[] = [];
  for (const number of [1, 2]) {
    const posted = await store.post(request(number, { name: "app" }), TRACE, 10);
    ids.push(posted.kind === "full" ? "" : posted.id);
    await store.claim(`w${number}`, 60_000);
  }
  assert(await store.complete({ id: ids[1]!, owner: "w2" }, image("b", ids[1]!), [], {}));
  assert(await store.complete({ id: ids[0]!, owner: "w1" }, image("a", ids[0]!), [], {}));
  assertEquals((await store.name("app"))!.image, image("b", "").digest);
});

onBoth("what was cancelled cannot be completed", async (store) => {
  const posted = await store.post(request(1), TRACE, 10);
  const id = posted.kind === "full" ? "" : posted.id;
  await store.claim("a", 60_000);
  assertEquals(await store.cancel(id), "requested");
  const renewed = await store.renew([{ id, owner: "a", progress: { tasks: [] } }], 1000);
  assertEquals(renewed.get(id), { cancelRequested: true });
  assertEquals(await store.complete({ id, owner: "a" }, image("a", id), [], {}), false);
  assert(await store.end({ id, owner: "a" }, "cancelled", undefined, {}));
  assertEquals(await store.cancel(id), "finished");
  assertEquals(await store.cancel("0".repeat(32)), "unknown");
  assertEquals(await store.forgetJobs(-1000), 1);
  assertEquals(await store.job(id), undefined);
});

Deno.test("SQLite: one transaction that fails undoes nothing of those beside it", async () => {
  await inDirectory(async (directory) => {
    const database = openSqlite(join(directory, "state.db"));
    const insert = (name: string, fails: boolean) =>
      database.transaction(async (session) => {
        await session.run("INSERT INTO job_names (job_id, name) VALUES (?, ?)", ["j", name]);
        if (fails) throw new Error("no");
      });
    const results = await Promise.allSettled(
      Array.from({ length: 30 }, (_, i) => insert(`n${i}`, i % 3 === 0)),
    );
    assertEquals(results.filter(({ status }) => status === "rejected").length, 10);
    const rows = await database.run("SELECT count(*) AS n FROM job_names");
    assertEquals(rows[0]!["n"], 20);
    await database.close();
  });
});

Deno.test("newJobId sorts by time, and jobs of one millisecond in the order of the calls", () => {
  const ids = [5, 5, 5, 6, 6, 2 ** 41].map((nowMs) => newJobId(nowMs));
  assertEquals([...ids].sort(), ids);
  for (const id of ids) assertEquals(/^[0-9a-f]{32}$/.test(id), true, id);
});
