import { assertEquals, assertRejects, assertStringIncludes, assertThrows } from "@std/assert";
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { crc32 } from "node:zlib";
import {
  CHECKSUM_PIECE_BYTES,
  encodeRecord,
  type LayerPosition,
  optionFacts,
  positionKey,
  type PositionRecord,
} from "../../lib/bless/layered_records.ts";
import {
  checkDirectory,
  ChecksumSink,
  findDamage,
  isTaken,
  LayerStore,
  type LayerStoreOptions,
  makeDirectory,
  pathIn,
  readFileWhole,
  removeIfEmpty,
  writeFileWhole,
} from "../../lib/bless/layered_store.ts";
import { LAYERED_DEFAULTS } from "../../lib/bless/options.ts";
import { FORMAT_VERSION, planImage } from "../../lib/bless/plan_image.ts";
import { imageReport } from "../../lib/bless/report.ts";
import { InputError, InterruptedError, IoError, UsageError } from "../../lib/errors.ts";
import { statIfThere } from "../../lib/io/paths.ts";
import { writeImage } from "../../lib/ext4/write/write_image.ts";
import { NO_PROGRESS } from "../../lib/progress.ts";
import { buildTree } from "../../lib/tree/build.ts";
import { Warnings } from "../../lib/warnings.ts";
import { withDirectory } from "../source/helpers.ts";
import { layersOf, treeOptions } from "../tree/layers.ts";
import { filesOf } from "./layered_helpers.ts";

Deno.test("checkDirectory tells a directory that is there from one to be made, and refuses the rest", async () => {
  await withDirectory((directory) => {
    writeFileSync(`${directory}/file`, "");
    assertEquals(checkDirectory(directory), false);
    assertEquals(checkDirectory(`${directory}/new`), true);
    assertEquals(checkDirectory(`${directory}/new/`), true);
    assertThrows(() => checkDirectory(""), UsageError, "the name is empty");
    assertThrows(() => checkDirectory(`${directory}/file`), UsageError, "is not a directory");
    assertThrows(() => checkDirectory(`${directory}/a/b`), IoError, "does not exist");
    assertThrows(() => checkDirectory(`${directory}/file/b`), IoError);
  });
});

Deno.test("pathIn and checkDirectory leave what .. is behind a link to the kernel", async () => {
  await withDirectory(async (directory) => {
    mkdirSync(`${directory}/a/b/c`, { recursive: true });
    symlinkSync("a/b", `${directory}/link`);
    const path = `${directory}/link/../new`;
    assertEquals(checkDirectory(path), true);
    assertEquals(makeDirectory(path), true);
    await writeFileWhole(pathIn(path, "x"), Uint8Array.of(1), undefined);
    assertEquals(readdirSync(`${directory}/a/new`), ["x"]);
    assertEquals(checkDirectory(`${directory}/link/c/../../new`), false);
  });
  assertEquals([pathIn("a", "b"), pathIn("a/", "b"), pathIn("/", "b")], ["a/b", "a/b", "/b"]);
});

Deno.test("removeIfEmpty leaves a directory that holds something", async () => {
  await withDirectory((directory) => {
    const path = `${directory}/new`;
    assertEquals(makeDirectory(path), true);
    assertEquals(makeDirectory(path), false);
    writeFileSync(`${directory}/taken`, "");
    assertThrows(() => makeDirectory(`${directory}/taken`), IoError, "cannot be created");
    writeFileSync(`${path}/file`, "");
    removeIfEmpty(path);
    assertEquals(existsSync(path), true);
    makeDirectory(`${path}/inner`);
    removeIfEmpty(`${path}/inner`);
    assertEquals(readdirSync(path), ["file"]);
  });
});

