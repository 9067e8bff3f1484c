/** The committed tars of other tools: fixtures/tar/README.md says how each was made. */
import { assertEquals, assertStringIncludes } from "@std/assert";
import { readdirSync, readFileSync } from "node:fs";
import type { ReadTar } from "./read.ts";
import { readTar } from "./read.ts";
import type { FactChanges, TreeFacts } from "./tree_facts.ts";
import { changedFacts, factsOf, HARD_FACTS, SIMPLE_FACTS } from "./tree_facts.ts";

const DIRECTORY = new URL("../../fixtures/tar/", import.meta.url);

/** Reads a fixture, in one piece and in small ones, and checks what it gives. */
function checkFixture(name: string, facts: TreeFacts, changes: FactChanges = {}): ReadTar {
  const tar = readFileSync(new URL(name, DIRECTORY));
  const read = readTar(tar);
  assertEquals(factsOf(read.entries, tar), changedFacts(facts, changes), name);
  assertEquals(readTar(tar, { chunkSizes: [1000] }), read, name);
  return read;
}

/** Only these paths. */
function only(facts: TreeFacts, pattern: RegExp): TreeFacts {
  return new Map([...facts].filter(([path]) => pattern.test(path)));
}

Deno.test("fixtures in the v7 and ustar formats, of GNU tar and bsdtar", () => {
  for (const name of ["gnu-v7.tar", "gnu-ustar.tar", "bsdtar-v7.tar", "bsdtar-ustar.tar"]) {
    const { warningKinds } = checkFixture(name, SIMPLE_FACTS, { withoutNanoseconds: true });
    assertEquals(warningKinds, []);
  }
});

Deno.test("fixtures in the GNU formats: long names, base-256, old sparse files", () => {
  const changes = { withoutNanoseconds: true, withoutXattrs: true };
  const withoutPaths = /hole|sparse/;
  checkFixture("gnu-gnu.tar", HARD_FACTS, changes);
  checkFixture("gnu-oldgnu.tar", HARD_FACTS, { ...changes, withoutPaths });
  // Python cuts -2.75 s towards zero.
  const replaced = { "hard/before-1970": { mtime: [-2, 0] as const } };
  checkFixture("python-gnu.tar", HARD_FACTS, { ...changes, withoutPaths, replaced });
  const some = only(HARD_FACTS, /^hard\/(dir|fifo|null|disk|long-symlink)/);
  checkFixture("bsdtar-gnutar.tar", some, changes);
});

Deno.test("fixtures in the PAX format: all of GNU tar's xattrs, times and sparse files", () => {
  assertEquals(checkFixture("gnu-posix.tar", HARD_FACTS).warningKinds, []);
});

Deno.test("fixtures in the PAX format of bsdtar: its xattrs, ACLs, raw names, and its time before 1970", () => {
  // bsdtar writes -2.75 s as -3.25: the seconds rounded down, and the fraction that counts forward from there.
  const replaced = { "hard/before-1970": { mtime: [-4, 750000000] as const } };
  assertEquals(checkFixture("bsdtar-pax.tar", HARD_FACTS, { replaced }).warningKinds, []);
});

Deno.test("fixtures in the PAX format of Python, whose times are floating-point numbers", () => {
  const tar = readFileSync(new URL("python-pax.tar", DIRECTORY));
  const facts = factsOf(readTar(tar).entries, tar);
  const usual = facts.get("hard/xattr")!.mtime;
  assertEquals([usual[0], Math.abs(usual[1] - 123456789) < 200], [1700000000, true]);
  checkFixture("python-pax.tar", HARD_FACTS, {
    withoutXattrs: true,
    withoutPaths: /hole|sparse/,
    replaced: Object.fromEntries(
      [...HARD_FACTS].filter(([, fact]) => fact.mtime[1] === 123456789)
        .map(([path]) => [path, { mtime: usual }]),
    ),
  });
});

Deno.test("fixtures with ACLs as text: names of GNU tar are not known here but for root's", () => {
  const facts = only(HARD_FACTS, /^hard\/(acl|dir)/);
  for (const name of ["gnu-acls.tar", "gnu-acls-names.tar"]) {
    const read = checkFixture(name, facts, { replaced: { "hard/acl": { xattrs: [] } } });
    assertEquals(read.warningKinds, ["aclName"]);
    assertStringIncludes(read.warnings[0]!, '"hard/acl" at offset 0: its ACL is dropped');
  }
});

Deno.test("fixtures of sparse files in the PAX formats 0.0, 0.1 and 1.0", () => {
  const facts = only(HARD_FACTS, /hole|sparse/);
  for (const version of ["0.0", "0.1", "1.0"]) {
    const { entries } = checkFixture(`gnu-sparse-${version}.tar`, facts);
    assertEquals(entries[0]!.payload?.dataRuns, [
      { startBlock: 17, blockCount: 1 },
      { startBlock: 70, blockCount: 1 },
    ]);
    assertEquals(entries[1]!.payload?.segments, []);
  }
});

Deno.test("fixtures with a volume label and a dump directory", () => {
  const withoutNanoseconds = true;
  checkFixture("gnu-label.tar", only(SIMPLE_FACTS, /size-1$/), { withoutNanoseconds });
  checkFixture("gnu-incremental.tar", only(SIMPLE_FACTS, /dir/), { withoutNanoseconds });
});

Deno.test("every fixture has its line in the README", () => {
  const readme = readFileSync(new URL("README.md", DIRECTORY), "utf8");
  const names = readdirSync(DIRECTORY).filter((name) => name.endsWith(".tar"));
  assertEquals(names.length, 18);
  for (const name of names) assertStringIncludes(readme, `| ${name} |`);
});
