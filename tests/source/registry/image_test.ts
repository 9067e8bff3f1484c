import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { COMMANDS } from "../../../cli/commands.ts";
import { InputError, InterruptedError, IoError, UsageError } from "../../../lib/errors.ts";
import { digestOf } from "../../../lib/bytes/digest.ts";
import {
  DOCKER_CONFIG_TYPE,
  DOCKER_MANIFEST_TYPE,
  OCI_INDEX_TYPE,
  OCI_MANIFEST_TYPE,
} from "../../../lib/source/documents.ts";
import { cachedBlobPath, openRegistryImage } from "../../../lib/source/registry/image.ts";
import { openImage } from "../../../lib/source/source.ts";
import type { ResolvedOptions, SourceOptions } from "../../../lib/source/types.ts";
import { runFake } from "../../cli/fake_io.ts";
import { buildTar } from "../../tar/build.ts";
import {
  addJson,
  buildImage,
  buildIndex,
  type ImageSpec,
  jsonBytes,
  type JsonDescriptor,
  writeOciLayout,
} from "../build_layout.ts";
import {
  noise,
  openAndLoad,
  openFilesBelow,
  sampleTar,
  storeBytes,
  testOptions,
  WAYS,
  withDirectory,
  withLoaded,
} from "../helpers.ts";
import {
  type FakeRegistry,
  type Misbehaviour,
  registrySource,
  sendCut,
  TestTiming,
  withRegistry,
} from "./fake_registry.ts";

const SPEC: ImageSpec = { layers: [sampleTar(1), sampleTar(2), sampleTar(1)] };

function options(more: Partial<SourceOptions> = {}): ResolvedOptions {
  return registrySource(new TestTiming(), {}, more);
}

/** Opens what a misbehaving registry has, and wants to be refused. */
async function refused(
  misbehave: Misbehaviour,
  why: string,
  rest?: string,
  more: Partial<SourceOptions> = {},
): Promise<Error> {
  return await withRegistry(async (registry) => {
    registry.add(SPEC);
    const open = () => openAndLoad(registry.source(rest), options(more));
    const error = await assertRejects(open, Error, why);
    assert(error instanceof InputError || error instanceof IoError, String(error));
    return error;
  }, misbehave);
}

/** Answers every manifest with something else. */
function manifestIs(
  bytes: Uint8Array,
  headers: Record<string, string | number>,
  status = 200,
): Misbehaviour {
  return ({ path }, response) => {
    if (!path.includes("/manifests/")) return;
    response.writeHead(status, headers).end(bytes);
    return true;
  };
}

for (const [way, more] of WAYS) {
  Deno.test(`docker:// gives the layers that the layout has, ${way}`, async () => {
    await withDirectory(async (directory) => {
      const layout = writeOciLayout(join(directory, "layout"), SPEC);
      await withRegistry(async (registry) => {
        const image = registry.add(SPEC);
        assertEquals(image.manifest.digest, layout.manifest.digest);
        const tmpdir = directory;
        await withLoaded(`oci:${directory}/layout`, testOptions({ ...more }), async (wanted) => {
          await withLoaded(registry.source(), options({ ...more, tmpdir }), (layers, opened) => {
            assertEquals(opened.manifestDigest, image.manifest.digest);
            assertEquals(opened.kind, "docker");
            assertEquals(layers.map(({ diffId }) => diffId), image.diffIds);
            assertEquals(layers.map(storeBytes), wanted.map(storeBytes));
            assertEquals(layers.map((l) => l.entries), wanted.map((l) => l.entries));
          });
        });
        assertEquals(openFilesBelow(directory), []);
        assertEquals(registry.asked("/blobs/").length, 3); // the config, and two layers once each
      });
    });
  });
}

Deno.test("docker:// asks for manifests of every kind that it can read", async () => {
  await withRegistry(async (registry) => {
    registry.add(SPEC);
    (await openRegistryImage("x", `${registry.host}/team/app:v1`, options())).close();
    const accept = registry.asked("/manifests/")[0]!.headers.accept!.split(", ");
    assert(accept.includes(OCI_INDEX_TYPE) && accept.includes(DOCKER_MANIFEST_TYPE));
    assert(!accept.some((type) => type.includes("v1+prettyjws") || type === "*/*"));
  });
});

Deno.test("docker:// goes by the digest, also beside a tag", async () => {
  await withRegistry(async (registry) => {
    const image = registry.add(SPEC);
    const bytes = registry.blobs.get(image.manifest.digest)!;
    const sha512 = digestOf(bytes, "sha512");
    registry.blobs.set(sha512, bytes);
    for (const digest of [image.manifest.digest, sha512]) {
      for (const tag of ["", ":gone"]) {
        const opened = await openImage(registry.source(`team/app${tag}@${digest}`), options());
        assertEquals(opened.manifestDigest, digest);
        opened.close();
      }
    }
    assertEquals(registry.asked("gone"), []);
  });
});

