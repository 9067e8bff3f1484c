/**
 * Damaged layers, through to the image: whatever is cut or flipped there is a clear error, or the very same image, and
 * nothing is left anywhere.
 */
import { assert, assertEquals } from "@std/assert";
import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { HAS_ZSTD } from "../io/compressed_samples.ts";
import { Random } from "../oracle/noise.ts";
import { notRun } from "../oracle/notice.ts";
import { compressLayer, jsonBytes, writeOciLayout } from "../source/build_layout.ts";
import { newDockerEntries, oldDockerEntries } from "../source/build_archives.ts";
import { sampleTar } from "../source/helpers.ts";
import { buildTar } from "../tar/build.ts";
import { type Outcome, type Sandbox, withSandbox } from "./sandbox.ts";

/** Flipped bytes for each kind of layer; 1,000 and more on request. */
const ROUNDS = Number(process.env["BLESSFS_HOSTILE_ROUNDS"] ?? 40);
/** Compressed layers are cut at every so many bytes. */
const CUT_STEP = ROUNDS >= 1000 ? 1 : 37;

const TAR = sampleTar();

function xzOf(bytes: Uint8Array): Uint8Array | undefined {
  const { status, stdout } = spawnSync("xz", ["-c", "-6"], { input: bytes, maxBuffer: 1 << 24 });
  return status === 0 ? new Uint8Array(stdout) : undefined;
}

/** How layers are stored; what this machine cannot make is told and left out. */
function storedKinds(): [kind: string, bytes: Uint8Array][] {
  const kinds: [string, Uint8Array][] = [
    ["plain", TAR],
    ["gzip", compressLayer(TAR, "gzip")],
  ];
  if (HAS_ZSTD) kinds.push(["zstd", compressLayer(TAR, "zstd")]);
  else notRun("damaged zstd layers", "this runtime's node:zlib does not know zstd");
  const xz = xzOf(TAR);
  if (xz) kinds.push(["xz", xz]);
  else notRun("damaged xz layers", "xz is not installed");
  return kinds;
}

/** Blesses what is stored as the only layer of an image whose manifest was made for it. */
async function blessStored(sandbox: Sandbox, stored: Uint8Array, name: string): Promise<Outcome> {
  const layout = join(sandbox.directory, name);
  writeOciLayout(layout, { layers: [TAR], compress: "none", changeStored: () => stored });
  const outcome = await sandbox.bless(`oci:${layout}`);
  Deno.removeSync(layout, { recursive: true });
  sandbox.sweep();
  return outcome;
}

function digestOf(outcome: Outcome): string {
  if ("error" in outcome) throw outcome.error;
  return outcome.imageDigest;
}

for (const [kind, stored] of storedKinds()) {
  Deno.test(`a ${kind} layer that is cut anywhere is an error, whatever its digest says`, async () => {
    await withSandbox(async (sandbox) => {
      const step = kind === "plain" ? 512 : CUT_STEP;
      for (let length = 0; length < stored.length; length += step) {
        const outcome = await blessStored(sandbox, stored.subarray(0, length), `cut-${length}`);
        assert("error" in outcome, `cut at ${length}`);
        // The same in a layout that was right before the file was cut.
        const layout = join(sandbox.directory, "short");
        const { layerDigests } = writeOciLayout(layout, {
          layers: [TAR],
          changeStored: () => stored,
        });
        const blob = join(layout, "blobs", layerDigests[0]!.replace(":", "/"));
        writeFileSync(blob, stored.subarray(0, length));
        const short = await sandbox.bless(`oci:${layout}`);
        assert("error" in short && short.error.message.includes(`${length} bytes`), `${length}`);
        sandbox.sweep();
      }
    });
  });

  Deno.test(`a ${kind} layer with a changed byte is an error, or gives the same image`, async () => {
    await withSandbox(async (sandbox) => {
      const layout = join(sandbox.directory, "layout");
      const spec = { layers: [TAR], changeStored: () => stored };
      const { layerDigests, manifest } = writeOciLayout(layout, spec);
      const blob = join(layout, "blobs", layerDigests[0]!.replace(":", "/"));
      const whole = digestOf(await sandbox.bless(`oci:${layout}`));
      const random = new Random(29);
      for (let round = 0; round < ROUNDS; round++) {
        const changed = stored.slice();
        const at = random.next() % stored.length;
        changed[at]! ^= 1 + random.next() % 255;
        writeFileSync(blob, changed);
        const outcome = await sandbox.bless(`oci:${layout}`);
        assert("error" in outcome, `byte ${at} of ${manifest.digest}`);
        // Without a digest the decoder has to see it, and behind it the diff id.
        const made = await blessStored(sandbox, changed, "made");
        if (!("error" in made)) {
          assertEquals(treeOf(made), treeOf(await blessStored(sandbox, stored, "w")));
        }
        sandbox.sweep();
      }
      writeFileSync(blob, stored);
      assertEquals(digestOf(await sandbox.bless(`oci:${layout}`)), whole);
    });
  });

  Deno.test(`a ${kind} root file system with a changed byte is an error, or the tree that it now says`, async () => {
    await withSandbox(async (sandbox) => {
      const path = join(sandbox.directory, "root.tar");
      writeFileSync(path, stored);
      const whole = digestOf(await sandbox.bless(`tar:${path}`));
      const random = new Random(31);
      for (let round = 0; round < ROUNDS; round++) {
        const changed = stored.slice();
        const at = random.next() % stored.length;
        changed[at]! ^= 1 + random.next() % 255;
        writeFileSync(path, changed);
        const outcome = await sandbox.bless(`tar:${path}`);
        sandbox.sweep();
        // A plain tar has nothing to hold its payload against.
        if ("error" in outcome || kind === "plain") continue;
        assertEquals(outcome.imageDigest, whole, `byte ${at}`);
      }
    });
  });
}

