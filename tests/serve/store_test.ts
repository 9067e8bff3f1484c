import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { startServer } from "../../serve/server.ts";
import { notRun } from "../oracle/notice.ts";
import { hasCommand } from "../oracle/command.ts";
import { spawnSync } from "node:child_process";
import { postgresMissing, PostgresServer } from "./postgres_server.ts";
import { Client, inDirectory, testSettings, TINY, withServing } from "./serving.ts";

Deno.test("with a store, images are in it, and casync gets them back", async () => {
  const more = (directory: string) => {
    const store = join(directory, "chunks");
    mkdirSync(store);
    return { store };
  };
  await withServing(more, async ({ client, directory, settings }) => {
    const job = await client.ended((await client.bless({ source: TINY })).id);
    assertEquals(job.error, null);
    const { json } = await client.ask(`/v1/images/${job.image}`);
    assert(json.newBytes > 0);
    const index = await client.ask(`/v1/images/${job.image}/layers/0/index`);
    assertEquals(index.status, 200);
    const other = await client.ended(
      (await client.bless({ source: TINY, options: { label: "x" } })).id,
    );
    const second = (await client.ask(`/v1/images/${other.image}`)).json;
    assert(second.sharedBytes > second.newBytes);
    if (!hasCommand("casync")) return notRun("images from the store", "casync is not installed");
    const path = join(directory, "image.caibx");
    writeFileSync(path, index.bytes);
    const back = join(directory, "back.ext4");
    const run = spawnSync("casync", ["extract", `--store=${settings.store}`, path, back]);
    assertEquals(run.status, 0, String(run.stderr));
    const { bytes } = await client.ask(`/v1/images/${job.image}/bytes`);
    assertEquals(new Uint8Array(readFileSync(back)), bytes);
  });
});

Deno.test("two hosts share the work, and each gives out what the other has made", async () => {
  const missing = postgresMissing();
  if (missing !== undefined) return notRun("two hosts", missing);
  await inDirectory(async (directory) => {
    const postgres = PostgresServer.start(directory);
    const store = join(directory, "chunks");
    mkdirSync(store);
    const hosts = ["one", "two"].map((host) => {
      const place = join(directory, host);
      mkdirSync(place);
      const more = { state: postgres.address, store, host };
      // The first takes requests and leaves the work to the other.
      return testSettings(place, { ...more, workers: host === "one" ? 0 : 2 });
    });
    const servers = [];
    try {
      for (const settings of hosts) servers.push(await startServer(settings, () => {}));
      const [one, two] = hosts.map(({ listen }) => new Client(listen)) as [Client, Client];
      for (const mode of ["merged", "layered"]) {
        const job = await one.bless({ source: TINY, mode, name: mode });
        const { message } = await one.open(`/v1/jobs/${job.id}/events`);
        let events = "";
        for await (const piece of message) events += new TextDecoder().decode(piece as Uint8Array);
        assert(events.includes('"state":"complete"'), events);
        const ended = await one.ended(job.id);
        assertEquals([ended.state, ended.error], ["complete", null]);
        const { json } = await one.ask(`/v1/images/${ended.image}`);
        for (const { position } of json.files) {
          const path = `/v1/images/${ended.image}/layers/${position}/bytes`;
          const [here, there] = [await one.ask(path), await two.ask(path)];
          assertEquals([here.status, there.status], [200, 200], here.text.slice(0, 200));
          assertEquals(here.bytes, there.bytes);
        }
      }
      const { json } = await two.ask("/v1/names/merged");
      assertNotEquals(json.image, (await two.ask("/v1/names/layered")).json.image);
      // What is deleted on one host is there on none.
      await one.ask(`/v1/images/${json.image}?force=true`, { method: "DELETE" });
      assertEquals((await two.ask(`/v1/images/${json.image}/bytes`)).status, 404);
    } finally {
      for (const server of servers) await server.stop();
      postgres.end();
    }
  });
});
