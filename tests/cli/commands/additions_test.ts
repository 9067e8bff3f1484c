/** Additions on the command line: in every mode, in the report, and against umoci. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { Buffer } from "node:buffer";
import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { COMMANDS } from "../../../cli/commands.ts";
import { parseAdd } from "../../../cli/commands/additions.ts";
import { hasCommand } from "../../oracle/command.ts";
import { assertE2fsckClean } from "../../oracle/e2fsck.ts";
import { notRun } from "../../oracle/notice.ts";
import { hasGnuTar } from "../../source/helpers.ts";
import { buildTar } from "../../tar/build.ts";
import { runFake } from "../fake_io.ts";
import { inDirectory } from "../program.ts";

const LAYOUT = fileURLToPath(new URL("../../../fixtures/oci-tiny", import.meta.url));
const SOURCE = `oci:${LAYOUT}`;
const UUID = "11111111-1111-4111-8111-111111111111";

async function run(...words: string[]): Promise<string> {
  const { code, stdout, stderr } = await runFake(words, COMMANDS);
  assertEquals(code, 0, stderr);
  return stdout;
}

async function fails(...words: string[]): Promise<string> {
  const { code, stderr } = await runFake(words, COMMANDS);
  assertEquals(code, 2, stderr);
  return stderr;
}

/** The shorter image ends in zeros. */
function differentCells(a: Buffer, b: Buffer, cellBytes: number): number {
  let count = 0;
  for (let at = 0; at < Math.max(a.length, b.length); at += cellBytes) {
    const [one, other] = [a, b].map((image) => {
      const cell = Buffer.alloc(cellBytes);
      image.copy(cell, 0, at, at + cellBytes);
      return cell;
    });
    if (Buffer.compare(one!, other!) !== 0) count++;
  }
  return count;
}

/** A tar to add, which needs no GNU tar. */
function writeAddition(directory: string): string {
  const path = join(directory, "add.tar");
  writeFileSync(
    path,
    buildTar([{ path: "opt/added/", mode: 0o755 }, { path: "opt/added/x", data: "x" }]),
  );
  return path;
}

Deno.test("parseAdd takes apart what an addition is", () => {
  assertEquals(parseAdd("init:/sbin/init"), { kind: "path", host: "init", guest: "/sbin/init" });
  assertEquals(parseAdd("a:/b:/c:/d"), { kind: "path", host: "a:/b:/c", guest: "/d" });
  assertEquals(parseAdd("a:b:mode=4755,uid=1,gid=2"), {
    kind: "path",
    host: "a",
    guest: "b",
    mode: 0o4755,
    uid: 1,
    gid: 2,
  });
});

Deno.test("bad additions are wrong command lines", async () => {
  const bless = (...words: string[]) => fails("bless", SOURCE, "-o", "none-such/x", ...words);
  for (
    const [word, wanted] of [
      ["init", "wanted HOST:GUEST"],
      [":/x", "wanted HOST:GUEST"],
      ["init:", "wanted HOST:GUEST"],
      ["init:/x:mode=9", "wanted octal digits"],
      ["init:/x:mode=77777", "wanted octal digits"],
      ["init:/x:uid=-1", "wanted a whole number"],
      ["init:/x:uid=4294967295", "wanted a whole number"],
      ["init:/x:uid=1,owner=2", "wanted mode=MODE, uid=UID or gid=GID"],
      ["init:/x:uid=1,uid=2", "more than once"],
    ] as const
  ) assertStringIncludes(await bless("--add", word), wanted);
  const two = ["--add=-:/a", "--add=-:/b"];
  assertStringIncludes(await bless(...two), "only one thing can be read from standard input");
  assertStringIncludes(
    await fails("bless", "-", "-o", "x", "--add-tar", "-"),
    "only one thing can be read from standard input",
  );
  const probe = ["probe", "--as-is", "x", "--add", "a:/b"];
  assertStringIncludes(await fails(...probe), "--add: has no effect");
});

