import { assertEquals, assertRejects, assertStringIncludes, assertThrows } from "@std/assert";
import { readFileSync, realpathSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { entrypointClosure, readElf, readLinkerCache } from "../../lib/bless/hot_entrypoint.ts";
import { blessMerged } from "../../lib/bless/merged.ts";
import { chunkId } from "../../lib/chunk/chunk.ts";
import { InputError, UsageError } from "../../lib/errors.ts";
import { createFileSink } from "../../lib/io/file_sink.ts";
import { type FileTree, type TreeNode, walkTree } from "../../lib/model/node.ts";
import { parseHotList } from "../../lib/source/hot_list.ts";
import { COMMANDS } from "../../cli/commands.ts";
import { runFake } from "../cli/fake_io.ts";
import { hasCommand, runCommand } from "../oracle/command.ts";
import { assertE2fsckClean } from "../oracle/e2fsck.ts";
import { notRun } from "../oracle/notice.ts";
import { type Children, dir, file, symlink, treeOf } from "../oracle/tree_builder.ts";
import { writeOciLayout } from "../source/build_layout.ts";
import { noise, testOptions, withDirectory } from "../source/helpers.ts";
import { buildTar } from "../tar/build.ts";
import { buildElf, buildLinkerCache } from "./build_elf.ts";

const LINKER = "/lib64/ld-linux-x86-64.so.2";

/** The paths that starting an entry point reads, and what it misses. */
function closureOf(tree: FileTree, config: Record<string, unknown>): {
  readonly paths: readonly string[];
  readonly missing: readonly string[];
} {
  const { files, missing } = entrypointClosure(tree, { config }, "image");
  const paths = new Map<TreeNode, string>();
  for (const { path, node } of walkTree(tree)) if (!paths.has(node)) paths.set(node, path);
  return { paths: files.map((node) => paths.get(node)!), missing };
}

Deno.test("the closure of an entry point is what ld.so would load", () => {
  const tree = treeOf({
    "bin": symlink("usr/bin"),
    "lib64": dir({ "ld-linux-x86-64.so.2": symlink("../usr/lib/ld.so") }),
    "usr": dir({
      "bin": dir({
        "app": symlink("../../opt/app/bin/app"),
        "env": file(buildElf({ interpreter: LINKER, needed: ["libc.so.6"] })),
      }),
      "lib": dir({
        "ld.so": file(buildElf()),
        "libfallback.so": file(buildElf({ needed: ["libc.so.6"] })),
        "libc.so.6": file(buildElf({ machine: 3, bits: 32 })),
      }),
    }),
    "opt": dir({
      "app": dir({
        "bin": dir({
          "app": file(
            buildElf({
              interpreter: LINKER,
              needed: ["libown.so", "libc.so.6", "libfallback.so", "libnone.so"],
              runpath: "$ORIGIN/../lib:/elsewhere",
            }),
          ),
        }),
        "lib": dir({
          "libown.so": file(buildElf({ needed: ["libdeep.so"], rpath: "${ORIGIN}/deep" })),
          "deep": dir({ "libdeep.so": file(buildElf()) }),
        }),
      }),
      "fast": dir({ "libc.so.6": file(buildElf({ needed: [] })) }),
      "any": dir({ "libc.so.6": file(buildElf({ needed: [] })) }),
    }),
    "etc": dir({
      "ld.so.cache": file(buildLinkerCache([
        ["libc.so.6", "/opt/fast/libc.so.6", 1n << 62n],
        ["libc.so.6", "/opt/any/libc.so.6"],
      ])),
    }),
  });
  assertEquals(closureOf(tree, { Entrypoint: ["app"], Env: ["PATH=/none:/bin"] }), {
    paths: [
      "/opt/app/bin/app",
      "/usr/lib/ld.so",
      "/etc/ld.so.cache",
      "/opt/app/lib/libown.so",
      "/opt/any/libc.so.6",
      "/usr/lib/libfallback.so",
      "/opt/app/lib/deep/libdeep.so",
    ],
    missing: ["libnone.so"],
  });
});

Deno.test("the closure follows scripts to their interpreters, and takes files among the arguments", () => {
  const shell = file(buildElf({ interpreter: LINKER, needed: [] }));
  const tree = treeOf({
    "bin": dir({ "sh": symlink("dash"), "dash": shell }),
    "usr": dir({ "bin": dir({ "env": file(buildElf()), "run": file(buildElf()) }) }),
    "lib64": dir({ "ld-linux-x86-64.so.2": file(buildElf()) }),
    "srv": dir({
      "start": file("#!/bin/sh -e\nexec run\n"),
      "app.py": file("#! /usr/bin/env -S python3 -u\n"),
      "data": file("x"),
    }),
  });
  assertEquals(
    closureOf(tree, { Entrypoint: ["/srv/start"], Cmd: ["--data", "data"], WorkingDir: "/srv" }),
    {
      paths: ["/srv/start", "/bin/dash", "/lib64/ld-linux-x86-64.so.2", "/srv/data"],
      missing: [],
    },
  );
  assertEquals(closureOf(tree, { Cmd: ["./app.py"], WorkingDir: "/srv" }), {
    paths: ["/srv/app.py", "/usr/bin/env"],
    missing: ["python3"],
  });
  assertEquals(
    closureOf(tree, { Cmd: ["/bin/sh", "-c", "exec run --now"] }).paths.at(-1),
    "/usr/bin/run",
  );
  assertThrows(
    () => closureOf(tree, { Cmd: ["/none"] }),
    InputError,
    "image: the program of its entry point is missing: /none",
  );
  for (const config of [{}, { Entrypoint: [] }, { Cmd: null }]) {
    assertThrows(() => closureOf(tree, config), InputError, "image: has no entry point");
  }
});

Deno.test("damaged programs and caches end the search, and do not break it", () => {
  const whole = buildElf({ interpreter: LINKER, needed: ["liba.so"], runpath: "/x" });
  for (let length = 0; length < whole.length; length += 13) {
    readElf((offset, lengthBytes) =>
      whole.subarray(0, length).subarray(offset, offset + lengthBytes)
    );
  }
  for (let at = 0; at < 256; at++) {
    const damaged = whole.slice();
    damaged[at]! ^= 0xff;
    readElf((offset, lengthBytes) => damaged.subarray(offset, offset + lengthBytes));
  }
  const cache = buildLinkerCache([["liba.so", "/lib/liba.so"]], true);
  assertEquals([...readLinkerCache(cache, true)], [["liba.so", ["/lib/liba.so"]]]);
  for (let length = 0; length < cache.length; length += 7) {
    readLinkerCache(cache.subarray(0, length), true);
  }
  for (const spec of [{ bits: 32, machine: 3 }, { isLittle: false, machine: 22 }] as const) {
    const elf = buildElf({ ...spec, needed: ["a", "b"], interpreter: "/ld" });
    const read = readElf((offset, lengthBytes) => elf.subarray(offset, offset + lengthBytes))!;
    assertEquals([read.needed, read.interpreter], [["a", "b"], "/ld"]);
  }
});

/** A tree of files of this machine at their real paths, and links to them. */
function hostTree(paths: readonly string[]): FileTree {
  const root = dir({});
  const put = (path: string, node: TreeNode) => {
    let at = root;
    for (const name of dirname(path).split("/").filter((one) => one !== "")) {
      const next = at.children.get(name) ?? dir({});
      at.children.set(name, next);
      at = next as typeof root;
    }
    at.children.set(path.slice(path.lastIndexOf("/") + 1), node);
  };
  for (const name of ["bin", "lib", "lib64", "sbin"]) {
    if (realpathSync(`/${name}`) === `/usr/${name}`) {
      root.children.set(name, symlink(`usr/${name}`));
    }
  }
  for (const path of paths) {
    const real = realpathSync(path);
    put(real, file(new Uint8Array(readFileSync(real))));
    // The last name may be a link, its directory too.
    const named = join(realpathSync(dirname(path)), path.slice(path.lastIndexOf("/") + 1));
    if (named !== real) put(named, symlink(real));
  }
  return treeOf(root);
}

Deno.test("the closure of a program of this machine is what ldd says", () => {
  const part = "the closure against ldd";
  if (!hasCommand("ldd")) return notRun(part, "ldd is not installed");
  for (const name of ["ls", "tar", "bash"]) {
    const found = runCommand("sh", ["-c", `command -v ${name}`]).stdout.trim();
    const listed = runCommand("ldd", [found]).stdout;
    const libraries = [...listed.matchAll(/(\/\S+)(?= \(0x)/g)].map((match) => match[1]!);
    if (!found.startsWith("/") || libraries.length === 0) {
      notRun(part, `ldd says nothing of ${name}`);
      continue;
    }
    const cache = runCommand("test", ["-r", "/etc/ld.so.cache"]).status === 0;
    const all = [found, ...libraries, ...cache ? ["/etc/ld.so.cache"] : []];
    const { paths, missing } = closureOf(hostTree(all), { Cmd: [found] });
    assertEquals(missing, []);
    assertEquals([...paths].sort(), [...new Set(all.map((path) => realpathSync(path)))].sort());
  }
});

/** Files of all sizes; every second one is hot in the tests below. */
function manyFiles(): Children {
  return Object.fromEntries(
    Array.from(
      { length: 60 },
      (_, i) => [`f${i}`, file({ sizeBytes: (i * 7919) % 200_000 + 1, noise: "all", seed: i })],
    ),
  );
}

async function withSource(
  test: (source: string, directory: string) => Promise<void>,
): Promise<void> {
  await withDirectory(async (directory) => {
    const entries = [...Object.keys(manyFiles())].map((path, i) => ({
      path,
      data: noise((i * 7919) % 200_000 + 1).map((byte) => byte ^ i),
    }));
    const config = { config: { Entrypoint: ["/f1"] } };
    writeOciLayout(join(directory, "layout"), { layers: [buildTar(entries)], config });
    await test(`oci:${join(directory, "layout")}`, directory);
  });
}

const LIST = parseHotList(new TextEncoder().encode("/f50\n/f3\n/f40\n/none\nf3\n"), "list");

Deno.test("a blessed image has its hot files first, and says where and which cells they are", async () => {
  await withSource(async (source, directory) => {
    for (const grid of [4096, 65536, 131072]) {
      const image = join(directory, "image");
      const report = await blessMerged({
        ...testOptions(),
        source,
        layout: { gridBytes: grid },
        hot: { kind: "list", name: "list", list: LIST },
        sink: createFileSink(image, { force: true }),
      });
      assertE2fsckClean(image);
      assertEquals(report.hot, {
        source: "list",
        format: "paths",
        files: 3,
        bytes: [50, 3, 40].reduce((sum, i) => sum + (i * 7919) % 200_000 + 1, 0),
        missing: 1,
      });
      assertEquals(report.warnings.map(({ kind, count }) => [kind, count]), [[
        "hotFileMissing",
        1,
      ]]);
      const { offset, length, digest, cells } = report.prefetch!;
      assertEquals(offset % grid, 0);
      const bytes = new Uint8Array(readFileSync(image));
      const expected = Array.from(
        { length: Math.ceil(length / grid) },
        (_, i) =>
          chunkId(
            bytes.subarray(offset + i * grid, Math.min(offset + (i + 1) * grid, offset + length)),
            digest,
          ),
      );
      assertEquals(cells, expected);
      // Each hot file lies inside, found by its first bytes.
      for (const i of [50, 3, 40]) {
        const wanted = noise(64).map((byte) => byte ^ i);
        const at = bytes.findIndex((_, k) =>
          k % 4096 === 0 && wanted.every((byte, j) => bytes[k + j] === byte)
        );
        assertEquals(at >= offset && at < offset + length, true, `f${i} at ${at}`);
      }
    }
  });
});

Deno.test("a disk's prefetch counts from its start", async () => {
  await withSource(async (source, directory) => {
    const image = join(directory, "disk");
    const { prefetch, disk } = await blessMerged({
      ...testOptions(),
      source,
      hot: { kind: "entrypoint" },
      envelope: { disk: {} },
      sink: createFileSink(image),
    });
    const { offset, length, digest, cells } = prefetch!;
    assertEquals(offset > disk!.partitions[0]!.startBytes, true);
    const bytes = new Uint8Array(readFileSync(image)).subarray(
      offset,
      offset + Math.min(length, 131072),
    );
    assertEquals(chunkId(bytes, digest), cells[0]);
  });
});

Deno.test("hot files are refused where none is there, and beside a previous image", async () => {
  await withSource(async (source, directory) => {
    const list = parseHotList(new TextEncoder().encode("/a\n/b\n"), "list");
    const bless = (more: Record<string, unknown>) =>
      blessMerged({
        ...testOptions(),
        source,
        hot: { kind: "list", name: "list", list },
        sink: createFileSink(join(directory, "image")),
        ...more,
      });
    await assertRejects(
      () => bless({}),
      InputError,
      "list: names 2 paths, and none leads to a file",
    );
    await assertRejects(() => bless({ like: "previous" }), UsageError, "hot: ");
  });
});

Deno.test("--hot and --prefetch", async () => {
  await withSource(async (source, directory) => {
    const at = (name: string) => join(directory, name);
    writeFileSync(at("list"), "/f50\n/f3\n");
    const run = async (...words: string[]) => await runFake(["bless", source, ...words], COMMANDS);
    const made = await run(
      "-o",
      at("image"),
      "--hot",
      at("list"),
      "--prefetch",
      at("cells.json"),
      "--json",
    );
    assertEquals(made.code, 0, made.stderr);
    const { prefetch, uuid, grid } = JSON.parse(made.stdout);
    assertEquals(JSON.parse(readFileSync(at("cells.json"), "utf8")), {
      version: 1,
      uuid,
      grid,
      ...prefetch,
    });
    const plain = await run("-o", at("plain"), "--hot", "entrypoint", "--quiet");
    assertEquals(plain.code, 0, plain.stderr);
    writeFileSync(at("binary"), new Uint8Array([1, 0, 2]));
    const wrong: readonly (readonly [string[], number, string])[] = [
      [["--hot", at("none")], 3, "does not exist"],
      [["--hot", at("binary")], 3, "is binary"],
      [["--prefetch", at("x.json")], 2, "--prefetch"],
      [["--hot", at("list"), "--prefetch", at("new")], 2, "is named for the image"],
      [["--hot", at("list"), "--like", at("plain")], 2, "--hot"],
    ];
    for (const [words, code, why] of wrong) {
      const refused = await run("-o", at("new"), ...words);
      assertEquals(refused.code, code, refused.stderr);
      assertStringIncludes(refused.stderr, why);
      assertThrows(() => readFileSync(at("new")));
    }
  });
});