Deno.test("docker:// chooses by platform in nested indexes, past attestations", async () => {
  await withRegistry(async (registry) => {
    const { blobs } = registry;
    const built = (architecture: string) => {
      const platform = { os: "linux", architecture };
      const { manifest } = buildImage(blobs, { layers: [sampleTar()], platform });
      return { ...manifest, platform } as JsonDescriptor;
    };
    const [amd64, arm64] = [built("amd64"), built("arm64")];
    const attestation: JsonDescriptor = {
      ...addJson(blobs, OCI_MANIFEST_TYPE, { schemaVersion: 2, note: "not to be read" }),
      annotations: { "vnd.docker.reference.type": "attestation-manifest" },
      platform: { os: "unknown", architecture: "unknown" },
    };
    const inner = buildIndex(blobs, [attestation, arm64]);
    registry.tags.set("v1", buildIndex(blobs, [attestation, amd64, inner]).digest);
    for (const [architecture, wanted] of [["arm64", arm64], ["amd64", amd64]] as const) {
      const platform = `linux/${architecture}`;
      const opened = await openImage(registry.source(), options({ platform }));
      assertEquals(opened.manifestDigest, wanted.digest);
      opened.close();
    }
    assertEquals(registry.asked(attestation.digest), []);
    const missing = () => openImage(registry.source(), options({ platform: "linux/s390x" }));
    await assertRejects(missing, InputError, "found linux/amd64, linux/arm64");
  });
});

Deno.test("docker:// reads Docker's own manifests", async () => {
  await withRegistry(async (registry) => {
    registry.add({
      ...SPEC,
      changeManifest: (manifest) => ({
        ...manifest,
        mediaType: DOCKER_MANIFEST_TYPE,
        config: { ...manifest.config, mediaType: DOCKER_CONFIG_TYPE },
      }),
    });
    await withLoaded(registry.source(), options(), (layers) => assertEquals(layers.length, 3));
  });
});

Deno.test("docker:// takes a plain content type for what the document says, and warns", async () => {
  for (const type of ["application/json", "text/plain; charset=utf-8", undefined]) {
    await withRegistry(async (registry) => {
      const image = registry.add(SPEC);
      const bytes = registry.blobs.get(image.manifest.digest)!;
      const behave = registry.behave.bind(registry);
      registry.behave = (request, response) => {
        if (!request.path.includes("/manifests/")) return behave(request, response);
        response.writeHead(200, type === undefined ? {} : { "content-type": type }).end(bytes);
      };
      const source = options();
      await openAndLoad(registry.source(), source);
      assertEquals(source.warnings.list().map(({ kind }) => kind), ["mediaTypeMismatch"]);
    });
  }
});

Deno.test("docker:// refuses documents that are not what they are announced as", async () => {
  const json = (value: unknown) => jsonBytes(value);
  const manifest = { schemaVersion: 2, mediaType: OCI_MANIFEST_TYPE, config: {}, layers: [] };
  const cases: [body: Uint8Array, type: string, why: string][] = [
    [json("<html>"), "text/html", "answers with text/html: wanted a manifest or an index"],
    [json(1), "application/\u009b2J", "wanted a manifest"],
    [json(manifest), DOCKER_MANIFEST_TYPE, "as it was announced"],
    [json(manifest), OCI_INDEX_TYPE, "as it was announced"],
    [json({ schemaVersion: 2, manifests: [] }), OCI_MANIFEST_TYPE, '"manifests"'],
    [json({ schemaVersion: 2, manifests: [], layers: [] }), OCI_INDEX_TYPE, "only one of the two"],
    [json("text"), OCI_MANIFEST_TYPE, "wanted an object"],
    [json({ schemaVersion: 2, manifests: [] }), OCI_INDEX_TYPE, "holds no container image"],
  ];
  for (const [body, type, why] of cases) {
    const error = await refused(manifestIs(body, { "content-type": type }), why);
    assert(!error.message.includes("\u009b"), error.message);
  }
});

Deno.test("docker:// refuses schema version 1 in words", async () => {
  const old = jsonBytes({ schemaVersion: 1, name: "app", fsLayers: [] });
  for (const type of ["application/vnd.docker.distribution.manifest.v1+prettyjws", "text/plain"]) {
    await refused(manifestIs(old, { "content-type": type }), "schema version 1");
  }
});

