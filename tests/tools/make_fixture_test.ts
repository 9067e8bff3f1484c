import { assertEquals } from "@std/assert";
import { gunzipSync } from "node:zlib";
import { digestOf } from "../../lib/bytes/digest.ts";
import { withTemporaryDirectory } from "../oracle/command.ts";

const TOOL = new URL("../../tools/make_fixture.ts", import.meta.url).pathname;
const COMMITTED = new URL("../../fixtures/oci-tiny", import.meta.url).pathname;

interface Descriptor {
  readonly digest: string;
  readonly size: number;
}

function readBlob(layout: string, { digest, size }: Descriptor): Uint8Array {
  const bytes = Deno.readFileSync(`${layout}/blobs/${digest.replace(":", "/")}`);
  assertEquals([digestOf(bytes), bytes.length], [digest, size]);
  return bytes;
}

// deno-lint-ignore no-explicit-any -- JSON of the fixture
function readJson(bytes: Uint8Array): any {
  return JSON.parse(new TextDecoder().decode(bytes));
}

/** The digests of the layers' tars, after checking every digest of a layout. */
function diffIdsOf(layout: string): string[] {
  const index = readJson(Deno.readFileSync(`${layout}/index.json`));
  const manifest = readJson(readBlob(layout, index.manifests[0]));
  const config = readJson(readBlob(layout, manifest.config));
  const found = manifest.layers.map((layer: Descriptor) =>
    digestOf(new Uint8Array(gunzipSync(readBlob(layout, layer))))
  );
  assertEquals(found, config.rootfs.diff_ids);
  return found;
}

Deno.test("make_fixture makes the layers that are committed", () => {
  withTemporaryDirectory((scratch) => {
    const { success, stderr } = new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "--no-lock", "--no-check", TOOL, `${scratch}/layout`],
    }).outputSync();
    assertEquals(success, true, new TextDecoder().decode(stderr));
    assertEquals(diffIdsOf(`${scratch}/layout`), diffIdsOf(COMMITTED));
  });
});

Deno.test("oci-tiny has no blob that nothing names", () => {
  const blobs = [...Deno.readDirSync(`${COMMITTED}/blobs/sha256`)].length;
  assertEquals(blobs, diffIdsOf(COMMITTED).length + 2);
});
