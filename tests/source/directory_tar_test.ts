import { assert, assertEquals, assertThrows } from "@std/assert";
import { execFileSync } from "node:child_process";
import {
  appendFileSync,
  closeSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { InputError, IoError } from "../../lib/errors.ts";
import { type SystemCalls, systemCalls } from "../../lib/io/system_calls.ts";
import { DirectoryTar, LeftToTar } from "../../lib/source/directory_tar.ts";
import { tarOfHost } from "../../lib/source/rootfs.ts";
import { Warnings } from "../../lib/warnings.ts";
import type { TarEntry } from "../../lib/tar/entry.ts";
import { notRun } from "../oracle/notice.ts";
import { readTar } from "../tar/read.ts";
import {
  hasGnuTar,
  noise,
  openFilesBelow,
  testOptions,
  withDirectory,
  withLoaded,
  withSocket,
} from "./helpers.ts";

const CALLS = systemCalls();

function canCall(what: string): boolean {
  if (CALLS === undefined) notRun(what, "glibc cannot be called");
  return CALLS !== undefined;
}

function tarOf(directory: string, calls: SystemCalls = CALLS!) {
  const tar = new DirectoryTar(directory, "tree", calls, {});
  const entries: TarEntry[] = [];
  const pieces = Array.from(tar.pieces((entry) => entries.push(entry)), (piece) => piece.slice());
  return { tar, entries, bytes: new Uint8Array(Buffer.concat(pieces)) };
}

/** What tar(1) makes of it. */
async function outputOfTar(directory: string): Promise<Uint8Array> {
  return await withDirectory(async (scratch) => {
    const path = join(scratch, "tar");
    const descriptor = openSync(path, "w");
    const host = { directory, member: ".", name: directory };
    await tarOfHost(host, new Warnings()).writeTo(descriptor, undefined);
    closeSync(descriptor);
    return new Uint8Array(readFileSync(path));
  });
}

/** Every kind of file, name, time and attribute; a line that this machine does not allow is left out. */
const MAKE_TREE = String.raw`
  mkdir -p d/sub empty/dir
  echo content > d/file; ln d/file d/same; ln d/file another
  ln -s /no/where d/link; ln -s "$(printf '%0120d' 1)" d/long-link; ln d/link d/link-twice
  : > d/nothing; mkfifo d/fifo; mknod d/null c 1 3; mknod d/disk b 259 70000
  touch -d '1969-12-31 23:59:58.25 UTC' d/old; touch -d '@-5' d/older; touch -d '@1700000000' d/round
  touch -d '@1700000000.000000001' d/fine; touch -h -d '@1600000000' d/link
  chown 3000000:4000000 d/round; chown 2097151:2097152 d/fine; chmod 6751 d/round
  long="$(printf 'x%0119d' 1)"; mkdir -p "$long/$long"; echo deep > "$long/$long/file"
  echo 1 > "$(printf 'n\344me')"; echo 2 > "$(printf '\303\244')"; echo 3 > "$(printf 'a\nb')"
  touch "$(printf '%0098d' 1)" "$(printf '%0099d' 1)" -- -dash 'a b' "d/$(printf '%0097d' 1)"
  mkdir "d/$(printf '%0095d' 1)" "d/$(printf '%0096d' 1)" "d/$(printf '%0097d' 2)"
  setfattr -n user.b -v two d/file; setfattr -n user.a -v one d/file; setfattr -n user.empty d/file
  setfattr -n user.c=d% -v '=x' d; setfattr -h -n trusted.t -v 1 d/link; setfattr -n trusted.t -v 1 d/fifo
  setfattr -n security.capability -v 0x0100000202000000000000000000000000000000 d/file
  setfattr -n user.big -v 0x$(printf '%03000d' 7) d/nothing
  setfacl -m u:42:rw d/file; setfacl -d -m g:7:rwx d
  head -c 511 /dev/zero > s511; head -c 512 /dev/zero > s512; head -c 513 /dev/zero > s513
  head -c 3000000 /dev/urandom > big
`;

function makeTree(directory: string): void {
  // Each command by itself: not every machine can do all of them.
  execFileSync("sh", ["-c", MAKE_TREE], { cwd: directory, stdio: "ignore" });
}

Deno.test("DirectoryTar gives the bytes that tar(1) gives, and reads files again", async () => {
  if (!canCall("trees without tar(1)") || !hasGnuTar("the bytes of tar(1)")) return;
  await withDirectory(async (directory) => {
    makeTree(directory);
    const { tar, entries, bytes } = tarOf(directory);
    assertEquals(bytes.length % 10240, 0);
    assert(Buffer.compare(bytes, await outputOfTar(directory)) === 0);
    assertEquals(entries, readTar(bytes).entries);

    // Heads are not kept: they are zeros.
    const again = new Uint8Array(bytes.length);
    const reader = tar.files.reader("tree", 0, bytes.length);
    assertEquals(reader.readAt(again, 0), bytes.length);
    const big = readFileSync(join(directory, "big"));
    const at = Buffer.from(bytes).indexOf(big);
    assert(big.equals(again.subarray(at, at + big.length)));
    const part = new Uint8Array(10_000);
    assertEquals(reader.readAt(part, at + 1_000_001), part.length);
    assert(big.subarray(1_000_001, 1_010_001).equals(part));
    assertEquals(reader.readAt(part, bytes.length - 10), 10);
    reader.close();
  });
});

Deno.test("a tree is the same image whoever reads it, and holes are the same every time", async () => {
  if (!canCall("trees without tar(1)") || !hasGnuTar("the entries of tar(1)")) return;
  await withDirectory(async (directory) => {
    makeTree(directory);
    execFileSync("sh", [
      "-ec",
      "truncate -s 5M end; truncate -s 1M holes; echo x >> holes; truncate -s 3M holes; echo y >> holes",
    ], { cwd: directory });
    const look = () =>
      withLoaded(`rootfs:${directory}`, testOptions(), ([layer]) => ({
        diffId: layer!.diffId,
        entries: layer!.entries.map(({ headerOffset: _, payload, ...entry }) => ({
          ...entry,
          payload: payload && { ...payload, segments: payload.segments.length > 0 },
        })),
      }));
    const direct = await look();
    assertEquals(await look(), direct);
    // The root itself has another time by then.
    const byTar = await withSocket(join(directory, "socket"), look);
    assertEquals(byTar.entries.slice(1), direct.entries.slice(1));
  });
});

Deno.test("DirectoryTar leaves to tar(1) what it cannot read as it is", async () => {
  if (!canCall("trees without tar(1)")) return;
  await withDirectory((directory) => {
    // A head is cut off from its file where a piece ends.
    for (const name of ["b", "c"]) writeFileSync(join(directory, name), noise((1 << 20) - 2048));
    writeFileSync(join(directory, "a"), noise(3_000_000));
    const fails = (calls: Partial<SystemCalls>) => {
      assertThrows(() => tarOf(directory, { ...CALLS!, ...calls }), LeftToTar);
      assertEquals(openFilesBelow(directory), []);
    };
    const refused = () => -1;
    fails({ openat: refused });
    fails({ statx: refused });
    fails({ getdents64: refused });
    fails({ flistxattr: refused });
    fails({ pread: refused });
    // It grows, shrinks, or is another one meanwhile.
    const change = (action: () => void): Partial<SystemCalls> => {
      let isDone = false;
      return {
        pread: (...args) => {
          if (!isDone) action();
          isDone = true;
          return CALLS!.pread(...args);
        },
      };
    };
    fails(change(() => appendFileSync(join(directory, "a"), "x")));
    fails(change(() => writeFileSync(join(directory, "a"), "short")));
    writeFileSync(join(directory, "a"), "content");
    fails({
      openat: (at, path, flags) => {
        rmSync(join(directory, "a"), { force: true });
        writeFileSync(join(directory, "a"), "content");
        return CALLS!.openat(at, path, flags);
      },
    });
    for (let count = 0; count < 4; count++) {
      const tar = new DirectoryTar(directory, "tree", CALLS!, {});
      let left = count;
      for (const _ of tar.pieces(() => {})) if (left-- === 0) break;
      tar.files.release();
      assertEquals(openFilesBelow(directory), []);
    }
    const deep = new DirectoryTar(join(directory, "x".repeat(5000)), "tree", CALLS!, {});
    assertThrows(() => [...deep.pieces(() => {})], LeftToTar);
  });
});

Deno.test("a directory behind a symbolic link and `..` is the one that the system finds there", async () => {
  if (CALLS === undefined && !hasGnuTar("rootfs: sources")) return;
  await withDirectory(async (directory) => {
    for (const path of ["a/b", "a/tree", "tree"]) {
      mkdirSync(join(directory, path), { recursive: true });
      writeFileSync(join(directory, path, path.replace("/", "-")), "");
    }
    symlinkSync("a/b", join(directory, "link"));
    const names = await withLoaded(`rootfs:${directory}/link/../tree`, testOptions(), ([layer]) => {
      return layer!.entries.map(({ path }) => path);
    });
    assertEquals(names, ["./", "./a-tree"]);
  });
});

Deno.test("a file that changes after it was read is named", async () => {
  if (!canCall("trees without tar(1)")) return;
  await withDirectory(async (directory) => {
    const file = join(directory, "d/file");
    mkdirSync(join(directory, "d"));
    const elsewhere = join(directory, "d/elsewhere");
    // What has the wanted length is only known by its times.
    const changes = [
      () => writeFileSync(file, "short"),
      () => symlinkSync("/etc/passwd", file),
      () => {},
      () => writeFileSync(file, noise(100_000)),
      () => writeFileSync(file, noise(200_000)),
      () => {
        mkdirSync(elsewhere);
        writeFileSync(join(elsewhere, "file"), noise(100_000));
        renameSync(join(directory, "d"), join(directory, "old"));
        symlinkSync(join(directory, "old/elsewhere"), join(directory, "d"));
      },
    ];
    for (const change of changes) {
      writeFileSync(file, noise(100_000));
      await withLoaded(`rootfs:${directory}`, testOptions(), ([layer]) => {
        rmSync(file);
        change();
        const { storeOffset } = layer!.entries.at(-1)!.payload!.segments[0]!;
        const read = () => layer!.store.readAt(new Uint8Array(100_000), storeOffset);
        assertThrows(read, InputError, "./d/file changed");
      });
      assertEquals(openFilesBelow(directory), []);
      rmSync(file, { force: true });
    }
  });
});

Deno.test("a file that is written to in place while it is read again is named", async () => {
  if (!canCall("trees without tar(1)")) return;
  await withDirectory(async (directory) => {
    const file = join(directory, "file");
    writeFileSync(file, noise(100_000));
    await withLoaded(`rootfs:${directory}`, testOptions(), ([layer]) => {
      const { storeOffset } = layer!.entries.at(-1)!.payload!.segments[0]!;
      const target = new Uint8Array(50_000);
      assertEquals(layer!.store.readAt(target, storeOffset), target.length);
      const descriptor = openSync(file, "r+");
      writeSync(descriptor, noise(10), 0, 10, 99_000);
      closeSync(descriptor);
      const read = () => layer!.store.readAt(target, storeOffset + 50_000);
      assertThrows(read, InputError, "./file changed");
    });
  });
});

Deno.test("a file that is as it was and yet cannot be read again is not said to have changed", async () => {
  if (!canCall("trees without tar(1)")) return;
  await withDirectory((directory) => {
    mkdirSync(join(directory, "d"));
    writeFileSync(join(directory, "d/file"), noise(100_000));
    for (const name of ["openat", "pread"] as const) {
      const calls: SystemCalls = { ...CALLS! };
      const { tar, bytes } = tarOf(directory, calls);
      const reader = tar.files.reader("tree", 0, bytes.length);
      calls[name] = () => -1;
      const read = () => reader.readAt(new Uint8Array(bytes.length), 0);
      assertThrows(read, IoError, "./d/file cannot be read a second time");
      reader.close();
      assertEquals(openFilesBelow(directory), []);
    }
  });
});

Deno.test("what was counted before tar(1) took over does not count", async () => {
  if (!canCall("trees without tar(1)") || !hasGnuTar("rootfs: sources")) return;
  await withDirectory(async (directory) => {
    writeFileSync(join(directory, "a"), noise(3_000_000));
    let doneBytes = 0;
    const progress = {
      begin: () => ({ advance: (bytes: number) => doneBytes += bytes, end() {} }),
    };
    const limits = { imageEntries: 2, unpackedBytes: 4_000_000 };
    const options = testOptions({ progress, limits });
    const load = () =>
      withLoaded(`rootfs:${directory}`, options, ([layer]) => layer!.uncompressedBytes);
    const sizeBytes = await withSocket(join(directory, "socket"), load);
    assertEquals(doneBytes, sizeBytes);
    assertEquals(options.warnings.list().map(({ kind, count }) => [kind, count]), [
      ["skippedSocket", 1],
    ]);
  });
});
