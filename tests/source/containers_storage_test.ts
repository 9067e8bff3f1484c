import { assertEquals, assertRejects } from "@std/assert";
import { chmodSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { InputError, InterruptedError, IoError } from "../../lib/errors.ts";
import type { ResolvedOptions } from "../../lib/source/types.ts";
import { hasCommand, mustRun, runCommand } from "../oracle/command.ts";
import { notRun } from "../oracle/notice.ts";
import { TARS } from "./build_archives.ts";
import { writeOciLayout } from "./build_layout.ts";
import {
  openAndLoad,
  openFilesBelow,
  storeBytes,
  testOptions,
  withDirectory,
  withLoaded,
} from "./helpers.ts";

/** What `skopeo copy ... dir:` and `podman push ... dir:` leave: the layout's blobs under other names. */
function writeCopy(directory: string): void {
  const layout = join(directory, "layout");
  writeOciLayout(layout, { layers: TARS });
  const copy = join(directory, "copy");
  const blobs = join(layout, "blobs/sha256");
  const index = JSON.parse(mustRun("cat", [join(layout, "index.json")]));
  const manifest = index.manifests[0].digest.slice(7);
  const lines = [
    `mkdir ${copy}`,
    `cp ${blobs}/* ${copy}`,
    `mv ${copy}/${manifest} ${copy}/manifest.json`,
    `echo 'Directory Transport Version: 1.1' > ${copy}/version`,
  ];
  mustRun("sh", ["-ec", lines.join("\n")]);
}

/** A directory with programs of these names, and options that look for programs nowhere else. */
async function withPrograms(
  programs: Readonly<Record<string, string>>,
  test: (options: ResolvedOptions, directory: string) => Promise<void>,
): Promise<void> {
  await withDirectory(async (directory) => {
    const bin = join(directory, "bin");
    const temporary = join(directory, "tmp");
    mkdirSync(bin);
    mkdirSync(temporary);
    writeCopy(directory);
    for (const [name, script] of Object.entries(programs)) {
      const path = join(bin, name);
      writeFileSync(path, `#!/bin/sh\nPATH=/usr/bin:/bin\n${script}\n`);
      chmodSync(path, 0o755);
    }
    const options = { registry: { environment: { PATH: bin, COPY: join(directory, "copy") } } };
    await test(testOptions({ ...options, tmpdir: temporary }), directory);
    assertEquals(readdirSync(temporary), []);
    assertEquals(openFilesBelow(directory), []);
  });
}

/** Copies to the directory that the last word names, and keeps the words. */
const COPIES =
  `for last; do :; done; echo "$@" > $COPY/../words; cp $COPY/* "\${last#dir:}"; echo noise`;

Deno.test("openStoredImage has skopeo copy the image, or podman, and leaves nothing behind", async () => {
  for (const programs of [{ skopeo: COPIES, podman: "exit 9" }, { podman: COPIES }]) {
    await withPrograms(programs, async (options, directory) => {
      await withLoaded("containers-storage:localhost/app:1", options, (layers, image) => {
        assertEquals(image.kind, "containers-storage");
        assertEquals(image.manifestDigest, undefined);
        assertEquals(layers.map(storeBytes), [...TARS]);
        assertEquals(readdirSync(join(directory, "tmp")), []);
      });
      const words = mustRun("cat", [join(directory, "words")]).trim().split(" ");
      const [image] = words.slice(-2);
      assertEquals(image!.endsWith("localhost/app:1"), true);
    });
  }
});

Deno.test("openStoredImage says what to install when neither is there", async () => {
  await withPrograms({}, async (options) => {
    const error = await assertRejects(
      () => openAndLoad("containers-storage:app", options),
      IoError,
      "containers-storage:app: is read through skopeo or podman, and neither is installed",
    );
    assertEquals((error as IoError).hint?.includes("install skopeo"), true);
  });
});

Deno.test("openStoredImage passes on what the program says", async () => {
  const unknown =
    `echo 'time="now" level=fatal msg="reference \\"x\\" does not resolve to an image ID"' >&2`;
  await withPrograms({ skopeo: `${unknown}; exit 1` }, async (options) => {
    await assertRejects(
      () => openAndLoad("containers-storage:app", options),
      InputError,
      "containers-storage:app: the storage has no such image",
    );
  });
  const failed = `echo first >&2; echo 'time="now" level=fatal msg="disk \\"a\\" is full"' >&2`;
  await withPrograms({ skopeo: `${failed}; exit 3` }, async (options) => {
    await assertRejects(
      () => openAndLoad("containers-storage:app", options),
      IoError,
      `skopeo failed with exit code 3: disk "a" is full`,
    );
  });
  await withPrograms({ skopeo: "exit 0" }, async (options) => {
    await assertRejects(() => openAndLoad("containers-storage:app", options), InputError);
  });
  await withPrograms({ skopeo: COPIES }, async (options) => {
    await assertRejects(
      () => openAndLoad("containers-storage:--help", options),
      InputError,
      "name",
    );
  });
});

Deno.test("openStoredImage ends the program when it is interrupted", async () => {
  const controller = new AbortController();
  await withPrograms({ skopeo: "exec sleep 600" }, async (options) => {
    const progress = {
      begin: () => {
        setTimeout(() => controller.abort(), 50);
        return { advance: () => {}, end: () => {} };
      },
    };
    const interrupted = { ...options, progress, signal: controller.signal };
    await assertRejects(() => openAndLoad("containers-storage:app", interrupted), InterruptedError);
  });
});

Deno.test("openStoredImage reads what skopeo put into a storage", async () => {
  const part = "containers-storage: of skopeo";
  if (!hasCommand("skopeo")) return notRun(part, "skopeo is not installed");
  await withDirectory(async (directory) => {
    const layout = join(directory, "layout");
    writeOciLayout(layout, { layers: TARS });
    const storage = `[vfs@${join(directory, "root")}+${join(directory, "run")}]localhost/app:1`;
    const words = ["--insecure-policy", "copy", "--quiet", `oci:${layout}`];
    const copied = runCommand("skopeo", [...words, `containers-storage:${storage}`]);
    if (copied.status !== 0) return notRun(part, `it cannot store images: ${copied.stderr}`);
    const options = testOptions({ registry: { environment: process.env } });
    await withLoaded(`containers-storage:${storage}`, options, (layers) => {
      assertEquals(layers.map(storeBytes), [...TARS]);
    });
    await assertRejects(
      () => openAndLoad(`containers-storage:${storage.replace("app", "nope")}`, options),
      InputError,
      "the storage has no such image",
    );
  });
});
