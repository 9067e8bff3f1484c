import { assertEquals, assertStringIncludes } from "@std/assert";
import { byteStringFromBytes } from "../../lib/bytes/byte_string.ts";
import { mustRun, runCommand, withTemporaryDirectory } from "./command.ts";
import { kernelOrNotice, mountReadOnly } from "./kernel.ts";
import { closeDescriptor, openDirectory } from "./libc.ts";
import { openWritableAt, setXattrAt, symlinkAt } from "./libc_changes.ts";
import { firstWrongAccess } from "./unprivileged.ts";

const TOOL = new URL("../../tools/compare_image.ts", import.meta.url).pathname;
const ROOT_MTIME_SECONDS = 1_500_000_000;
const FILE_MTIME_SECONDS = 1_600_000_000;

/** An access ACL in the system call's format: user 65534 may read, the mask is rw-, others nothing. */
const ACL = new Uint8Array(
  [
    [2, 0, 0, 0],
    [1, 0, 6, 0, 255, 255, 255, 255],
    [2, 0, 4, 0, 0xfe, 0xff, 0, 0],
    [4, 0, 4, 0, 255, 255, 255, 255],
    [0x10, 0, 6, 0, 255, 255, 255, 255],
    [0x20, 0, 0, 0, 255, 255, 255, 255],
  ].flat(),
);
/** VFS_CAP_REVISION_2 with cap_net_raw. */
const CAPABILITY = new Uint8Array([1, 0, 0, 2, 0, 0x20, ...new Array(14).fill(0)]);

/** A directory with one of everything, its mtimes in whole seconds because mke2fs -d keeps no more. */
function makeSample(path: string): void {
  for (const name of ["", "/sub", "/sub/deep", "/locked"]) Deno.mkdirSync(path + name);
  Deno.writeFileSync(`${path}/file`, new Uint8Array(10_000).map((_, i) => i % 251));
  Deno.writeTextFileSync(`${path}/sub/one`, "one");
  Deno.linkSync(`${path}/sub/one`, `${path}/sub/deep/other-name`);
  Deno.writeTextFileSync(`${path}/sub/twin`, "twin");
  Deno.writeTextFileSync(`${path}/with-acl`, "acl");
  Deno.writeTextFileSync(`${path}/secret`, "secret");
  Deno.writeTextFileSync(`${path}/locked/open-mode`, "unreachable");
  Deno.symlinkSync("somewhere/else", `${path}/link`);
  mustRun("mknod", [`${path}/device`, "c", "300", "70000"]);
  mustRun("mknod", [`${path}/pipe`, "p"]);
  // A change of owner drops setuid and capabilities, so it comes first.
  Deno.chownSync(`${path}/file`, 70_000, 80_000);
  Deno.chmodSync(`${path}/file`, 0o4755);
  const root = openDirectory(path);
  try {
    closeDescriptor(openWritableAt(root, "bytes-\xff\xfe", true));
    symlinkAt(root, "link-\x80", "target-\xff");
    setXattrAt(root, "file", "security.capability", CAPABILITY);
    setXattrAt(root, "file", "user.comment", new Uint8Array([0, 1, 0xff]));
    setXattrAt(root, "with-acl", "system.posix_acl_access", ACL);
  } finally {
    closeDescriptor(root);
  }
  Deno.chmodSync(`${path}/secret`, 0o600);
  Deno.chmodSync(`${path}/locked`, 0o700);
  mustRun("find", [path, "-exec", "touch", "-h", "-d", `@${FILE_MTIME_SECONDS}`, "{}", "+"]);
  mustRun("touch", ["-d", `@${ROOT_MTIME_SECONDS}`, path]);
}

/** Runs debugfs commands; it exits 0 whatever happens, but a command that worked says nothing after its banner. */
function debugfs(image: string, ...commands: string[]): void {
  const script = `${image}.debugfs`;
  Deno.writeTextFileSync(script, `${commands.join("\n")}\n`);
  const { stderr } = runCommand("debugfs", ["-w", "-f", script, image]);
  const complaint = stderr.trim().split("\n").slice(1).join("\n");
  if (complaint !== "") throw new Error(`debugfs ${commands.join("; ")}: ${complaint}`);
}

/** Checksums are off, so that a tampered byte reaches the comparison instead of the kernel's own check. */
function makeImage(directory: string, image: string): void {
  mustRun("mke2fs", ["-q", "-t", "ext4", "-O", "^metadata_csum", "-d", directory, image, "4M"]);
  debugfs(image, `sif / mtime @${ROOT_MTIME_SECONDS}`);
}

function flipByte(image: string, offset: number, mask = 1): void {
  using file = Deno.openSync(image, { read: true, write: true });
  const byte = new Uint8Array(1);
  file.seekSync(offset, Deno.SeekMode.Start);
  file.readSync(byte);
  byte[0]! ^= mask;
  file.seekSync(offset, Deno.SeekMode.Start);
  file.writeSync(byte);
}

