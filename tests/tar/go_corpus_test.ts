/**
 * The test corpus of Go's archive/tar, with what Go's own tests expect of it. The corpus is not part of this repository:
 * Debian has it in golang-*-src.
 */
import { assertEquals, assertStringIncludes } from "@std/assert";
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, globSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { byteStringFromText } from "../../lib/bytes/byte_string.ts";
import { InputError } from "../../lib/errors.ts";
import { notRun } from "../oracle/notice.ts";
import type { ReadTar } from "./read.ts";
import { contentOf, readTar } from "./read.ts";

/** [kind, path, link target, mode, uid, gid, mtime, file size, MD5 of the content where Go checks it] */
type Row = readonly [
  kind: string,
  path: string,
  link: string,
  mode: number,
  uid: number,
  gid: number,
  mtime: readonly [seconds: number, nanoseconds: number],
  size?: number,
  md5?: string,
];

const at = (seconds: number, nanoseconds = 0) => [seconds, nanoseconds] as const;
const LONG_NUMBERS =
  "123456789101112131415161718192021222324252627282930313233343536373839404142434445464748495051525354555657585960" +
  "616263646566676869707172737475767778798081828384858687888990919293949596979899100";
const SPARSE_MD5 = "6f53234398c2449fe67c1812d993012f";

/** The types of hdr-only.tar, which has each of these twice: the second time with a size that means nothing. */
const HEADER_ONLY: readonly Row[] = [
  ["directory", "dir/", "", 0o750, 319973, 5000, at(1442273732)],
  ["fifo", "fifo", "", 0o640, 319973, 5000, at(1442273806)],
  ["file", "file", "", 0o640, 319973, 5000, at(1442273747), 46],
  ["hardlink", "hardlink", "file", 0o640, 319973, 5000, at(1442273747)],
  ["characterDevice", "null", "", 0o666, 319973, 5000, at(1442264573)],
  ["blockDevice", "sda", "", 0o660, 319973, 5000, at(1442264573)],
  ["symlink", "symlink", "file", 0o777, 319973, 5000, at(1442273756)],
  ["symlink", "badlink", "missing", 0o777, 319973, 5000, at(1442274044)],
];

