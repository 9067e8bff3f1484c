import { assertEquals, assertRejects } from "@std/assert";
import { withTree } from "../../lib/bless/plan_image.ts";
import { InputError } from "../../lib/errors.ts";
import { walkTree } from "../../lib/model/node.ts";
import { Warnings } from "../../lib/warnings.ts";
import { testOptions, withDirectory } from "./helpers.ts";
import { VARIED_INPUTS } from "./varied_inputs.ts";

for (const { what, make, wanted, warnings: kinds = [] } of VARIED_INPUTS) {
  Deno.test(`${what}: read or refused, never something else`, async () => {
    await withDirectory(async (directory) => {
      const warnings = new Warnings();
      const source = make(directory);
      const paths = () =>
        withTree(
          source,
          testOptions({ warnings, platform: "linux/amd64" }),
          ({ tree }) => {
            const all = [...walkTree(tree)].map(({ path }) => path);
            return Promise.resolve(all.filter((path) => path !== ""));
          },
        );
      if (wanted instanceof RegExp) {
        const { message } = await assertRejects(paths, InputError);
        assertEquals(wanted.test(message), true, message);
        return;
      }
      assertEquals(await paths(), wanted);
      assertEquals(warnings.list().map(({ kind }) => kind), kinds);
    });
  });
}