Deno.test("docker:// compares digests that are asked for, and those that are told", async () => {
  const bytes = jsonBytes({ schemaVersion: 2 });
  const headers = { "content-type": OCI_MANIFEST_TYPE };
  const wanted = `sha256:${"0".repeat(64)}`;
  const found = digestOf(bytes);
  await refused(manifestIs(bytes, headers), `${found}: wanted ${wanted}`, `a@${wanted}`);
  const told = { ...headers, "docker-content-digest": wanted };
  await refused(manifestIs(bytes, told), `${found}: wanted ${wanted}`);
  const malformed = { ...headers, "docker-content-digest": "sha256:xyz" };
  await refused(manifestIs(bytes, malformed), "is malformed");
});

Deno.test("docker:// reads no manifest above the limit", async () => {
  const limits = { manifestBytes: 100_000 };
  const big = noise(100_001);
  const headers = { "content-type": OCI_MANIFEST_TYPE };
  const lengths = { ...headers, "content-length": big.length };
  await refused(manifestIs(big, headers), "at most 100000 bytes", undefined, { limits });
  await refused(manifestIs(big, lengths), "100001 bytes long", undefined, { limits });
  await refused(
    ({ path }, response) => {
      if (!path.includes("/manifests/")) return;
      sendCut(response, 200, { ...headers, "content-length": 2 ** 52 }, big);
      return true;
    },
    `${2 ** 52} bytes long`,
    undefined,
    { limits },
  );
  const exact = noise(100_000);
  await refused(manifestIs(exact, headers), "is not valid JSON", undefined, { limits });
});

Deno.test("docker:// asks again for a manifest that breaks off", async () => {
  let count = 0;
  await withRegistry(async (registry) => {
    registry.add(SPEC);
    const timing = new TestTiming();
    await openAndLoad(registry.source(), registrySource(timing));
    assertEquals(timing.waits, [1000]);
  }, ({ path }, response) => {
    if (!path.includes("/manifests/") || count++ > 0) return;
    const headers = { "content-type": OCI_MANIFEST_TYPE, "content-length": 500 };
    sendCut(response, 200, headers, new TextEncoder().encode("{"));
    return true;
  });
});

Deno.test("docker:// names a blob that is missing, too long, too short or not itself", async () => {
  const layers = [sampleTar()];
  for (const which of ["config", "layer"] as const) {
    const open = async (change: (registry: FakeRegistry, digest: string) => void, why: string) => {
      await withRegistry(async (registry) => {
        const image = registry.add({ layers });
        const digest = which === "config" ? image.configDigest : image.layerDigests[0]!;
        change(registry, digest);
        const load = () => openAndLoad(registry.source(), options());
        const error = await assertRejects(load, InputError, why);
        assertStringIncludes(error.message, digest);
      });
    };
    await open(({ blobs }, digest) => blobs.delete(digest), "is missing");
    await open(({ blobs }, digest) => {
      const bytes = blobs.get(digest)!.slice();
      bytes[20]! ^= 1;
      blobs.set(digest, bytes);
    }, "its digest is sha256:");
    await open(({ blobs }, digest) => {
      blobs.set(digest, blobs.get(digest)!.subarray(1));
    }, "its size is");
    await open(({ blobs }, digest) => {
      blobs.set(digest, new Uint8Array([...blobs.get(digest)!, 0]));
    }, "its size is");
  }
});

Deno.test("docker:// says what the registry says of an image that is not there", async () => {
  const error = await refused(() => {}, "does not have it: BLOB_UNKNOWN: unknown", "team/app:v2");
  assert(error instanceof InputError);
  await assertRejects(() => openImage("docker://UPPER/App", options()), UsageError);
  await assertRejects(() => openImage("docker://me:pw@r.example.com/a", options()), UsageError);
});

Deno.test("docker:// stops in the middle and leaves nothing open", async () => {
  for (const [, way] of WAYS) {
    await withDirectory(async (directory) => {
      const controller = new AbortController();
      await withRegistry(async (registry) => {
        const layers = [1, 2, 3].map((i) =>
          buildTar([{ path: `f${i}`, data: noise((3 << 20) + i) }])
        );
        registry.add({ layers, compress: "none" });
        const source = options({ ...way, tmpdir: directory, signal: controller.signal });
        const load = () => openAndLoad(registry.source(), source);
        await assertRejects(load, InterruptedError);
        assertEquals(openFilesBelow(directory), []);
        assertEquals([...Deno.readDirSync(directory)], []);
      }, ({ path }, response, { blobs }) => {
        const bytes = blobs.get(path.slice(path.lastIndexOf("/") + 1));
        if (!bytes || bytes.length < 1 << 20) return;
        response.writeHead(200, { "content-length": bytes.length });
        response.write(bytes.subarray(0, bytes.length - 1), () => controller.abort());
        return true;
      });
    });
  }
});

