/**
 * Whatever is dropped or changed is counted, and under `strict` refused: every kind of warning, both ways, merged and
 * layered.
 */
import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { delimiter, join } from "node:path";
import process from "node:process";
import type { HotOptions } from "../../lib/bless/hot.ts";
import { blessLayered } from "../../lib/bless/layered.ts";
import { blessMerged } from "../../lib/bless/merged.ts";
import { LAYERED_DEFAULTS, MERGED_DEFAULTS } from "../../lib/bless/options.ts";
import { InputError } from "../../lib/errors.ts";
import { createFileSink } from "../../lib/io/file_sink.ts";
import { parseHotList } from "../../lib/source/hot_list.ts";
import type { SourceOptions } from "../../lib/source/source.ts";
import { Warnings } from "../../lib/warnings.ts";
import { MAIN, runProgramWith } from "../cli/program.ts";
import { compressLayer, type LayoutSpec, writeOciLayout } from "../source/build_layout.ts";
import { testOptions, withDirectory } from "../source/helpers.ts";
import { buildTar, type SimpleEntry } from "../tar/build.ts";
import { paxHeader, rawEntry, rawHeader, rawTar } from "../tar/raw.ts";
import { readSources, ROOT } from "../tidy/repository.ts";

/** Makes a source with one thing that is worth a warning, and gives its name and the options to read it. */
type Maker = (
  directory: string,
) => Promise<[source: string, more?: Partial<SourceOptions> & HotOptions]>;

function layers(...entries: SimpleEntry[][]): Maker {
  return image({ layers: entries.map(buildTar) });
}

function image(spec: LayoutSpec, more: Partial<SourceOptions> = {}): Maker {
  return (directory) => {
    writeOciLayout(directory, spec);
    return Promise.resolve([`oci:${directory}`, more]);
  };
}

function tar(...parts: Uint8Array[]): Maker {
  return image({ layers: [rawTar(...parts)] });
}

const OK = rawEntry({ name: "ok" }, "1");

/** Every kind that a source can bring about. */
const CASES: Readonly<Record<string, Maker>> = {
  aclInvalid: tar(paxHeader([["SCHILY.acl.access", "user::rwx,nonsense"]]), OK),
  aclName: tar(
    paxHeader([["SCHILY.acl.access", "user::rw-,user:alice:r--,group::r--,mask::r--,other::r--"]]),
    OK,
  ),
  clampedPath: layers([{ path: "../a" }]),
  clampedTime: layers([{ path: "a", mtime: 2 ** 40 }]),
  danglingHeader: tar(OK, paxHeader([["mtime", "1"]])),
  diffIdMismatch: image({
    layers: [buildTar([{ path: "a" }])],
    changeConfig: (config) => ({
      ...config,
      rootfs: { type: "layers", diff_ids: [`sha256:${"1".repeat(64)}`] },
    }),
  }, { verifyDiffIds: false }),
  duplicatePath: layers([{ path: "a" }, { path: "a" }]),
  emptySource: (directory) => {
    mkdirSync(join(directory, "empty"));
    return Promise.resolve([`rootfs:${directory}/empty`]);
  },
  globalHeader: tar(paxHeader([["uid", "7"]], { flag: "g" }), OK),
  imageArchive: (directory) => {
    const entries = [{ path: "oci-layout" }, { path: "index.json" }];
    writeFileSync(join(directory, "a.tar"), buildTar(entries));
    return Promise.resolve([`tar:${directory}/a.tar`]);
  },
  mediaTypeMismatch: image({
    layers: [buildTar([{ path: "a" }])],
    compress: "none",
    changeStored: (stored) => compressLayer(stored, "gzip"),
  }),
  missingEndMarker: image({ layers: [OK] }),
  paxRecord: tar(paxHeader([["SCHILY.fflags", "immutable"]]), OK),
  platformMismatch: image({
    layers: [],
    changeIndex: (index) => {
      index.manifests[0]!.platform = { os: "linux", architecture: "arm64" };
      return index;
    },
  }, { platform: "linux/arm64" }),
  platformUnknown: image({
    layers: [buildTar([{ path: "a" }])],
    changeConfig: ({ os: _os, architecture: _architecture, ...config }) => config,
  }, { platform: "linux/arm64" }),
  replacedParent: layers([{ path: "a" }], [{ path: "a/b" }]),
  skippedAufsMetadata: layers([{ path: ".wh..wh.aufs" }]),
  skippedEntry: tar(rawHeader({ flag: "A" }), OK),
  skippedSocket: async (directory) => {
    const server = createServer().listen(join(directory, "socket"));
    await new Promise((resolve) => server.on("listening", resolve));
    server.unref();
    return [`rootfs:${directory}`];
  },
  suspectTime: layers([{ path: "a", mtime: 0x280000000 }]),
  // What is added is read through tar everywhere; a root is so only where the C library cannot be called.
  tarWarning: async (directory) => {
    const [source] = await tar(OK)(directory);
    writeFileSync(join(directory, "a"), "1");
    return [source, { additions: [{ kind: "path", host: join(directory, "a"), guest: "/a" }] }];
  },
  trailingBytes: tar(OK, new Uint8Array(1024), OK),
  unmatchedPattern: image({ layers: [buildTar([{ path: "a" }])] }, {
    additions: [{ kind: "exclude", pattern: "b" }],
  }),
  unsupportedXattr: layers([{ path: "a", xattrs: { "strange.name": "1" } }]),
};

