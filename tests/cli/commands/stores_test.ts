import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { COMMANDS } from "../../../cli/commands.ts";
import { runFake } from "../fake_io.ts";

const SOURCE = `oci:${fileURLToPath(new URL("../../../fixtures/oci-tiny", import.meta.url))}`;

async function inPlace(test: (at: (name: string) => string) => Promise<void>): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), "blessfs-stores-"));
  try {
    await test((name) => join(directory, name));
  } finally {
    rmSync(directory, { recursive: true });
  }
}

const run = (...words: string[]) => runFake(words, COMMANDS);

Deno.test("restore, prune and store verify work on what bless and chunk have stored", async () => {
  await inPlace(async (at) => {
    mkdirSync(at("store"));
    const store = ["--store", at("store")];
    const blessed = ["bless", SOURCE, "-o", at("image"), ...store, "--index", at("a.caibx")];
    assertEquals((await run(...blessed)).code, 0);
    const byContent = ["--chunker", "fastcdc:16K:4K:64K", "-o", at("b.caibx")];
    assertEquals((await run("chunk", at("image"), ...store, ...byContent)).code, 0);
    for (const index of ["a.caibx", "b.caibx"]) {
      const restored = await run("restore", at(index), ...store, "-o", at("copy"), "--json");
      assertEquals(restored.code, 0, restored.stderr);
      assert(readFileSync(at("copy")).equals(readFileSync(at("image"))));
      assertEquals((await run("restore", at(index), ...store, "-o", at("copy"))).code, 4);
      const seeded = await run(
        ...["restore", at(index), ...store, "-o", at("again"), "--seed", at("image"), "--json"],
      );
      assertEquals(JSON.parse(seeded.stdout).fetchedBytes, 0);
      rmSync(at("copy"));
      rmSync(at("again"));
    }
    assertStringIncludes((await run("store", "verify", ...store)).stdout, "clean");
    const pruned = await run("prune", at("a.caibx"), ...store, "--grace", "0", "--json");
    const { keptChunks, removedChunks } = JSON.parse(pruned.stdout);
    assert(keptChunks > 0 && removedChunks > 0, pruned.stdout);
    assertEquals((await run("restore", at("a.caibx"), ...store, "-o", at("copy"))).code, 0);
    assertEquals((await run("restore", at("b.caibx"), ...store, "-o", at("other"))).code, 3);
    assertEquals((await run("prune", at("b.caibx"), ...store, "--grace", "1d")).code, 1);
    const [folder] = readdirSync(at("store"));
    const [chunk] = readdirSync(at(`store/${folder}`));
    writeFileSync(at(`store/${folder}/${chunk}`), "not a chunk");
    const damaged = await run("store", "verify", ...store);
    assertEquals(damaged.code, 1);
    assertStringIncludes(damaged.stdout, chunk!);
  });
});

Deno.test("the commands of stores refuse what they cannot do", async () => {
  await inPlace(async (at) => {
    writeFileSync(at("index"), "no index");
    mkdirSync(at("store"));
    const store = ["--store", at("store")];
    const refused: [string[], number, string][] = [
      [["restore", at("missing"), ...store, "-o", at("x")], 3, "does not exist"],
      [["restore", at("index"), ...store, "-o", at("x")], 3, "an index has"],
      [["restore", at("index"), ...store, "-o", "-"], 2, "any order"],
      [["prune", at("index"), ...store], 3, "an index has"],
      [["prune", at("index"), ...store, "--grace", "soon"], 3, "an index has"],
      [["chunk", at("index"), ...store, "-o", at("x"), "--chunker", "rabin"], 2, "fastcdc"],
      [["bless", SOURCE, "-o", at("x"), "--chunker", "fastcdc"], 2, "without a store"],
      [["map", at("index"), "--plot", at("x.png")], 2, "pictures are SVG"],
      [["map", at("index"), "--plot", at("x.svg")], 3, at("index")],
    ];
    for (const [words, wanted, why] of refused) {
      const { code, stderr } = await run(...words);
      assertEquals([code, stderr.includes(why)], [wanted, true], `${words.join(" ")}: ${stderr}`);
    }
    assertEquals(existsSync(at("x")) || existsSync(at("x.svg")), false);
  });
});

Deno.test("map draws an image", async () => {
  await inPlace(async (at) => {
    assertEquals((await run("bless", SOURCE, "-o", at("image"))).code, 0);
    const drawn = await run("map", at("image"), "--plot", at("map.svg"));
    assertEquals(drawn.code, 0, drawn.stderr);
    assertStringIncludes(readFileSync(at("map.svg"), "utf8"), "Cells of 128K");
  });
});
