import { assertEquals } from "@std/assert";
import { LinkTable } from "../../../../lib/ext4/read/verify/links.ts";
import { inodeNamed, problemsOf, viewAt } from "./damage.ts";

Deno.test("LinkTable tells the first name of a directory when there is a second", () => {
  const links = new LinkTable();
  assertEquals([links.name(12, 2), links.name(12, 13), links.parentOf(12)], [undefined, 2, 2]);
  links.setDotDot(12, 2);
  assertEquals([links.dotDotOf(12), links.dotDotOf(13)], [2, undefined]);
});

Deno.test("inodes without a name and directories without a way to the root are told", async () => {
  const problems = await problemsOf("plain-4k", (image) => {
    const root = image.usedInodes().find(({ number }) => number === 2)!;
    const { bytes } = image.directoryBlocks(root).leaves[0]!;
    for (const name of ["directory", "pipe"]) {
      const at = new TextDecoder("latin1").decode(bytes).indexOf(name) - 8;
      viewAt(bytes).setUint32(at, 0, true);
    }
  });
  assertEquals(problems.filter((each) => !each.startsWith("inode: i_links_count")), [
    "directory: no way leads to it from the root",
    "inode: it is in use, but has no name",
  ]);
});

Deno.test("an indexed directory may have lost count of its links, but not another", async () => {
  const oneLink = (name: string) =>
    problemsOf("plain-4k", (image) => {
      viewAt(inodeNamed(image, name).slot).setUint16(0x1a, 1, true);
    });
  assertEquals(await oneLink("many"), []);
  assertEquals(await oneLink("directory"), ["inode: i_links_count"]);
});
