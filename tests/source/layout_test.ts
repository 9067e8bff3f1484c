import { assertEquals, assertRejects } from "@std/assert";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { InputError } from "../../lib/errors.ts";
import { openImage } from "../../lib/source/source.ts";
import { writeOciLayout } from "./build_layout.ts";
import { LAYERS } from "./build_wrong.ts";
import { testOptions, withDirectory } from "./helpers.ts";

Deno.test("openImage refuses a layout of another version", async () => {
  await withDirectory(async (directory) => {
    writeOciLayout(directory, { layers: LAYERS });
    const marker = join(directory, "oci-layout");
    const open = () => openImage(`oci:${directory}`, testOptions());
    writeFileSync(marker, `{"imageLayoutVersion":"2.0.0"}`);
    await assertRejects(open, InputError, `imageLayoutVersion is "2.0.0": wanted "1.0.0"`);
    writeFileSync(marker, `{}`);
    await assertRejects(open, InputError, "imageLayoutVersion is missing");
    writeFileSync(marker, `{"imageLayoutVersion":"1.0.0","more":1}`);
    const image = await open();
    assertEquals(image.kind, "oci");
    image.close();
  });
});