const FIXTURE = fileURLToPath(new URL("../../../fixtures/oci-tiny", import.meta.url));

/** Fills a registry with the files of a layout. */
function serveLayout(registry: FakeRegistry, layout: string): void {
  const directory = join(layout, "blobs/sha256");
  for (const { name } of Deno.readDirSync(directory)) {
    registry.blobs.set(`sha256:${name}`, Deno.readFileSync(join(directory, name)));
  }
  const index = JSON.parse(Deno.readTextFileSync(join(layout, "index.json")));
  registry.tags.set("v1", index.manifests[0].digest);
}

Deno.test("bless, bless layered and probe read a registry as they read a layout", async () => {
  await withDirectory(async (directory) => {
    await withRegistry(async (registry) => {
      serveLayout(registry, FIXTURE);
      const run = async (...words: string[]) => {
        const { code, stdout, stderr } = await runFake(words, COMMANDS);
        assertEquals([code, stderr], [0, ""]);
        return stdout;
      };
      const made = (name: string) => Deno.readFileSync(join(directory, name));
      const sources = [["oci", `oci:${FIXTURE}`], ["http", registry.source()]] as const;
      const reports: Record<string, unknown>[] = [];
      for (const [name, source] of sources) {
        const words = name === "http" ? ["--plain-http", "--quiet"] : ["--quiet"];
        await run("bless", source, "-o", join(directory, name), ...words);
        await run("bless", "layered", source, "-o", join(directory, `${name}-layers`));
        reports.push(JSON.parse(await run("probe", source, "--json", "--cdc", "64K")));
      }
      assertEquals(digestOf(made("http")), digestOf(made("oci")));
      const names = [...Deno.readDirSync(join(directory, "oci-layers"))].map(({ name }) => name);
      for (const name of names) {
        assertEquals(made(`http-layers/${name}`), made(`oci-layers/${name}`), name);
      }
      assert(names.length > 3);
      // Where the images of all layers are there, only the config is pulled.
      const before = registry.asked("/blobs/").length;
      await run("bless", "layered", registry.source(), "-o", join(directory, "http-layers"));
      assertEquals(registry.asked("/blobs/").length, before + 1);
      const [wanted, found] = reports;
      assertEquals(found!["schemes"], wanted!["schemes"]);
    });
  });
});

function cached(blobCache: string): ResolvedOptions {
  return registrySource(new TestTiming(), { blobCache });
}

Deno.test("layers are asked for once, whoever needs them, and are the same from the cache", async () => {
  await withDirectory(async (cache) => {
    await withRegistry(async (registry) => {
      registry.add(SPEC);
      const seen: string[][] = [];
      for (let round = 0; round < 2; round++) {
        await withLoaded(registry.source(), cached(cache), (layers) => {
          seen.push(layers.map((layer) => digestOf(storeBytes(layer))));
        });
      }
      assertEquals(seen[0], seen[1]);
      const layers = [...registry.blobs].filter(([digest]) =>
        existsSync(cachedBlobPath(cache, digest)!)
      );
      assertEquals(layers.length, 2);
      for (const [digest, bytes] of layers) {
        assertEquals(registry.asked(digest).length, 1);
        assertEquals(digestOf(readFileSync(cachedBlobPath(cache, digest)!)), digestOf(bytes));
      }
      assertEquals(readdirSync(join(cache, "sha256")).length, 2);
    });
  });
});

Deno.test("a layer that is not what its name says is not kept", async () => {
  await withDirectory(async (cache) => {
    await withRegistry(async (registry) => {
      const { manifest } = registry.add(SPEC);
      const layers = [...registry.blobs].filter(([digest, bytes]) =>
        digest !== manifest.digest && bytes[0] !== 0x7b
      );
      for (const [digest, bytes] of layers) {
        const wrong = Uint8Array.from(bytes);
        wrong[600]! ^= 1;
        registry.blobs.set(digest, wrong);
      }
      await assertRejects(() => openAndLoad(registry.source(), cached(cache)), InputError);
      assertEquals(readdirSync(join(cache, "sha256")), []);
    });
  });
});

Deno.test("a cache that cannot be written to is gone without", async () => {
  await withDirectory(async (directory) => {
    const cache = join(directory, "file");
    writeFileSync(cache, "in the way");
    await withRegistry(async (registry) => {
      registry.add(SPEC);
      await withLoaded(
        registry.source(),
        cached(cache),
        (layers) => assertEquals(layers.length, 3),
      );
    });
    assertEquals(readFileSync(cache, "utf8"), "in the way");
  });
});
