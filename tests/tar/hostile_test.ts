import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import process from "node:process";
import { InputError } from "../../lib/errors.ts";
import { buildTar, joinBytes } from "./build.ts";
import { mutate, randomSource, seedTar } from "./damage.ts";
import { paxHeader, rawHeader } from "./raw.ts";
import type { ReadTar } from "./read.ts";
import { contentOf, readTar } from "./read.ts";

/** The result, or the InputError; any other error passes through. */
function tryRead(tar: Uint8Array, chunkSizes: readonly number[] = [997]): ReadTar | InputError {
  try {
    return readTar(tar, { chunkSizes });
  } catch (error) {
    if (error instanceof InputError) return error;
    throw error;
  }
}

Deno.test("a tar cut at any byte is a clear error, or at a clean boundary has its first entries", () => {
  const tar = seedTar();
  const whole = readTar(tar);
  let cleanCuts = 0;
  for (let cut = 0; cut < tar.length; cut++) {
    const result = tryRead(tar.subarray(0, cut), [4096]);
    if (result instanceof InputError) {
      assertStringIncludes(result.message, "test.tar: ", `cut at ${cut}`);
      assertStringIncludes(result.message, `at offset ${cut}`, `cut at ${cut}`);
      continue;
    }
    if (cut % 512 === 0) cleanCuts++;
    const padding = tar.subarray(cut, Math.ceil(cut / 512) * 512);
    assertEquals(padding.every((byte) => byte === 0), true, "only padding may be missing");
    assertEquals(result.entries, whole.entries.slice(0, result.entries.length), `cut at ${cut}`);
    const isMarked = cut === tar.length - 512;
    assertEquals(result.warningKinds, isMarked ? [] : ["missingEndMarker"], `cut at ${cut}`);
  }
  // Before each of the entries, behind the global header, and on both sides of the first zero block.
  assertEquals(cleanCuts, whole.entries.length + 1 + 2);
});

Deno.test("10,000 damaged tars are read or refused with an InputError, in bounded time and memory", () => {
  const seed = seedTar();
  const random = randomSource(20240607);
  let readCount = 0;
  const bytesBefore = heapBytes();
  for (let i = 0; i < 10_000; i++) {
    const tar = mutate(seed, random);
    const result = tryRead(tar, [1 + random(3000)]);
    if (result instanceof InputError) continue;
    readCount++;
    for (const entry of result.entries) {
      assert(entry.path !== "");
      assert(entry.uid >= 0 && entry.uid <= 0xffffffff);
      assert(entry.mtimeNanoseconds >= 0 && entry.mtimeNanoseconds < 1e9);
      checkPayload(entry, tar);
    }
  }
  assert(readCount > 500, `only ${readCount} of the damaged tars could be read: too much damage`);
  assert(readCount < 9_500, `${readCount} of the damaged tars could be read: too little damage`);
  const grown = heapBytes() - bytesBefore;
  assert(grown < 400e6, `memory grew by ${grown} bytes`);
});

/** What this thread has in use. The resident set is that of the whole process, in which other tests run. */
function heapBytes(): number {
  const { heapTotal, external } = process.memoryUsage();
  return heapTotal + external;
}

function checkPayload(entry: ReadTar["entries"][number], tar: Uint8Array): void {
  if (!entry.payload) return;
  let end = 0;
  for (const segment of entry.payload.segments) {
    assert(segment.lengthBytes > 0 && segment.fileOffset >= end);
    end = segment.fileOffset + segment.lengthBytes;
    assert(segment.storeOffset + segment.lengthBytes <= tar.length);
  }
  assert(end <= entry.payload.sizeBytes);
  let last = -1;
  for (const run of entry.payload.dataRuns) {
    assert(run.startBlock > last && run.blockCount > 0);
    last = run.startBlock + run.blockCount;
    assert((last - 1) * 4096 < entry.payload.sizeBytes);
  }
}

Deno.test("readers that take the header's size for the PAX size see other entries; this one does not", () => {
  // The shape of CVE-2025-62518 and CVE-2026-33055: an archive inside an entry, with sizes that disagree.
  const inner = buildTar([{ path: "inner", data: "evil" }]);
  const tar = joinBytes([
    paxHeader([["size", `${inner.length}`]]),
    rawHeader({ name: "outer.tar", size: 0 }),
    inner,
    buildTar([{ path: "after" }]),
  ]);
  const { entries } = readTar(tar);
  assertEquals(entries.map(({ path }) => path), ["outer.tar", "after"]);
  assertEquals(contentOf(entries[0]!, tar), inner);
});

Deno.test("random bytes are refused at once", () => {
  const random = randomSource(7);
  for (let i = 0; i < 200; i++) {
    const bytes = Uint8Array.from({ length: 512 + random(2000) }, () => random(256));
    const result = tryRead(bytes);
    assert(result instanceof InputError);
    assertStringIncludes(result.message, "offset 0");
  }
});

Deno.test("extended headers of a mebibyte are read or refused in time that grows with their length alone", () => {
  const many = 1_000_000;
  const blanks = " ".repeat(many);
  const records: [string, string][] = [
    ["LIBARCHIVE.xattr.user.a", `${"=".repeat(many)}A`],
    [`LIBARCHIVE.xattr.${"%".repeat(many)}`, "QQ"],
    [`SCHILY.xattr.${"%2".repeat(many / 2)}`, "v"],
    ["SCHILY.acl.access", `user:${blanks}x${blanks.slice(100_000)}:rwx`.slice(0, many)],
    ["SCHILY.acl.access", "user::rwx,".repeat(many / 10)],
    ["SCHILY.acl.access", `${"#".repeat(many)}`],
    ["mtime", `${"1".repeat(many)}.x`],
    ["size", `${"0".repeat(many)}x`],
    ["GNU.sparse.map", ",".repeat(many)],
    ["path", "/".repeat(many)],
    ["path", "a/".repeat(many / 2)],
    ["path", `${"/".repeat(60_000)}a`],
  ];
  for (const record of records) {
    const tar = joinBytes([paxHeader([record]), rawHeader({}), new Uint8Array(1024)]);
    tryRead(tar, [tar.length]); // quadratic time would be minutes
  }
  // A hundred thousand records of one key, and of as many keys.
  for (const key of ["SCHILY.xattr.a", "GNU.sparse.offset", "k"]) {
    const same: [string, string][] = Array.from({ length: 50_000 }, () => [key, ""]);
    tryRead(joinBytes([paxHeader(same), rawHeader({}), new Uint8Array(1024)]));
  }
  const names = Array.from(
    { length: 40_000 },
    (_, i): [string, string] => [`SCHILY.xattr.${i}`, ""],
  );
  const result = tryRead(joinBytes([paxHeader(names), rawHeader({}), new Uint8Array(1024)]));
  assert(!(result instanceof InputError) && result.entries[0]!.xattrs.length === 40_000);
});

Deno.test("the writer takes time that grows with a path's length alone", () => {
  const path = `${"/".repeat(60_000)}a`;
  assertEquals(tryRead(buildTar([{ path }])) instanceof InputError, false);
});