/** Where one byte of a file lies in an image with blocks of 1 KiB. */
function offsetOf(image: string, path: string, fileOffset: number): number {
  const block = Math.floor(fileOffset / 1024);
  const physical = Number(mustRun("debugfs", ["-R", `bmap ${path} ${block}`, image]).trim());
  return physical * 1024 + (fileOffset % 1024);
}

/** Makes the version of the ACL in an image (1, then the owner's entry) one that does not exist. */
function damageAcl(image: string): void {
  flipByte(image, offsetOfBytes(image, [1, 0, 0, 0, 1, 0, 6, 0]), 2);
}

/** Where some bytes lie that an image holds once. */
function offsetOfBytes(image: string, wanted: readonly number[]): number {
  const text = byteStringFromBytes(Deno.readFileSync(image));
  const offset = text.indexOf(String.fromCharCode(...wanted));
  if (offset < 0) throw new Error(`${image}: does not hold the bytes ${wanted.join(" ")}`);
  return offset;
}

function compare(image: string, directory: string, ...options: string[]) {
  const { code, stdout, stderr } = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-lock", "--no-check", TOOL, image, directory, ...options],
  }).outputSync();
  const text = new TextDecoder();
  return { code, output: text.decode(stdout) + text.decode(stderr) };
}

interface Tampering {
  readonly name: string;
  readonly found: string;
  readonly apply: (image: string, scratch: string) => void;
}

const inode = (...commands: string[]) => (image: string) => debugfs(image, ...commands);

const TAMPERINGS: readonly Tampering[] = [
  { name: "mode", apply: inode("sif /file mode 0100755"), found: "/file: mode" },
  { name: "setgid on a directory", apply: inode("sif /sub mode 042755"), found: "/sub: mode" },
  { name: "owner", apply: inode("sif /sub/twin uid 1"), found: "/sub/twin: uid" },
  { name: "high bits of the owner", apply: inode("sif /file uid 135536"), found: "/file: uid" },
  { name: "group", apply: inode("sif /link gid 9"), found: "/link: gid" },
  { name: "mtime", apply: inode("sif /pipe mtime @1600000001"), found: "/pipe: mtime" },
  {
    name: "mtime by a nanosecond",
    apply: inode("sif /sub/deep mtime_extra 4"),
    found: "/sub/deep: mtime: found 1600000000 s + 1 ns, wanted 1600000000 s + 0 ns",
  },
  { name: "mtime of the root", apply: inode("sif / mtime @7"), found: "/: mtime: found 7 s" },
  {
    name: "xattr value",
    apply: inode("ea_set /file user.comment xyz"),
    found: "/file: xattr user.comment: found 3 bytes 78797a, wanted 3 bytes 0001ff",
  },
  {
    name: "missing capability",
    apply: inode("ea_rm /file security.capability"),
    found: "/file: xattr security.capability: found nothing",
  },
  {
    name: "extra xattr",
    apply: inode("ea_set /sub trusted.more 1"),
    found: "/sub: xattr trusted.more: found 1 bytes 31, wanted nothing",
  },
  {
    name: "missing ACL",
    apply: inode("ea_rm /with-acl system.posix_acl_access"),
    found: "/with-acl: xattr system.posix_acl_access: found nothing",
  },
  {
    name: "an ACL that the kernel cannot read",
    apply: damageAcl,
    found: "/with-acl: xattrs: found lgetxattr system.posix_acl_access",
  },
  {
    name: "first byte",
    apply: (image) => flipByte(image, offsetOf(image, "/file", 0)),
    found: "/file: byte 0: found 0x01, wanted 0x00",
  },
  {
    name: "last byte",
    apply: (image) => flipByte(image, offsetOf(image, "/file", 9_999)),
    found: "/file: byte 9999: ",
  },
  { name: "size", apply: inode("sif /file size 9999"), found: "/file: size: found 9999" },
  {
    name: "missing file",
    apply: inode("unlink /sub/twin"),
    found: "/sub/twin: path: found nothing",
  },
  {
    name: "missing last file",
    apply: inode("unlink /with-acl"),
    found: "/with-acl: path: found nothing",
  },
  {
    name: "one byte of a name that is not UTF-8",
    apply: (image) => flipByte(image, offsetOfBytes(image, [0x2d, 0xff, 0xfe]) + 2, 0x80),
    found: "/bytes-\\xff~: path: found file, wanted nothing",
  },
  {
    name: "extra file",
    apply: inode("cd /sub", "mknod new p"),
    found: "/sub/new: path: found fifo",
  },
  {
    name: "extra last file",
    apply: inode("mknod zzz p"),
    found: "/zzz: path: found fifo, wanted nothing",
  },
  {
    name: "a name that no file can have",
    apply: inode("mknod /sub/new p"),
    found: "/: entries: found getdents64",
  },
  {
    name: "a file in lost+found",
    apply: inode("cd /lost+found", "mknod x p"),
    found: "/: links: found 5, wanted 4",
  },
  {
    name: "link count",
    apply: inode("sif /sub/one links_count 3"),
    found: "/sub/deep/other-name: links: found 3, wanted 2",
  },
  {
    name: "link count of a directory",
    apply: inode("sif /sub links_count 4"),
    found: "/sub: links: found 4, wanted 3",
  },
  {
    name: "names that share no inode any more",
    apply: (image, scratch) => {
      Deno.writeTextFileSync(`${scratch}/one`, "one");
      debugfs(
        image,
        "unlink /sub/one",
        "cd /sub",
        `write ${scratch}/one one`,
        "sif /sub/one links_count 2",
        `sif /sub/one mtime @${FILE_MTIME_SECONDS}`,
        "sif /sub/one mtime_extra 0",
        "sif /sub/one mode 0100644",
      );
    },
    found:
      "/sub/one: hard links: found an inode of its own, wanted the inode of /sub/deep/other-name",
  },
  {
    name: "symlink target",
    apply: inode("sif /link block[0] 0x20202020"),
    found: "/link: target",
  },
  { name: "device number", apply: inode("sif /device block[1] 0x100"), found: "/device: device" },
  {
    name: "type",
    apply: inode("sif /pipe mode 0140644"),
    found: "/pipe: type: found socket, wanted fifo",
  },
];

