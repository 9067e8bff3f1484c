import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { execFileSync } from "node:child_process";
import { chmodSync, linkSync, mkdirSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { env } from "node:process";
import { InputError, InterruptedError, IoError } from "../../lib/errors.ts";
import { openImage } from "../../lib/source/source.ts";
import type { TarEntry } from "../../lib/tar/entry.ts";
import { closeDescriptor, openDirectory } from "../oracle/libc.ts";
import { setXattrAt } from "../oracle/libc_changes.ts";
import { notRun } from "../oracle/notice.ts";
import {
  hasGnuTar,
  openAndLoad,
  testOptions,
  withDirectory,
  withLoaded,
  withSocket,
} from "./helpers.ts";

/** Runs a shell script in a directory; false when it fails, for what not every machine can do. */
function tryShell(directory: string, script: string): boolean {
  try {
    execFileSync("sh", ["-ec", script], { cwd: directory, stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

async function entriesOf(directory: string): Promise<Map<string, TarEntry>> {
  return await withLoaded(`rootfs:${directory}`, testOptions(), ([layer], image) => {
    assertEquals(image.kind, "rootfs");
    assertEquals(layer!.whiteouts, false);
    return new Map(layer!.entries.map((entry) => [entry.path, entry]));
  });
}

Deno.test("openRootfsDirectory keeps kinds, modes, times, links and holes", async () => {
  if (!hasGnuTar("rootfs: sources")) return;
  await withDirectory(async (directory) => {
    mkdirSync(join(directory, "d"));
    writeFileSync(join(directory, "d/file"), "content");
    chmodSync(join(directory, "d/file"), 0o4751);
    assert(tryShell(directory, "touch -d '1969-12-31 23:59:58.5 UTC' d/file"));
    linkSync(join(directory, "d/file"), join(directory, "d/same"));
    symlinkSync("/no/where", join(directory, "link"));
    writeFileSync(join(directory, "holes"), "x");
    truncateSync(join(directory, "holes"), 1 << 30);
    assert(tryShell(directory, "mkfifo fifo"));
    const entries = await entriesOf(directory);
    assertEquals([...entries.keys()], [
      "./",
      "./d/",
      "./d/file",
      "./d/same",
      "./fifo",
      "./holes",
      "./link",
    ]);
    const file = entries.get("./d/file")!;
    assertEquals([file.kind, file.mode], ["file", 0o4751]);
    assertEquals([file.mtimeSeconds, file.mtimeNanoseconds], [-2, 500_000_000]);
    assertEquals(entries.get("./d/same")!.kind, "hardlink");
    assertEquals(entries.get("./d/same")!.linkTarget, "./d/file");
    assertEquals(entries.get("./link")!.linkTarget, "/no/where");
    assertEquals(entries.get("./fifo")!.kind, "fifo");
    const holes = entries.get("./holes")!.payload!;
    assertEquals(holes.sizeBytes, 1 << 30);
    assertEquals(holes.dataRuns, [{ startBlock: 0, blockCount: 1 }]);
  });
});

Deno.test("openRootfsDirectory keeps names that are not UTF-8", async () => {
  if (!hasGnuTar("rootfs: sources")) return;
  await withDirectory(async (directory) => {
    assert(tryShell(directory, `touch "$(printf '\\377\\n\\033x')"`));
    const entries = await entriesOf(directory);
    assert(entries.has("./\xff\n\x1bx"));
  });
});

Deno.test("openRootfsDirectory keeps xattrs and ACLs", async () => {
  if (!hasGnuTar("rootfs: sources")) return;
  await withDirectory(async (directory) => {
    writeFileSync(join(directory, "f"), "x");
    mkdirSync(join(directory, "d"));
    const bytes = new Uint8Array([0, 0xff, 0x0a, 0x3d, 0x41]);
    // Version 2, then the owner, user 4242, the group, the mask and the others.
    const acl = Uint8Array.fromHex(
      "02000000" + "01000600ffffffff" + "0200060092100000" + "04000400ffffffff" +
        "10000600ffffffff" + "20000400ffffffff",
    );
    const at = openDirectory(directory);
    try {
      setXattrAt(at, "f", "user.bytes", bytes);
      setXattrAt(at, "f", "system.posix_acl_access", acl);
      setXattrAt(at, "d", "system.posix_acl_default", acl);
    } catch (error) {
      return notRun("xattrs of rootfs:", `the file system refuses them (${error})`);
    } finally {
      closeDescriptor(at);
    }
    const entries = await entriesOf(directory);
    assertEquals(entries.get("./f")!.xattrs, [
      { name: "system.posix_acl_access", value: acl },
      { name: "user.bytes", value: bytes },
    ]);
    assertEquals(entries.get("./d/")!.xattrs, [{ name: "system.posix_acl_default", value: acl }]);
  });
});

Deno.test("openRootfsDirectory gives the same bytes every time", async () => {
  if (!hasGnuTar("rootfs: sources")) return;
  await withDirectory(async (directory) => {
    mkdirSync(join(directory, "deep/er".repeat(30)), { recursive: true });
    for (const name of ["b", "a", "Z", "0"]) writeFileSync(join(directory, name), name);
    const digests: string[] = [];
    for (let round = 0; round < 3; round++) {
      assert(tryShell(directory, "cat a b > /dev/null; chmod 600 a; chmod 644 a"));
      await withLoaded(`rootfs:${directory}`, testOptions(), ([layer]) => {
        digests.push(layer!.diffId);
      });
    }
    assertEquals(new Set(digests).size, 1);
  });
});

Deno.test("openRootfsDirectory counts sockets, which a tar cannot hold", async () => {
  if (!hasGnuTar("rootfs: sources")) return;
  await withDirectory(async (directory) => {
    const options = testOptions();
    const load = () => openAndLoad(`rootfs:${directory}`, options);
    await withSocket(join(directory, "socket"), load);
    const kinds = options.warnings.list().map(({ kind, count }) => [kind, count]);
    // Nothing else was in it.
    assertEquals(kinds, [["emptySource", 1], ["skippedSocket", 1]]);
  });
});

Deno.test("openRootfsDirectory refuses what is not a directory", async () => {
  await withDirectory(async (directory) => {
    const file = join(directory, "file");
    writeFileSync(file, "");
    const open = (path: string) => () => openImage(`rootfs:${path}`, testOptions());
    await assertRejects(open(file), InputError, "is not a directory");
    await assertRejects(open(`${file}-none`), InputError, "does not exist");
  });
});

/** Loads a tree that only tar(1) can read with a `tar` in the path that is this script, or with none. */
async function withTarScript(script: string | undefined): Promise<IoError> {
  return await withDirectory((directory) =>
    withSocket(join(directory, "socket"), async () => {
      const bin = join(directory, "bin");
      mkdirSync(bin);
      if (script !== undefined) {
        writeFileSync(join(bin, "tar"), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
      }
      const path = env["PATH"]!;
      env["PATH"] = bin;
      try {
        const load = () => openAndLoad(`rootfs:${directory}`, testOptions());
        return await assertRejects(load, IoError) as IoError;
      } finally {
        env["PATH"] = path;
      }
    })
  );
}

Deno.test("openRootfsDirectory fails with tar's words when something cannot be read", async () => {
  const words = "echo 'tar: ./x: Cannot open: Permission denied' >&2";
  const unreadable = await withTarScript(`${words}; exit 2`);
  assertStringIncludes(unreadable.message, "tar failed with exit code 2: tar: ./x: Cannot open");
  assertStringIncludes(unreadable.hint ?? "", "readable");
  const changed = await withTarScript("printf '\\033[2J' >&2; exit 1");
  assertStringIncludes(changed.message, "exit code 1: \\x1b[2J");
  assertStringIncludes(changed.hint ?? "", "changed while they were read");
  const full = await withTarScript("echo 'tar: -: Wrote only 4096 of 10240 bytes' >&2; exit 2");
  assertEquals(full.remedies[0]?.option, "tmpdir");
});

Deno.test("openRootfsDirectory says so when tar is missing", async () => {
  const error = await withTarScript(undefined);
  assertStringIncludes(error.message, "tar cannot be run");
  assertStringIncludes(error.hint ?? "", "GNU tar");
});

Deno.test("openRootfsDirectory stops tar when it is told to", async () => {
  if (!hasGnuTar("rootfs: sources")) return;
  await withDirectory(async (directory) => {
    writeFileSync(join(directory, "big"), new Uint8Array(30_000_000).fill(5));
    const abort = new AbortController();
    const progress = {
      begin: () => ({ advance: () => abort.abort(), end: () => {} }),
    };
    const options = testOptions({ progress, signal: abort.signal });
    await assertRejects(() => openAndLoad(`rootfs:${directory}`, options), InterruptedError);
  });
});