function treeOf(outcome: Outcome) {
  if ("error" in outcome) throw outcome.error;
  return outcome.tree;
}

Deno.test("documents that are cut or changed anywhere are errors, or give the same image", async () => {
  await withSandbox(async (sandbox) => {
    const layout = join(sandbox.directory, "layout");
    const { manifest, configDigest } = writeOciLayout(layout, { layers: [TAR] });
    const whole = digestOf(await sandbox.bless(`oci:${layout}`));
    const blob = (digest: string) => `blobs/${digest.replace(":", "/")}`;
    const random = new Random(37);
    for (const file of ["index.json", "oci-layout", blob(manifest.digest), blob(configDigest)]) {
      const path = join(layout, file);
      const bytes = readFileSync(path);
      for (let round = 0; round < ROUNDS; round++) {
        const changed = bytes.slice();
        changed[random.next() % bytes.length]! ^= 1 + random.next() % 255;
        const cut = bytes.subarray(0, random.next() % bytes.length);
        for (const damaged of [changed, cut]) {
          writeFileSync(path, damaged);
          const outcome = await sandbox.bless(`oci:${layout}`);
          sandbox.sweep();
          if ("error" in outcome) continue;
          // What the index says beside the digest of the manifest is not part of the image.
          assert(file === "index.json" || file === "oci-layout", `${file}: ${damaged}`);
          assertEquals(outcome.imageDigest, whole);
        }
      }
      writeFileSync(path, bytes);
    }
  });
});

Deno.test("docker archives whose documents are cut or changed anywhere are errors or images", async () => {
  await withSandbox(async (sandbox) => {
    const path = join(sandbox.directory, "saved.tar");
    const random = new Random(41);
    for (const entries of [oldDockerEntries(), newDockerEntries()]) {
      for (const { path: member, data } of entries) {
        if (!(data instanceof Uint8Array) || !/json$|oci-layout$|repositories$/.test(member)) {
          continue;
        }
        for (let round = 0; round < Math.ceil(ROUNDS / 4); round++) {
          const changed = data.slice();
          changed[random.next() % data.length]! ^= 1 + random.next() % 255;
          for (const damaged of [changed, data.subarray(0, random.next() % data.length)]) {
            writeFileSync(
              path,
              buildTar(
                entries.map((entry) => entry.path === member ? { ...entry, data: damaged } : entry),
              ),
            );
            await sandbox.bless(`docker-archive:${path}`);
            sandbox.sweep();
          }
        }
      }
    }
  });
});

Deno.test("documents of any JSON in any place are refused in words", async () => {
  const values = [null, true, -1, 1e308, "", "x", [], {}, [[]], { a: 1 }, "\u001b[2J", [null, {}]];
  await withSandbox(async (sandbox) => {
    const path = join(sandbox.directory, "saved.tar");
    for (const value of values) {
      for (const key of ["Config", "Layers", "RepoTags", undefined]) {
        const entries = oldDockerEntries().map((entry) => {
          if (entry.path !== "manifest.json") return entry;
          const manifest = JSON.parse(new TextDecoder().decode(entry.data as Uint8Array));
          return {
            ...entry,
            data: jsonBytes(key === undefined ? value : [{ ...manifest[0], [key]: value }]),
          };
        });
        writeFileSync(path, buildTar(entries));
        const outcome = await sandbox.bless(`docker-archive:${path}`);
        sandbox.sweep();
        if (key !== "RepoTags") assert("error" in outcome, `${key} ${JSON.stringify(value)}`);
      }
    }
  });
});