/** What Go's tests expect; an error is given by a part of our message for it. */
const EXPECTED: Readonly<Record<string, readonly Row[] | string>> = {
  "gnu.tar": [
    [
      "file",
      "small.txt",
      "",
      0o640,
      73025,
      5000,
      at(1244428340),
      5,
      "e38b27eaccb4391bdec553a7f3ae6b2f",
    ],
    [
      "file",
      "small2.txt",
      "",
      0o640,
      73025,
      5000,
      at(1244436044),
      11,
      "c65bd2e50a56a2138bf1716f2fd56fe9",
    ],
  ],
  "sparse-formats.tar": [
    ["file", "sparse-gnu", "", 0o644, 1000, 1000, at(1392395740), 200, SPARSE_MD5],
    ["file", "sparse-posix-0.0", "", 0o644, 1000, 1000, at(1392342187), 200, SPARSE_MD5],
    ["file", "sparse-posix-0.1", "", 0o644, 1000, 1000, at(1392340456), 200, SPARSE_MD5],
    ["file", "sparse-posix-1.0", "", 0o644, 1000, 1000, at(1392337404), 200, SPARSE_MD5],
    ["file", "end", "", 0o644, 1000, 1000, at(1392398319), 4, "b0061974914468de549a2af8ced10316"],
  ],
  "star.tar": [
    ["file", "small.txt", "", 0o640, 73025, 5000, at(1244592783), 5],
    ["file", "small2.txt", "", 0o640, 73025, 5000, at(1244592783), 11],
  ],
  "v7.tar": [
    ["file", "small.txt", "", 0o444, 73025, 5000, at(1244593104), 5],
    ["file", "small2.txt", "", 0o444, 73025, 5000, at(1244593104), 11],
  ],
  "pax.tar": [
    ["file", `a/${LONG_NUMBERS}`, "", 0o664, 1000, 1000, at(1350244992, 23960108), 7],
    ["symlink", "a/b", LONG_NUMBERS, 0o777, 1000, 1000, at(1350266320, 910238425)],
  ],
  "pax-bad-hdr-file.tar": "does not end in a newline",
  "pax-bad-hdr-large.tar.bz2": "more than the limit of 1048576",
  "pax-bad-mtime-file.tar": 'the PAX record "mtime" is',
  "pax-pos-size-file.tar": [
    [
      "file",
      "foo",
      "",
      0o640,
      319973,
      5000,
      at(1442282516),
      999,
      "0afb597b283fe61b5d4879669a350556",
    ],
  ],
  "pax-records.tar": [["file", "file", "", 0, 0, 0, at(0), 0]],
  "nil-uid.tar": [["file", "P1050238.JPG.log", "", 0o664, 0, 0, at(1365454838), 14]],
  "xattrs.tar": [
    ["file", "small.txt", "", 0o644, 1000, 10, at(1386065770, 448252320), 5],
    ["file", "small2.txt", "", 0o644, 1000, 10, at(1386065770, 449252304), 11],
  ],
  "gnu-multi-hdrs.tar": [
    ["symlink", "GNU2/GNU2/long-path-name", "GNU4/GNU4/long-linkpath-name", 0, 0, 0, at(0)],
  ],
  "pax-multi-hdrs.tar": [["symlink", "bar", "PAX4/PAX4/long-linkpath-name", 0, 0, 0, at(0)]],
  "gnu-long-nul.tar": [["file", "0123456789", "", 0o644, 1000, 1000, at(1486082191), 0]],
  "gnu-utf8.tar": [
    [
      "file",
      byteStringFromText("☺☻☹".repeat(18)).slice(0, 54 * 3),
      "",
      0o644,
      1000,
      1000,
      at(0),
      0,
    ],
  ],
  "gnu-not-utf8.tar": [["file", "hi\x80\x81\x82\x83bye", "", 0o644, 1000, 1000, at(0), 0]],
  "pax-nul-xattrs.tar": "a NUL in its key",
  "pax-nul-path.tar": "text without a NUL",
  "neg-size.tar": "offset 0",
  "issue10968.tar": "offset 0",
  "issue11169.tar": "offset 0",
  "issue12435.tar": "offset 0",
  "invalid-go17.tar": [["file", `${"a".repeat(97)}/foo`, "", 0, 0o10000000, 0, at(0), 0]],
  "ustar-file-devs.tar": [["file", "file", "", 0o644, 0, 0, at(0), 0]],
  "gnu-nil-sparse-data.tar": [["file", "sparse.db", "", 0, 0, 0, at(0), 1000]],
  "gnu-nil-sparse-hole.tar": [["file", "sparse.db", "", 0, 0, 0, at(0), 1000]],
  "pax-nil-sparse-data.tar": [["file", "sparse.db", "", 0, 0, 0, at(0), 1000]],
  "pax-nil-sparse-hole.tar": [["file", "sparse.db", "", 0, 0, 0, at(0), 1000]],
  "trailing-slash.tar": [["directory", "123456789/".repeat(30), "", 0, 0, 0, at(0)]],
  // These are read by other tests of Go's than the one of its reader.
  "file-and-dir.tar": [
    ["file", "small.txt", "", 0, 0, 0, at(0), 5],
    ["directory", "dir/", "", 0, 0, 0, at(0)],
  ],
  "hardlink.tar": [
    ["file", "file.txt", "", 0o644, 1000, 100, at(1425484303), 15],
    ["hardlink", "hard.txt", "file.txt", 0o644, 1000, 100, at(1425484303)],
  ],
  "hdr-only.tar": [...HEADER_ONLY, ...HEADER_ONLY],
  "gnu-sparse-big.tar": [["file", "gnu-sparse", "", 0, 0, 0, at(0), 60_000_000_000]],
  "pax-sparse-big.tar": [["file", "pax-sparse", "", 0, 0, 0, at(0), 60_000_000_000]],
  "ustar-file-reg.tar": [["file", "foo", "", 0o640, 319973, 5000, at(1442282516), 684]],
  "ustar.tar": [[
    "file",
    `${"longname/".repeat(15)}file.txt`,
    "",
    0o644,
    501,
    20,
    at(1360135598),
    6,
  ]],
  "writer.tar": [
    ["file", "small.txt", "", 0o640, 73025, 5000, at(1246508266), 5],
    ["file", "small2.txt", "", 0o640, 73025, 5000, at(1245217492), 11],
    ["symlink", "link.txt", "small.txt", 0o777, 1000, 1000, at(1314603082)],
  ],
};

/** Where this reader differs from Go's on purpose, and why. */
const EXCEPTIONS: Readonly<Record<string, { why: string; expected: readonly Row[] | string }>> = {
  "gnu-incremental.tar": {
    why: "Go gives a GNU dump directory as type D; here it is a directory, and its data is skipped",
    expected: [
      ["directory", "test2/", "", 0o755, 1000, 1000, at(1441973427)],
      ["file", "test2/foo", "", 0o644, 1000, 1000, at(1441973363), 64],
      ["file", "test2/sparse", "", 0o644, 1000, 1000, at(1441973427), 536870912],
    ],
  },
  "pax-global-records.tar": {
    why:
      "Go gives global headers as entries that a caller may apply; here they are passed over with a warning",
    expected: [
      ["file", "file1", "", 0, 0, 0, at(0), 0],
      ["file", "file2", "", 0, 0, 0, at(0), 0],
      ["file", "file3", "", 0, 0, 0, at(0), 0],
      ["file", "file4", "", 0, 0, 0, at(1400000000), 0],
    ],
  },
  "pax-path-hdr.tar": {
    why:
      "an extended header with no entry behind it: Go takes that for a clean end, here the tar is cut short",
    expected: "the entry of this header is missing",
  },
  "writer-big.tar": {
    why:
      "headers alone, their payload cut off: Go tells when the payload is read, here it is always looked at",
    expected: "in the middle of a payload",
  },
  "writer-big-long.tar": {
    why: "as writer-big.tar",
    expected: "in the middle of a payload",
  },
};

