import { assertEquals, assertStringIncludes } from "@std/assert";
import { mkdirSync, writeFileSync } from "node:fs";
import { type Blobs, named, writeLayoutFiles } from "../../source/build_layout.ts";
import { image } from "../../source/build_choices.ts";
import { withDirectory } from "../../source/helpers.ts";
import { buildTar } from "../../tar/build.ts";
import { MAIN, type Outcome, runProgramWith } from "../program.ts";

function probe(...words: string[]): Outcome {
  return runProgramWith(MAIN, ["probe", ...words]);
}

interface Report {
  readonly images: readonly unknown[];
  readonly schemes: readonly {
    readonly scheme: string;
    readonly union: { readonly units: number };
    readonly crossImageDedup: { readonly raw: number; readonly stored: number };
    readonly ceilingCaptured: { readonly raw: number | null };
    readonly newBytes: readonly { readonly raw: number }[];
  }[];
  readonly warnings: readonly { readonly kind: string }[];
}

function report(...words: string[]): Report {
  const run = probe(...words, "--json");
  assertEquals([run.code, run.stderr], [0, ""], words.join(" "));
  return JSON.parse(run.stdout) as Report;
}

Deno.test("the program probes one source, and says that nothing can be shared", async () => {
  await withDirectory((directory) => {
    writeFileSync(`${directory}/a.tar`, buildTar([{ path: "a", data: "a".repeat(9000) }]));
    const { schemes, warnings } = report(`tar:${directory}/a.tar`);
    assertEquals(warnings.map(({ kind }) => kind), ["singleSource"]);
    for (const { crossImageDedup } of schemes) assertEquals(crossImageDedup, { raw: 0, stored: 0 });
    const table = probe(`tar:${directory}/a.tar`);
    assertStringIncludes(table.stderr, "is the only image");
    return Promise.resolve();
  });
});

Deno.test("the program probes a source given twice, and says so", async () => {
  await withDirectory((directory) => {
    writeFileSync(`${directory}/a.tar`, buildTar([{ path: "a", data: "a".repeat(9000) }]));
    const source = `tar:${directory}/a.tar`;
    const { schemes, warnings } = report(source, source);
    assertEquals(warnings.map(({ kind }) => kind), ["repeatedSource"]);
    for (const { crossImageDedup, newBytes } of schemes) {
      assertEquals([crossImageDedup.raw, newBytes[1]!.raw], [0.5, 0]);
    }
    return Promise.resolve();
  });
});

Deno.test("the program probes images without files, and divides nothing by nothing", async () => {
  await withDirectory((directory) => {
    for (const name of ["a", "b"]) writeFileSync(`${directory}/${name}.tar`, buildTar([]));
    const { schemes } = report(`tar:${directory}/a.tar`, `tar:${directory}/b.tar`);
    assertEquals([schemes[0]!.scheme, schemes[0]!.union.units], ["file", 0]);
    assertEquals(schemes[0]!.crossImageDedup, { raw: 0, stored: 0 });
    assertEquals(JSON.stringify(schemes).includes("NaN"), false);
    const table = probe(`tar:${directory}/a.tar`, `tar:${directory}/b.tar`);
    assertEquals([table.code, /NaN|Infinity|undefined/.test(table.stdout)], [0, false]);
    return Promise.resolve();
  });
});

Deno.test("the program cuts any file as it is, and refuses what is none", async () => {
  await withDirectory((directory) => {
    writeFileSync(`${directory}/text`, "no image at all\n".repeat(20_000));
    writeFileSync(`${directory}/empty`, "");
    mkdirSync(`${directory}/directory`);
    const { schemes } = report("--as-is", `${directory}/text`, `${directory}/text`);
    assertEquals(schemes.map(({ scheme }) => scheme), ["as-is", "fastcdc"]);
    for (
      const [name, code, why] of [
        ["empty", 3, "is empty"],
        ["directory", 3, "is a directory"],
        ["missing", 3, "does not exist: wanted"],
      ] as const
    ) {
      const run = probe("--as-is", `${directory}/text`, `${directory}/${name}`);
      assertEquals([run.code, run.stdout], [code, ""], name);
      assertStringIncludes(run.stderr, `${name}: ${why}`);
    }
    const rebuilt = probe("--as-is", "--mode", "layered", `${directory}/text`);
    assertEquals(rebuilt.code, 2);
    // Without --as-is the same file is no image.
    const unread = probe(`tar:${directory}/text`);
    assertEquals([unread.code, unread.stdout], [3, ""]);
    return Promise.resolve();
  });
});

Deno.test("the program refuses thresholds under a block, and takes one that no file reaches", async () => {
  await withDirectory((directory) => {
    writeFileSync(`${directory}/a.tar`, buildTar([{ path: "a", data: "a".repeat(200_000) }]));
    const source = `tar:${directory}/a.tar`;
    for (const threshold of ["0", "3K", "-1", "64Q", ""]) {
      const run = probe(source, `--align-threshold=${threshold}`);
      assertEquals([run.code, run.stdout], [2, ""], threshold);
      assertStringIncludes(run.stderr, "--align-threshold", threshold);
    }
    const { schemes } = report(source, "--align-threshold", "1T,4K");
    assertEquals(schemes.filter(({ scheme }) => scheme === "aligned").length, 4);
    return Promise.resolve();
  });
});

Deno.test("the program probes images of different platforms, and says that they share little", async () => {
  await withDirectory((directory) => {
    const sources = ["amd64", "arm64"].map((architecture, i) => {
      const blobs: Blobs = new Map();
      const { described } = image(blobs, i + 1, architecture);
      writeLayoutFiles(`${directory}/${architecture}`, blobs, {
        schemaVersion: 2,
        manifests: [named(described, "latest")],
      });
      return `oci:${directory}/${architecture}`;
    });
    const { warnings, images } = report(...sources, "--platform", "any");
    assertEquals(images.length, 2);
    assertEquals(warnings.map(({ kind }) => kind), ["mixedPlatforms"]);
    return Promise.resolve();
  });
});

Deno.test("the program wants a row that there is", async () => {
  await withDirectory((directory) => {
    writeFileSync(`${directory}/a.tar`, buildTar([{ path: "a", data: "a".repeat(200_000) }]));
    const source = `tar:${directory}/a.tar`;
    const run = probe(source, "--row", "512K tight");
    assertEquals([run.code, run.stdout], [2, ""]);
    assertStringIncludes(run.stderr, "aligned 64K tight @128K");
    const gate = probe(source, source, "--row", "64K tight", "--min-dedup", "90%");
    assertEquals(gate.code, 1);
    assertStringIncludes(
      gate.stderr,
      "--min-dedup: 50.00% of the stored bytes is shared, wanted 90.00% (aligned 64K tight @128K)",
    );
    assertEquals(probe("--min-dedup", "1").code, 2);
    return Promise.resolve();
  });
});
