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
    assertStringIncludes(text, `2 entries, 2.5 KiB, ${report.additions.digest}`);
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
    const before = readdirSync(layers).filter((name) => name.endsWith(".ext4"));
    const report = JSON.parse(
      await run("bless", "layered", SOURCE, "-o", layers, ...add, "--json"),
    );
    assertEquals(report.reusedLayers, plain.layers.length);
    const digest = report.additions.digest.slice("sha256:".length);
    const after = readdirSync(layers).filter((name) => name.endsWith(".ext4"));
    assertEquals(after, [...before, `${digest}.ext4`].sort());
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