Deno.test("an addition is a layer of its own in every mode, and decides the UUID", async () => {
  await inDirectory(async (directory) => {
    const add = ["--add-tar", writeAddition(directory)];
    const at = (name: string) => join(directory, name);
    const plain = JSON.parse(await run("bless", SOURCE, "-o", at("plain.ext4"), "--json"));
    const report = JSON.parse(await run("bless", SOURCE, "-o", at("x.ext4"), ...add, "--json"));
    assertEquals(plain.additions, undefined);
    assertEquals(report.layers.length, plain.layers.length + 1);
    assertMatch(report.additions.digest, /^sha256:[0-9a-f]{64}$/);
    assertEquals(report.additions.digest, report.layers.at(-1).digest);
    assertEquals(report.additions.added, [{ what: at("add.tar"), entries: 2, sizeBytes: 1 }]);
    assert(report.uuid !== plain.uuid);
    assertE2fsckClean(at("x.ext4"));
    assertEquals(await run("cat", at("x.ext4"), "/opt/added/x"), "x");

    const text = await run("bless", SOURCE, "-o", at("again.ext4"), ...add);
    const { digest, differingCells } = report.additions;
    assertStringIncludes(text, `2 entries, 2.5 KiB, ${differingCells} cells differ, ${digest}`);
    const [changed, plainBytes] = [at("x.ext4"), at("plain.ext4")].map((path) =>
      readFileSync(path)
    );
    assertEquals(differingCells, differentCells(changed!, plainBytes!, report.grid));
    assertEquals(
      Buffer.compare(readFileSync(at("again.ext4")), readFileSync(at("x.ext4"))),
      0,
    );

    await run("export", SOURCE, "-o", at("x.tar"), ...add);
    await run("bless", `tar:${at("x.tar")}`, "-o", at("from-tar.ext4"));
    assertEquals(
      Buffer.compare(readFileSync(at("from-tar.ext4")), readFileSync(at("x.ext4"))),
      0,
    );

    const difference = JSON.parse(
      await run("diff", SOURCE, SOURCE, "-o", at("d.tar"), ...add, "--json"),
    );
    assertEquals([difference.added, difference.removed, difference.changed], [2, 0, 0]);
    const none = JSON.parse(await run("diff", at("x.ext4"), SOURCE, ...add, "--json"));
    assertEquals(none.isEqual, true);

    const probed = JSON.parse(await run("probe", at("x.ext4"), SOURCE, ...add, "--json"));
    assertEquals(probed.images.length, 2);
  });
});

Deno.test("layered mode gives additions an image of their own, and leaves the others alone", async () => {
  await inDirectory(async (directory) => {
    const add = ["--add-tar", writeAddition(directory)];
    const layers = join(directory, "layers");
    const plain = JSON.parse(await run("bless", "layered", SOURCE, "-o", layers, "--json"));
    const images = () => readdirSync(layers).filter((name) => name.endsWith(".ext4")).sort();
    const before = images();
    const report = JSON.parse(
      await run("bless", "layered", SOURCE, "-o", layers, ...add, "--json"),
    );
    assertEquals(report.reusedLayers, plain.layers.length);
    const digest = report.additions.digest.slice("sha256:".length);

    assertEquals(images(), [...before, `${digest}.ext4`].sort());
    assertE2fsckClean(join(layers, `${digest}.ext4`));
    const { layers: described, contentDigest } = JSON.parse(
      readFileSync(join(layers, "image.json"), "utf8"),
    );
    assertEquals(described.at(-1).file, `${digest}.ext4`);
    assert(contentDigest !== plain.manifestDigest);
    const again = JSON.parse(await run("bless", "layered", SOURCE, "-o", layers, ...add, "--json"));
    assertEquals(again.reusedLayers, report.layers.length);
  });
});

Deno.test("an output inside of a tree that is added is refused", async () => {
  await inDirectory(async (directory) => {
    const tree = join(directory, "tree");
    mkdirSync(tree);
    const add = ["--add", `${tree}:/x`];
    for (
      const words of [
        ["bless", SOURCE, "-o", join(tree, "x.ext4")],
        ["bless", "layered", SOURCE, "-o", join(tree, "layers")],
        ["export", SOURCE, "-o", join(tree, "x.tar")],
        ["diff", SOURCE, SOURCE, "-o", join(tree, "x.tar")],
      ]
    ) assertStringIncludes(await fails(...words, ...add), "lies inside its source");
    assertEquals(readdirSync(tree), []);
  });
});

