/** `blessfs chunk` and `blessfs bless --store`, in this process. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { COMMANDS } from "../../../cli/commands.ts";
import { runCommandLine } from "../../../cli/run.ts";
import { decodeChunkIndex } from "../../../lib/chunk/chunk_index.ts";
import { errorAnswer, TEST_KEYS, TEST_REGION, withFakeS3 } from "../../chunk/fake_s3.ts";
import { CHUNK_BYTES, noise, sampleFile } from "../../chunk/helpers.ts";
import { fakeProcess, runFake } from "../fake_io.ts";
import { inDirectory } from "../program.ts";

const LAYOUT = fileURLToPath(new URL("../../../fixtures/oci-tiny", import.meta.url));
const SOURCE = `oci:${LAYOUT}`;

const AWS = {
  HOME: "/nowhere",
  AWS_ACCESS_KEY_ID: TEST_KEYS.accessKeyId,
  AWS_SECRET_ACCESS_KEY: TEST_KEYS.secretAccessKey,
  AWS_REGION: TEST_REGION,
};

function blessfs(...words: string[]) {
  return runFake(words, COMMANDS, { env: AWS });
}

/** Every file below a directory, but for its folders. */
function namesBelow(directory: string): string[] {
  if (!existsSync(directory)) return [];
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => !entry.isDirectory()).map(({ name }) => name).sort();
}

/** Runs a test with names in a directory. */
function inPlace(work: (at: (name: string) => string) => Promise<void>): Promise<void> {
  return inDirectory((directory) => work((name) => join(directory, name)));
}

Deno.test("chunk puts a file into a store and reports it in a few aligned lines", async () => {
  await inPlace(async (at) => {
    writeFileSync(at("image"), sampleFile());
    const words = [at("image"), "--create-store", "--store", at("store")];
    const { code, stdout, stderr } = await blessfs("chunk", ...words, "-o", at("x.caibx"));
    assertEquals([code, stderr], [0, ""]);
    assertStringIncludes(stdout, `index   ${at("x.caibx")}\nstore   ${at("store")}\n`);
    assertStringIncludes(stdout, "chunks  4 of 128.0 KiB, 3 distinct, 1 of zeros\n");
    assertMatch(stdout, /^new {5}3 chunks, 256\.0 KiB, \d+\.\d KiB sent$/m);
    assertEquals(namesBelow(at("store")).length, 3);
    const again = await blessfs("chunk", ...words, "-o", at("y.caibx"), "--json");
    const report = JSON.parse(again.stdout);
    assertEquals([report.newChunks, report.reusedChunks, report.sentBytes], [0, 3, 0]);
    assertEquals([report.sizeBytes, report.chunks, report.chunkBytes], [393221, 4, CHUNK_BYTES]);
    assertEquals([report.index, report.store, report.dryRun, report.digest], [
      at("y.caibx"),
      at("store"),
      false,
      "sha512-256",
    ]);
    assertEquals(readFileSync(at("x.caibx")), readFileSync(at("y.caibx")));
  });
});

Deno.test("chunk in a dry run says what would be sent, and writes nothing", async () => {
  await inPlace(async (at) => {
    writeFileSync(at("image"), noise(3 * CHUNK_BYTES));
    const words = ["chunk", at("image"), "--create-store", "--store", at("store"), "--json"];
    const dry = JSON.parse((await blessfs(...words, "--dry-run")).stdout);
    const dryWithName = await blessfs(...words, "--dry-run", "-o", at("x.caibx"));
    assertEquals(readdirSync(at(".")), ["image"]);
    assertEquals(JSON.parse(dryWithName.stdout).index, null);
    const real = JSON.parse((await blessfs(...words, "-o", at("x.caibx"))).stdout);
    assertEquals([dry.newBytes, dry.sentBytes], [real.newBytes, real.sentBytes]);
    assertEquals([dry.dryRun, dry.index, dry.newChunks], [true, null, 3]);
    const text = await blessfs(...words.slice(0, -1), "--dry-run");
    assertStringIncludes(text.stdout, "index   none: a dry run\n");
    assertStringIncludes(text.stdout, "0 B to send\n");
  });
});

