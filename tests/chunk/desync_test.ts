/** What is written to a store is what desync reads, from directories and from S3, as files and as a mount. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { chunkPath } from "../../lib/chunk/chunk.ts";
import { decodeChunkIndex } from "../../lib/chunk/chunk_index.ts";
import { COMMANDS } from "../../cli/commands.ts";
import { runFake } from "../cli/fake_io.ts";
import { kernelOrNotice, mountReadOnly, unmount } from "../oracle/kernel.ts";
import { notRun } from "../oracle/notice.ts";
import { TEST_KEYS, TEST_REGION, withFakeS3 } from "./fake_s3.ts";
import { idAt, withDirectory } from "./helpers.ts";
import { mustRunBeside, programOrNotice, run } from "./programs.ts";

const SOURCE = `oci:${fileURLToPath(new URL("../../fixtures/oci-tiny", import.meta.url))}`;
const MOUNT_PAUSE_MS = 50;

const AWS = {
  HOME: "/nowhere",
  AWS_ACCESS_KEY_ID: TEST_KEYS.accessKeyId,
  AWS_SECRET_ACCESS_KEY: TEST_KEYS.secretAccessKey,
  AWS_REGION: TEST_REGION,
};
/** The same as desync calls them. */
const S3 = {
  S3_ACCESS_KEY: TEST_KEYS.accessKeyId,
  S3_SECRET_KEY: TEST_KEYS.secretAccessKey,
  S3_REGION: TEST_REGION,
};

async function bless(directory: string, store: string): Promise<void> {
  const words = ["-o", join(directory, "image"), "--create-store", "--store", store];
  const index = ["--index", join(directory, "image.caibx")];
  const { code, stderr } = await runFake(["bless", SOURCE, ...words, ...index], COMMANDS, {
    env: AWS,
  });
  assertEquals(code, 0, stderr);
}

Deno.test("desync gives back a blessed image from a directory, and verifies the store", async () => {
  if (!programOrNotice("desync", "images got back by desync extract and desync verify")) return;
  await withDirectory(async (directory) => {
    const at = (name: string) => join(directory, name);
    await bless(directory, at("store"));
    await mustRunBeside("desync", ["extract", "-s", at("store"), at("image.caibx"), at("copy")]);
    assert(readFileSync(at("copy")).equals(readFileSync(at("image"))));
    assertEquals(await mustRunBeside("desync", ["verify", "-s", at("store")]), "");
    await mustRunBeside("desync", ["verify-index", at("image.caibx"), at("image")]);
    const info = JSON.parse(
      await mustRunBeside("desync", ["info", "-s", at("store"), at("image.caibx")]),
    );
    assertEquals(info["in-store"], info["unique"]);
    // A damaged chunk is found by both.
    const index = decodeChunkIndex(new Uint8Array(readFileSync(at("image.caibx"))), "x");
    const path = join(at("store"), chunkPath(idAt(index, 0)));
    const bytes = readFileSync(path);
    bytes[bytes.length >> 1]! ^= 1;
    writeFileSync(path, bytes);
    assertStringIncludes(
      (await run("desync", ["verify", "-s", at("store")])).output,
      idAt(index, 0),
    );
    const words = [
      "chunk",
      at("image"),
      "--create-store",
      "--store",
      at("store"),
      "--dry-run",
      "--verify-store",
    ];
    const ours = await runFake(words, COMMANDS);
    assertEquals(ours.code, 3);
    assertStringIncludes(ours.stderr, idAt(index, 0));
  });
});

Deno.test("desync gives back a blessed image from S3, and signs what our server understands", async () => {
  if (!programOrNotice("desync", "images got back by desync from S3")) return;
  await withFakeS3({}, async (server) => {
    await withDirectory(async (directory) => {
      const at = (name: string) => join(directory, name);
      await bless(directory, server.store("a/b"));
      const sentCount = server.requests.length;
      const extract = ["extract", "-s", server.store("a/b"), at("image.caibx"), at("copy")];
      await mustRunBeside("desync", extract, S3);
      assert(readFileSync(at("copy")).equals(readFileSync(at("image"))));
      assert(server.requests.length > sentCount);
      assertEquals(server.faults, []);
    });
  });
});

Deno.test("desync mounts a blessed image out of its store", async () => {
  const what = "an image mounted out of a store by desync mount-index";
  if (!programOrNotice("desync", what)) return;
  if (!kernelOrNotice(what)) return;
  if (!existsSync("/dev/fuse") || !existsSync("/bin/fusermount")) {
    notRun(what, "there is no FUSE here (/dev/fuse and fusermount)");
    return;
  }
  await withFakeS3({}, async (server) => {
    await withDirectory(async (directory) => {
      await bless(directory, join(directory, "store"));
      await lookThroughMount(directory, join(directory, "store"), {});
    });
    await withDirectory(async (directory) => {
      await bless(directory, server.store());
      await lookThroughMount(directory, server.store(), S3);
    });
  });
});

async function lookThroughMount(
  directory: string,
  store: string,
  env: Record<string, string>,
): Promise<void> {
  const mountPoint = join(directory, "mount");
  mkdirSync(mountPoint);
  const index = join(directory, "image.caibx");
  const served = run("desync", ["mount-index", "-s", store, index, mountPoint], env);
  try {
    await untilMounted(mountPoint, served);
    const [name] = readdirSync(mountPoint);
    // Read by another process: this one may be the server that the bytes come from.
    await mustRunBeside("cmp", [join(mountPoint, name!), join(directory, "image")]);
    await compareTrees(join(mountPoint, name!), directory);
  } finally {
    unmount(mountPoint);
    await served;
  }
}

/** Waits for the mount for as long as the program runs that makes it. */
async function untilMounted(mountPoint: string, served: Promise<unknown>): Promise<void> {
  let hasEnded = false;
  void served.finally(() => hasEnded = true);
  while (!hasEnded) {
    const { status } = await run("mountpoint", ["-q", mountPoint]);
    if (status === 0) return;
    await sleep(MOUNT_PAUSE_MS);
  }
  throw new Error("desync ended without mounting its index");
}

/** The kernel mounts the file that desync shows, and sees the same files as in the image itself. */
async function compareTrees(mounted: string, directory: string): Promise<void> {
  const wanted = await mountReadOnly(join(directory, "image"), digestOfTree);
  const root = join(directory, "root");
  mkdirSync(root);
  await mustRunBeside("mount", ["-t", "ext4", "-o", "loop,ro", mounted, root]);
  try {
    assertEquals(await digestOfTree(root), wanted);
  } finally {
    unmount(root);
  }
}

/** Of names, attributes and contents. */
function digestOfTree(root: string): Promise<string> {
  const line = 'tar -C "$0" --sort=name --xattrs --numeric-owner -cf - . | sha256sum';
  return mustRunBeside("sh", ["-c", line, root]);
}
