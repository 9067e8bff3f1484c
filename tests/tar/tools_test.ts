/** The tar programs of this machine, run now: what they write must read right, and what we write they must read right. */
import { assertEquals } from "@std/assert";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { memoryReader } from "../../lib/io/random_reader.ts";
import { readPayload } from "../../lib/model/node.ts";
import { encodeTarEntry, END_OF_ARCHIVE_SIZE_BYTES } from "../../lib/tar/writer.ts";
import { hasCommand, mustRun, runCommand, withTemporaryDirectory } from "../oracle/command.ts";
import { notRun } from "../oracle/notice.ts";
import { joinBytes } from "./build.ts";
import { readTar } from "./read.ts";
import {
  changedFacts,
  type FactChanges,
  factsOf,
  HARD_FACTS,
  SIMPLE_FACTS,
  type TreeFacts,
} from "./tree_facts.ts";

const TREE_SCRIPT = fileURLToPath(new URL("../../fixtures/tar/tree.sh", import.meta.url));

/** Whether tar is GNU's. */
function hasGnuTar(): boolean {
  return hasCommand("tar") && runCommand("tar", ["--version"]).stdout.includes("GNU tar");
}

/** Builds the tree; a sentence why not where that cannot be. */
function buildTree(directory: string): string | undefined {
  if (process.platform !== "linux") return "it needs Linux";
  const { status, stderr } = runCommand("sh", [TREE_SCRIPT, directory]);
  return status === 0 ? undefined : `tree.sh failed: ${stderr.trim()}`;
}

/** Why this user cannot have all of the tree. */
function whyNotAll(): string | undefined {
  if (process.getuid?.() !== 0) return "owners and devices need root";
  return hasCommand("setfattr") ? undefined : "setfattr is missing";
}

/** The simple part of the tree, with this user's ids. */
function simpleFacts(): TreeFacts {
  const own = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };
  const paths = [...SIMPLE_FACTS.keys()];
  return changedFacts(SIMPLE_FACTS, {
    replaced: Object.fromEntries(paths.map((path) => [path, own])),
  });
}

function checkTar(path: string, facts: TreeFacts, changes: FactChanges, what: string): void {
  const tar = readFileSync(path);
  assertEquals(factsOf(readTar(tar).entries, tar), changedFacts(facts, changes), what);
}

Deno.test("TarIndexer reads what GNU tar writes here, in each of its formats", () => {
  if (!hasGnuTar()) return notRun("reading GNU tar's formats", "GNU tar is missing");
  withTemporaryDirectory((work) => {
    const tree = join(work, "tree");
    mkdirSync(tree);
    const why = buildTree(tree);
    if (why !== undefined) return notRun("reading GNU tar's formats", why);
    const path = join(work, "out.tar");
    const pack = (...args: string[]) => mustRun("tar", ["-C", tree, "-cf", path, ...args]);
    for (const format of ["v7", "ustar", "oldgnu", "gnu", "posix"]) {
      pack(`--format=${format}`, "simple");
      const withoutNanoseconds = format !== "posix";
      checkTar(path, simpleFacts(), { withoutNanoseconds }, `GNU tar, ${format}`);
    }
    const whyNot = whyNotAll();
    if (whyNot !== undefined) return notRun("GNU tar's owners, devices and xattrs", whyNot);
    for (const sparse of [["--sparse"], []]) {
      for (const format of ["oldgnu", "gnu"]) {
        pack(`--format=${format}`, ...sparse, "hard");
        const changes = { withoutNanoseconds: true, withoutXattrs: true };
        checkTar(path, HARD_FACTS, changes, `GNU tar, ${format} ${sparse}`);
      }
    }
    for (const version of ["0.0", "0.1", "1.0"]) {
      pack(
        "--format=posix",
        "-S",
        `--sparse-version=${version}`,
        "--xattrs",
        "--xattrs-include=*",
        "hard",
      );
      checkTar(path, HARD_FACTS, {}, `GNU tar, posix with sparse ${version}`);
    }
  });
});