Deno.test("chunk takes empty files, short ends, other sizes and standard input", async () => {
  await inPlace(async (at) => {
    for (const size of [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1]) {
      const bytes = noise(size);
      writeFileSync(at("image"), bytes);
      const words = ["--create-store", "--store", at("store"), "--grid", "4K", "-f", "-q", "-o"];
      assertEquals((await blessfs("chunk", at("image"), ...words, at("x.caibx"))).code, 0);
      const index = decodeChunkIndex(new Uint8Array(readFileSync(at("x.caibx"))), "x");
      assertEquals([index.sizeBytes, index.chunkBytes], [size, 4096]);
      const stdin = size === 0 ? [] : [bytes.subarray(0, 1), bytes.subarray(1)];
      const piped = fakeProcess({ stdin, env: AWS });
      const line = ["chunk", "-", ...words, "-"];
      if (size === 0) {
        assertEquals(await runCommandLine(line, piped.io, COMMANDS), 3);
        assertStringIncludes(piped.stderr(), "standard input: is empty or closed");
        continue;
      }
      assertEquals(await runCommandLine(line, piped.io, COMMANDS), 0, piped.stderr());
      assertEquals(
        new Uint8Array(piped.stdoutBytes()),
        new Uint8Array(readFileSync(at("x.caibx"))),
      );
    }
  });
});

Deno.test("chunk says its report beside an index that takes standard output", async () => {
  await inPlace(async (at) => {
    writeFileSync(at("image"), sampleFile());
    const fake = fakeProcess();
    const line = ["chunk", at("image"), "--create-store", "--store", at("store"), "-o", "-"];
    assertEquals(await runCommandLine(line, fake.io, COMMANDS), 0);
    assertEquals(decodeChunkIndex(new Uint8Array(fake.stdoutBytes()), "x").sizeBytes, 393221);
    assertStringIncludes(fake.stderr(), "chunks  4 of");
    assertEquals((await blessfs(...line, "--json")).code, 2);
  });
});

Deno.test("chunk refuses command lines that cannot be meant, before it touches the store", async () => {
  await inPlace(async (at) => {
    writeFileSync(at("image"), "x");
    mkdirSync(at("directory"));
    const store = ["--create-store", "--store", at("store")];
    const cases: [string[], number, string][] = [
      [["chunk", at("image")], 2, "--store"],
      [["chunk", at("image"), ...store], 2, "--output"],
      [["chunk", at("image"), ...store, "-o", at("image"), "-f"], 2, "is the source too"],
      [["chunk", at("image"), ...store, "-o", at("image")], 2, "is the source too"],
      [["chunk", at("image"), ...store, "-o", at("x"), "--grid", "100K"], 2, "a power of two"],
      [["chunk", at("image"), ...store, "-o", at("x"), "--zstd-level", "20"], 2, "--zstd-level"],
      [["chunk", at("image"), ...store, "-o", at("x"), "--digest", "md5"], 2, "--digest"],
      [["chunk", at("missing"), ...store, "-o", at("x")], 3, "does not exist: wanted"],
      [["chunk", at("directory"), ...store, "-o", at("x")], 3, "is a directory: wanted"],
      [
        ["chunk", at("image"), "--create-store", "--store", at("image"), "-o", at("x")],
        2,
        "is not a directory",
      ],
      [
        ["chunk", at("image"), "--create-store", "--store", at("a/b"), "-o", at("x")],
        4,
        "does not exist",
      ],
      [
        ["chunk", at("image"), "--store", "http://h/x", "-o", at("x")],
        2,
        "not a store that can be",
      ],
      [["chunk", at("image"), "--store", "s3+https://h", "-o", at("x")], 2, "names no bucket"],
      [["bless", SOURCE, "-o", at("i"), ...store], 2, "--store: there is no name for the index"],
      [["bless", SOURCE, "-o", at("i"), "--index", at("x")], 2, "--index: has no effect"],
      [["bless", SOURCE, "-o", at("i"), "--dry-run"], 2, "--dry-run: has no effect"],
      [["bless", SOURCE, "-o", at("i"), "--zstd-level", "3"], 2, "--zstd-level: has no effect"],
      [["bless", SOURCE, "-o", "none"], 2, "`none` without --store"],
      [
        ["bless", SOURCE, "-o", "-", ...store, "--index", "-"],
        2,
        "the image takes standard output",
      ],
      [
        ["bless", SOURCE, "-o", at("i"), ...store, "--index", at("i")],
        2,
        "for the image and for its index",
      ],
      [
        ["bless", SOURCE, "-o", at("i"), ...store, "--index", at("directory/../i")],
        2,
        "for the image and",
      ],
      [["bless", SOURCE, "-o", at("i"), ...store, "--index", at("image")], 4, "already exists"],
      [
        ["bless", "layered", SOURCE, "-o", at("d"), "--verify-store"],
        2,
        "--verify-store: has no effect",
      ],
    ];
    for (const [words, wanted, why] of cases) {
      const { code, stderr } = await blessfs(...words);
      assertEquals([code, stderr.includes(why)], [wanted, true], `${words.join(" ")}: ${stderr}`);
      assertEquals(readdirSync(at(".")).sort(), ["directory", "image"], words.join(" "));
    }
  });
});

