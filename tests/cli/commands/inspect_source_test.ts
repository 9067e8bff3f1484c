/** `blessfs inspect SOURCE` and `bless --config`: the config is kept, and nothing else is read for it. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { spawnSync } from "node:child_process";
import { Buffer } from "node:buffer";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { COMMANDS } from "../../../cli/commands.ts";
import { hasCommand } from "../../oracle/command.ts";
import { notRun } from "../../oracle/notice.ts";
import { writeOciLayout } from "../../source/build_layout.ts";
import { buildTar } from "../../tar/build.ts";
import { runFake } from "../fake_io.ts";
import { inDirectory } from "../program.ts";

const CONTAINER = {
  Entrypoint: ["/bin/app", "--serve"],
  Cmd: null,
  Env: ["PATH=/bin", "NAME=ünï"],
  WorkingDir: "/srv",
  User: "1000:1000",
  ExposedPorts: { "80/tcp": {} },
  Volumes: { "/data": {} },
  StopSignal: "SIGINT",
  Labels: { "org.example": "yes" },
};

function layout(directory: string) {
  return writeOciLayout(`${directory}/oci`, {
    layers: [buildTar([{ path: "a", data: "a" }]), buildTar([{ path: "b", data: "b" }])],
    platform: { os: "linux", architecture: "arm64", variant: "v8" },
    config: { config: { ...CONTAINER, Healthcheck: { Test: ["NONE"] } } },
  });
}

const ARM = ["--platform", "linux/arm64"];

async function run(...words: string[]): Promise<string> {
  const { code, stdout, stderr } = await runFake(words, COMMANDS);
  assertEquals(code, 0, stderr);
  return stdout;
}

async function fails(code: number, ...words: string[]): Promise<string> {
  const outcome = await runFake(words, COMMANDS);
  assertEquals(outcome.code, code, outcome.stderr);
  return outcome.stderr;
}

Deno.test("inspect shows manifest, config and layers of a source whose layers are not there", async () => {
  await inDirectory(async (directory) => {
    const { manifest, configDigest, layerDigests, diffIds } = layout(directory);
    for (const digest of layerDigests) {
      const path = join(directory, "oci/blobs", digest.replace(":", "/"));
      // As long as it was, and nothing of it is right.
      writeFileSync(path, new Uint8Array(readFileSync(path).length));
    }
    const source = `oci:${directory}/oci`;
    const found = JSON.parse(await run("inspect", source, ...ARM, "--json"));
    assertEquals(found.manifestDigest, manifest.digest);
    assertEquals(found.configDigest, configDigest);
    assertEquals([found.os, found.architecture, found.variant], ["linux", "arm64", "v8"]);
    assertEquals(found.config.config.Entrypoint, CONTAINER.Entrypoint);
    assertEquals(found.manifest.config.digest, configDigest);
    assertEquals(
      found.layers.map(({ digest, diffId }: Record<string, string>) => [digest, diffId]),
      layerDigests.map((digest, i) => [digest, diffIds[i]]),
    );
    const sizes = found.manifest.layers.map(({ size }: { size: number }) => size);
    assertEquals(found.sizeBytes, sizes[0] + sizes[1]);

    const text = await run("inspect", source, ...ARM);
    assertStringIncludes(text, `manifest       ${manifest.digest}\n`);
    assertStringIncludes(text, 'entrypoint     ["/bin/app","--serve"]\n');
    assertStringIncludes(text, "platform       linux/arm64/v8\n");
  });
});

Deno.test("inspect shows of an image what skopeo shows", async () => {
  if (!hasCommand("skopeo")) {
    return notRun("comparing inspect with skopeo", "skopeo is not installed");
  }
  await inDirectory(async (directory) => {
    layout(directory);
    const source = `oci:${directory}/oci`;
    const skopeo = (...words: string[]) => {
      const args = ["--override-os=linux", "--override-arch=arm64", "inspect", ...words, source];
      const { status, stdout, stderr } = spawnSync("skopeo", args, { encoding: "utf8" });
      assertEquals(status, 0, stderr);
      return JSON.parse(stdout);
    };
    const found = JSON.parse(await run("inspect", source, ...ARM, "--json"));
    assertEquals(found.config, skopeo("--config", "--raw"));
    assertEquals(found.manifest, skopeo("--raw"));
    const summary = skopeo();
    assertEquals(found.manifestDigest, summary.Digest);
    assertEquals([found.os, found.architecture], [summary.Os, summary.Architecture]);
    assertEquals(found.layers.map(({ digest }: { digest: string }) => digest), summary.Layers);
    assertEquals(found.config.config.Env, summary.Env);
  });
});

Deno.test("inspect tells ext4 images from other sources, and options of one from the other", async () => {
  await inDirectory(async (directory) => {
    const at = (name: string) => join(directory, name);
    layout(directory);
    writeFileSync(at("root.tar"), buildTar([{ path: "a", data: "a" }]));
    await run("bless", `tar:${at("root.tar")}`, "-o", at("x.ext4"));
    const kind = async (operand: string) => JSON.parse(await run("inspect", operand, "--json"));
    assertEquals((await kind(at("root.tar"))).kind, "tar");
    assertEquals((await kind(`tar:${at("root.tar")}`)).layers[0].sizeBytes, 2048);
    assertEquals((await kind(`rootfs:${directory}`)).sizeBytes, null);
    for (const operand of [at("x.ext4"), `ext4:${at("x.ext4")}`]) {
      assert("superblock" in await kind(operand));
    }
    const oci = `oci:${at("oci")}`;
    assertStringIncludes(await fails(2, "inspect", oci, "/x", ...ARM), "PATH");
    assertStringIncludes(
      await fails(2, "inspect", oci, "--max-extents", "1", ...ARM),
      "--max-extents",
    );
    assertStringIncludes(await fails(2, "inspect", oci, "--no-replay", ...ARM), "--no-replay");
    assertStringIncludes(await fails(2, "inspect", at("x.ext4"), ...ARM), "--platform");
    assertStringIncludes(await fails(2, "inspect", oci, "--authfile", "x"), "--authfile");
    assertStringIncludes(await fails(3, "inspect", at("nothing")), "does not exist");
    writeFileSync(at("text"), "text");
    assertStringIncludes(await fails(3, "inspect", at("text")), "wanted an ext4 image");
  });
});

Deno.test("reports of bless have the config, with null for what it does not say", async () => {
  await inDirectory(async (directory) => {
    layout(directory);
    const at = (name: string) => join(directory, name);
    const source = `oci:${at("oci")}`;
    for (const words of [["-o", at("x.ext4")], ["-o", at("layers")]]) {
      const mode = words[1] === at("layers") ? ["bless", "layered"] : ["bless"];
      const report = JSON.parse(await run(...mode, source, ...words, ...ARM, "--json"));
      assertEquals(report.config, CONTAINER);
      assertEquals([report.os, report.architecture, report.variant], ["linux", "arm64", "v8"]);
    }
    writeFileSync(at("root.tar"), buildTar([{ path: "a", data: "a" }]));
    const tree = JSON.parse(await run("bless", at("root.tar"), "-o", at("y.ext4"), "--json"));
    assertEquals([tree.config, tree.os, tree.architecture, tree.variant], [null, null, null, null]);
  });
});

Deno.test("--config writes the config byte for byte, whole or not at all", async () => {
  await inDirectory(async (directory) => {
    const { configDigest, layerDigests } = layout(directory);
    const at = (name: string) => join(directory, name);
    const source = `oci:${at("oci")}`;
    const config = readFileSync(at(`oci/blobs/${configDigest.replace(":", "/")}`));
    const isSame = (name: string) => Buffer.compare(readFileSync(at(name)), config) === 0;
    await run("bless", source, ...ARM, "-o", at("x.ext4"), "--config", at("x.json"));
    await run("bless", "layered", source, ...ARM, "-o", at("layers"), "--config", at("l.json"));
    assert(isSame("x.json") && isSame("l.json"));
    const streamed = await runFake(
      ["bless", source, ...ARM, "-o", at("y.ext4"), "--config", "-"],
      COMMANDS,
    );
    assertEquals([streamed.code, streamed.stdout], [0, config.toString()]);
    assertStringIncludes(streamed.stderr, "y.ext4");

    const again = ["bless", source, ...ARM, "-o", at("z.ext4"), "--config"];
    assertStringIncludes(await fails(4, ...again, at("x.json")), "already exists");
    assertStringIncludes(await fails(2, ...again, at("z.ext4")), "name two files");
    const both = ["bless", source, ...ARM, "-o", "-", "--config", "-"];
    assertStringIncludes(await fails(2, ...both), "the image takes standard output");
    writeFileSync(at("root.tar"), buildTar([{ path: "a", data: "a" }]));
    const tree = ["bless", `tar:${at("root.tar")}`, "-o", at("z.ext4"), "--config", at("z.json")];
    assertStringIncludes(await fails(3, ...tree), "has no config");
    // A run that fails late leaves neither.
    rmSync(at(`oci/blobs/${layerDigests[1]!.replace(":", "/")}`));
    mkdirSync(at("oci/blobs/sha256/x"));
    await fails(3, ...again, at("z.json"));
    assert(!existsSync(at("z.ext4")) && !existsSync(at("z.json")));
    assertEquals(
      readdirSync(directory).sort(),
      ["l.json", "layers", "oci", "root.tar", "x.ext4", "x.json", "y.ext4"],
    );
  });
});
