import {
  assert,
  assertEquals,
  assertRejects,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync, gzipSync } from "node:zlib";
import { InputError, IoError } from "../../lib/errors.ts";
import { openImage } from "../../lib/source/source.ts";
import {
  HEAD_BYTES,
  isExt4,
  isTarHeader,
  openSourceFile,
  readSmallFile,
  readSmallPart,
  recogniseContent,
  spoolStream,
} from "../../lib/source/source_file.ts";
import { gzipOf, HAS_ZSTD, zstdOf } from "../io/compressed_samples.ts";
import { buildTar, joinBytes, type SimpleEntry } from "../tar/build.ts";
import { layoutEntries, newDockerEntries, oldDockerEntries } from "./build_archives.ts";
import { writeOciLayout } from "./build_layout.ts";
import {
  ALWAYS_WORKER,
  openAndLoad,
  openFilesBelow,
  sampleTar,
  testOptions,
  withDirectory,
  withLoaded,
} from "./helpers.ts";

Deno.test("openSourceFile opens files, through links too, and says what else it found", async () => {
  await withDirectory(async (directory) => {
    const file = join(directory, "file");
    writeFileSync(file, "12345");
    symlinkSync(file, join(directory, "link"));
    for (const path of [file, join(directory, "link")]) {
      const opened = await openSourceFile(path, "a tar", testOptions());
      assertEquals(opened.sizeBytes, 5);
      assertEquals([...readSmallPart(opened, 1, 3, { bytes: 3 })], [0x32, 0x33, 0x34]);
      assertThrows(
        () => readSmallPart(opened, 0, 4, { bytes: 3 }),
        InputError,
        "at most 3 are read",
      );
      opened.file.release();
    }
    const open = (path: string) => () => openSourceFile(path, "a tar", testOptions());
    await assertRejects(open(join(directory, "none")), InputError, "does not exist: wanted a tar");
    await assertRejects(open(directory), InputError, "is a directory: wanted a tar");
    await assertRejects(
      open("/dev/null"),
      InputError,
      "is neither a regular file nor a block device: wanted a tar",
    );
  });
});

Deno.test("readSmallFile reads files up to its limit, and nothing but files", async () => {
  await withDirectory((directory) => {
    const file = join(directory, "file");
    writeFileSync(file, "12345");
    assertEquals(readSmallFile(file, { bytes: 5 }).length, 5);
    assertThrows(() => readSmallFile(file, { bytes: 4 }), InputError, "is 5 bytes long: at most 4");
    mkdirSync(join(directory, "d"));
    assertThrows(
      () => readSmallFile(join(directory, "d"), { bytes: 4 }),
      InputError,
      "not a regular file",
    );
    assertThrows(
      () => readSmallFile(join(directory, "x"), { bytes: 4 }),
      InputError,
      "not a regular file",
    );
  });
});

Deno.test("spoolStream keeps a stream, and names it when it fails", async () => {
  const good = async function* () {
    await Promise.resolve();
    yield new Uint8Array([1, 2]);
    yield new Uint8Array([3]);
  };
  const spooled = await spoolStream("input", good(), testOptions());
  assertEquals([...readSmallPart(spooled, 0, spooled.sizeBytes)], [1, 2, 3]);
  spooled.file.release();
  const bad = async function* () {
    await Promise.resolve();
    yield new Uint8Array(1);
    throw Object.assign(new Error("read EIO"), { code: "EIO" });
  };
  const failing = () => spoolStream("input", bad(), testOptions());
  await assertRejects(failing, IoError, "input: cannot be read: read EIO");
});

Deno.test("spoolStream gives up a stream that goes on and on, and lets go of it", async () => {
  let isClosed = false;
  const endless = async function* () {
    try {
      for (;;) {
        await Promise.resolve();
        yield new Uint8Array(100);
      }
    } finally {
      isClosed = true;
    }
  };
  const limits = { unpackedBytes: 1000 };
  const error = await assertRejects(
    () => spoolStream("input", endless(), testOptions({ limits })),
    InputError,
    "input: is longer than 1000 bytes",
  );
  assertEquals([error.data["limit"], isClosed], ["unpackedBytes", true]);
  const exact = async function* () {
    await Promise.resolve();
    yield new Uint8Array(1000);
  };
  (await spoolStream("input", exact(), testOptions({ limits }))).file.release();
});

