/**
 * Every limit, through to the image: what is just inside is blessed, what is just outside is refused, and the error names
 * the limit and the option.
 */
import { assert, assertEquals } from "@std/assert";
import { statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { limitOptions, LIMITS } from "../../lib/bless/options.ts";
import { kebabCase } from "../../cli/errors.ts";
import { digestOf } from "../../lib/bytes/digest.ts";
import { OCI_INDEX_TYPE } from "../../lib/source/documents.ts";
import {
  type Blobs,
  buildImage,
  compressLayer,
  jsonBytes,
  writeLayoutFiles,
  writeOciLayout,
} from "../source/build_layout.ts";
import { sampleTar } from "../source/helpers.ts";
import { buildTar, type SimpleEntry } from "../tar/build.ts";
import { paxHeader, rawHeader, rawTar } from "../tar/raw.ts";
import { type Sandbox, withSandbox } from "./sandbox.ts";

/** A source, the value of the limit that it needs, and other limits that it is to be read with. */
interface Case {
  readonly source: string;
  readonly needed: number;
  readonly more?: Readonly<Record<string, number>>;
}

/** Below the floor any ratio is right, so what is exceeded above it is the ratio. */
const REPORTED_AS: Readonly<Record<string, string>> = {
  "unpacked-ratio-floor-bytes": "unpacked-ratio",
};

type Maker = (directory: string) => Case;

/** A tar that needs so much of a limit. */
function tar(needed: number, entries: readonly SimpleEntry[] | Uint8Array): Maker {
  return (directory) => {
    const path = join(directory, "root.tar");
    writeFileSync(path, entries instanceof Uint8Array ? entries : buildTar(entries));
    return { source: `tar:${path}`, needed };
  };
}

function layers(needed: number, ...tars: Uint8Array[]): Maker {
  return (directory) => {
    writeOciLayout(directory, { layers: tars });
    return { source: `oci:${directory}`, needed };
  };
}

/** An index in the index. */
function nested(needed: number): Maker {
  return (directory) => {
    const blobs: Blobs = new Map();
    const { manifest } = buildImage(blobs, { layers: [sampleTar()] });
    const inner = jsonBytes({
      schemaVersion: 2,
      mediaType: OCI_INDEX_TYPE,
      manifests: [manifest],
    });
    const digest = digestOf(inner);
    blobs.set(digest, inner);
    const descriptor = { mediaType: OCI_INDEX_TYPE, digest, size: inner.length };
    writeLayoutFiles(directory, blobs, { schemaVersion: 2, manifests: [descriptor] });
    return { source: `oci:${directory}`, needed };
  };
}

const ZEROS = buildTar([{ path: "zeros", data: new Uint8Array(200_000) }]);
const ZEROS_GZ = compressLayer(ZEROS, "gzip");

function compressed(needed: number, more: Readonly<Record<string, number>>): Maker {
  return (directory) => {
    const path = join(directory, "root.tar");
    writeFileSync(path, ZEROS_GZ);
    return { source: `tar:${path}`, needed, more };
  };
}

const PART = new Uint8Array(4096).fill(1);
const STRIPES = new Uint8Array(9 * 4096).map((_, i) => (i >> 12) % 2 === 0 ? 1 : 0);

const CASES: Readonly<Record<string, Maker>> = {
  "manifest-bytes": (directory) => {
    const { manifest } = writeOciLayout(directory, { layers: [sampleTar()] });
    const needed = Math.max(manifest.size, statSync(join(directory, "index.json")).size);
    return { source: `oci:${directory}`, needed };
  },
  "config-bytes": (directory) => {
    const { configDigest } = writeOciLayout(directory, { layers: [sampleTar()] });
    const needed = statSync(join(directory, "blobs", configDigest.replace(":", "/"))).size;
    return { source: `oci:${directory}`, needed };
  },
  "index-depth": nested(1),
  "index-entries": nested(2),
  "layers": layers(2, buildTar([{ path: "a" }]), buildTar([{ path: "b" }])),
  "image-entries": layers(3, buildTar([{ path: "a" }, { path: "b" }]), buildTar([{ path: "c" }])),
  "unpacked-bytes": layers(
    2 * ZEROS.length,
    ZEROS,
    buildTar([{ path: "b", data: new Uint8Array(200_000) }]),
  ),
  "unpacked-ratio": compressed(Math.ceil(ZEROS.length / ZEROS_GZ.length), {
    "unpacked-ratio-floor-bytes": 0,
  }),
  "unpacked-ratio-floor-bytes": compressed(ZEROS.length, { "unpacked-ratio": 1 }),
  "layer-entries": tar(3, [{ path: "a" }, { path: "b" }, { path: "c" }]),
  "layer-headers": tar(3, rawTar(rawHeader({ flag: "V" }), paxHeader([]), rawHeader({}))),
  "extended-header-bytes": tar(16, rawTar(paxHeader([["comment", "1234"]]), rawHeader({}))),
  "extended-header-total-bytes": tar(
    32,
    rawTar(
      ...["a", "b"].flatMap((name) => [paxHeader([["comment", "1234"]]), rawHeader({ name })]),
    ),
  ),
  "attribute-bytes": tar(134, [{ path: "f", xattrs: { "user.a": "" } }]),
  "path-bytes": tar(9, [{ path: "abcd/efgh" }]),
  "path-depth": tar(3, [{ path: "a/b/c" }]),
  "name-bytes": tar(4, [{ path: "abcd" }]),
  "symlink-target-bytes": tar(5, [{ path: "s", link: "12345" }]),
  "file-size-bytes": tar(5, [{ path: "f", data: "12345" }]),
  "sparse-segments": tar(4, [{
    path: "f",
    data: { sizeBytes: 70_000, parts: [[4096, PART], [20_480, PART], [40_960, PART]] },
  }]),
  "extra-payload-pieces": tar(4, [{ path: "f", data: STRIPES }]),
  "tree-nodes": tar(3, [{ path: "p/a" }, { path: "b" }]),
  "implied-directories": tar(2, [{ path: "p/q/a" }, { path: "p/b" }]),
  "symlink-hops": tar(2, [{ path: "r", link: "." }, { path: "r/r/f" }]),
  "symlink-steps": tar(4, [{ path: "r", link: "./." }, { path: "r/f" }, { path: "r/g" }]),
  "directory-names": tar(2, [{ path: "a" }, { path: "d/b" }]),
};

Deno.test("every limit has a case", () => {
  assertEquals(Object.keys(CASES), LIMITS.map(({ name }) => kebabCase(name)));
});

for (const { name: key, isFixed } of LIMITS) {
  const name = kebabCase(key);
  Deno.test(`${name}: just inside is blessed, just outside is refused with the name of the limit`, async () => {
    await withSandbox(async (sandbox) => {
      const directory = join(sandbox.directory, "source");
      Deno.mkdirSync(directory);
      const { source, needed, more = {} } = CASES[name]!(directory);
      const inside = await blessWith(sandbox, source, { ...more, [name]: needed });
      assert(!("error" in inside), `${"error" in inside && inside.error.message}`);
      const outside = await blessWith(sandbox, source, { ...more, [name]: needed - 1 });
      assert("error" in outside, `${needed - 1} is enough`);
      const { data, remedies } = outside.error;
      const reported = REPORTED_AS[name] ?? name;
      assertEquals(kebabCase(String(data["limit"])), reported);
      assertEquals(data["expected"], more[reported] ?? needed - 1);
      assertEquals(
        remedies.map(({ option, change }) => [kebabCase(option), change]),
        isFixed ? [] : [[reported, "set"]],
      );
    });
  });
}

function blessWith(sandbox: Sandbox, source: string, values: Readonly<Record<string, number>>) {
  return sandbox.bless(
    source,
    limitOptions(
      new Map(LIMITS.flatMap(({ name }) => {
        const value = values[kebabCase(name)];
        return value === undefined ? [] : [[name, value]];
      })),
    ),
  );
}