Deno.test("docs/DIFFERENCES.md has where TarIndexer differs from Go's archive/tar", () => {
  const page = readFileSync(new URL("../../docs/DIFFERENCES.md", import.meta.url), "utf8");
  for (const [name, { why }] of Object.entries(EXCEPTIONS)) {
    const row = page.split("\n").find((line) => line.startsWith(`| \`${name}\` `));
    assertEquals(row?.split("|")[2]?.trim(), why);
  }
});

function findCorpus(): string | undefined {
  const roots = [
    ...globSync("/usr/share/go-*/src"),
    ...globSync("/usr/lib/go-*/src"),
    "/usr/local/go/src",
    ...(process.env["GOROOT"] ? [join(process.env["GOROOT"], "src")] : []),
  ];
  return roots.map((root) => join(root, "archive/tar/testdata")).find((path) => existsSync(path));
}

function loadTar(path: string): Uint8Array | undefined {
  if (!path.endsWith(".bz2")) return readFileSync(path);
  const { status, stdout } = spawnSync("bzip2", ["-dc", path], { maxBuffer: 2 ** 28 });
  return status === 0 ? stdout : undefined;
}

function rowsOf({ entries }: ReadTar, tar: Uint8Array, expected: readonly Row[]): Row[] {
  return entries.map((entry, i): Row => {
    const base = [
      entry.kind,
      entry.path,
      entry.linkTarget,
      entry.mode,
      entry.uid,
      entry.gid,
      at(entry.mtimeSeconds, entry.mtimeNanoseconds),
    ] as const;
    if (!entry.payload) return base;
    if (expected[i]?.[8] === undefined) return [...base, entry.payload.sizeBytes];
    const md5 = createHash("md5").update(contentOf(entry, tar)).digest("hex");
    return [...base, entry.payload.sizeBytes, md5];
  });
}

function checkFile(name: string, tar: Uint8Array, expected: readonly Row[] | string): void {
  for (const chunkSizes of [[tar.length], [513]]) {
    let result: ReadTar | InputError;
    try {
      result = readTar(tar, { chunkSizes });
    } catch (error) {
      if (!(error instanceof InputError)) throw error;
      result = error;
    }
    if (typeof expected === "string") {
      assertEquals(result instanceof InputError, true, `${name} must be refused`);
      assertStringIncludes((result as InputError).message, expected, name);
    } else if (result instanceof InputError) {
      throw new Error(`${name}: ${result.message}`);
    } else {
      assertEquals(rowsOf(result, tar, expected), expected, name);
    }
  }
}

Deno.test("TarIndexer agrees with Go's archive/tar on its test corpus, but for the exceptions named", () => {
  const corpus = findCorpus();
  if (corpus === undefined) {
    notRun("the corpus of Go's archive/tar", "it is not here (Debian: golang-src)");
    return;
  }
  const unknown: string[] = [];
  let checkedCount = 0;
  for (const name of readdirSync(corpus)) {
    if (!/\.tar(\.bz2)?$/.test(name)) continue;
    const tar = loadTar(join(corpus, name));
    const expected = EXPECTED[name] ?? EXCEPTIONS[name]?.expected;
    if (tar === undefined) notRun(`Go's ${name}`, "bzip2 is missing");
    else if (expected === undefined) unknown.push(name);
    else {
      checkFile(name, tar, expected);
      checkedCount++;
    }
  }
  if (unknown.length > 0) notRun("newer files of Go's corpus", unknown.join(", "));
  assertEquals(checkedCount > 35, true, `only ${checkedCount} files of the corpus were checked`);
});

Deno.test("TarIndexer reads the xattrs of Go's corpus", () => {
  const corpus = findCorpus();
  if (corpus === undefined) {
    notRun("the corpus of Go's archive/tar", "it is not here (Debian: golang-src)");
    return;
  }
  const { entries } = readTar(readFileSync(join(corpus, "xattrs.tar")));
  const label = "unconfined_u:object_r:default_t:s0\0";
  assertEquals(
    entries.map(({ xattrs }) =>
      xattrs.map(({ name, value }) => [name, String.fromCharCode(...value)])
    ),
    [
      [["security.selinux", label], ["user.key", "value"], ["user.key2", "value2"]],
      [["security.selinux", label]],
    ],
  );
});
