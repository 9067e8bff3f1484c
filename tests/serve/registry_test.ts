import { assert, assertEquals } from "@std/assert";
import { Buffer } from "node:buffer";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { ServeSettings } from "../../serve/settings.ts";
import { noise, sampleTar } from "../source/helpers.ts";
import {
  errorBody,
  type FakeRegistry,
  type Misbehaviour,
  sendCut,
  sendJson,
  withRegistry,
} from "../source/registry/fake_registry.ts";
import { buildTar } from "../tar/build.ts";
import { type Serving, withServing } from "./serving.ts";

const PASSWORD = "correct horse battery staple";

/** Runs a test with a registry and a server that knows it. */
async function withBoth(
  misbehave: Misbehaviour,
  test: (registry: FakeRegistry, serving: Serving) => Promise<void>,
  more: Partial<ServeSettings> = {},
): Promise<void> {
  await withRegistry(async (registry) => {
    const settings = (directory: string) => {
      const authFile = join(directory, "auth.json");
      const auth = Buffer.from(`user:${PASSWORD}`).toString("base64");
      writeFileSync(authFile, JSON.stringify({ auths: { [registry.host]: { auth } } }));
      return { plainHttp: true, authFile, ...more };
    };
    await withServing(settings, (serving) => test(registry, serving));
  }, misbehave);
}

function isBlob(path: string): boolean {
  return path.includes("/blobs/");
}

Deno.test("a layer that several jobs need at once is read from the registry once", async () => {
  const slow: Misbehaviour = (request, response, registry) => {
    if (!isBlob(request.path)) return false;
    setTimeout(() => registry.behave(request, response), 300);
    return true;
  };
  await withBoth(slow, async (registry, { client }) => {
    const shared = sampleTar(1);
    const tags = [2, 3, 4, 5].map((seed) => {
      registry.add({ layers: [shared, sampleTar(seed)] }, `v${seed}`);
      return `team/app:v${seed}`;
    });
    const jobs = await Promise.all(
      tags.map((tag) => client.bless({ source: registry.source(tag) })),
    );
    const ended = await Promise.all(jobs.map(({ id }) => client.ended(id)));
    assertEquals(ended.map(({ error }) => error), ended.map(() => null));
    assertEquals(ended.filter(({ state }) => state !== "complete"), []);
    assertEquals(new Set(ended.map(({ image }) => image)).size, 4);
    const counts = new Map<string, number>();
    const configs = new Set(
      [...registry.blobs].filter(([, bytes]) => bytes[0] === 0x7b)
        .map(([digest]) => digest),
    );
    for (const { path } of registry.requests.filter(({ path }) => isBlob(path))) {
      const digest = /sha256:[0-9a-f]+/.exec(path)![0];
      if (!configs.has(digest)) counts.set(digest, (counts.get(digest) ?? 0) + 1);
    }
    assertEquals([...counts.values()], Array.from({ length: 5 }, () => 1));
  }, { workers: 4 });
});

Deno.test("a tag that moves while it is resolved is blessed as it was resolved", async () => {
  await withBoth(() => {}, async (registry, { client }) => {
    const first = registry.add({ layers: [sampleTar(1)] });
    const job = await client.ended((await client.bless({ source: registry.source() })).id);
    assertEquals(job.manifestDigest, first.manifest.digest);
    const second = registry.add({ layers: [sampleTar(2)] });
    const moved = await client.ended((await client.bless({ source: registry.source() })).id);
    assertEquals(moved.manifestDigest, second.manifest.digest);
    const pinned = `${registry.source().replace(":v1", "")}@${first.manifest.digest}`;
    const same = await client.ended((await client.bless({ source: pinned })).id);
    assertEquals([same.id, same.image], [job.id, job.image]);
  });
});

