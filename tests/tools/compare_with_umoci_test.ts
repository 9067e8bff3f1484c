import { assertEquals, assertStringIncludes } from "@std/assert";
import { hasCommand, withTemporaryDirectory } from "../oracle/command.ts";
import { kernelOrNotice } from "../oracle/kernel.ts";
import { notRun } from "../oracle/notice.ts";

const TOOL = new URL("../../tools/compare_with_umoci.sh", import.meta.url).pathname;
const FIXTURE = new URL("../../fixtures/oci-tiny", import.meta.url).pathname;

function compareWithUmoci(env: Record<string, string>, ...args: string[]) {
  const { code, stdout, stderr } = new Deno.Command(TOOL, {
    args: [FIXTURE, "latest", ...args],
    env: { DENO: Deno.execPath(), NO_COLOR: "1", ...env },
    stdin: "null",
  }).outputSync();
  const text = new TextDecoder();
  return { code, output: text.decode(stdout) + text.decode(stderr) };
}

Deno.test("oci-tiny is what umoci unpacks of it, to the last attribute", () => {
  if (!kernelOrNotice("comparing oci-tiny with umoci")) return;
  if (!hasCommand("umoci")) {
    return notRun("comparing oci-tiny with umoci", "umoci is not installed");
  }
  for (const options of [[], ["--packing", "tight", "--journal", "none", "--inline-data"]]) {
    const { code, output } = compareWithUmoci({}, ...options);
    assertEquals(code, 0, output);
    assertStringIncludes(output, "equal: 45 names");
  }
});

Deno.test("comparing with umoci fails when an image differs", () => {
  if (!kernelOrNotice("comparing a wrong image with umoci")) return;
  if (!hasCommand("umoci")) return notRun("comparing a wrong image", "umoci is not installed");
  withTemporaryDirectory((scratch) => {
    const other = `${scratch}/other`;
    // Whatever it is asked for (bless merged SOURCE -o IMAGE), it makes an empty image.
    Deno.writeTextFileSync(other, '#!/bin/sh\nexec mke2fs -q -t ext4 "$5" 4M\n', { mode: 0o755 });
    const { code, output } = compareWithUmoci({ BLESSFS: other });
    assertEquals(code, 1, output);
    assertStringIncludes(output, "different: /");
  });
});
