import { assert, assertEquals, assertRejects } from "@std/assert";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { counted, diffSources, exportTar, noCounts } from "../../lib/bless/export.ts";
import { treeItems, writeTar } from "../../lib/tree/tar.ts";
import { blessMerged } from "../../lib/bless/merged.ts";
import { LAYERED_DEFAULTS, type LayoutOptions, MERGED_DEFAULTS } from "../../lib/bless/options.ts";
import { planImage } from "../../lib/bless/plan_image.ts";
import { InputError, InterruptedError } from "../../lib/errors.ts";
import { writeImage } from "../../lib/ext4/write/write_image.ts";
import { createFileSink } from "../../lib/io/file_sink.ts";
import { BLOCK_SIZE_BYTES } from "../../lib/model/node.ts";
import { NO_PROGRESS } from "../../lib/progress.ts";
import { aclFromText } from "../../lib/tar/acl.ts";
import { Warnings } from "../../lib/warnings.ts";
import { makeCase } from "../ext4/fuzz_case.ts";
import { makeImage } from "../ext4/made_image.ts";
import { hasCommand, mustRun } from "../oracle/command.ts";
import { describeDifference, firstDifference } from "../oracle/compare.ts";
import { kernelOrNotice, mountReadWrite } from "../oracle/kernel.ts";
import { viewImage } from "../oracle/kernel_tree.ts";
import { Random } from "../oracle/noise.ts";
import { notRun } from "../oracle/notice.ts";
import { dir, file, special, symlink, treeOf } from "../oracle/tree_builder.ts";
import { viewTree } from "../oracle/tree_view.ts";
import { writeOciLayout } from "../source/build_layout.ts";
import { testOptions, withDirectory } from "../source/helpers.ts";
import { buildTar } from "../tar/build.ts";
import { readTar } from "../tar/read.ts";
import { copyTree } from "../tree/changed_tree.ts";
import { tarOf } from "../tree/tar_round_trip.ts";
import { blessTo } from "./layered_helpers.ts";
import { viewDirectory } from "../oracle/directory_view.ts";
import { isRoot } from "../oracle/libc_user.ts";

const TIMESTAMP = 1_700_000_000;

async function bless(
  source: string,
  image: string,
  layout: LayoutOptions,
  timestamp = TIMESTAMP,
): Promise<void> {
  await blessMerged({
    ...testOptions(),
    source,
    layout,
    sink: createFileSink(image, { force: true }),
    timestamp,
  });
}

async function exported(source: string, tar: string, layer = false) {
  return await exportTar({
    ...testOptions(),
    source,
    layer,
    sink: createFileSink(tar, { force: true }),
    timestamp: TIMESTAMP,
  });
}

function assertSameBytes(a: string, b: string, message?: string): void {
  assertEquals(readFileSync(a).compare(readFileSync(b)), 0, message);
}

Deno.test("exportTar of a blessed image, blessed again, gives the same image", async () => {
  await withDirectory(async (directory) => {
    const [image, tar, again] = ["image", "tar", "again"].map((name) => join(directory, name)) as [
      string,
      string,
      string,
    ];
    let comparedCount = 0;
    for (let seed = 1; comparedCount < 4; seed++) {
      const { tree: original, options } = makeCase(seed);
      const tree = copyTree(original);
      const plan = planImage(tree, {
        layout: options,
        contentDigest: `sha256:${"5a".repeat(32)}`,
        timestamp: TIMESTAMP,
        warnings: new Warnings(true),
      });
      if (plan.totalBlocks * BLOCK_SIZE_BYTES > 24 << 20) continue;
      await writeImage(plan, createFileSink(image, { force: true }), { progress: NO_PROGRESS });
      const report = await exported(image, tar);
      assertEquals(report.warnings, []);
      await bless(`tar:${tar}`, again, options);
      assertSameBytes(again, image, `seed ${seed}`);
      // The image itself is a source as good.
      await bless(`ext4:${image}`, again, options);
      assertSameBytes(again, image, `seed ${seed}`);
      comparedCount++;
    }
  });
});