Deno.test("writeFileWhole replaces a file, and leaves nothing when it fails", async () => {
  await withDirectory(async (directory) => {
    const path = `${directory}/file`;
    await writeFileWhole(path, Uint8Array.of(1, 2), undefined);
    await writeFileWhole(path, Uint8Array.of(3), undefined);
    assertEquals([...readFileWhole(path)], [3]);
    await assertRejects(
      () => writeFileWhole(path, Uint8Array.of(4), AbortSignal.abort()),
      InterruptedError,
    );
    assertEquals([...readFileWhole(path)], [3]);
    mkdirSync(`${directory}/directory`);
    await assertRejects(async () => {
      await writeFileWhole(`${directory}/directory`, Uint8Array.of(4), undefined);
    }, UsageError);
    assertEquals(readdirSync(directory).sort(), ["directory", "file"]);
  });
});

Deno.test("statIfThere and readFileWhole tell nothing from what cannot be read", async () => {
  await withDirectory((directory) => {
    assertEquals(statIfThere(`${directory}/none`), undefined);
    assertEquals(statIfThere(directory)?.isDirectory(), true);
    assertThrows(() => readFileWhole(`${directory}/none`), IoError, "cannot be read");
    assertThrows(() => readFileWhole(directory), IoError, "cannot be read");
  });
});

const SIZES = [0, 1, 4096, CHECKSUM_PIECE_BYTES - 1, CHECKSUM_PIECE_BYTES, CHECKSUM_PIECE_BYTES + 1]
  .flatMap((size) => [size, size + 2 * CHECKSUM_PIECE_BYTES]);

function sampleBytes(sizeBytes: number): Uint8Array {
  return new Uint8Array(sizeBytes).map((_, i) => (i * 7 + (i >> 9)) & 0xff);
}

function checksumsOf(bytes: Uint8Array) {
  const sink = new ChecksumSink();
  sink.write(bytes, 0);
  sink.finish(bytes.length);
  return sink.checksums;
}

Deno.test("ChecksumSink gives the CRC-32 of every piece, however the bytes come", () => {
  for (const sizeBytes of SIZES) {
    const bytes = sampleBytes(sizeBytes);
    const wanted: number[] = [];
    for (let at = 0; at < sizeBytes; at += CHECKSUM_PIECE_BYTES) {
      wanted.push(crc32(bytes.subarray(at, at + CHECKSUM_PIECE_BYTES)));
    }
    assertEquals(checksumsOf(bytes), { sizeBytes, crc32s: wanted });
    const sink = new ChecksumSink();
    for (let at = 0; at < sizeBytes; at += 300_001) {
      sink.write(bytes.subarray(at, at + 300_001), at);
    }
    sink.finish(sizeBytes);
    assertEquals(sink.checksums.crc32s, wanted);
  }
});

Deno.test("ChecksumSink takes holes for zeros, at the end too", () => {
  const bytes = new Uint8Array(3 * CHECKSUM_PIECE_BYTES + 500);
  const at = CHECKSUM_PIECE_BYTES + 77;
  bytes.fill(9, at, at + 1000);
  const sink = new ChecksumSink();
  sink.write(bytes.subarray(at, at + 1000), at);
  sink.finish(bytes.length);
  assertEquals(sink.checksums, checksumsOf(bytes));
});

Deno.test("findDamage accepts a whole file and finds a changed byte anywhere, and another length", async () => {
  await withDirectory(async (directory) => {
    const path = `${directory}/file`;
    const options = { progress: NO_PROGRESS };
    const bytes = sampleBytes(2 * CHECKSUM_PIECE_BYTES + 5);
    const checksums = checksumsOf(bytes);
    writeFileSync(path, bytes);
    assertEquals(await findDamage(path, checksums, options), undefined);
    const ends = [0, CHECKSUM_PIECE_BYTES - 1, CHECKSUM_PIECE_BYTES, bytes.length - 1];
    for (const at of ends) {
      bytes[at]! ^= 0x10;
      writeFileSync(path, bytes);
      bytes[at]! ^= 0x10;
      const start = at - at % CHECKSUM_PIECE_BYTES;
      const end = Math.min(start + CHECKSUM_PIECE_BYTES, bytes.length) - 1;
      const found = await findDamage(path, checksums, options);
      assertEquals(found?.startsWith(`was changed in bytes ${start} to ${end}: `), true, found);
    }
    truncateSync(path, bytes.length - 1);
    const found = await findDamage(path, checksums, options);
    assertEquals(found, `has ${bytes.length - 1} bytes: wanted ${bytes.length}`);
    const missing = () => findDamage(`${directory}/none`, checksums, options);
    await assertRejects(missing, InputError, "does not exist: wanted an image of a layer");
  });
});

