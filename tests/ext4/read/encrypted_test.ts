import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { InputError } from "../../../lib/errors.ts";
import { blockRuns, filePayload } from "../../../lib/ext4/read/content.ts";
import { findInode, listNames } from "../../../lib/ext4/read/directory.ts";
import { openExt4Image } from "../../../lib/ext4/read/image.ts";
import { readTree } from "../../../lib/ext4/read/tree.ts";
import { memoryReader } from "../../../lib/io/random_reader.ts";
import { Warnings } from "../../../lib/warnings.ts";
import { mustRun, withTemporaryDirectory } from "../../oracle/command.ts";
import { kernelOrNotice, mountReadOnly } from "../../oracle/kernel.ts";
import { e2fsckVerdict, isReported, verdictOf } from "../verify/damage.ts";

const LONG_NAME = "a-name-of-16-byt";

/** Gives an inode an encryption context (linux/fs/crypto/fscrypt_private.h, fscrypt_context_v1). */
function setContext(bytes: Uint8Array, path: string, name: string, key = "k", nonce = "k"): void {
  const context = "\\001\\001\\004\\000" + key.repeat(8) + nonce.repeat(16);
  mustRun("debugfs", ["-w", "-R", `ea_set ${name} user.c "${context}"`, path]);
  bytes.set(Deno.readFileSync(path));
  const image = openExt4Image(memoryReader(bytes), { warnings: new Warnings() });
  const { inode } = findInode(image, name, { followsLast: false });
  // debugfs knows no name of an attribute of index 9.
  bytes[image.inodeOffset(inode.number) + 128 + 32 + 4 + 1] = 9;
  Deno.writeFileSync(path, bytes);
}

/** An image in which a directory and the file in it are flagged as encrypted. */
function encryptedImage(
  scratch: string,
  fileFlags: string,
  key?: string,
  nonce?: string,
): Uint8Array {
  const source = `${scratch}/source`;
  Deno.mkdirSync(`${source}/secret`, { recursive: true });
  Deno.writeTextFileSync(`${source}/secret/${LONG_NAME}`, "ciphertext");
  Deno.writeTextFileSync(`${source}/plain`, "text");
  const path = `${scratch}/image`;
  const options = [
    "-q",
    "-F",
    "-t",
    "ext4",
    "-O",
    "encrypt,^metadata_csum",
    "-d",
    source,
    path,
    "8M",
  ];
  mustRun("mke2fs", options);
  const bytes = Deno.readFileSync(path);
  setContext(bytes, path, "/secret");
  setContext(bytes, path, `/secret/${LONG_NAME}`, key, nonce);
  mustRun("debugfs", ["-w", "-R", "sif /secret flags 0x80800", path]);
  mustRun("debugfs", ["-w", "-R", `sif /secret/${LONG_NAME} flags ${fileFlags}`, path]);
  return Deno.readFileSync(path);
}

Deno.test("what is encrypted is listed, and left out of trees with a count", async () => {
  await withTemporaryDirectory(async (scratch) => {
    const bytes = encryptedImage(scratch, "0x80800");
    assertEquals(e2fsckVerdict(`${scratch}/image`).isReported, false);
    assertEquals(isReported(await verdictOf(bytes)), false);
    const warnings = new Warnings();
    const image = openExt4Image(memoryReader(bytes), { warnings });
    const { root } = await readTree(image, { warnings });
    assertEquals([...root.children.keys()], ["plain"]);
    assertEquals(warnings.list().map(({ kind, count }) => [kind, count]), [["encrypted", 1]]);
    const start = findInode(image, "/secret", { followsLast: true });
    const names = [...listNames(image, start, { recursive: true })];
    // The kernel's name for it without the key: its hashes and its bytes, in base64url.
    assertEquals(names.map(({ path }) => path.length), ["/secret/".length + 32]);
    const shown = names[0]!.path.slice("/secret/".length);
    assertStringIncludes(atob(shown.replaceAll("-", "+").replaceAll("_", "/")), LONG_NAME);
    assertEquals(findInode(image, names[0]!.path, { followsLast: true }).inode.kind, "file");
    if (kernelOrNotice("comparing encrypted names with those of the kernel")) {
      mountReadOnly(`${scratch}/image`, (mountPoint) => {
        assertEquals([...Deno.readDirSync(`${mountPoint}/secret`)].map(({ name }) => name), [
          shown,
        ]);
      });
    }
    assertEquals(blockRuns(image, names[0]!.inode).length, 1);
    assertThrows(() => filePayload(image, names[0]!.inode), InputError, "the file is encrypted");
  });
});

Deno.test("a file that is not encrypted in a directory that is, is damage to verify as to e2fsck", async () => {
  await withTemporaryDirectory(async (scratch) => {
    const bytes = encryptedImage(scratch, "0x80000");
    assertEquals(e2fsckVerdict(`${scratch}/image`).isReported, true);
    assertEquals(isReported(await verdictOf(bytes)), true);
  });
});

Deno.test("a directory and its files have one encryption policy, each with a nonce of its own", async () => {
  for (const [key, nonce, isDamaged] of [["k", "n", false], ["l", "n", true]] as const) {
    await withTemporaryDirectory(async (scratch) => {
      const bytes = encryptedImage(scratch, "0x80800", key, nonce);
      assertEquals(e2fsckVerdict(`${scratch}/image`).isReported, isDamaged);
      assertEquals(isReported(await verdictOf(bytes)), isDamaged);
    });
  }
});

Deno.test("readTree goes on past what cannot be read when somebody hears of it", async () => {
  await withTemporaryDirectory(async (scratch) => {
    const source = `${scratch}/source`;
    Deno.mkdirSync(source);
    for (const name of ["a", "b", "c"]) Deno.writeTextFileSync(`${source}/${name}`, name);
    const path = `${scratch}/image`;
    mustRun("mke2fs", ["-q", "-F", "-t", "ext4", "-O", "metadata_csum", "-d", source, path, "8M"]);
    const bytes = Deno.readFileSync(path);
    const warnings = new Warnings();
    const image = openExt4Image(memoryReader(bytes), { warnings });
    const { inode } = findInode(image, "/b", { followsLast: false });
    bytes[image.inodeOffset(inode.number) + 0x64]! ^= 1;
    const open = () => openExt4Image(memoryReader(bytes), { warnings });
    const left: string[] = [];
    const onFault = (name: string, error: InputError) => left.push(`${name}: ${error.message}`);
    const { root } = await readTree(open(), { warnings, onFault });
    assertEquals([...root.children.keys()], ["a", "c"]);
    assertEquals(left.length, 1);
    assertStringIncludes(left[0]!, `/b: inode ${inode.number}: checksum: found 0x`);
    const start = findInode(open(), "/", { followsLast: true });
    const names = [...listNames(open(), start, { recursive: true, onFault })];
    assertEquals(names.map(({ path }) => path), ["/a", "/c", "/lost+found"]);
    assertEquals([left.length, warnings.list()], [2, []]);
  });
});
