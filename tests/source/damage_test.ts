/**
 * Damaged layers: whatever is cut or flipped, there is a clear error, or the very same result.
 *
 * @module
 */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { digestOf } from "../../lib/bytes/digest.ts";
import { InputError } from "../../lib/errors.ts";
import { closeLayers, loadLayers, openImage } from "../../lib/source/source.ts";
import { HAS_ZSTD } from "../io/compressed_samples.ts";
import { Random } from "../oracle/noise.ts";
import { notRun } from "../oracle/notice.ts";
import { compressLayer, writeOciLayout } from "./build_layout.ts";
import { sampleTar, testOptions, withDirectory } from "./helpers.ts";

/** Flipped bits for each kind of layer; more on request. */
const ROUNDS = Number(process.env["BLESSFS_HOSTILE_ROUNDS"] ?? 200);
const KINDS = ["none", "gzip", "zstd"] as const;
type Kind = (typeof KINDS)[number];

function kinds(): readonly Kind[] {
  if (HAS_ZSTD) return KINDS;
  notRun("zstd layers", "this runtime's node:zlib does not know zstd");
  return KINDS.slice(0, 2);
}

/** Loads a source; gives the diff ids or the InputError. Anything else that is thrown fails the test. */
async function outcome(source: string): Promise<readonly string[] | InputError> {
  const options = testOptions();
  try {
    const image = await openImage(source, options);
    try {
      const layers = await loadLayers(image, options);
      closeLayers(layers);
      return layers.map(({ diffId, entries }) => digestOf(entriesBytes(entries)) + diffId);
    } finally {
      image.close();
    }
  } catch (error) {
    assert(error instanceof InputError, `${source}: ${(error as Error).stack}`);
    return error;
  }
}

function entriesBytes(entries: unknown): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(entries));
}

for (const kind of KINDS) {
  Deno.test(`loadLayers refuses a ${kind} layer that was cut at any 512 bytes`, async () => {
    if (!kinds().includes(kind)) return;
    await withDirectory(async (directory) => {
      const { layerDigests } = writeOciLayout(directory, { layers: [sampleTar()], compress: kind });
      const path = join(directory, "blobs", layerDigests[0]!.replace(":", "/"));
      const whole = readFileSync(path);
      assert(!(await outcome(`oci:${directory}`) instanceof InputError));
      for (let length = 0; length < whole.length; length += kind === "none" ? 512 : 64) {
        writeFileSync(path, whole.subarray(0, length));
        const error = await outcome(`oci:${directory}`);
        assert(error instanceof InputError);
        assertStringIncludes(error.message, `its size is ${length} bytes: wanted ${whole.length}`);
      }
    });
  });

  Deno.test(`loadLayers refuses a truncated ${kind} layer whose descriptor fits it`, async () => {
    if (!kinds().includes(kind)) return;
    const tar = sampleTar();
    const length = compressLayer(tar, kind).length;
    for (let cut = 0; cut < length; cut += kind === "none" ? 512 : 64) {
      await withDirectory(async (directory) => {
        const changeStored = (stored: Uint8Array) => stored.subarray(0, cut);
        writeOciLayout(directory, { layers: [tar], compress: kind, changeStored });
        const error = await outcome(`oci:${directory}`);
        assert(error instanceof InputError, `cut at ${cut}`);
        assertStringIncludes(error.message, "layer 1 of 1 (sha256:");
      });
    }
  });

  Deno.test(`a ${kind} tar with a flipped bit is refused or read the same`, async () => {
    if (!kinds().includes(kind)) return;
    await withDirectory(async (directory) => {
      const path = join(directory, "root.tar");
      const stored = compressLayer(sampleTar(), kind);
      writeFileSync(path, stored);
      const wanted = await outcome(`tar:${path}`);
      const random = new Random(7);
      for (let round = 0; round < ROUNDS; round++) {
        const at = random.next() % stored.length;
        const flipped = stored.slice();
        flipped[at]! ^= 1 << (random.next() >>> 29);
        writeFileSync(path, flipped);
        const found = await outcome(`tar:${path}`);
        // A plain tar has no digest to hold it against: there the payload may change, and the diff id with it.
        if (found instanceof InputError || kind === "none") continue;
        assertEquals(found, wanted, `byte ${at}`);
      }
    });
  });

  Deno.test(`loadLayers refuses a ${kind} layer with any flipped bit`, async () => {
    if (!kinds().includes(kind)) return;
    await withDirectory(async (directory) => {
      const built = writeOciLayout(directory, { layers: [sampleTar()], compress: kind });
      const digest = built.layerDigests[0]!;
      const path = join(directory, "blobs", digest.replace(":", "/"));
      const whole = readFileSync(path);
      const random = new Random(11);
      for (let round = 0; round < ROUNDS; round++) {
        const at = random.next() % whole.length;
        const flipped = whole.slice();
        flipped[at]! ^= 1 << (random.next() >>> 29);
        writeFileSync(path, flipped);
        const error = await outcome(`oci:${directory}`);
        assert(error instanceof InputError, `byte ${at}`);
        // The digest tells that the file is damaged; what the decoder met first does not matter.
        assertStringIncludes(error.message, `its digest is ${digestOf(flipped)}: wanted ${digest}`);
      }
    });
  });

  Deno.test(`a ${kind} layer made with a flipped bit is refused, whatever its digest says`, async () => {
    if (!kinds().includes(kind)) return;
    const tar = sampleTar();
    const random = new Random(13);
    for (let round = 0; round < ROUNDS / 4; round++) {
      await withDirectory(async (directory) => {
        const changeStored = (stored: Uint8Array) => {
          const flipped = stored.slice();
          flipped[random.next() % stored.length]! ^= 1 << (random.next() >>> 29);
          return flipped;
        };
        const spec = { layers: [tar], compress: kind, changeStored };
        const { diffIds } = writeOciLayout(directory, spec);
        const found = await outcome(`oci:${directory}`);
        // Bits of a compressed header may mean nothing; then the content is the same.
        if (!(found instanceof InputError)) assertStringIncludes(found[0]!, diffIds[0]!);
      });
    }
  });
}