Deno.test("exportTar keeps the order of payload of several layers, and gives one tar for both ways", async () => {
  await withDirectory(async (directory) => {
    const at = (name: string) => join(directory, name);
    const data = (fill: number) => new Uint8Array(9000).fill(fill);
    writeOciLayout(at("oci"), {
      layers: [
        buildTar([{ path: "b", data: data(1) }, { path: "y", data: data(2) }]),
        buildTar([{ path: "a", data: data(3) }, { path: "b", data: data(4) }]),
        buildTar([{ path: "c", data: data(5) }, { path: "0", data: data(6) }]),
      ],
    });
    await bless(`oci:${at("oci")}`, at("image"), MERGED_DEFAULTS);
    await exported(at("image"), at("tar"));
    await exported(`oci:${at("oci")}`, at("flat"));
    assertSameBytes(at("tar"), at("flat"));
    await bless(at("tar"), at("again"), MERGED_DEFAULTS);
    assertSameBytes(at("again"), at("image"));
    // A UUID that was asked for stays asked for.
    const uuid = "00000000-0000-8000-8000-00000000000a";
    await bless(at("tar"), at("other"), { ...MERGED_DEFAULTS, uuid });
    assertEquals((await exported(at("other"), at("tar"))).uuid, uuid);
  });
});

Deno.test("exportTar with layer makes the layer of a layer image again", async () => {
  await withDirectory(async (directory) => {
    const at = (name: string) => join(directory, name);
    const lower = buildTar([
      { path: "gone", data: "x" },
      { path: "directory/" },
      { path: "directory/hidden", data: "y" },
      { path: "kept", data: "z" },
    ]);
    const upper = [
      { path: ".wh.gone" },
      { path: "directory/", mtime: 5 },
      { path: "directory/.wh..wh..opq" },
      { path: "directory/new", data: "n", xattrs: { "trusted.overlay.x": "1" } },
    ];
    writeOciLayout(at("oci"), { layers: [lower, buildTar(upper)] });
    const made = await blessTo(at("out"), `oci:${at("oci")}`);
    const top = `${at("out")}/${made.layers[1]!.file}`;
    const report = await exported(top, at("layer.tar"), true);
    assertEquals([report.whiteouts, report.files, report.directories], [2, 1, 2]);
    writeOciLayout(at("oci2"), { layers: [lower, new Uint8Array(readFileSync(at("layer.tar")))] });
    const again = await blessTo(at("out2"), `oci:${at("oci2")}`);
    assertSameBytes(`${at("out2")}/${again.layers[1]!.file}`, top);
    // Without it, overlayfs's own marks are in the tar, and make the same image of one tree.
    await exported(top, at("plain.tar"));
    await bless(`tar:${at("plain.tar")}`, at("plain"), LAYERED_DEFAULTS, 0);
    assertSameBytes(at("plain"), top);
  });
});