Deno.test("findDamage stops when it is told to", async () => {
  await withDirectory(async (directory) => {
    const path = `${directory}/file`;
    writeFileSync(path, "");
    truncateSync(path, 80 * CHECKSUM_PIECE_BYTES);
    const sink = new ChecksumSink();
    sink.finish(80 * CHECKSUM_PIECE_BYTES);
    const signal = AbortSignal.abort();
    await assertRejects(
      () => findDamage(path, sink.checksums, { signal, progress: NO_PROGRESS }),
      InterruptedError,
    );
  });
});

const DIFF_ID = `sha256:${"1".repeat(64)}`;
const OPTIONS = optionFacts(LAYERED_DEFAULTS, 0);

function storeIn(directory: string, more: Partial<LayerStoreOptions> = {}): LayerStore {
  return new LayerStore(directory, {
    options: OPTIONS,
    force: false,
    progress: NO_PROGRESS,
    ...more,
  });
}

const TREE = `sha256:${"3".repeat(64)}`;

function planOf() {
  const tree = buildTree(layersOf([[{ path: "d/" }, { path: "s", link: "d" }]]), treeOptions());
  return planImage(tree, {
    layout: LAYERED_DEFAULTS,
    contentDigest: TREE,
    timestamp: 0,
    warnings: new Warnings(),
  });
}

async function addTo(store: LayerStore, diffId = DIFF_ID) {
  const plan = planOf();
  return await store.add("image", async (sink) => ({
    diffId,
    tree: TREE,
    image: imageReport(plan, await writeImage(plan, sink, { progress: NO_PROGRESS })),
    warnings: [],
  }));
}

Deno.test("LayerStore finds again what it added, and nothing in an empty directory", async () => {
  await withDirectory(async (directory) => {
    const store = storeIn(directory);
    assertEquals(await store.find("image", DIFF_ID), undefined);
    const record = await addTo(store);
    assertEquals(await store.find("image", DIFF_ID), record);
    assertEquals(await storeIn(directory).find("image", DIFF_ID), record);
    assertEquals(readdirSync(directory).sort(), ["image.ext4", "image.json"]);
    assertEquals(readFileSync(`${directory}/image.ext4`).length, record.checksums.sizeBytes);
  });
});

const POSITION: LayerPosition = {
  diffId: DIFF_ID,
  chainKey: DIFF_ID,
  digest: undefined,
  mediaType: "x/y",
  sizeBytes: 7,
};
const POSITION_RECORD: PositionRecord = {
  position: positionKey(POSITION),
  tree: TREE,
  facts: { digest: DIFF_ID, sizeBytes: 1, uncompressedBytes: 1, entries: 2 },
  warnings: [],
};

Deno.test("LayerStore keeps what is known of a layer in a position, and forgets it when it is damaged", async () => {
  await withDirectory(async (directory) => {
    const store = storeIn(directory);
    assertEquals(store.positionRecord(POSITION), undefined);
    await store.addPosition(POSITION, POSITION_RECORD);
    assertEquals(storeIn(directory).positionRecord(POSITION), POSITION_RECORD);
    assertEquals(store.positionRecord({ ...POSITION, sizeBytes: 8 }), undefined);
    const [name] = readdirSync(directory);
    const path = `${directory}/${name}`;
    const bytes = readFileSync(path);
    for (const spoilt of [bytes.subarray(0, 20), Uint8Array.from(bytes, (byte) => byte ^ 1)]) {
      writeFileSync(path, spoilt);
      assertEquals(store.positionRecord(POSITION), undefined);
    }
    // The right name with what belongs to another position.
    await store.addPosition(POSITION, { ...POSITION_RECORD, position: "another" });
    assertEquals(store.positionRecord(POSITION), undefined);
    rmSync(path);
    mkdirSync(path);
    assertEquals(store.positionRecord(POSITION), undefined);
  });
});

