import { assertEquals } from "@std/assert";
import { contentText } from "../../../cli/commands/tar_output.ts";
import { noCounts } from "../../../lib/bless/export.ts";

Deno.test("contentText names what there is, and nothing when there is nothing", () => {
  assertEquals(contentText(noCounts()), "nothing");
  assertEquals(
    contentText({ ...noCounts(), files: 1200, whiteouts: 1 }),
    "1,200 files, 1 whiteouts",
  );
});
