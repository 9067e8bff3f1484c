import { assertEquals } from "@std/assert";
import type { FixtureImage } from "../format/fixture_image.ts";
import { inodeNamed, problemsOf, viewAt } from "./damage.ts";

/** Where an entry of the root begins. */
function entryAt(image: FixtureImage, name: string): DataView<ArrayBufferLike> {
  const root = image.usedInodes().find(({ number }) => number === 2)!;
  const { bytes } = image.directoryBlocks(root).leaves[0]!;
  const text = new TextDecoder("latin1").decode(bytes);
  const at = text.indexOf(name.padEnd(name.length + 1, "\0")) - 8;
  return viewAt(bytes.subarray(at));
}

Deno.test("entries are held against what they name", async () => {
  const cases: [what: string, change: (image: FixtureImage) => void, problem: string][] = [
    ["type", (i) => entryAt(i, "empty").setUint8(7, 2), 'file type of "empty"'],
    ["unused", (i) => entryAt(i, "empty").setUint32(0, 60, true), 'entry "empty" names an inode'],
    ["range", (i) => entryAt(i, "empty").setUint32(0, 9999, true), 'entry "empty" names an inode'],
    ["root", (i) => entryAt(i, "empty").setUint32(0, 2, true), 'entry "empty" names the root'],
    ["slash", (i) => entryAt(i, "empty").setUint8(9, 0x2f), "the entry at"],
    ["rec_len", (i) => entryAt(i, "empty").setUint16(4, 10, true), "the entry at"],
    ["first", (i) => entryAt(i, "directory").setUint8(8, 0x64), ""],
  ];
  for (const [what, change, problem] of cases) {
    const problems = await problemsOf("plain-4k", change);
    if (problem === "") assertEquals(problems, [], what);
    else {
      const isTold = problems.some((each) => each.startsWith(`directory: ${problem}`));
      assertEquals(isTold, true, `${what}: ${problems}`);
    }
  }
});

Deno.test("a name is there once, and a directory has one name", async () => {
  const twice = await problemsOf("plain-4k", (image) => {
    const entry = entryAt(image, "holes");
    "empty".split("").forEach((char, i) => entry.setUint8(8 + i, char.charCodeAt(0)));
  });
  assertEquals(twice.includes('directory: entry "empty" is there twice'), true, `${twice}`);
  const linked = await problemsOf("plain-4k", (image) => {
    const entry = entryAt(image, "holes");
    entry.setUint32(0, inodeNamed(image, "directory").number, true);
    entry.setUint8(7, 2);
  });
  assertEquals(
    linked.includes('directory: entry "holes" is a second name of a directory'),
    true,
    `${linked}`,
  );
});

Deno.test("dot and dot-dot are where they belong", async () => {
  const change = (at: number, value: number) => (image: FixtureImage) => {
    const directory = inodeNamed(image, "directory");
    viewAt(image.fileBlocks(directory).get(0)!.bytes).setUint32(at, value, true);
  };
  const dot = await problemsOf("plain-4k", change(0, 2));
  assertEquals(dot, ['directory: first entry, not "." of the directory']);
  const dotDot = await problemsOf("plain-4k", change(12, 11));
  assertEquals(dotDot.includes('directory: parent in ".."'), true);
});