Deno.test("LayerStore takes over an image without a record when it is just what would be made", async () => {
  await withDirectory(async (directory) => {
    const store = storeIn(directory);
    assertEquals(store.isUnrecorded("image"), false);
    const { checksums, options: _, ...body } = await addTo(store);
    assertEquals(store.isUnrecorded("image"), false);
    const files = filesOf(directory);
    rmSync(`${directory}/image.json`);
    const next = storeIn(directory);
    assertEquals(next.isUnrecorded("image"), true);
    assertEquals(storeIn(directory, { force: true }).isUnrecorded("image"), false);
    assertEquals(await next.find("image", DIFF_ID), undefined);
    assertEquals((await next.adopt("image", body, checksums))?.checksums, checksums);
    assertEquals(filesOf(directory), files);
    rmSync(`${directory}/image.json`);
    const error = await assertRejects(
      () => storeIn(directory).adopt("image", body, { ...checksums, crc32s: [1] }),
      IoError,
      "image.json is missing, and it differs from what would be written: it was changed in bytes 0 to",
    );
    assertEquals(error.remedies[0]?.option, "force");
  });
});

Deno.test("LayerStore waits for the record of an image that another process has just made", async () => {
  await withDirectory(async (directory) => {
    const { checksums, options: _, ...body } = await addTo(storeIn(directory));
    const record = readFileSync(`${directory}/image.json`);
    rmSync(`${directory}/image.json`);
    const store = storeIn(directory);
    setTimeout(() => writeFileSync(`${directory}/image.json`, record), 20);
    assertEquals(await store.adopt("image", body, { ...checksums, crc32s: [1] }), undefined);
    assertEquals((await store.find("image", DIFF_ID))?.tree, TREE);
  });
});

Deno.test("LayerStore refuses what it cannot prove, and replaces it only when it is told to", async () => {
  const spoils: [reason: string, spoil: (path: string) => void][] = [
    ["is not valid JSON", (path) => writeFileSync(`${path}.json`, "{")],
    ["is not a record", (path) => {
      rmSync(`${path}.json`);
      mkdirSync(`${path}.json`);
    }],
    ["bytes: wanted", (path) => writeFileSync(`${path}.ext4`, "")],
    ["was changed in bytes 0 to", (path) => {
      const bytes = readFileSync(`${path}.ext4`);
      bytes[bytes.length - 1]! ^= 1;
      writeFileSync(`${path}.ext4`, bytes);
    }],
  ];
  for (const [reason, spoil] of spoils) {
    await withDirectory(async (directory) => {
      await addTo(storeIn(directory));
      spoil(`${directory}/image`);
      const error = await assertRejects(
        () => storeIn(directory).find("image", DIFF_ID),
        IoError,
        "cannot be reused: ",
      );
      assertStringIncludes(error.message, reason);
      const forced = storeIn(directory, { force: true });
      assertEquals(await forced.find("image", DIFF_ID), undefined);
      if (reason === "is not a record") rmSync(`${directory}/image.json`, { recursive: true });
      const record = await addTo(forced);
      assertEquals(await storeIn(directory).find("image", DIFF_ID), record);
    });
  }
});

Deno.test("isTaken tells a name that another took from other failures", async () => {
  await withDirectory(async (directory) => {
    const store = storeIn(directory);
    await addTo(store);
    const error = await assertRejects(() => addTo(storeIn(directory)), IoError);
    assertEquals(isTaken(error), true);
    assertEquals(isTaken(new IoError("x", "y", { data: { code: "ENOSPC" } })), false);
    assertEquals(isTaken(new Error("x")), false);
  });
});