Deno.test("credentials come from the server's file, and are told to nobody", async () => {
  const guarded: Misbehaviour = ({ headers }, response) => {
    const wanted = `Basic ${Buffer.from(`user:${PASSWORD}`).toString("base64")}`;
    if (headers.authorization === wanted) return false;
    response.setHeader("www-authenticate", 'Basic realm="here"');
    sendJson(response, 401, errorBody("UNAUTHORIZED", "who is it?"));
    return true;
  };
  await withBoth(guarded, async (registry, { client, log, settings }) => {
    registry.add({ layers: [sampleTar(1)] });
    const job = await client.ended((await client.bless({ source: registry.source() })).id);
    assertEquals([job.state, job.error], ["complete", null]);
    const told = [
      ...log,
      (await client.ask("/v1/jobs")).text,
      (await client.ask(`/v1/images/${job.image}`)).text,
      (await client.ask("/metrics")).text,
    ].join("\n");
    for (const secret of [PASSWORD, Buffer.from(`user:${PASSWORD}`).toString("base64")]) {
      assertEquals(told.includes(secret), false);
    }
    // Without them the registry refuses, and the job is not tried again.
    writeFileSync(settings.authFile!, "{}");
    registry.add({ layers: [sampleTar(3)] }, "v3");
    const refused = await client.ended(
      (await client.bless({ source: registry.source("team/app:v3") })).id,
    );
    assertEquals([refused.state, refused.error!.code], ["failed", "unauthorized"]);
    assertEquals(refused.attempts, 0);
  });
});

Deno.test("whatever a registry does, each job ends as it should and the others go on", async () => {
  let isWell = false;
  const misbehave: Misbehaviour = (request, response, registry) => {
    const { path } = request;
    if (path.includes("/busy/")) {
      response.setHeader("retry-after", "0");
      sendJson(response, 429, errorBody("TOOMANYREQUESTS", "later"));
      return true;
    }
    if (path.includes("/broken/")) {
      response.setHeader("retry-after", "0");
      sendJson(response, 500, errorBody("UNKNOWN", "oh"));
      return true;
    }
    if (path.includes("/recovers/") && !isWell) {
      response.setHeader("retry-after", "0");
      sendJson(response, 503, errorBody("UNAVAILABLE", "soon"));
      // The attempts of one process are over before it is well again.
      if (registry.asked("/recovers/").length >= 7) isWell = true;
      return true;
    }
    if (path.includes("/cuts/") && isBlob(path) && !request.headers.range) {
      const bytes = registry.blobs.get(/sha256:[0-9a-f]+/.exec(path)![0])!;
      if (bytes.length < 10_000) return false;
      const headers = { "content-length": bytes.length };
      sendCut(response, 200, headers, bytes.subarray(0, bytes.length >> 1));
      return true;
    }
    return false;
  };
  await withBoth(misbehave, async (registry, { client, log }) => {
    const large = buildTar([{ path: "noise", data: noise(100_000) }]);
    registry.add({ layers: [large] });
    const names = ["busy", "broken", "recovers", "cuts", "fine", "missing:none"];
    const jobs = await Promise.all(
      names.map((name, i) =>
        client.bless({
          source: registry.source(name.includes(":") ? name : `${name}/app:v1`),
          // Equal work would be one job.
          options: { label: `x${i}` },
        })
      ),
    );
    const ended = await Promise.all(jobs.map(({ id }) => client.ended(id)));
    const outcome = Object.fromEntries(
      ended.map((job, i) => [names[i], [job.state, job.error?.code ?? null]]),
    );
    assertEquals(outcome, {
      busy: ["failed", "too_many_requests"],
      broken: ["failed", "network"],
      recovers: ["complete", null],
      cuts: ["complete", null],
      fine: ["complete", null],
      "missing:none": ["failed", "not_found"],
    });
    const attempts = Object.fromEntries(ended.map((job, i) => [names[i], job.attempts]));
    assertEquals([attempts["busy"], attempts["broken"]], [2, 2]);
    assertEquals([attempts["recovers"], attempts["missing:none"]], [1, 0]);
    assert(log.some((line) => line.includes("job is tried again")));
    assertEquals((await client.ask("/readyz")).status, 200);
  }, { workers: 4 });
});

Deno.test("a registry that never answers fails the job at its deadline, after as many attempts", async () => {
  const silent: Misbehaviour = ({ path }) => path.includes("/hangs/");
  await withBoth(silent, async (registry, { client }) => {
    registry.add({ layers: [sampleTar(1)] });
    const job = await client.ended(
      (await client.bless({ source: registry.source("hangs/app:v1") })).id,
    );
    assertEquals([job.state, job.error!.code, job.attempts], ["failed", "deadline", 2]);
  }, { resolveMs: 1000 });
});