/** Zeros with a magic in them, as images and archives have theirs. */
function withMagic(offset: number, magic: string, lengthBytes = HEAD_BYTES): Uint8Array {
  const bytes = new Uint8Array(lengthBytes);
  bytes.set(Uint8Array.from(magic, (c) => c.charCodeAt(0)), offset);
  return bytes;
}

/** What is told apart, and a word of its name. */
const KNOWN: readonly (readonly [number, string, string])[] = [
  [1080, "\x53\xef", "an ext4 image"],
  [1024, "\xe2\xe1\xf5\xe0", "EROFS"],
  [1024, "\x10\x20\xf5\xf2", "F2FS"],
  [65600, "_BHRfS_M", "btrfs"],
  [32769, "CD001", "ISO 9660"],
  [0, "hsqs", "SquashFS"],
  [0, "XFSB", "XFS"],
  [512, "EFI PART", "GPT"],
  [510, "\x55\xaa", "MBR"],
  [0, "QFI\xfb", "qcow2"],
  [0, "\x3a\xff\x26\xed", "Android sparse"],
  [0, "\x1f\x9d\x90", "compress"],
  [0, "\x04\x22\x4d\x18", "lz4"],
  [0, "LZIP\x01", "lzip"],
  [0, "\x5d\0\0\x80", "lzma"],
  [0, "\x89LZO\0\r\n\x1a\n", "lzop"],
  [0, "7z\xbc\xaf\x27\x1c", "7z"],
  [0, "PK\x03\x04", "ZIP"],
  [0, "070701", "cpio"],
  [0, "!<arch>\ndebian-binary", "Debian package"],
  [0, "\xed\xab\xee\xdb", "RPM"],
];

Deno.test("recogniseContent names images and archives of other kinds, and no tar", () => {
  for (const [offset, magic, name] of KNOWN) {
    assertStringIncludes(recogniseContent(withMagic(offset, magic))?.what ?? "", name);
  }
  for (const tar of [sampleTar(), new Uint8Array(10_240), new Uint8Array(0)]) {
    assertEquals(recogniseContent(tar.subarray(0, HEAD_BYTES)), undefined);
  }
  // Whatever lies behind a header.
  const tar = buildTar([{ path: "a", data: new Uint8Array(HEAD_BYTES) }]);
  for (const [offset, magic] of KNOWN.filter(([offset]) => offset >= 512)) {
    const changed = tar.slice();
    changed.set(Uint8Array.from(magic, (c) => c.charCodeAt(0)), offset);
    assert(isTarHeader(changed) && !isExt4(changed));
    assertEquals(recogniseContent(changed), undefined, magic);
  }
});

Deno.test("openImage refuses by name what is not a tar, however it is named, stored and read", async () => {
  await withDirectory(async (directory) => {
    const path = join(directory, "file");
    for (const [offset, magic, name] of KNOWN.filter(([, , name]) => name !== "an ext4 image")) {
      const bytes = withMagic(offset, magic);
      const stored = [bytes, gzipOf(bytes), ...HAS_ZSTD ? [zstdOf(bytes)] : []];
      for (const [i, form] of stored.entries()) {
        writeFileSync(path, form);
        for (const source of [path, `tar:${path}`, `docker-archive:${path}`, `ext4:${path}`]) {
          // What begins with zeros is looked at again by whoever knows where superblocks are.
          const error = await assertRejects(() => openAndLoad(source, testOptions()), InputError);
          assertStringIncludes(error.message, name, `${source} ${i}`);
          assert(error.hint !== undefined && error.hint.length > 10, name);
        }
      }
    }
    assertEquals(openFilesBelow(directory), []);
  });
});

Deno.test("a layer that is a file system image under the type of a tar is refused by name", async () => {
  for (const more of [{}, ALWAYS_WORKER]) {
    await withDirectory(async (directory) => {
      const layer = withMagic(1024, "\xe2\xe1\xf5\xe0", 1 << 20);
      layer[500_000] = 1;
      writeOciLayout(directory, { layers: [layer] });
      const load = () => openAndLoad(`oci:${directory}`, testOptions(more));
      await assertRejects(load, InputError, "is an EROFS image: wanted a tar");
    });
  }
});