Deno.test("chunk and bless refuse one name for the store and its index, before any work", async () => {
  await inPlace(async (at) => {
    writeFileSync(at("image"), sampleFile());
    for (
      const words of [["chunk", at("image"), "-o", at("x")], [
        "bless",
        SOURCE,
        "-o",
        "none",
        "--index",
        at("x"),
      ]]
    ) {
      const { code, stderr } = await blessfs(...words, "--create-store", "--store", at("./x/../x"));
      assertEquals([code, stderr.includes("is named for the store and for an index")], [2, true]);
      assertEquals(readdirSync(at(".")), ["image"]);
    }
  });
});

Deno.test("bless refuses a store or an index inside of the tree that it reads", async () => {
  await inPlace(async (at) => {
    mkdirSync(at("tree/deep"), { recursive: true });
    const index = ["--index", at("x.caibx")];
    for (const source of [`rootfs:${at("tree")}`, at("tree"), `${at("tree")}/`]) {
      for (const store of [at("tree"), at("tree/store"), at("tree/deep/../store")]) {
        for (
          const words of [[source, "-o", "none", ...index], ["layered", source, "-o", at("out")]]
        ) {
          const { code, stderr } = await blessfs(
            "bless",
            ...words,
            "--create-store",
            "--store",
            store,
          );
          assertEquals([code, stderr.includes("lies inside its source")], [2, true], stderr);
        }
      }
      const inside = ["--create-store", "--store", at("store"), "--index", at("tree/x.caibx")];
      assertEquals((await blessfs("bless", source, "-o", "none", ...inside)).code, 2);
    }
    assertEquals(readdirSync(at(".")), ["tree"]);
  });
});

Deno.test("bless --store makes image, chunks and index in one pass, and none of the image with -o none", async () => {
  await inPlace(async (at) => {
    const store = (
      name: string,
    ) => ["--create-store", "--store", at(`store-${name}`), "--index", at(`${name}.caibx`)];
    const both = await blessfs("bless", SOURCE, "-o", at("image"), ...store("both"), "--json");
    assertEquals([both.code, both.stderr], [0, ""]);
    assertEquals((await blessfs("bless", SOURCE, "-o", at("plain"), "-q")).code, 0);
    assertEquals(readFileSync(at("plain")), readFileSync(at("image")));
    const chunk = [
      "chunk",
      at("image"),
      "--create-store",
      "--store",
      at("store-chunk"),
      "-o",
      at("chunk.caibx"),
    ];
    assertEquals((await blessfs(...chunk, "-q")).code, 0);
    const alone = await blessfs("bless", SOURCE, "-o", "none", ...store("none"), "--json");
    for (const name of ["chunk", "none"]) {
      assertEquals(readFileSync(at(`${name}.caibx`)), readFileSync(at("both.caibx")));
      assertEquals(namesBelow(at(`store-${name}`)), namesBelow(at("store-both")));
    }
    const report = JSON.parse(both.stdout);
    assertEquals([report.image, JSON.parse(alone.stdout).image], [at("image"), null]);
    const { chunkStore } = report;
    assertEquals(chunkStore.chunks * chunkStore.chunkBytes, report.sizeBytes);
    assertEquals(chunkStore.index, at("both.caibx"));
    assert(chunkStore.zeroChunks > 0 && chunkStore.sentBytes > 0);
    assertEquals(report.sizeBytes, statSync(at("image")).size);
    assertEquals(readdirSync(at(".")).filter((name) => name.includes("part")), []);
    const text = await blessfs("bless", SOURCE, "-o", "none", ...store("text"), "--grid", "64K");
    assertStringIncludes(text.stdout, "image     none\n");
    assertStringIncludes(text.stdout, " of 64.0 KiB, ");
  });
});

Deno.test("bless --store streams the image or the index while the rest goes where it belongs", async () => {
  await inPlace(async (at) => {
    const store = ["--create-store", "--store", at("store")];
    assertEquals(
      (await blessfs("bless", SOURCE, "-o", at("image"), ...store, "--index", at("x"), "-q")).code,
      0,
    );
    const image = fakeProcess();
    const words = ["bless", SOURCE, "-o", "-", ...store, "--index", at("y")];
    assertEquals(await runCommandLine(words, image.io, COMMANDS), 0);
    assertEquals(Uint8Array.from(image.stdoutBytes()), Uint8Array.from(readFileSync(at("image"))));
    assertEquals(readFileSync(at("y")), readFileSync(at("x")));
    for (const line of ["image     -\n", "\nnew       0 chunks, "]) {
      assertStringIncludes(image.stderr(), line);
    }
    const dry = fakeProcess();
    assertEquals(await runCommandLine([...words, "--dry-run", "-f"], dry.io, COMMANDS), 0);
    assertEquals(dry.stdoutBytes().length, 0);
    for (const line of ["image     none\n", "\nindex     none: a dry run\n"]) {
      assertStringIncludes(dry.stderr(), line);
    }
    const index = fakeProcess();
    const other = ["bless", SOURCE, "-o", "none", ...store, "--index", "-"];
    assertEquals(await runCommandLine(other, index.io, COMMANDS), 0);
    assertEquals(Uint8Array.from(index.stdoutBytes()), Uint8Array.from(readFileSync(at("x"))));
    assertStringIncludes(index.stderr(), "image     none\n");
  });
});

