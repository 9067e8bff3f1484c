/**
 * Documents with texts of a mebibyte in any place: they are refused in a short message, or of no account, and take time
 * that grows with their length alone.
 */
import { assert } from "@std/assert";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { oldDockerEntries } from "../source/build_archives.ts";
import { jsonBytes, type LayoutSpec, writeOciLayout } from "../source/build_layout.ts";
import { sampleTar } from "../source/helpers.ts";
import { buildTar } from "../tar/build.ts";
import { withSandbox } from "./sandbox.ts";

const LENGTH = 1 << 20;
/** Made to keep expressions busy that try one way after the other. */
const TEXTS = ["a", "/", ":", "a/", "a:", "-._", "sha256:", "\u001b", "\u{1f600}"].map((text) =>
  text.repeat(Math.ceil(LENGTH / text.length))
);

/** The ways to all values of a document. */
function* waysOf(value: unknown, way: readonly string[] = []): Generator<readonly string[]> {
  if (typeof value !== "object" || value === null) return yield way;
  for (const [key, inner] of Object.entries(value)) yield* waysOf(inner, [...way, key]);
}

function replaced(value: unknown, way: readonly string[], by: unknown): unknown {
  const [key, ...rest] = way;
  if (key === undefined) return by;
  const copy = (Array.isArray(value) ? [...value] : { ...value as object }) as Record<
    string,
    unknown
  >;
  copy[key] = replaced(copy[key], rest, by);
  return copy;
}

for (const which of ["changeIndex", "changeManifest", "changeConfig"] as const) {
  Deno.test(`texts of a mebibyte anywhere in a document: ${which}`, async () => {
    await withSandbox(async (sandbox) => {
      let ways: readonly (readonly string[])[] = [];
      const blessWith = async (change: (document: unknown) => unknown) => {
        const layout = join(sandbox.directory, "layout");
        const spec: LayoutSpec = { layers: [sampleTar()], [which]: change };
        writeOciLayout(layout, spec);
        const outcome = await sandbox.bless(`oci:${layout}`);
        Deno.removeSync(layout, { recursive: true });
        sandbox.sweep();
        return outcome;
      };
      const right = await blessWith((document) => {
        ways = [...waysOf(document)];
        return document;
      });
      assert(!("error" in right) && ways.length > 3);
      for (const [i, way] of ways.entries()) {
        // Each place gets some of the texts, and each text comes to some places.
        for (const text of TEXTS.filter((_, j) => (i + j) % 3 === 0)) {
          await blessWith((document) => replaced(document, way, text));
        }
        await blessWith((document) => replaced(document, way, Array(10_000).fill("a")));
      }
    });
  });
}

Deno.test("texts of a mebibyte anywhere in the manifest of a docker archive", async () => {
  await withSandbox(async (sandbox) => {
    const path = join(sandbox.directory, "saved.tar");
    for (const text of TEXTS) {
      for (const key of ["Config", "RepoTags", "Layers"]) {
        const entries = oldDockerEntries().map((entry) => {
          if (entry.path !== "manifest.json") return entry;
          const [first] = JSON.parse(new TextDecoder().decode(entry.data as Uint8Array));
          return {
            ...entry,
            data: jsonBytes([{ ...first, [key]: key === "Config" ? text : [text] }]),
          };
        });
        writeFileSync(path, buildTar(entries));
        await sandbox.bless(`docker-archive:${path}`);
        sandbox.sweep();
      }
    }
  });
});
