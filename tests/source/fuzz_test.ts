/**
 * Whatever stands in documents and archives, opening them gives an image or one of the expected errors.
 *
 * @module
 */
import { assert } from "@std/assert";
import fc from "fast-check";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { BlessfsError } from "../../lib/errors.ts";
import { buildTar } from "../tar/build.ts";
import { newDockerEntries, oldDockerEntries } from "./build_archives.ts";
import { type LayoutSpec, writeOciLayout } from "./build_layout.ts";
import { openAndLoad, openFilesBelow, sampleTar, testOptions, withDirectory } from "./helpers.ts";

const SEED = 20_240_229;

/** Loads a source; anything but an expected error fails the test. */
async function isExpected(source: string, directory: string): Promise<void> {
  try {
    await openAndLoad(source, testOptions());
  } catch (error) {
    assert(error instanceof BlessfsError, `${source}: ${(error as Error).stack}`);
    // deno-lint-ignore no-control-regex
    assert(!/[\x00-\x1f\x7f-\x9f\u202e]/.test(error.message), JSON.stringify(error.message));
  }
  assert(openFilesBelow(directory).length === 0);
}

/** Replaces the value at some place of a document: a path of positions among keys and elements. */
function replaced(value: unknown, way: readonly number[], by: unknown): unknown {
  if (way.length === 0 || typeof value !== "object" || value === null) return by;
  const keys = Object.keys(value);
  if (keys.length === 0) return by;
  const key = keys[way[0]! % keys.length]!;
  const inner = replaced((value as Record<string, unknown>)[key], way.slice(1), by);
  return Array.isArray(value)
    ? value.map((item, i) => String(i) === key ? inner : item)
    : { ...value, [key]: inner };
}

const ANYTHING = fc.oneof(
  fc.jsonValue(),
  fc.constantFrom<unknown>(
    -1,
    2 ** 53,
    "\x1b]0;x\x07\u202e",
    `sha256:${"0".repeat(64)}`,
    "sha512:../x",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.layer.v1.tar+zstd",
    {},
    [],
    null,
  ),
);
const WAY = fc.array(fc.nat(20), { maxLength: 4 });

Deno.test("documents with anything anywhere are opened or refused in plain words", async () => {
  const documents = fc.constantFrom("changeIndex", "changeManifest", "changeConfig");
  await fc.assert(
    fc.asyncProperty(documents, WAY, ANYTHING, async (which, way, by) => {
      await withDirectory(async (directory) => {
        const change = (document: unknown) => replaced(document, way, by);
        const spec: LayoutSpec = { layers: [sampleTar()], compress: "none", [which]: change };
        writeOciLayout(directory, spec);
        await isExpected(`oci:${directory}`, directory);
      });
    }),
    { seed: SEED, numRuns: 300 },
  );
});

Deno.test("archives with any bytes changed are opened or refused in plain words", async () => {
  const archives = [buildTar(oldDockerEntries()), buildTar(newDockerEntries())];
  const change = fc.tuple(fc.nat(), fc.nat(255));
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(...archives),
      fc.array(change, { minLength: 1, maxLength: 5 }),
      fc.boolean(),
      async (archive, changes, inHeaders) => {
        const bytes = archive.slice();
        for (const [at, value] of changes) {
          // Payload is most of it: half of the runs look for headers, which come in the first block of each member.
          const offset = at % bytes.length;
          bytes[inHeaders ? offset - (offset % 512) + (offset % 160) : offset] = value;
        }
        await withDirectory(async (directory) => {
          const path = join(directory, "archive");
          writeFileSync(path, bytes);
          await isExpected(`docker-archive:${path}`, directory);
          await isExpected(path, directory);
        });
      },
    ),
    { seed: SEED, numRuns: 300 },
  );
});