Deno.test("exportTar writes what GNU tar and bsdtar unpack to the same tree", async () => {
  if (!kernelOrNotice("unpacking exported tars into a file system")) return;
  await withDirectory(async (directory) => {
    const at = (name: string) => join(directory, name);
    const linked = file("linked", { mtime: [1_600_000_001, 123_456_789], uid: 70_000 });
    const acl = aclFromText("user::rwx,user:1000:r-x,group::r-x,group:99:rw-,mask::rwx,other::r--");
    assert(acl.kind === "acl");
    const capability = Uint8Array.of(1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
    const tree = treeOf({
      acl: file("a", { mode: 0o774, xattrs: { "system.posix_acl_access": acl.value } }),
      capable: file("c", { mode: 0o4755, xattrs: { "security.capability": capability } }),
      "\xff\xfe not UTF-8": file("n", { xattrs: { "user.\xe9%": "\0\n=" } }),
      directory: dir({ linked, ["long ".repeat(40)]: symlink("t".repeat(300)) }, {
        mode: 0o2775,
        xattrs: { "system.posix_acl_default": acl.value, "trusted.t": "x" },
      }),
      sparse: file({ sizeBytes: 3 << 20, parts: [[1 << 20, new Random(1).bytes(5000)]] }),
      hole: file({ sizeBytes: 9_000_000, parts: [] }),
      link: linked,
      tty: special("characterDevice", [4, 300], { gid: 5 }),
      disk: special("blockDevice", [259, 70_000]),
      fifo: special("fifo"),
      old: file("o", { mtime: [-5, 250_000_000] }),
    });
    await makeImage(at("image"), tree);
    await exported(at("image"), at("tar"));
    const size = { kind: "free", freeBytes: 64 << 20 } as const;
    const tools: [program: string, ...args: string[]][] = [
      ["tar", "--xattrs", "--xattrs-include=*", "--acls", "--numeric-owner", "-xpf"],
      ["bsdtar", "--xattrs", "--acls", "--numeric-owner", "-xpf"],
    ];
    for (const [program, ...args] of tools) {
      if (!hasCommand(program)) {
        notRun(`unpacking with ${program}`, "it is not installed");
        continue;
      }
      await makeImage(at("target"), treeOf({}), { size, inodeCount: 4000 });
      mountReadWrite(at("target"), (mountPoint) => {
        mustRun("env", ["LC_ALL=C.UTF-8", program, ...args, at("tar"), "-C", mountPoint]);
        const difference = firstDifference(viewImage(mountPoint, false), viewTree(tree), {
          // bsdtar leaves the time of the root alone, and takes -4.75 for -4 + 0.75.
          ignore: (path, field) =>
            program === "bsdtar" && field === "mtime" && (path === "" || path === "/old"),
        });
        assertEquals(
          difference && describeDifference(difference).slice(0, 500),
          undefined,
          program,
        );
      });
    }
  });
});

Deno.test("exportTar leaves nothing behind when it fails", async () => {
  await withDirectory(async (directory) => {
    const tar = join(directory, "tar");
    await assertRejects(() => exported(`tar:${join(directory, "none")}`, tar), InputError);
    assertEquals(readdirSync(directory), []);
  });
});

Deno.test("counted counts entries by what they are", () => {
  const counts = noCounts();
  const item = (path: string) => ({
    entry: {
      kind: "file" as const,
      path,
      linkTarget: "",
      mode: 0,
      uid: 0,
      gid: 0,
      mtimeSeconds: 0,
      mtimeNanoseconds: 0,
      deviceMajor: 0,
      deviceMinor: 0,
      xattrs: [],
      payload: undefined,
    },
    payload: undefined,
  });
  assertEquals([...counted([item("a/.wh.b"), item("c")], counts, true)].length, 2);
  assertEquals([counts.whiteouts, counts.files], [1, 1]);
  assert([...counted([item("a/.wh.b")], counts, false)].length === 1);
  assertEquals([counts.whiteouts, counts.files], [1, 2]);
});

const ignoring = { write: () => {}, finish: () => {}, abort: () => {} };

Deno.test("writeTar gives the same tar for zeros and for holes", async () => {
  const bytes = new Uint8Array(40_000);
  bytes.set([1], 20_000);
  const holes = file({ sizeBytes: 40_000, parts: [[20_000, Uint8Array.of(1)]] });
  const [dense, sparse] = [treeOf({ a: file(bytes) }), treeOf({ a: holes })];
  const tars = [dense, sparse].map((tree) => tarOf(treeItems(tree, new Warnings())));
  const [first, second] = await Promise.all(tars) as [Uint8Array, Uint8Array];
  assertEquals(first, second);
  assert(first.length < 20_000);
});

Deno.test("writeTar writes zeros for small holes where it is told to, and ends in two blocks of them", async () => {
  const tree = treeOf({ a: file({ sizeBytes: 40_000, parts: [[20_000, Uint8Array.of(1)]] }) });
  const sizes: number[] = [];
  for (const denseHoleBytesMax of [0, 36_000, 40_000]) {
    const pieces: Uint8Array[] = [];
    const sink = { ...ignoring, write: (bytes: Uint8Array) => void pieces.push(bytes.slice()) };
    const items = treeItems(tree, new Warnings());
    const size = await writeTar(items, sink, { denseHoleBytesMax, progress: NO_PROGRESS });
    const tar = new Uint8Array(await new Blob(pieces as BlobPart[]).arrayBuffer());
    assertEquals(tar.length, size);
    assert(tar.subarray(-1024).every((byte) => byte === 0));
    assertEquals(readTar(tar).entries.at(-1)?.payload?.sizeBytes, 40_000);
    sizes.push(size);
  }
  assertEquals(sizes[1], sizes[2]);
  assert(sizes[0]! < sizes[1]!);
});

Deno.test("writeTar stops for a signal", async () => {
  const tree = treeOf({ a: file({ sizeBytes: 20 << 20, noise: "all", seed: 1 }) });
  await assertRejects(
    () =>
      writeTar(treeItems(tree, new Warnings()), ignoring, {
        denseHoleBytesMax: 0,
        signal: AbortSignal.abort(),
        progress: NO_PROGRESS,
      }),
    InterruptedError,
  );
});

Deno.test("diffSources compares a source with an image, and the layer turns one into the other", async () => {
  await withDirectory(async (directory) => {
    const at = (name: string) => join(directory, name);
    const lower = buildTar([
      { path: "./", mtime: 9 },
      { path: "a", data: "a", mtime: 5 },
      { path: "b", data: "b", mtime: 5 },
    ]);
    writeOciLayout(at("oci"), { layers: [lower] });
    const after = treeOf(
      dir({ b: file("b", { mtime: 5 }), sparse: file({ sizeBytes: 1 << 20, parts: [] }) }, {
        mtime: 9,
      }),
    );
    await makeImage(at("image"), after);
    const compared = await diffSources({
      ...testOptions(),
      before: `oci:${at("oci")}`,
      after: at("image"),
      sink: createFileSink(at("layer")),
    });
    assertEquals([compared.added, compared.removed, compared.changed], [1, 1, 0]);
    assertEquals([compared.isEqual, compared.entries.whiteouts], [false, 1]);
    const layer = new Uint8Array(readFileSync(at("layer")));
    assertEquals(compared.sizeBytes, layer.length);
    // No sparse files in layers, for the sake of other tools.
    assertEquals(layer.length > 1 << 20, true);
    writeOciLayout(at("oci2"), { layers: [lower, layer] });
    const { progress, warnings } = testOptions();
    await blessMerged({
      progress,
      warnings,
      source: `oci:${at("oci2")}`,
      layout: MERGED_DEFAULTS,
      sink: createFileSink(at("image2")),
    });
    const again = await diffSources({
      ...testOptions(),
      before: at("image2"),
      after: at("image"),
    });
    assertEquals([again.isEqual, again.sizeBytes], [true, null]);
  });
});

Deno.test("diffSources leaves nothing behind when a source is bad", async () => {
  await withDirectory(async (directory) => {
    await makeImage(join(directory, "image"), treeOf({}));
    await assertRejects(
      () =>
        diffSources({
          ...testOptions(),
          before: join(directory, "image"),
          after: join(directory, "none"),
          sink: createFileSink(join(directory, "layer")),
        }),
      InputError,
    );
    assertEquals(readdirSync(directory), ["image"]);
  });
});

Deno.test("diffSources writes a layer that umoci unpacks to the second tree", async () => {
  const what = "a layer of a difference against umoci";
  if (!hasCommand("umoci")) return notRun(what, "umoci is not installed");
  if (!isRoot()) return notRun(what, "unpacking owners needs root");
  await withDirectory(async (directory) => {
    const at = (name: string) => join(directory, name);
    const [linked, joined] = [file("linked"), file("joined")];
    const before = treeOf({
      gone: dir({ a: file("a") }),
      full: dir({ a: file("a"), b: file("b"), c: dir({ d: file("d") }) }),
      becomesFile: dir({ a: file("a") }),
      becomesDirectory: file("x"),
      mode: file("mode"),
      xattr: file("xattr", { xattrs: { "user.gone": "1" } }),
      first: linked,
      second: linked,
      apart: file("joined"),
      same: file("same"),
    });
    const after = treeOf({
      full: dir({ n: file("n") }),
      becomesFile: file("y"),
      becomesDirectory: dir({ b: symlink("../same") }),
      mode: file("mode", { mode: 0o4711, uid: 3 }),
      xattr: file("xattr"),
      first: file("linked"),
      second: file("linked"),
      apart: joined,
      joined,
      same: file("same"),
      device: special("characterDevice", [1, 3]),
    });
    await makeImage(at("a"), before);
    await makeImage(at("b"), after);
    await exportTar({ ...testOptions(), source: at("a"), sink: createFileSink(at("lower")) });
    const sink = createFileSink(at("upper"));
    await diffSources({ ...testOptions(), before: at("a"), after: at("b"), sink });
    const layers = ["lower", "upper"].map((name) => new Uint8Array(readFileSync(at(name))));
    writeOciLayout(at("oci"), { layers });
    mustRun("umoci", ["unpack", "--image", `${at("oci")}:latest`, at("bundle")]);
    const found = viewDirectory(`${at("bundle")}/rootfs`, { directoryLinks: "counted" });
    const difference = firstDifference(found, viewTree(after));
    assertEquals(difference && describeDifference(difference), undefined);
  });
});
