import { assertEquals, assertThrows } from "@std/assert";
import { InputError } from "../../lib/errors.ts";
import { SharedDescriptor } from "../../lib/io/shared_descriptor.ts";
import { createUnlinkedFile, singleFile, SpoolWriter } from "../../lib/io/spool.ts";
import type { ReadLayer } from "../../lib/source/load_layer.ts";
import { loadedLayer, reportWarnings } from "../../lib/source/loaded_layer.ts";
import { treeLayer } from "../../lib/source/tar_file.ts";
import { Warnings } from "../../lib/warnings.ts";

function readLayer(): ReadLayer {
  const descriptor = createUnlinkedFile();
  const writer = new SpoolWriter(singleFile(descriptor, "tmp"));
  writer.append(new Uint8Array([9, 9, 1, 2, 3, 9]));
  writer.flush();
  return {
    facts: {
      digest: "stored",
      diffId: "plain",
      storedBytes: 7,
      uncompressedBytes: 3,
      statedUuid: "u",
      compression: "none",
      warnings: [{ kind: "b", what: "x", why: "y", count: 2 }, {
        kind: "a",
        what: "z",
        why: "w",
        count: 1,
      }],
    },
    entries: [],
    file: new SharedDescriptor(descriptor),
    offsetBytes: 2,
  };
}

const SOURCE = treeLayer({
  name: "layer",
  sizeBytes: 7,
  stored: { kind: "stream", open: () => (async function* () {})() },
});

Deno.test("loadedLayer reads its part of the file, and keeps it open by itself", () => {
  const read = readLayer();
  const layer = loadedLayer(SOURCE, read);
  read.file.release();
  assertEquals([layer.sizeBytes, layer.uncompressedBytes, layer.store.sizeBytes], [7, 3, 3]);
  const bytes = new Uint8Array(5);
  assertEquals(layer.store.readAt(bytes, 0), 3);
  assertEquals([...bytes], [1, 2, 3, 0, 0]);
  layer.store.close();
  assertThrows(() => read.file.share());
});

Deno.test("reportWarnings counts them, or throws the first under strict", () => {
  const read = readLayer();
  const warnings = new Warnings();
  reportWarnings(read, warnings);
  assertEquals(warnings.list().map(({ kind, count }) => [kind, count]), [["a", 1], ["b", 2]]);
  assertThrows(() => reportWarnings(read, new Warnings(true)), InputError, "x: y");
  read.file.release();
});
