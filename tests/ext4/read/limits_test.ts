import { assertThrows } from "@std/assert";
import { InputError } from "../../../lib/errors.ts";
import { BlockBudget } from "../../../lib/ext4/read/limits.ts";

Deno.test("BlockBudget lets inodes own as many blocks as there are, and no more", () => {
  const budget = new BlockBudget(100);
  budget.take(60, "inode 12");
  budget.take(40, "inode 13");
  assertThrows(
    () => budget.take(1, "inode 14"),
    InputError,
    "inode 14: with it, 101 blocks have owners: the file system has 100",
  );
});
