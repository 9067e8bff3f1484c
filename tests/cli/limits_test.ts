import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { parseLimits } from "../../cli/commands/sources.ts";
import { kebabCase } from "../../cli/errors.ts";
import { LIMITS } from "../../lib/bless/options.ts";
import { UsageError } from "../../lib/errors.ts";

Deno.test("parseLimits takes every limit that can be raised, sizes with their units", () => {
  for (const { name: key, isFixed } of LIMITS) {
    const name = kebabCase(key);
    if (isFixed) assertThrows(() => parseLimits([`${name}=5`]), UsageError, "--limit: ");
    else parseLimits([`${name}=5`]);
  }
  assertEquals(parseLimits([]), {});
  assertEquals(parseLimits(["unpacked-bytes=1G", "layers=7", "tree-nodes=9"]), {
    limits: { layers: 7, unpackedBytes: 2 ** 30 },
    tarLimits: {},
    treeLimits: { treeNodes: 9 },
  });
});

Deno.test("parseLimits refuses what is no limit, with a suggestion, and what it cannot read", () => {
  const error = assertThrows(() => parseLimits(["layer-entrie=5"]), UsageError);
  assertStringIncludes(error.hint ?? "", "layer-entries");
  for (
    const text of ["", "layers", "layers=", "layers=1=2", "layers=-1", "layers=1K", "layers=x"]
  ) {
    assertThrows(() => parseLimits([text]), UsageError, "--limit");
  }
  assertThrows(() => parseLimits(["layers=1", "layers=2"]), UsageError, "more than once");
  assertThrows(() => parseLimits(["manifest-bytes=4X"]), UsageError, "--limit manifest-bytes");
});
