import { assert, assertEquals, assertThrows } from "@std/assert";
import { readdirSync } from "node:fs";
import { UsageError } from "../../lib/errors.ts";
import { probe } from "../../probe/probe.ts";
import { resolveProbe, schemesOf } from "../../probe/schemes.ts";
import { optionsFor, withTars } from "./sources.ts";

Deno.test("probe measures images that are laid out like the one before, and leaves no files", async () => {
  await withTars(async (sources, tmpdir) => {
    const before = readdirSync(tmpdir).sort();
    const report = await probe(
      optionsFor([...sources, sources[0]!], {
        packings: [{ kind: "merge" }],
        like: "previous",
        tmpdir,
      }),
    );
    const newBytes = (scheme: string) =>
      report.schemes.find((row) => row.scheme === scheme)!.newBytes.map(({ raw }) => raw);
    const [aligned, like, stale] = ["aligned", "like", "like-stale"].map(newBytes);
    assertEquals(like![0], aligned![0]);
    assertEquals(stale![0], aligned![0]);
    assert(like![1]! <= aligned![1]! && stale![1]! <= like![1]!, `${aligned} ${like} ${stale}`);
    assertEquals(readdirSync(tmpdir).sort(), before);
  });
});

Deno.test("rows of rebuilds are refused where images have none before them", () => {
  const sources = ["a"];
  for (const change of [{ mode: "layered" }, { asIs: true }] as const) {
    const options = resolveProbe({ sources, like: "previous", ...change });
    assertThrows(() => schemesOf(options), UsageError, "like");
  }
  const kinds = schemesOf(resolveProbe({ sources, like: "previous" })).map(({ kind }) => kind);
  assertEquals(kinds.filter((kind) => kind === "like-stale").length, 2);
});
