import {
  assert,
  assertEquals,
  assertMatch,
  assertNotEquals,
  assertStringIncludes,
} from "@std/assert";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { startServer } from "../../serve/server.ts";
import { MAIN, runProgramWith } from "../cli/program.ts";
import { writeOciLayout } from "../source/build_layout.ts";
import { sampleTar } from "../source/helpers.ts";
import {
  Client,
  inDirectory,
  pause,
  processesOf,
  TINY,
  withHeldImage,
  withServing,
  writeSmallImage,
} from "./serving.ts";

/** What a directory of images holds beside its own files. */
function imagesIn(directory: string): string[] {
  return readdirSync(join(directory, "images")).filter((name) => /\.ext4$/.test(name));
}

function sha256(bytes: Uint8Array): string {
  return `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
}

Deno.test("an image is asked for, waited for, and is what `blessfs bless` makes", async () => {
  await withServing({}, async ({ client, directory }) => {
    const asked = await client.ask("/v1/images", {
      json: { source: TINY, name: "team/tiny:1", options: { grid: "64K", journal: "none" } },
    });
    assertEquals([asked.status, asked.json.state], [202, "queued"]);
    assertEquals(asked.headers.location, `/v1/jobs/${asked.json.id}`);
    const job = await client.ended(asked.json.id);
    assertEquals([job.state, job.error], ["complete", null]);
    const { json: image } = await client.ask(`/v1/images/${job.image}`);
    assertEquals(image.config.os, "linux");
    assertEquals([image.report.grid, image.report.source], [65536, TINY]);
    assertEquals(image.names, ["team/tiny:1"]);
    assertEquals(JSON.stringify(image).includes(directory), false);
    assertEquals((await client.ask("/v1/names/team/tiny:1")).json.image, job.image);

    const alone = join(directory, "alone.ext4");
    runProgramWith(MAIN, ["bless", TINY, "-o", alone, "--grid", "64K", "--journal", "none"]);
    const { bytes } = await client.ask(`/v1/images/${job.image}/bytes`);
    assertEquals(bytes, new Uint8Array(readFileSync(alone)));
    assertEquals(sha256(bytes), job.image);
    assertEquals(readdirSync(join(directory, "images", ".serve", "work")), []);
  });
});

Deno.test("an image with a hash tree tells its root hash, and no client names a file for the tree", async () => {
  await withServing({}, async ({ client, directory }) => {
    const asked = await client.ask("/v1/images", {
      json: { source: TINY, options: { verity: "append" } },
    });
    const job = await client.ended(asked.json.id);
    assertEquals([job.state, job.error], ["complete", null]);
    const { json: image } = await client.ask(`/v1/images/${job.image}`);
    const alone = join(directory, "alone.ext4");
    runProgramWith(MAIN, ["bless", TINY, "-o", alone, "--verity", "append"]);
    const proved = runProgramWith(MAIN, ["verify", alone, "--root-hash", image.rootHash]);
    assertEquals(proved.code, 0, proved.stderr);
    const refused = await client.ask("/v1/images", {
      json: { source: TINY, options: { verity: join(directory, "tree") } },
    });
    assertEquals(refused.status, 400);
    assertEquals(existsSync(join(directory, "tree")), false);
  });
});

Deno.test("a layered image has one file a layer, and shares them with the images after it", async () => {
  await withServing({}, async ({ client, directory }) => {
    const shared = sampleTar(1);
    const images = [2, 3].map((seed) => {
      const path = join(directory, `image-${seed}`);
      writeOciLayout(path, { layers: [shared, sampleTar(seed)] });
      return `oci:${path}`;
    });
    const documents = [];
    for (const source of images) {
      const job = await client.ended((await client.bless({ source, mode: "layered" })).id);
      assertEquals(job.error, null);
      documents.push((await client.ask(`/v1/images/${job.image}`)).json);
    }
    const [first, second] = documents;
    assertEquals(first.files.length, 2);
    assertEquals(first.files[0].digest, second.files[0].digest);
    assertEquals(second.report.reusedLayers, 1);
    for (const file of second.files) {
      const path = `/v1/images/${second.digest}/layers/${file.position}/bytes`;
      assertEquals(sha256((await client.ask(path)).bytes), file.digest);
    }
    // What the other still needs stays.
    assertEquals(
      (await client.ask(`/v1/images/${first.digest}`, { method: "DELETE" })).status,
      200,
    );
    const kept = await client.ask(`/v1/images/${second.digest}/layers/0/bytes`);
    assertEquals(sha256(kept.bytes), second.files[0].digest);
    assertEquals((await client.ask(`/v1/images/${second.digest}/layers/7/bytes`)).status, 404);
  });
});

Deno.test("two hundred equal requests at once are one job and one image", async () => {
  await withServing({}, async ({ client, directory }) => {
    const jobs = await Promise.all(
      Array.from({ length: 200 }, () => client.bless({ source: TINY, options: { grid: "64K" } })),
    );
    assertEquals(new Set(jobs.map(({ id }) => id)).size, 1);
    const job = await client.ended(jobs[0]!.id);
    assertEquals([job.state, job.runs], ["complete", 1]);
    assertEquals((await client.ask("/v1/jobs")).json.jobs.length, 1);
    assertEquals(imagesIn(directory).length, 1);
  });
});

Deno.test("equal work under another name is the same job, and a source that moved is a new one", async () => {
  await withServing({}, async ({ client, directory }) => {
    const path = join(directory, "moving");
    const source = `oci:${path}`;
    writeOciLayout(path, { layers: [sampleTar(1)] });
    const first = await client.ended((await client.bless({ source, name: "app" })).id);
    // The same again: the size of the grid in other words, the image by another path.
    symlinkSync(path, `${path}-too`);
    const again = await client.bless({ source: `${source}-too`, name: "other" });
    assertNotEquals(again.id, first.id);
    const same = await client.ended(again.id);
    assertEquals([same.id, same.image, same.names], [first.id, first.image, ["app", "other"]]);
    assertEquals((await client.ask("/v1/names/other")).json.image, first.image);

    writeOciLayout(path, { layers: [sampleTar(2)] });
    const moved = await client.ended((await client.bless({ source, name: "app" })).id);
    assertNotEquals(moved.image, first.image);
    assertEquals((await client.ask("/v1/names/app")).json.image, moved.image);
    assertEquals((await client.ask("/v1/names/other")).json.image, first.image);
    assertEquals((await client.ask("/v1/jobs?name=app")).json.jobs.length, 2);
  });
});

Deno.test("a job that waits, and one that runs, are cancelled and leave nothing", async () => {
  await withHeldImage(async ({ source, release }) => {
    await withServing({ workers: 1 }, async ({ client, directory }) => {
      const running = await client.bless({ source });
      const waiting = await client.bless({ source: TINY });
      const cancelled = await client.ask(`/v1/jobs/${waiting.id}`, { method: "DELETE" });
      assertEquals([cancelled.status, cancelled.json.state], [202, "cancelled"]);
      await client.begun(running.id);
      assertEquals((await client.ask(`/v1/jobs/${running.id}`, { method: "DELETE" })).status, 202);
      const ended = await client.ended(running.id);
      assertEquals([ended.state, ended.image], ["cancelled", null]);
      assertEquals((await client.ask(`/v1/jobs/${running.id}`, { method: "DELETE" })).status, 409);
      assertEquals(imagesIn(directory), []);
      while (readdirSync(join(directory, "images", ".serve", "work")).length > 0) await pause();
      // It can be asked for again.
      release();
      assertEquals((await client.ended((await client.bless({ source })).id)).state, "complete");
    });
  });
});

Deno.test("a queue that is full answers 429, and names the jobs that it has all the same", async () => {
  await withServing({ workers: 0, queueMax: 3 }, async ({ client, directory }) => {
    const sources = [1, 2, 3, 4].map((number) => writeSmallImage(directory, number));
    const jobs = [];
    for (const source of sources.slice(0, 3)) jobs.push(await client.bless({ source }));
    const refused = await client.ask("/v1/images", { json: { source: sources[3] } });
    assertEquals([refused.status, refused.json.error.code], [429, "queue_full"]);
    assertMatch(refused.headers["retry-after"]!, /^\d+$/);
    assertEquals((await client.bless({ source: sources[0] })).id, jobs[0]!.id);
    const page = (await client.ask("/v1/jobs?limit=2&state=queued")).json;
    assertEquals([page.jobs.length, page.next], [2, jobs[1]!.id]);
    const rest = (await client.ask(`/v1/jobs?limit=2&after=${page.next}`)).json;
    assertEquals([rest.jobs.length, rest.next], [1, null]);
  });
});

Deno.test("jobs of a higher priority run first", async () => {
  await withHeldImage(async ({ source, release }) => {
    await withServing({ workers: 1 }, async ({ client, directory }) => {
      const first = await client.bless({ source });
      await client.begun(first.id);
      const ids = [];
      for (const priority of [0, 0, 10]) {
        const source = writeSmallImage(directory, ids.length);
        ids.push((await client.bless({ source, priority })).id);
      }
      release();
      const jobs = await Promise.all(ids.map((id) => client.ended(id)));
      const ends = jobs.map((job) => Date.parse(job.finishedAt!));
      assert(ends[2]! < ends[0]! && ends[2]! < ends[1]!, JSON.stringify(ends));
    });
  });
});

Deno.test("an image's bytes come in parts, and not at all to those who have them", async () => {
  await withServing({}, async ({ client }) => {
    const job = await client.ended((await client.bless({ source: TINY })).id);
    const path = `/v1/images/${job.image}/bytes`;
    const whole = await client.ask(path);
    const { etag } = whole.headers;
    assertEquals([whole.status, etag], [200, `"${job.image}"`]);
    const size = whole.bytes.length;
    const parts: [string, number, number, number][] = [
      ["bytes=0-0", 206, 0, 1],
      [`bytes=1024-2047`, 206, 1024, 2048],
      [`bytes=${size - 1}-`, 206, size - 1, size],
      ["bytes=-100", 206, size - 100, size],
      [`bytes=0-${size + 100}`, 206, 0, size],
      ["bytes=5-4", 200, 0, size],
      ["lines=1-2", 200, 0, size],
    ];
    for (const [range, status, from, to] of parts) {
      const part = await client.ask(path, { headers: { range } });
      assertEquals(part.status, status, range);
      assertEquals(part.bytes, whole.bytes.subarray(from, to), range);
    }
    const outside = await client.ask(path, { headers: { range: `bytes=${size}-` } });
    assertEquals([outside.status, outside.headers["content-range"]], [416, `bytes */${size}`]);
    const known = await client.ask(path, { headers: { "if-none-match": `"x", ${etag}` } });
    assertEquals([known.status, known.bytes.length], [304, 0]);
    const changed = { range: "bytes=0-9", "if-range": '"other"' };
    assertEquals((await client.ask(path, { headers: changed })).status, 200);
    const head = await client.ask(path, { method: "HEAD" });
    assertEquals([head.status, head.headers["content-length"]], [200, String(size)]);
  });
});

Deno.test("images are listed, and deleted when no name stands for them", async () => {
  await withServing({}, async ({ client, directory }) => {
    const made = [];
    for (const number of [1, 2, 3]) {
      const source = writeSmallImage(directory, number);
      made.push(await client.ended((await client.bless({ source, name: `n${number}` })).id));
    }
    const page = (await client.ask("/v1/images?limit=2")).json;
    assertEquals(page.images.map((image: { names: string[] }) => image.names), [["n3"], ["n2"]]);
    const rest = (await client.ask(`/v1/images?limit=2&after=${page.next}`)).json;
    assertEquals(rest.images.map((image: { names: string[] }) => image.names), [["n1"]]);
    const manifest = made[0]!.manifestDigest;
    assertEquals((await client.ask(`/v1/images?manifest=${manifest}`)).json.images.length, 1);

    const path = `/v1/images/${made[0]!.image}`;
    const kept = await client.ask(path, { method: "DELETE" });
    assertEquals([kept.status, kept.json.error.code], [409, "image_is_named"]);
    assertEquals((await client.ask(`${path}?force=true`, { method: "DELETE" })).status, 200);
    assertEquals((await client.ask(path)).status, 404);
    assertEquals((await client.ask("/v1/names/n1")).status, 404);
    assertEquals(imagesIn(directory).length, 2);
    // It is made again when it is asked for again.
    const again = await client.ended(
      (await client.bless({ source: writeSmallImage(directory, 1) })).id,
    );
    assertEquals([again.state, again.image], ["complete", made[0]!.image]);
  });
});

Deno.test("a server that has ended leaves no process behind that it started for a request", async () => {
  await withServing({}, async ({ client, server, settings }) => {
    const job = await client.ended((await client.bless({ source: TINY })).id);
    const deleted = await client.ask(`/v1/images/${job.image}`, { method: "DELETE" });
    assertEquals(deleted.status, 200);
    await server.stop();
    assertEquals(processesOf(settings.images), []);
    assertEquals(readdirSync(join(settings.images, ".serve", "work")), []);
  });
});

Deno.test("events tell every state until the job has ended", async () => {
  await withHeldImage(async ({ source, release }) => {
    await withServing({ workers: 1 }, async ({ client }) => {
      const before = await client.bless({ source });
      const job = await client.bless({ source: TINY });
      const { message } = await client.open(`/v1/jobs/${job.id}/events`);
      assertEquals(message.headers["content-type"], "text/event-stream; charset=utf-8");
      release();
      let text = "";
      for await (const piece of message) text += new TextDecoder().decode(piece as Uint8Array);
      const events = text.split("\n\n").filter((event) => event.startsWith("event: "));
      const states = events.filter((event) => event.startsWith("event: state"))
        .map((event) => JSON.parse(event.slice(event.indexOf("data: ") + 6)).state);
      assertEquals([states[0], states.at(-1)], ["queued", "complete"]);
      assert(states.includes("resolving"), states.join());
      const progress = events.filter((event) => event.startsWith("event: progress"));
      assertStringIncludes(progress.join("\n"), "layer 1 of 3");
      assertEquals((await client.ended(before.id)).state, "complete");
    });
  });
});

Deno.test("a probe over images that are there says what they share", async () => {
  await withServing({}, async ({ client }) => {
    const tiny = await client.ended((await client.bless({ source: TINY, name: "tiny" })).id);
    const other = await client.ended(
      (await client.bless({ source: TINY, options: { journal: "none" } })).id,
    );
    const probe = await client.ask("/v1/probe", { json: { images: ["tiny", other.image] } });
    assertEquals(probe.status, 200);
    assertEquals(probe.json.images.length, 2);
    assertNotEquals(tiny.image, other.image);
    const unknown = await client.ask("/v1/probe", { json: { images: ["nothing"] } });
    assertEquals([unknown.status, unknown.json.error.code], [404, "unknown_name"]);
  });
});

Deno.test("over TCP a token is needed, and no file may be asked for", async () => {
  const tokens = ["correct-horse-battery-staple"];
  const policy = { roots: undefined, trustsClients: false, registries: undefined };
  const listen = { kind: "tcp", host: "127.0.0.1", port: 0 } as const;
  await withServing({ listen, tokens, policy }, async ({ client, server, log }) => {
    for (const authorization of ["", "Bearer wrong", "Bearer ", "Basic Y29ycmVjdA=="]) {
      const refused = await client.ask("/v1/jobs", { headers: { authorization } });
      assertEquals([refused.status, refused.headers["www-authenticate"]], [401, "Bearer"]);
    }
    assertEquals((await client.ask("/healthz")).status, 200);
    const port = Number(/:(\d+)$/.exec(server.address)![1]);
    const headers = { authorization: `Bearer ${tokens[0]}` };
    const known = new Client({ kind: "tcp", host: "127.0.0.1", port }, headers);
    assertEquals((await known.ask("/v1/jobs")).status, 200);
    for (const source of [TINY, "rootfs:/etc", "tar:/etc/shadow", "/etc", "docker-daemon:x"]) {
      const { status, json } = await known.ask("/v1/images", { json: { source } });
      assert([400, 403].includes(status), `${source}: ${status} ${json.error.code}`);
    }
    assertEquals(log.join("").includes(tokens[0]!), false);
  });
});

Deno.test("without a token, only requests that name this machine are answered", async () => {
  const listen = { kind: "tcp", host: "127.0.0.1", port: 0 } as const;
  await withServing({ listen }, async ({ client }) => {
    assertEquals((await client.ask("/v1/jobs")).status, 200);
    const rebound = await client.ask("/v1/jobs", { headers: { host: "evil.example:80" } });
    assertEquals([rebound.status, rebound.json.error.code], [421, "wrong_host"]);
    // What a form of another site can send.
    const body = JSON.stringify({ source: TINY });
    const form = await client.ask("/v1/images", {
      body,
      headers: { "content-type": "text/plain" },
    });
    assertEquals([form.status, form.json.error.code], [415, "wrong_type"]);
  });
});

Deno.test("sources outside of the allowed directories are refused, by whatever path", async () => {
  await inDirectory(async (outside) => {
    const secret = writeSmallImage(outside, 1).slice("oci:".length);
    const more = (directory: string) => {
      const root = join(directory, "allowed");
      mkdirSync(root);
      symlinkSync(secret, join(root, "link"));
      return { policy: { roots: [root], trustsClients: true, registries: undefined } };
    };
    await withServing(more, async ({ client, directory, log }) => {
      const root = join(directory, "allowed");
      const inside = writeSmallImage(root, 2);
      const refused = [
        `oci:${secret}`,
        `oci:${root}/link`,
        `oci:${root}/../allowed/../../${secret}`,
        `oci:${root}2/x`,
        "rootfs:/",
        "docker-daemon:debian",
      ];
      for (const source of refused) {
        const { status, json } = await client.ask("/v1/images", { json: { source } });
        assert([400, 403].includes(status), `${source}: ${status} ${JSON.stringify(json)}`);
      }
      const missing = await client.ask("/v1/images", { json: { source: `oci:${root}/missing` } });
      assertEquals([missing.status, missing.json.error.code], [404, "not_found"]);
      const relative = await client.ask("/v1/images", { json: { source: "oci:relative" } });
      assertEquals([relative.status, relative.json.error.code], [400, "invalid_source"]);
      const ended = await client.ended((await client.bless({ source: inside })).id);
      assertEquals(ended.state, "complete");

      const password = "docker://user:hunter2@registry.example/app";
      const told = await client.ask("/v1/images", { json: { source: password } });
      assertEquals([told.status, told.json.error.code], [400, "credentials_in_source"]);
      assertEquals(`${told.text}${log.join("")}`.includes("hunter2"), false);
      const field = await client.ask("/v1/images", {
        json: { source: inside, password: "hunter2" },
      });
      assertEquals([field.status, field.json.error.code], [400, "unknown_field"]);
      assertEquals(`${field.text}${log.join("")}`.includes("hunter2"), false);
    });
  });
});

Deno.test("options that are not the client's to set, or are wrong, are refused before there is a job", async () => {
  await withServing({ workers: 0 }, async ({ client }) => {
    const wrong: [Record<string, unknown>, string][] = [
      [{ output: "/etc/passwd" }, "unknown_option"],
      [{ tmpdir: "/" }, "unknown_option"],
      [{ limit: "layer-entries=9" }, "unknown_option"],
      [{ add: "/etc/shadow:/shadow" }, "unknown_option"],
      [{ "add-tar": "/srv/secret.tar" }, "unknown_option"],
      [{ config: "/etc/passwd" }, "unknown_option"],
      [{ grid: true }, "invalid_option"],
      [{ grid: ["64K"] }, "invalid_option"],
      [{ "inline-data": "yes" }, "invalid_option"],
      [{ backups: "all" }, "invalid_option"],
      [{ label: "a\nb" }, "invalid_option"],
      [{ GRID: "64K" }, "invalid_request"],
    ];
    for (const [options, code] of wrong) {
      const { status, json } = await client.ask("/v1/images", { json: { source: TINY, options } });
      assertEquals([status, json.error.code], [400, code], JSON.stringify(options));
    }
    const one = await client.bless({
      source: TINY,
      options: { grid: "64K", "inline-data": false },
    });
    const two = await client.bless({ source: TINY, options: { grid: 65536 } });
    assertEquals(one.id, two.id);
  });
});

Deno.test("a job whose options make no sense fails with what `blessfs bless` says", async () => {
  await withServing({}, async ({ client, directory }) => {
    const usage = await client.ended(
      (await client.bless({ source: TINY, options: { grid: "3K" } })).id,
    );
    assertEquals([usage.state, usage.error!.code], ["failed", "usage"]);
    const missing = await client.bless({ source: `oci:${directory}/missing` });
    const input = await client.ended(missing.id);
    assertEquals([input.state, input.attempts], ["failed", 0]);
    assertMatch(input.error!.code, /^(?:input|io)$/);
    assertEquals(imagesIn(directory), []);
  });
});

Deno.test("a job that wants too much memory, or takes too long, fails alone", async () => {
  // Both run until they are ended: the server looks at their memory from time to time.
  await withHeldImage(async ({ source }) => {
    await withServing({ jobMemoryBytes: 20 << 20 }, async ({ client }) => {
      const job = await client.ended((await client.bless({ source })).id);
      assertEquals([job.state, job.error!.code], ["failed", "out_of_memory"]);
      assertEquals((await client.ask("/healthz")).status, 200);
    });
    await withServing({ deadlineMs: 30 }, async ({ client }) => {
      const job = await client.ended((await client.bless({ source })).id);
      assertEquals([job.state, job.error!.code], ["failed", "deadline"]);
    });
  });
});

Deno.test("/openapi.json tells of every route, and metrics of every job", async () => {
  await withServing({}, async ({ client }) => {
    const { json } = await client.ask("/openapi.json");
    assertEquals(json.openapi, "3.1.0");
    const told = Object.entries(json.paths as Record<string, object>).flatMap(([path, methods]) =>
      Object.keys(methods).map((method) => `${method} ${path}`)
    );
    assert(told.includes("post /v1/images") && told.includes("get /v1/names/{name}"));
    // Whatever is told of is there: no route answers that there is nothing.
    for (const operation of told) {
      const [method, path] = operation.split(" ") as [string, string];
      const { status, json } = await client.ask(
        path.replace("{id}", "0".repeat(32)).replace("{position}", "0").replace("{name}", "x")
          .replace("{digest}", `sha256:${"0".repeat(64)}`).replace("/events", ""),
        { method: method.toUpperCase() },
      );
      assert(json?.error?.code !== "not_found" && status !== 405, `${operation}: ${status}`);
    }
    for (const name of JSON.stringify(json).matchAll(/#\/components\/schemas\/(\w+)/g)) {
      assert(name[1]! in json.components.schemas, name[1]);
    }
    await client.ended((await client.bless({ source: TINY })).id);
    const metrics = (await client.ask("/metrics")).text;
    assertStringIncludes(metrics, 'blessfs_jobs{state="complete"} 1');
    assertStringIncludes(metrics, 'blessfs_cells_total{kind="new"} ');
    assertMatch(metrics, /blessfs_stage_seconds_count\{stage="storing"\} \d/);
    assertEquals((await client.ask("/v1/images", { method: "PUT" })).status, 405);
    assertEquals((await client.ask("/v2/")).status, 404);
    const trace = "0af7651916cd43dd8448eb211c80319c";
    const traced = await client.ask("/healthz", {
      headers: { traceparent: `00-${trace}-b7ad6b7169203331-01` },
    });
    assertMatch(String(traced.headers["traceparent"]), new RegExp(`^00-${trace}-[0-9a-f]{16}-01$`));
  });
});

Deno.test("a directory of images belongs to one server, and outlives the state", async () => {
  await withServing({}, async ({ client, directory, settings, server }) => {
    const job = await client.ended((await client.bless({ source: TINY })).id);
    const other = {
      ...settings,
      listen: { kind: "unix", path: join(directory, "other") } as const,
    };
    let message = "";
    await startServer(other, () => {}).catch((error: Error) => message = error.message);
    assertStringIncludes(message, "is in use by another server");
    await server.stop();
    const state = join(directory, "new-state.db");
    const next = await startServer({ ...other, state }, () => {});
    try {
      const found = new Client(other.listen);
      assertEquals((await found.ask(`/v1/images/${job.image}`)).status, 200);
      const again = await found.ended((await found.bless({ source: TINY })).id);
      assertEquals([again.state, again.image], ["complete", job.image]);
      assert(existsSync(join(directory, "images", `${job.image!.slice(7)}.ext4`)));
    } finally {
      await next.stop();
    }
  });
});