Deno.test("what only begins like an empty tar is refused, and an empty tar is a warning", async () => {
  await withDirectory(async (directory) => {
    const path = join(directory, "file");
    const late = new Uint8Array(50_000);
    late[30_000] = 1;
    for (const bytes of [late, gzipOf(late), new Uint8Array(5 << 20)]) {
      writeFileSync(path, bytes);
      for (const source of [path, `tar:${path}`]) {
        await assertRejects(() => openAndLoad(source, testOptions()), InputError, "zeros");
      }
    }
    for (const bytes of [new Uint8Array(10_240), gzipOf(new Uint8Array(1024))]) {
      writeFileSync(path, bytes);
      for (const source of [path, `tar:${path}`]) {
        const options = testOptions();
        await openAndLoad(source, options);
        assertEquals(options.warnings.list().map(({ kind }) => kind), ["emptySource"]);
      }
    }
  });
});

Deno.test("openImage reads an ext4 image that is compressed", async () => {
  const packed = readFileSync(new URL("../../fixtures/ext4/csum-4k.img.gz", import.meta.url));
  const image = new Uint8Array(gunzipSync(packed));
  await withDirectory(async (directory) => {
    const path = join(directory, "root");
    const pathsOf = (source: string, more = {}) =>
      withLoaded(source, testOptions(more), ([layer], { kind }) => {
        assertEquals(kind, "ext4");
        return layer!.entries.map((entry) => entry.path);
      });
    writeFileSync(path, image);
    const wanted = await pathsOf(`ext4:${path}`);
    assert(wanted.length > 3);
    for (const stored of [packed, gzipSync(image), ...HAS_ZSTD ? [zstdOf(image)] : []]) {
      writeFileSync(path, stored);
      assertEquals(await pathsOf(path), wanted);
      assertEquals(await pathsOf(`ext4:${path}`), wanted);
      assertEquals(await pathsOf(path, ALWAYS_WORKER), wanted);
    }
    writeFileSync(path, packed.subarray(0, packed.length - 20));
    await assertRejects(() => openImage(path, testOptions()), InputError, "ends too early");
    assertEquals(openFilesBelow(directory), []);
  });
});

Deno.test("tar: warns of what is an archive of images, and says how to name it", async () => {
  const inFolder = (entries: readonly SimpleEntry[]) =>
    entries.map((entry) => ({ ...entry, path: `saved/${entry.path}` }));
  const ancient = oldDockerEntries().filter(({ path }) => path !== "manifest.json");
  const cases: readonly (readonly [readonly SimpleEntry[], string])[] = [
    [oldDockerEntries(), "docker-archive:FILE"],
    [newDockerEntries(), "docker-archive:FILE"],
    [layoutEntries(), "oci-archive:FILE"],
    [layoutEntries({}, "./"), "oci-archive:FILE"],
    [ancient, "an archive of Docker before 1.10"],
    [inFolder(layoutEntries()), "an OCI image layout inside the folder saved"],
    [inFolder(oldDockerEntries()), "inside the folder saved"],
  ];
  await withDirectory(async (directory) => {
    for (const [entries, message] of cases) {
      writeFileSync(join(directory, "a.tar"), buildTar(entries));
      const options = testOptions();
      await openAndLoad(`tar:${directory}/a.tar`, options);
      const [warning, ...others] = options.warnings.list();
      assertEquals([warning?.kind, others], ["imageArchive", []], message);
      assertStringIncludes(warning!.message, message);
    }
    // Data of a root file system, and no archive.
    const data = [
      ...oldDockerEntries().map((entry) => ({ ...entry, path: `opt/${entry.path}` })),
      { path: "etc/passwd", data: "x" },
    ];
    writeFileSync(join(directory, "a.tar"), buildTar(data));
    const options = testOptions();
    await openAndLoad(`tar:${directory}/a.tar`, options);
    assertEquals(options.warnings.list(), []);
  });
});

Deno.test("bytes behind the end marker are counted, and read with ignoreZeros", async () => {
  const [one, two] = [buildTar([{ path: "one" }]), buildTar([{ path: "two" }])];
  const joined = joinBytes([one, two]);
  await withDirectory(async (directory) => {
    const path = join(directory, "a.tar");
    for (const bytes of [joined, gzipOf(joined)]) {
      writeFileSync(path, bytes);
      for (const source of [path, `tar:${path}`]) {
        const pathsOf = (more = {}) => {
          const options = testOptions(more);
          return withLoaded(source, options, ([layer]) => ({
            paths: layer!.entries.map((entry) => entry.path),
            kinds: options.warnings.list().map(({ kind, count }) => `${kind} ${count}`),
          }));
        };
        assertEquals(await pathsOf(), { paths: ["one"], kinds: ["trailingBytes 1"] });
        assertEquals(await pathsOf({ ignoreZeros: true }), { paths: ["one", "two"], kinds: [] });
      }
    }
  });
});