Deno.test("TarIndexer reads what bsdtar writes here, in each of its formats", () => {
  if (!hasCommand("bsdtar")) return notRun("reading bsdtar's formats", "bsdtar is missing");
  withTemporaryDirectory((work) => {
    const tree = join(work, "tree");
    mkdirSync(tree);
    const why = buildTree(tree);
    if (why !== undefined) return notRun("reading bsdtar's formats", why);
    const path = join(work, "out.tar");
    const pack = (...args: string[]) => mustRun("bsdtar", ["-C", tree, "-cf", path, ...args]);
    for (const format of ["v7tar", "ustar", "gnutar", "pax"]) {
      pack(`--format=${format}`, "simple");
      const withoutNanoseconds = format !== "pax";
      checkTar(path, simpleFacts(), { withoutNanoseconds }, `bsdtar, ${format}`);
    }
    const whyNot = whyNotAll();
    if (whyNot !== undefined) return notRun("bsdtar's owners, devices and xattrs", whyNot);
    const options = ["--format=pax", "--acls", "--xattrs"];
    const { status } = runCommand("bsdtar", ["-C", tree, "-cf", path, ...options, "hard"]);
    // Status 1: it could not turn raw names into UTF-8, and kept them raw.
    assertEquals(status <= 1, true);
    // Its way of writing times before 1970 has changed over the years.
    const withoutPaths = /before-1970/;
    const tar = readFileSync(path);
    const facts = changedFacts(factsOf(readTar(tar).entries, tar), { withoutPaths });
    assertEquals(facts, changedFacts(HARD_FACTS, { withoutPaths }));
  });
});

/** A tar once more, by our writer. */
function rewritten(tar: Uint8Array): Uint8Array {
  const store = memoryReader(tar);
  const parts = readTar(tar).entries.flatMap((entry) => {
    const encoded = encodeTarEntry(entry);
    const stored = encoded.storedRanges.map(({ fileOffset, lengthBytes }) => {
      const bytes = new Uint8Array(lengthBytes);
      readPayload({ ...entry.payload!, store }, bytes, fileOffset);
      return bytes;
    });
    return [encoded.head, ...stored, new Uint8Array(encoded.paddingSizeBytes)];
  });
  return joinBytes([...parts, new Uint8Array(END_OF_ARCHIVE_SIZE_BYTES)]);
}

Deno.test("what encodeTarEntry writes of the fixtures reads the same again", () => {
  for (const name of ["gnu-posix.tar", "gnu-gnu.tar", "bsdtar-pax.tar", "gnu-v7.tar"]) {
    const original = readFileSync(new URL(`../../fixtures/tar/${name}`, import.meta.url));
    const ours = rewritten(original);
    assertEquals(
      factsOf(readTar(ours).entries, ours),
      factsOf(readTar(original).entries, original),
      name,
    );
    assertEquals(rewritten(ours), ours, "the same entries give the same bytes");
  }
});

/** It takes -2.75 for -2 + 0.75, as it writes such times, and knows no escapes in the names of xattrs. */
const BSDTAR_READS: FactChanges = {
  withoutPaths: /before-1970/,
  replaced: {
    "hard/xattr": {
      xattrs: HARD_FACTS.get("hard/xattr")!.xattrs.map((xattr) => xattr.replace("a=b", "a%3Db")),
    },
  },
};

Deno.test("GNU tar and bsdtar unpack what encodeTarEntry writes, to the last attribute", () => {
  const what = "unpacking our tars with other programs";
  const whyNot = whyNotAll();
  if (whyNot !== undefined) return notRun(what, whyNot);
  if (!hasGnuTar()) return notRun(what, "GNU tar is missing");
  const fixture = readFileSync(new URL("../../fixtures/tar/gnu-posix.tar", import.meta.url));
  withTemporaryDirectory((work) => {
    const ours = join(work, "ours.tar");
    writeFileSync(ours, rewritten(fixture));
    const again = join(work, "again.tar");
    const unpackers: Record<string, string[]> = {
      tar: ["--xattrs", "--xattrs-include=*"],
      bsdtar: ["--acls", "--xattrs"],
    };
    for (const [program, options] of Object.entries(unpackers)) {
      if (!hasCommand(program)) {
        notRun(`${what}: ${program}`, "it is missing");
        continue;
      }
      const directory = join(work, program);
      mkdirSync(directory);
      // bsdtar wants a locale that can hold the names that are UTF-8.
      mustRun("env", [
        "LC_ALL=C.UTF-8",
        program,
        "-xpf",
        ours,
        "-C",
        directory,
        "--numeric-owner",
        ...options,
      ]);
      mustRun("tar", [
        ...["-C", directory, "-cf", again, "--format=posix", "-S"],
        ...["--xattrs", "--xattrs-include=*", "hard"],
      ]);
      const changes = program === "bsdtar" ? BSDTAR_READS : {};
      const { withoutPaths = /^$/ } = changes;
      const tar = readFileSync(again);
      const facts = changedFacts(factsOf(readTar(tar).entries, tar), { withoutPaths });
      assertEquals(facts, changedFacts(HARD_FACTS, changes), program);
    }
  });
});