/** Kinds that only one image with all layers has. */
const MERGED_CASES: Readonly<Record<string, Maker>> = {
  hotFileMissing: async (directory) => {
    const [source] = await tar(OK)(directory);
    const list = parseHotList(new TextEncoder().encode("/ok\n/none\n"), "list");
    return [source, { hot: { kind: "list", name: "list", list } }];
  },
};

/** Kinds that only layers for overlayfs have. */
const LAYERED_CASES: Readonly<Record<string, Maker>> = {
  whiteoutDevice: layers([{ path: "a", kind: "characterDevice", major: 0, minor: 0 }]),
};

/** Where the kinds of other commands are added, by folder. */
const OTHER_COMMANDS = ["lib/ext4/read/", "lib/ext4/volume/", "lib/ext4/checksum/", "probe/"];

/** The kinds that the sources add: the first argument of `warnings.add` and `warn`. */
function kindsOf(paths: (path: string) => boolean): Set<string> {
  const kinds = new Set<string>();
  for (const { path } of [...readSources("lib/"), ...readSources("probe/")]) {
    if (!paths(path)) continue;
    const text = readFileSync(new URL(path, ROOT), "utf8");
    for (const [, kind] of text.matchAll(/(?:\.add|[wW]arn)\(\s*"([a-z][A-Za-z]+)",/g)) {
      if (/[wW]arn/.test(text)) kinds.add(kind!);
    }
    for (const [, a, b] of text.matchAll(/kind = .* \? "(\w+)" : "(\w+)";\s*warnings\.add/g)) {
      kinds.add(a!).add(b!);
    }
  }
  return kinds;
}

Deno.test("every kind of warning that blessing gives has a case here and a row in docs/WARNINGS.md", () => {
  const isOther = (path: string) => OTHER_COMMANDS.some((folder) => path.startsWith(folder));
  // The writer of tars has records, and they are added, too.
  const found = kindsOf((path) => !isOther(path) && path !== "lib/tar/writer.ts");
  const cases = Object.keys({ ...CASES, ...MERGED_CASES, ...LAYERED_CASES }).sort();
  assertEquals([...found].sort(), cases);
  const page = readFileSync(new URL("../../docs/WARNINGS.md", import.meta.url), "utf8");
  const rows = page.split("\n").filter((line) => line.startsWith("| `"))
    .map((line) => line.split("`")[1]!);
  assertEquals(rows, cases);
});

for (const [kind, make] of Object.entries({ ...CASES, ...MERGED_CASES, ...LAYERED_CASES })) {
  Deno.test(`${kind} is counted, and an error under strict`, async () => {
    await withDirectory(async (directory) => {
      const inside = join(directory, "source");
      mkdirSync(inside);
      const [source, more = {}] = await make(inside);
      await withTar(directory, kind, async () => {
        const ways = kind in LAYERED_CASES
          ? [layered]
          : kind in MERGED_CASES
          ? [merged]
          : [merged, layered];
        for (const [i, bless] of ways.entries()) {
          const report = await bless(source, join(directory, `lax-${i}`), more, false);
          const warning = report.warnings.find((each) => each.kind === kind);
          assertEquals(warning?.count, 1, kind);
          const error = await assertRejects(
            () => bless(source, join(directory, `strict-${i}`), more, true),
            InputError,
          );
          assertEquals(error.data["kind"], kind);
          assertEquals(error.remedies.map(({ option }) => option), ["strict"]);
          assertStringIncludes(warning!.message, error.message.split(": ").at(-1)!);
        }
        // An image that is there already is no way around it.
        if (kind === "diffIdMismatch" || !ways.includes(layered)) return;
        await assertRejects(
          () => layered(source, join(directory, `lax-${ways.length - 1}`), more, true),
          InputError,
        );
      });
    });
  });
}

Deno.test("--strict fails with exit code 3 and leaves nothing; without it the report counts", async () => {
  await withDirectory(async (directory) => {
    const [source] = await CASES["duplicatePath"]!(directory);
    const output = join(directory, "image.ext4");
    const strict = runProgramWith(MAIN, ["bless", source, "-o", output, "--strict"]);
    assertEquals(strict.code, 3);
    assertStringIncludes(strict.stderr, "hint: leave out --strict to accept this");
    const lax = runProgramWith(MAIN, ["bless", source, "-o", output, "--json"]);
    assertEquals(lax.code, 0);
    const { warnings } = JSON.parse(lax.stdout);
    assertEquals(
      warnings.map(({ kind, count }: { kind: string; count: number }) => [kind, count]),
      [
        ["duplicatePath", 1],
      ],
    );
    const told = runProgramWith(MAIN, ["bless", source, "-o", output, "--force"]);
    assertStringIncludes(told.stderr, "more than once");
  });
});

async function merged(source: string, path: string, more: Partial<SourceOptions>, strict: boolean) {
  const options = testOptions({ ...more, warnings: new Warnings(strict) });
  const sink = createFileSink(path);
  return await blessMerged({ ...options, source, layout: MERGED_DEFAULTS, sink });
}

async function layered(
  source: string,
  outputDir: string,
  more: Partial<SourceOptions>,
  strict: boolean,
) {
  const options = testOptions({ ...more, warnings: new Warnings(strict) });
  return await blessLayered({ ...options, source, layout: LAYERED_DEFAULTS, outputDir });
}

/**
 * For warnings of tar itself: a tar that has one to give, for files of this directory alone. PATH is the same for all
 * tests that run at the same time, and for theirs it is the tar that they know.
 */
async function withTar(directory: string, kind: string, work: () => Promise<void>): Promise<void> {
  if (kind !== "tarWarning") return await work();
  const programs = join(directory, "programs");
  mkdirSync(programs);
  const path = process.env["PATH"] ?? "";
  const warn = `case "$*" in *'${directory}'*) echo 'tar: something is odd' >&2;; esac`;
  const script = `#!/bin/sh\n${warn}\nPATH='${path}' exec tar "$@"\n`;
  writeFileSync(join(programs, "tar"), script);
  chmodSync(join(programs, "tar"), 0o755);
  process.env["PATH"] = programs + delimiter + path;
  try {
    await work();
  } finally {
    process.env["PATH"] = path;
  }
}