Deno.test("additions give what umoci insert gives, byte for byte", async () => {
  const what = "comparing additions with umoci insert";
  if (!hasCommand("umoci")) return notRun(what, "umoci is not installed");
  if (!hasGnuTar(what)) return;
  if (process.getuid?.() !== 0) return notRun(what, "umoci keeps the owner of files: needs root");
  await inDirectory(async (directory) => {
    const at = (name: string) => join(directory, name);
    mkdirSync(at("tree/bin"), { recursive: true });
    writeFileSync(at("tree/bin/agent"), "agent".repeat(40_000), { mode: 0o755 });
    writeFileSync(at("tree/conf"), "conf", { mode: 0o600 });
    execFileSync("ln", ["-s", "bin/agent", at("tree/link")]);
    execFileSync("ln", [at("tree/conf"), at("tree/same")]);
    execFileSync("find", [at("tree"), "-exec", "touch", "-h", "-d", "@0", "{}", "+"]);
    cpSync(LAYOUT, at("oci"), { recursive: true });
    execFileSync("umoci", ["insert", "--image", `${at("oci")}:latest`, at("tree"), "/opt/agent"]);
    const uuid = ["--uuid", UUID];
    await run("bless", `oci:${at("oci")}:latest`, "-o", at("umoci.ext4"), ...uuid);
    await run("bless", SOURCE, "-o", at("ours.ext4"), "--add", `${at("tree")}:/opt/agent`, ...uuid);
    const [umoci, ours] = [readFileSync(at("umoci.ext4")), readFileSync(at("ours.ext4"))];
    assertEquals(Buffer.compare(umoci, ours), 0);
  });
});

