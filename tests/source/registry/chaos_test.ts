/** A registry that does wrong at random: an image comes out right, or an error that says why, and always an end. */
import { assert, assertEquals } from "@std/assert";
import type { ServerResponse } from "node:http";
import { BlessfsError } from "../../../lib/errors.ts";
import { buildTar } from "../../tar/build.ts";
import { noise, openFilesBelow, storeBytes, withDirectory, withLoaded } from "../helpers.ts";
import {
  errorBody,
  type FakeRegistry,
  registrySource,
  type SeenRequest,
  sendCut,
  sendJson,
  TestTiming,
  withRegistry,
} from "./fake_registry.ts";

const SEED_COUNT = Number(Deno.env.get("REGISTRY_CHAOS_SEEDS") ?? 40);

/** Numbers from 0 to 1 that a seed decides (mulberry32). */
function randomFrom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let value = Math.imul(state ^ (state >>> 15), state | 1);
    value ^= value + Math.imul(value ^ (value >>> 7), value | 61);
    return ((value ^ (value >>> 14)) >>> 0) / 2 ** 32;
  };
}

interface Fault {
  readonly response: ServerResponse;
  readonly request: SeenRequest;
  readonly registry: FakeRegistry;
  readonly bytes: Uint8Array;
  readonly random: () => number;
  readonly timing: TestTiming;
}

/** Part of what was asked for, from where it was asked, and no more. */
function cut({ response, request, registry, bytes, random }: Fault): void {
  const from = registry.hasRanges
    ? Number(/=(\d+)/.exec(request.headers.range ?? "")?.[1] ?? 0)
    : 0;
  const rest = bytes.subarray(from);
  sendCut(response, from > 0 ? 206 : 200, {
    "content-type": "application/vnd.oci.image.manifest.v1+json",
    "content-length": rest.length,
    ...from > 0 ? { "content-range": `bytes ${from}-${bytes.length - 1}/${bytes.length}` } : {},
  }, rest.subarray(0, Math.floor(random() * rest.length)));
}

/** Things that pass, and that a pull must survive as long as they do not come too often. */
const PASSING: readonly ((fault: Fault) => void)[] = [
  cut,
  cut,
  ({ response }) => void response.destroy(),
  ({ response }) => void response.writeHead(500).end("<html>"),
  ({ response }) => void response.writeHead(429, { "retry-after": "3600" }).end(),
  ({ response, bytes, random }) => {
    const type = "application/vnd.oci.image.manifest.v1+json";
    response.writeHead(200, { "content-type": type, "transfer-encoding": "chunked" });
    response.end(bytes.subarray(0, 1 + random() * bytes.length));
  },
  ({ response, bytes, timing }) => {
    response.writeHead(200);
    response.write(bytes.subarray(0, 1), () => setTimeout(() => timing.ring(), 5));
  },
];

/** Things that are wrong and stay wrong. */
const LASTING: readonly ((fault: Fault) => void)[] = [
  ({ response }) => sendJson(response, 404, errorBody("UNKNOWN", "\u001b[2J")),
  ({ response }) => void response.writeHead(401).end("no"),
  ({ response }) => void response.writeHead(206, { "content-range": "bytes 1-2/3" }).end("xx"),
  ({ response, request }) => void response.writeHead(307, { location: request.path }).end(),
  ({ response, bytes }) => {
    const wrong = bytes.slice();
    wrong[wrong.length >> 1]! ^= 0x10;
    const type = "application/vnd.oci.image.manifest.v1+json";
    response.writeHead(200, { "content-type": type }).end(wrong);
  },
  ({ response, bytes }) => void response.end(new Uint8Array(bytes.length + 1)),
];

const LAYERS = [1, 2].map((i) => buildTar([{ path: `f${i}`, data: noise(400_000 + i) }]));

/** Pulls from a registry that errs, and returns the layers or the error. */
async function pull(seed: number, lasting: number): Promise<Uint8Array[] | BlessfsError> {
  const random = randomFrom(seed);
  const timing = new TestTiming();
  return await withDirectory((directory) =>
    withRegistry(async (registry) => {
      registry.hasRanges = random() < 0.7;
      registry.add({ layers: LAYERS, compress: seed % 2 === 0 ? "gzip" : "none" });
      // A worker for a few is enough: they take longer.
      const inlineLayerBytes = seed % 8 === 0 ? -1 : Infinity;
      const source = registrySource(timing, {}, { tmpdir: directory, inlineLayerBytes });
      try {
        return await withLoaded(registry.source(), source, (layers) => layers.map(storeBytes));
      } catch (error) {
        assert(error instanceof BlessfsError, String(error));
        assert(!/\p{Cc}/u.test(error.message), error.message);
        return error;
      } finally {
        assertEquals(openFilesBelow(directory), []);
        assertEquals(timing.alarmCount, 0);
      }
    }, (request, response, registry) => {
      const id = request.path.slice(request.path.lastIndexOf("/") + 1);
      const bytes = registry.blobs.get(registry.tags.get(id) ?? id);
      if (!bytes || random() > 0.35) return;
      const faults = random() < lasting ? LASTING : PASSING;
      faults[Math.floor(random() * faults.length)]!({
        response,
        request,
        registry,
        bytes,
        random,
        timing,
      });
      return true;
    })
  );
}

Deno.test("docker:// gives the right layers or an error whatever a registry does", async () => {
  let rightCount = 0;
  for (let seed = 0; seed < SEED_COUNT; seed++) {
    const outcome = await pull(seed, seed % 3 === 0 ? 0.3 : 0);
    if (outcome instanceof BlessfsError) continue;
    rightCount++;
    outcome.forEach((bytes, i) => assertEquals(bytes, LAYERS[i], `seed ${seed}`));
  }
  assert(rightCount > SEED_COUNT / 3 && rightCount < SEED_COUNT, `${rightCount} were right`);
});