Deno.test("compare_image accepts an untouched image and finds every kind of tampering", () => {
  if (!kernelOrNotice("comparing tampered images")) return;
  withTemporaryDirectory((scratch) => {
    const directory = `${scratch}/tree`;
    const original = `${scratch}/original.ext4`;
    makeSample(directory);
    makeImage(directory, original);
    const untouched = compare(original, directory, "--unprivileged");
    assertEquals(untouched.code, 0, untouched.output);
    assertStringIncludes(untouched.output, "equal: 16 names");
    assertStringIncludes(untouched.output, "refused, all rightly");
    for (const { name, apply, found } of TAMPERINGS) {
      const image = `${scratch}/tampered.ext4`;
      Deno.copyFileSync(original, image);
      apply(image, scratch);
      const { code, output } = compare(image, directory);
      assertEquals(code, 1, `${name}: ${output}`);
      assertStringIncludes(output, `different: ${found}`, name);
    }
  });
});

Deno.test("firstWrongAccess finds an ACL that the kernel cannot read", () => {
  if (!kernelOrNotice("opening files as another user")) return;
  withTemporaryDirectory((scratch) => {
    const image = `${scratch}/image.ext4`;
    makeSample(`${scratch}/tree`);
    makeImage(`${scratch}/tree`, image);
    assertEquals(mountReadOnly(image, (mountPoint) => firstWrongAccess(mountPoint)), undefined);
    damageAcl(image);
    const wrong = mountReadOnly(image, (mountPoint) => firstWrongAccess(mountPoint));
    assertEquals(wrong?.path, "/with-acl");
  });
});

Deno.test("compare_image tells a wrong command line and an unusable image from a difference", () => {
  withTemporaryDirectory((scratch) => {
    assertEquals(compare(scratch, scratch, "--what").code, 2);
    assertEquals(compare(scratch, scratch, "--ignore", "mtime").code, 2);
    assertEquals(compare(`${scratch}/none`, scratch).code, 3);
    Deno.writeFileSync(`${scratch}/zeros`, new Uint8Array(1 << 20));
    assertEquals(compare(`${scratch}/zeros`, scratch).code, 3);
  });
});

Deno.test("compare_image leaves out a field only where it was told to, and says so", () => {
  withTemporaryDirectory((scratch) => {
    for (const tree of ["a", "b"]) {
      Deno.mkdirSync(`${scratch}/${tree}`);
      Deno.writeTextFileSync(`${scratch}/${tree}/x`, "");
      Deno.utimeSync(`${scratch}/${tree}/x`, 1, tree === "a" ? 1 : 2);
      Deno.utimeSync(`${scratch}/${tree}`, 1, 1);
    }
    assertEquals(compare(`${scratch}/a`, `${scratch}/b`).code, 1);
    const { code, output } = compare(`${scratch}/a`, `${scratch}/b`, "--ignore", "mtime:/x");
    assertEquals(code, 0, output);
    assertStringIncludes(output, "left out: /x: mtime differs");
    assertEquals(compare(`${scratch}/a`, `${scratch}/b`, "--ignore", "mtime:/").code, 1);
  });
});
