/** Sizes that can never do are refused before a layer is read. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { join } from "node:path";
import { blessMerged } from "../../lib/bless/merged.ts";
import { MERGED_DEFAULTS } from "../../lib/bless/options.ts";
import { InputError } from "../../lib/errors.ts";
import { nullSink } from "../../lib/io/sink.ts";
import { checkLeastSize } from "../../lib/bless/plan_image.ts";
import { withTemporaryDirectory } from "../oracle/command.ts";
import { writeOciLayout } from "../source/build_layout.ts";
import { noise, sampleTar, testOptions } from "../source/helpers.ts";
import { buildTar } from "../tar/build.ts";

const MIB = 1 << 20;
const big = buildTar([{ path: "big", data: noise(12 * MIB) }]);

/** What is read of an image, and how it ends. */
function attempt(directory: string, sizeBytes: number) {
  const read: string[] = [];
  const progress = {
    begin: (name: string) => {
      read.push(name);
      return { advance: () => {}, end: () => {} };
    },
  };
  const size = { kind: "total", sizeBytes } as const;
  const layout = { ...MERGED_DEFAULTS, size };
  const made = blessMerged({
    ...testOptions({ progress }),
    source: `oci:${directory}`,
    layout,
    sink: nullSink,
  });
  return { made, read };
}

Deno.test("a size that the topmost layer or the journal rules out is refused before layers are read", async () => {
  await withTemporaryDirectory(async (directory) => {
    const path = join(directory, "layout");
    writeOciLayout(path, { layers: [sampleTar(1), big] });
    for (const sizeBytes of [0, 4096, 4 * MIB]) {
      const { made, read } = attempt(path, sizeBytes);
      await assertRejects(() => made, InputError, "are too few");
      assertEquals(read, [], String(sizeBytes));
    }
    // Larger than what is certain: the layers tell.
    const { made, read } = attempt(path, 9 * MIB);
    await assertRejects(() => made, InputError, "are too few: the content needs");
    assert(read.length >= 2);
  });
});

Deno.test("a lower layer that a later one removes counts nothing", async () => {
  await withTemporaryDirectory(async (directory) => {
    const path = join(directory, "layout");
    writeOciLayout(path, { layers: [big, buildTar([{ path: ".wh.big" }])] });
    const { made } = attempt(path, 5 * MIB);
    assertEquals((await made).sizeBytes, 5 * MIB);
  });
});

Deno.test("checkLeastSize counts the topmost layer, unless additions may take something out of it", () => {
  const layer = (sizeBytes: number | undefined) => ({ sizeBytes });
  const check = (
    layers: unknown[],
    sizeBytes: number,
    manifestDigest?: string,
    additions?: unknown,
  ) =>
    checkLeastSize(
      { layers, manifestDigest, additions } as Parameters<typeof checkLeastSize>[0],
      { ...MERGED_DEFAULTS, size: { kind: "total", sizeBytes } },
      0,
    );
  const refuses = (...args: Parameters<typeof check>) => {
    try {
      check(...args);
      return false;
    } catch (error) {
      assert(error instanceof InputError, String(error));
      return true;
    }
  };
  assertEquals(refuses([layer(800 * MIB)], 99 * MIB, "sha256:0"), true);
  assertEquals(refuses([layer(800 * MIB)], 100 * MIB, "sha256:0"), false);
  assertEquals(refuses([layer(800 * MIB), layer(1)], 99 * MIB, "sha256:0"), false);
  assertEquals(refuses([layer(800 * MIB)], 99 * MIB, "sha256:0", {}), false);
  // A tar may hold a file many times over.
  assertEquals(refuses([layer(800 * MIB)], 99 * MIB), false);
  assertEquals(refuses([layer(undefined)], 99 * MIB, "sha256:0"), false);
  assertEquals(refuses([], 3 * MIB), true);
});
