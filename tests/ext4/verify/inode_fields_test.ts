import { assertEquals } from "@std/assert";
import { inodeNamed, problemsOf, viewAt } from "./damage.ts";

Deno.test("fields of an inode are held against features, type and blocks", async () => {
  const cases: [name: string, at: number, value: number, problem: string][] = [
    ["times", 0x80, 3, "i_extra_isize"],
    ["times", 0x70, 1, "i_faddr"],
    ["times", 0x1c, 9, "i_blocks"],
    ["times", 0x20, 0x1000, "i_flags: INDEX on something other than a directory"],
    ["null", 0x04, 1, "i_size of a special file"],
    ["null", 0x20, 0x10, "i_flags: IMMUTABLE or APPEND"],
    ["directory", 0x04, 100, "i_size"],
    ["beyond-4g", 0x6c, 0, "i_size"],
    ["times", 0x22, 0, "flag EXTENTS of an inode with an extent tree"],
  ];
  for (const [name, at, value, problem] of cases) {
    const problems = await problemsOf("plain-4k", (image) => {
      viewAt(inodeNamed(image, name).slot).setUint16(at, value, true);
    });
    assertEquals(problems.includes(`inode: ${problem}`), true, `${name} ${problem}: ${problems}`);
  }
});