Deno.test("bless --store --dry-run makes neither image nor index nor chunks", async () => {
  await inPlace(async (at) => {
    const words = [
      "-o",
      at("image"),
      "--create-store",
      "--store",
      at("store"),
      "--index",
      at("x.caibx"),
      "--json",
    ];
    const dry = await blessfs("bless", SOURCE, ...words, "--dry-run");
    assertEquals([dry.code, readdirSync(at("."))], [0, []]);
    const report = JSON.parse(dry.stdout);
    assertEquals([report.image, report.chunkStore.index, report.chunkStore.dryRun], [
      null,
      null,
      true,
    ]);
    const real = JSON.parse((await blessfs("bless", SOURCE, ...words)).stdout);
    for (const key of ["chunks", "newChunks", "newBytes", "sentBytes", "distinctChunks"]) {
      assertEquals(report.chunkStore[key], real.chunkStore[key], key);
    }
  });
});

Deno.test("bless layered --store names an index a layer", async () => {
  await inPlace(async (at) => {
    const words = [
      "bless",
      "layered",
      SOURCE,
      "-o",
      at("layers"),
      "--create-store",
      "--store",
      at("store"),
    ];
    const dry = await blessfs(...words, "--dry-run");
    assertMatch(
      dry.stdout,
      /^directory +none: a dry run\n[^]* files, would be made\n[^]* to send\n/,
    );
    assertEquals(readdirSync(at(".")), []);
    const report = JSON.parse((await blessfs(...words, "--json")).stdout);
    for (const layer of report.layers) assert(existsSync(join(at("layers"), layer.index)));
    assertEquals([report.chunkStore.store, "chunks" in report], [at("store"), false]);
    assertMatch((await blessfs(...words)).stdout, /^new {8}0 chunks, 0 B, 0 B sent$/m);
  });
});

Deno.test("bless and chunk write to S3, and say what is wrong there without a secret", async () => {
  await withFakeS3({}, async (server) => {
    await inPlace(async (at) => {
      const words = ["--store", server.store(), "--index", at("x.caibx")];
      const blessed = await blessfs("bless", SOURCE, "-o", at("image"), ...words);
      assertEquals([blessed.code, blessed.stderr], [0, ""]);
      assertStringIncludes(blessed.stdout, `store     ${server.store()}\n`);
      const again = [
        "chunk",
        at("image"),
        "--store",
        server.store(),
        "-o",
        at("y.caibx"),
        "--json",
      ];
      const report = JSON.parse((await blessfs(...again, "--verify-store")).stdout);
      assertEquals([report.newChunks, server.faults], [0, []]);
      assertEquals(report.reusedChunks, server.objects.size);
      const env = { ...AWS, AWS_SECRET_ACCESS_KEY: "hush-hush" };
      for (const json of [[], ["--json"]]) {
        const line = [
          "chunk",
          at("image"),
          "--store",
          server.store(),
          "-o",
          at("z.caibx"),
          ...json,
        ];
        const wrong = await runFake(line, COMMANDS, { env });
        assertEquals([wrong.code, existsSync(at("z.caibx"))], [4, false]);
        assertStringIncludes(wrong.stderr, "SignatureDoesNotMatch");
        assert(!/hush|AKIDTEST/.test(wrong.stderr), wrong.stderr);
      }
    });
  });
});

Deno.test("bless leaves neither image nor index when the store fails in the middle", async () => {
  let putCount = 0;
  const misbehave = ({ method }: { method: string }) =>
    method === "PUT" && ++putCount > 1 ? errorAnswer(403, "AccessDenied", "No more") : undefined;
  await withFakeS3({ misbehave }, async (server) => {
    await inPlace(async (at) => {
      const words = ["--store", server.store(), "--index", at("x.caibx")];
      const { code, stderr } = await blessfs("bless", SOURCE, "-o", at("image"), ...words);
      assertEquals([code, readdirSync(at("."))], [4, []]);
      assertStringIncludes(stderr, "hint: the keys need s3:GetObject, s3:PutObject");
    });
  });
});
