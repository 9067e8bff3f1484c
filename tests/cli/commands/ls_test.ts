import { assertEquals, assertStringIncludes } from "@std/assert";
import { LS } from "../../../cli/table/images.ts";
import { withFixture } from "./fixture_file.ts";
import { runFake } from "../fake_io.ts";

const ls = (...words: string[]) => runFake(["ls", ...words], [LS]);

Deno.test("ls lists names in byte order, and paths below with --recursive", async () => {
  await withFixture("rare-4k", async (image) => {
    const flat = await ls(image);
    assertEquals([flat.code, flat.stderr], [0, ""]);
    const names = flat.stdout.trimEnd().split("\n");
    assertEquals(names, [...names].sort());
    assertEquals(names.slice(0, 3), ["beyond-4g", "directory", "disk"]);
    assertEquals((await ls(image, "/directory")).stdout, "small\n");
    assertStringIncludes((await ls(image, "-R")).stdout, "/directory\n/directory/small\n/disk\n");
    assertEquals((await ls(image, "-d", "/directory")).stdout, "/directory\n");
    assertEquals((await ls(image, "<14>")).stdout, "small\n");
    assertEquals((await ls(image, "/pipe")).stdout, "/pipe\n");
  });
});

Deno.test("ls --long shows mode, owner, size, time and target", async () => {
  await withFixture("csum-4k", async (image) => {
    const { stdout } = await ls("-l", image);
    const lines = stdout.split("\n").map((line) => line.trim().split(/ +/).slice(1).join(" "));
    assertEquals(lines.filter((line) => /null|disk|short|times/.test(line)), [
      "b--------- 1 0 0 259, 60000 2023-11-14T22:13:20Z disk",
      "c--------- 1 0 0 1, 3 2023-11-14T22:13:20Z null",
      "lrwxrwxrwx 1 0 0 6 2023-11-14T22:13:20Z short -> target",
      "-rw-r--r-- 1 70000 4294967294 6 1969-12-31T23:59:59Z times",
    ]);
  });
});

Deno.test("ls --json has the names, with their bytes where they are not UTF-8", async () => {
  await withFixture("kernel", async (image) => {
    const { stdout, code } = await ls("--json", image, "/names");
    assertEquals(code, 0);
    const document = JSON.parse(stdout);
    assertEquals(document.image, image);
    const shown = document.entries.map((entry: { path: string }) => entry.path);
    assertEquals(shown, ["/names/x", "/names/z", "/names/été", "/names/\\xff\\xfe\\x80"]);
    const last = document.entries.at(-1);
    assertEquals([last.kind, last.mode, last.links], ["file", 0o644, 1]);
    assertEquals(atob(last.pathBase64), "/names/\xff\xfe\x80");
  });
});

Deno.test("ls fails with one line for what is not there and for what is no image", async () => {
  await withFixture("plain-4k", async (image) => {
    const missing = await ls(image, "/no\x1b[31m");
    assertEquals(missing.code, 3);
    assertStringIncludes(missing.stderr, "/no\\x1b[31m: does not exist");
    assertEquals((await ls(`${image}.not`)).code, 3);
    assertEquals(
      (await ls(image, "<99999>")).stderr.startsWith(`blessfs: ${image}: inode 99999: `),
      true,
    );
    Deno.writeFileSync(image, new Uint8Array(5000));
    const other = await ls(image);
    assertEquals(other.code, 3);
    assertStringIncludes(other.stderr, `${image}: superblock: its magic number is 0x0`);
    assertStringIncludes(other.stderr, "hint: this is not an ext2, ext3 or ext4 file system");
  });
});

Deno.test("ls --no-replay warns of a journal to be replayed, and --strict refuses it", async () => {
  await withFixture("plain-4k", async (image) => {
    const bytes = Deno.readFileSync(image);
    bytes[1024 + 0x5c]! |= 0x04; // has_journal
    bytes[1024 + 0x60]! |= 0x04; // needs_recovery
    Deno.writeFileSync(image, bytes);
    const refused = await ls(image);
    assertEquals(refused.code, 3);
    assertStringIncludes(refused.stderr, "its journal cannot be replayed");
    assertStringIncludes(refused.stderr, "use --no-replay");
    const { code, stderr } = await ls("--no-replay", image);
    assertEquals(code, 0);
    assertStringIncludes(stderr, "its journal holds changes that are not in place yet");
    assertEquals((await ls("--no-replay", "--strict", image)).code, 3);
    const document = JSON.parse((await ls("--no-replay", "--json", image)).stdout);
    assertEquals(document.warnings[0].kind, "dirtyJournal");
  });
});
