/**
 * Known holes of other tools in what they make of an image's documents: digests and ids that become paths, manifests
 * that are two things, documents without an end, and layers that are not what they say.
 */
import { assert, assertEquals } from "@std/assert";
import { Buffer } from "node:buffer";
import { mkdirSync, readdirSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { digestOf } from "../../lib/bytes/digest.ts";
import { OCI_INDEX_TYPE, OCI_MANIFEST_TYPE } from "../../lib/source/documents.ts";
import { oldDockerEntries } from "../source/build_archives.ts";
import {
  jsonBytes,
  type JsonDescriptor,
  type LayoutSpec,
  writeOciLayout,
} from "../source/build_layout.ts";
import { sampleTar } from "../source/helpers.ts";
import { buildTar, type SimpleEntry } from "../tar/build.ts";
import { accepted, assertRefused, type Sandbox, withSandbox } from "./sandbox.ts";

const TRAVERSALS = [
  "sha256:../../../outside/secret",
  `sha256:${"0".repeat(61)}/..`,
  "../../outside:secret",
  "sha256:" + "0".repeat(63),
  `sha256:${"A".repeat(64)}`,
  "",
  ":",
  `sha512:${"0".repeat(64)}`,
  "sha256:\u001b[2J",
];

async function blessSpec(sandbox: Sandbox, spec: Partial<LayoutSpec>) {
  const layout = join(sandbox.directory, `spec-${readdirSync(sandbox.directory).length}`);
  writeOciLayout(layout, { layers: [sampleTar()], ...spec });
  return await sandbox.bless(`oci:${layout}`);
}

for (const cve of ["CVE-2020-27534", "CVE-2024-3727"]) {
  Deno.test(`${cve}: a digest is checked before it becomes a path, wherever it stands`, async () => {
    await withSandbox(async (sandbox) => {
      for (const digest of TRAVERSALS) {
        const places: Partial<LayoutSpec>[] = [
          { changeIndex: (index) => withDigest(index, index.manifests[0]!, digest) },
          { changeManifest: (manifest) => withDigest(manifest, manifest.config, digest) },
          { changeManifest: (manifest) => withDigest(manifest, manifest.layers[0]!, digest) },
          {
            changeConfig: (config) => ({
              ...config,
              rootfs: { type: "layers", diff_ids: [digest] },
            }),
          },
        ];
        for (const spec of places) assertRefused(await blessSpec(sandbox, spec), "digest");
      }
    });
  });
}

function withDigest<T>(document: T, descriptor: JsonDescriptor, digest: string): T {
  descriptor.digest = digest;
  return document;
}

Deno.test("CVE-2014-9358: ids and paths of docker-archive manifests are names of members, never of files", async () => {
  await withSandbox(async (sandbox) => {
    const { secretPath } = sandbox;
    for (const path of [secretPath, `../../..${secretPath}`, "../outside/secret", ""]) {
      for (const field of ["Config", "Layers"]) {
        const archive = join(sandbox.directory, "saved.tar");
        writeFileSync(
          archive,
          buildTar(
            oldDockerEntries().map((entry) =>
              withManifest(entry, (manifest) => {
                manifest[0]![field] = field === "Layers" ? [path] : path;
              })
            ),
          ),
        );
        const outcome = await sandbox.bless(`docker-archive:${archive}`);
        assert("error" in outcome, `${field} ${path}`);
      }
    }
  });
});

function withManifest(
  entry: SimpleEntry,
  change: (manifest: Record<string, unknown>[]) => void,
): SimpleEntry {
  if (entry.path !== "manifest.json") return entry;
  const manifest = JSON.parse(new TextDecoder().decode(entry.data as Uint8Array));
  change(manifest);
  return { ...entry, data: jsonBytes(manifest) };
}

Deno.test("CVE-2014-6407: members of an archive that are links lead to members only", async () => {
  await withSandbox(async (sandbox) => {
    const archive = join(sandbox.directory, "saved.tar");
    for (const link of [sandbox.secretPath, "../../outside/secret", "manifest.json/../../x"]) {
      for (const kind of ["symlink", "hardlink"] as const) {
        const entries = oldDockerEntries().map((entry): SimpleEntry =>
          entry.path.endsWith("layer.tar") ? { path: entry.path, kind, link } : entry
        );
        writeFileSync(archive, buildTar(entries));
        assert("error" in await sandbox.bless(`docker-archive:${archive}`), `${kind} ${link}`);
      }
    }
  });
});

Deno.test("CVE-2014-8178: a layer that says it is another one is refused, and takes no other's name", async () => {
  await withSandbox(async (sandbox) => {
    const victim = digestOf(sampleTar(2));
    const outcome = await blessSpec(sandbox, {
      changeConfig: (config) => ({ ...config, rootfs: { type: "layers", diff_ids: [victim] } }),
    });
    assertRefused(outcome, `wanted ${victim}`);
    const files = readdirSync(sandbox.directory, { recursive: true, encoding: "utf8" });
    assertEquals(files.filter((name) => name.endsWith(".ext4")), []);
  });
});

Deno.test("CVE-2021-41190: a document is a manifest or an index, and of the type that it is announced as", async () => {
  await withSandbox(async (sandbox) => {
    const specs: Partial<LayoutSpec>[] = [
      { changeManifest: (manifest) => ({ ...manifest, manifests: [] }) },
      { changeManifest: (manifest) => ({ ...manifest, mediaType: OCI_INDEX_TYPE }) },
      {
        changeIndex: (index) => {
          index.manifests[0]!.mediaType = OCI_INDEX_TYPE;
          return index;
        },
      },
      { changeIndex: (index) => ({ ...index, layers: [] }) },
      { changeIndex: (index) => ({ ...index, mediaType: OCI_MANIFEST_TYPE }) },
      { changeManifest: (manifest) => ({ ...manifest, schemaVersion: 1 }) },
    ];
    for (const [i, spec] of specs.entries()) {
      assert("error" in await blessSpec(sandbox, spec), `case ${i}`);
    }
  });
});

for (const cve of ["CVE-2023-25153", "CVE-2020-1702"]) {
  Deno.test(`${cve}: documents of any length are refused by their size, without being read`, async () => {
    await withSandbox(async (sandbox) => {
      const layout = join(sandbox.directory, "layout");
      const built = writeOciLayout(layout, { layers: [sampleTar()] });
      const index = readFileSync(join(layout, "index.json"));
      truncateSync(join(layout, "index.json"), 2 ** 36);
      assertRefused(await sandbox.bless(`oci:${layout}`), "at most 4194304 are read");
      writeFileSync(join(layout, "index.json"), index);
      // The descriptor of the manifest is right about its length, which is too much.
      const specs: Partial<LayoutSpec>[] = [
        {
          changeIndex: (document) => {
            document.manifests[0]!.size = 2 ** 40;
            return document;
          },
        },
        {
          changeManifest: (document) => {
            document.config.size = 2 ** 40;
            return document;
          },
        },
      ];
      for (const spec of specs) {
        assertRefused(await blessSpec(sandbox, spec), "at most 4194304 are read");
      }
      truncateSync(join(layout, "blobs", built.manifest.digest.replace(":", "/")), 2 ** 36);
      assert("error" in await sandbox.bless(`oci:${layout}`));
    });
  });
}

Deno.test("CVE-2021-21285: manifests with anything missing or null are refused in words", async () => {
  await withSandbox(async (sandbox) => {
    for (const value of [null, undefined, {}, [], "", 0, [null], [{}], [[]]]) {
      for (const field of ["config", "layers"]) {
        const outcome = await blessSpec(sandbox, {
          changeManifest: (manifest) => ({ ...manifest, [field]: value }),
        });
        assert("error" in outcome, `${field} ${JSON.stringify(value)}`);
      }
    }
  });
});

for (const cve of ["CVE-2022-23648", "CVE-2026-46680", "CVE-2026-55686", "CVE-2024-1753"]) {
  Deno.test(`${cve}: users, volumes and directories of a config are handed on and never looked up`, async () => {
    await withSandbox(async (sandbox) => {
      const container = {
        User: "4294967296:../x",
        WorkingDir: "../../../outside",
        Volumes: { "/../../../../outside": {}, "/link": {} },
        Entrypoint: ["\u001b[2J"],
      };
      const layout = join(sandbox.directory, "layout");
      const layers = [buildTar([{ path: "link", link: sandbox.secretPath }])];
      writeOciLayout(layout, { layers, config: { config: container } });
      const tree = accepted(await sandbox.bless(`oci:${layout}`));
      assertEquals(Object.keys(tree), ["/", "/link"]);
      const text = readFileSync(join(sandbox.directory, "out-0/layers/image.json"), "utf8");
      assertEquals(JSON.parse(text).config, container);
      // deno-lint-ignore no-control-regex
      assertEquals(/[\x00-\x09\x0b-\x1f\x7f]/.test(text), false);
    });
  });
}

for (const cve of ["CVE-2018-15664", "CVE-2026-42306"]) {
  Deno.test(`${cve}: a directory source that has symlinks to the machine's files is read as it lies`, async () => {
    await withSandbox(async (sandbox) => {
      const root = join(sandbox.directory, "root");
      mkdirSync(root);
      writeFileSync(join(root, "own"), "1");
      Deno.symlinkSync(`${sandbox.directory}/outside`, join(root, "link"));
      Deno.symlinkSync(sandbox.secretPath, join(root, "secret"));
      const tree = accepted(await sandbox.bless(`rootfs:${root}`));
      assertEquals(Object.keys(tree), ["/", "/link", "/own", "/secret"]);
      assertEquals([tree["/link"]?.kind, tree["/secret"]?.kind], ["symlink", "symlink"]);
    });
  });
}

Deno.test("documents that nest without an end are refused, and take no stack", async () => {
  await withSandbox(async (sandbox) => {
    const depth = 500_000;
    const layout = join(sandbox.directory, "layout");
    const { configDigest, manifest } = writeOciLayout(layout, { layers: [sampleTar()] });
    const deep = `{"a":${"[".repeat(depth)}${"]".repeat(depth)}}`;
    for (const file of ["oci-layout", "index.json"]) {
      const path = join(layout, file);
      const right = readFileSync(path);
      writeFileSync(path, deep);
      const outcome = await sandbox.bless(`oci:${layout}`);
      assert("error" in outcome, file);
      writeFileSync(path, right);
    }
    // A config that is right but for its container's part, which is handed on.
    const path = (digest: string) => join(layout, "blobs", digest.replace(":", "/"));
    const config = readFileSync(path(configDigest), "utf8").replace(/}$/, `,"config":${deep}}`);
    const text = readFileSync(path(manifest.digest), "utf8");
    const document = JSON.parse(text);
    document.config = {
      ...document.config,
      digest: digestOf(Buffer.from(config)),
      size: config.length,
    };
    writeFileSync(path(document.config.digest), config);
    const changed = Buffer.from(JSON.stringify(document));
    writeFileSync(path(digestOf(changed)), changed);
    const index = readFileSync(join(layout, "index.json"), "utf8")
      .replace(manifest.digest, digestOf(changed))
      .replace(`"size":${manifest.size}`, `"size":${changed.length}`);
    writeFileSync(join(layout, "index.json"), index);
    assertRefused(await sandbox.bless(`oci:${layout}`), "nests more than 256 deep");
  });
});