Deno.test("LayerStore names the options that an image was made with", async () => {
  await withDirectory(async (directory) => {
    await addTo(storeIn(directory));
    const options = optionFacts({ ...LAYERED_DEFAULTS, gridBytes: 65536, label: "x" }, 0);
    await assertRejects(
      () => storeIn(directory, { options }).find("image", DIFF_ID),
      IoError,
      'it was made with other options: gridBytes 131072 (wanted 65536), label "" (wanted "x")',
    );
    await assertRejects(
      () => storeIn(directory).find("image", `sha256:${"2".repeat(64)}`),
      IoError,
      "is the record of another layer",
    );
  });
});

Deno.test("LayerStore refuses a directory and a dangling link in the place of an image, forced or not", async () => {
  await withDirectory(async (directory) => {
    mkdirSync(`${directory}/directory.ext4`);
    symlinkSync("nowhere", `${directory}/link.ext4`);
    for (const force of [false, true]) {
      const store = storeIn(directory, { force });
      await assertRejects(() => store.find("directory", DIFF_ID), UsageError, "is a directory");
      await assertRejects(() => store.find("link", DIFF_ID), IoError, "link to nothing");
    }
  });
});

Deno.test("LayerStore leaves nothing behind when an image cannot be finished", async () => {
  await withDirectory(async (directory) => {
    await assertRejects(
      () => addTo(storeIn(directory, { signal: AbortSignal.abort() })),
      InterruptedError,
    );
    assertEquals(readdirSync(directory), []);
    // Another took the name after it was looked for, so the record is that one's to make.
    const late = storeIn(directory);
    assertEquals(await late.find("image", DIFF_ID), undefined);
    writeFileSync(`${directory}/image.ext4`, "another");
    await assertRejects(() => addTo(late), IoError, "already exists");
    assertEquals(readdirSync(directory), ["image.ext4"]);
    assertEquals(readFileSync(`${directory}/image.ext4`, "utf8"), "another");
  });
});

Deno.test("LayerStore records an image that has its name, whatever signal comes then", async () => {
  await withDirectory(async (directory) => {
    const stop = new AbortController();
    const store = storeIn(directory, { signal: stop.signal });
    const plan = planOf();
    let poll: ReturnType<typeof setInterval> | undefined;
    const adding = store.add("image", async (sink) => {
      const written = await writeImage(plan, sink, { progress: NO_PROGRESS });
      poll = setInterval(() => {
        if (readdirSync(directory).includes("image.ext4")) stop.abort();
      }, 0);
      return { diffId: DIFF_ID, tree: TREE, image: imageReport(plan, written), warnings: [] };
    });
    try {
      await adding;
    } finally {
      clearInterval(poll);
    }
    assertEquals(readdirSync(directory).sort(), ["image.ext4", "image.json"]);
    assertEquals((await storeIn(directory).find("image", DIFF_ID))?.tree, TREE);
  });
});

Deno.test("LayerStore drops the record of an image that is gone before another takes its name", async () => {
  await withDirectory(async (directory) => {
    const { checksums } = await addTo(storeIn(directory));
    rmSync(`${directory}/image.ext4`);
    writeFileSync(`${directory}/image.json`, "of another");
    const store = storeIn(directory);
    assertEquals(await store.find("image", DIFF_ID), undefined);
    assertEquals((await addTo(store)).checksums, checksums);
    assertEquals((await storeIn(directory).find("image", DIFF_ID))?.tree, TREE);
  });
});

Deno.test("an image of another format version is not used again", async () => {
  await withDirectory(async (directory) => {
    const record = await addTo(storeIn(directory));
    assertEquals(record.formatVersion, FORMAT_VERSION);
    const later = encodeRecord({ ...record, formatVersion: FORMAT_VERSION + 1 });
    writeFileSync(`${directory}/image.json`, later);
    const error = await assertRejects(() => storeIn(directory).find("image", DIFF_ID), IoError);
    assertStringIncludes(
      error.message,
      `format version is ${FORMAT_VERSION + 1}: wanted ${FORMAT_VERSION}`,
    );
    assertEquals(await storeIn(directory, { force: true }).find("image", DIFF_ID), undefined);
  });
});