Deno.test("patterns leave out what is below them and before them, in every mode", async () => {
  await inDirectory(async (directory) => {
    const at = (name: string) => join(directory, name);
    writeFileSync(
      at("add.tar"),
      buildTar([{ path: "opt/a.log", data: "a" }, { path: "opt/b", data: "b" }]),
    );
    writeFileSync(at("late.tar"), buildTar([{ path: "opt/late.log", data: "l" }]));
    const words = [
      ...[
        "--add-tar",
        at("add.tar"),
        "--exclude",
        "usr/share",
        "--exclude",
        "!usr/share/lines.txt",
      ],
      ...["--exclude", "**/*.log", "--add-tar", at("late.tar"), "--exclude", "no/such/*"],
    ];
    const { code, stdout, stderr } = await runFake(
      ["bless", SOURCE, "-o", at("x.ext4"), ...words, "--json"],
      COMMANDS,
    );
    assertEquals(code, 0, stderr);
    const report = JSON.parse(stdout);
    assertEquals(report.warnings.map(({ kind }: { kind: string }) => kind), ["unmatchedPattern"]);
    assertE2fsckClean(at("x.ext4"));
    const names = (await run("ls", "-R", at("x.ext4"))).split("\n").map((name) =>
      name.replace(/^\//, "")
    );
    for (const name of ["usr/share", "usr/share/lines.txt", "opt/b", "opt/late.log"]) {
      assert(names.includes(name), `${name} in ${names.join(" ")}`);
    }
    assertEquals(names.filter((name) => name.startsWith("usr/share/")), ["usr/share/lines.txt"]);
    assert(!names.includes("opt/a.log"));

    const layered = JSON.parse(
      await run("bless", "layered", SOURCE, "-o", at("layers"), ...words, "--json"),
    );
    assertEquals(layered.additions.digest, report.additions.digest);
    assertEquals(
      layered.additions.differingCells,
      layered.layers.at(-1).image.cellBytes / layered.grid,
    );
    const hex = report.additions.digest.slice("sha256:".length);
    await run("export", at(`layers/${hex}.ext4`), "--layer", "-o", at("layer.tar"));
    await run("bless", SOURCE, "-o", at("again.ext4"), "--add-tar", at("layer.tar"));
    const equal = JSON.parse(await run("diff", at("x.ext4"), at("again.ext4"), "--json"));
    assertEquals(equal.isEqual, true);

    const none = await runFake(["bless", SOURCE, "-o", at("y.ext4"), "--exclude", "[a"], COMMANDS);
    assertStringIncludes(none.stderr, "is not a pattern");
    assertEquals(none.code, 2);
    const strict = ["bless", SOURCE, "-o", at("y.ext4"), "--exclude", "no/such", "--strict"];
    assertEquals((await runFake(strict, COMMANDS)).code, 3);
  });
});

Deno.test("a pattern gives what umoci's whiteout gives, byte for byte", async () => {
  const what = "comparing patterns with umoci insert --whiteout";
  if (!hasCommand("umoci")) return notRun(what, "umoci is not installed");
  await inDirectory(async (directory) => {
    const at = (name: string) => join(directory, name);
    cpSync(LAYOUT, at("oci"), { recursive: true });
    execFileSync("umoci", ["insert", "--image", `${at("oci")}:latest`, "--whiteout", "/usr/share"]);
    const uuid = ["--uuid", UUID];
    await run("bless", `oci:${at("oci")}:latest`, "-o", at("umoci.ext4"), ...uuid);
    await run("bless", SOURCE, "-o", at("ours.ext4"), "--exclude", "usr/share", ...uuid);
    const [umoci, ours] = [readFileSync(at("umoci.ext4")), readFileSync(at("ours.ext4"))];
    assertEquals(Buffer.compare(umoci, ours), 0);
  });
});

Deno.test("maps shift every owner in every mode, and decide the UUID", async () => {
  await inDirectory(async (directory) => {
    const at = (name: string) => join(directory, name);
    // The other ranges are for one file of the fixture.
    const ranges = (to: number) => [`0:${to}:65536`, "100000:500000:1", "4000000000:4000000000:1"];
    const maps = [
      ...ranges(100_000).flatMap((range) => ["--uid-map", range]),
      ...ranges(200_000).flatMap((range) => ["--gid-map", range]),
    ];
    const add = ["--add-tar", writeAddition(directory)];
    const plain = JSON.parse(await run("bless", SOURCE, "-o", at("plain.ext4"), ...add, "--json"));
    const report = JSON.parse(
      await run("bless", SOURCE, "-o", at("x.ext4"), ...add, ...maps, "--json"),
    );
    assertEquals([report.uidMap, report.gidMap], [ranges(100_000), ranges(200_000)]);
    assert(report.uuid !== plain.uuid);
    assertE2fsckClean(at("x.ext4"));
    const owners = async (image: string) =>
      JSON.parse(await run("ls", "-R", at(image), "--json")).entries.map(
        ({ path, uid, gid }: { path: string; uid: number; gid: number }) => [path, uid, gid],
      );
    const shift = (id: number, by: number) => {
      if (id < 65_536) return id + by;
      return id === 100_000 ? 500_000 : id;
    };
    const shifted = (await owners("plain.ext4")).map(
      (
        [path, uid, gid]: [string, number, number],
      ) => [path, shift(uid, 100_000), shift(gid, 200_000)],
    );
    assertEquals(await owners("x.ext4"), shifted);

    // Images of layers that were made without the map are left alone.
    await run("bless", "layered", SOURCE, "-o", at("layers"));
    const layered = async () =>
      JSON.parse(await run("bless", "layered", SOURCE, "-o", at("layers"), ...maps, "--json"));
    const first = await layered();
    assertEquals(first.reusedLayers, 0);
    assertEquals((await layered()).reusedLayers, first.layers.length);
    for (const { file } of first.layers) assertE2fsckClean(at(`layers/${file}`));

    for (
      const [words, wanted] of [
        [["--uid-map", "0:1"], "wanted FROM:TO:COUNT"],
        [["--uid-map", "0:1:x"], "wanted a whole number"],
        [["--gid-map", "0:0:9", "--gid-map", "8:99:1"], "--gid-map: the ranges 0:0:9 and 8:99:1"],
      ] as const
    ) assertStringIncludes(await fails("bless", SOURCE, "-o", at("y.ext4"), ...words), wanted);
    const unmapped = await runFake(
      ["bless", SOURCE, "-o", at("y.ext4"), "--uid-map", "0:9:1"],
      COMMANDS,
    );
    assertEquals(unmapped.code, 3);
    assertStringIncludes(unmapped.stderr, "is in no range of the map");
    assertStringIncludes(unmapped.stderr, "--uid-map");
  });
});

Deno.test("an image that fits only without what patterns leave out is made", async () => {
  await inDirectory(async (directory) => {
    const at = (name: string) => join(directory, name);
    const files = ["big", "small"].map((name) => ({
      path: name,
      data: new Uint8Array(name === "big" ? 3 << 20 : 1000).fill(7),
    }));
    writeFileSync(at("root.tar"), buildTar(files));
    const words = ["bless", `tar:${at("root.tar")}`, "-o", at("x.ext4"), "--size", "1M"];
    const bless = [...words, "--journal", "none", "--exclude", "big"];
    const report = JSON.parse(await run(...bless, "--json"));
    assertEquals(report.additions.differingCells, null);
    const text = await run(...bless, "--force");
    assert(!text.includes("cells differ"), text);
    assertE2fsckClean(at("x.ext4"));
  });
});
