import { assertEquals } from "@std/assert";
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { fastCdcGearTable, KERNEL_BASE64, splitMixGearTable } from "../../lib/chunk/fastcdc.ts";
import { notRun } from "../oracle/notice.ts";

Deno.test("KERNEL_BASE64 is what wat2wasm makes of fastcdc_kernel.wat", () => {
  const source = fileURLToPath(new URL("../../lib/chunk/fastcdc_kernel.wat", import.meta.url));
  const directory = mkdtempSync(join(tmpdir(), "blessfs-kernel-"));
  try {
    const target = join(directory, "kernel.wasm");
    const run = spawnSync("wat2wasm", [source, "-o", target], { encoding: "utf8" });
    if (run.error !== undefined) {
      notRun("the kernel against its own assembly", "wat2wasm is not installed");
      return;
    }
    assertEquals(run.stderr, "");
    assertEquals(readFileSync(target).toString("base64"), KERNEL_BASE64);
  } finally {
    rmSync(directory, { recursive: true });
  }
});

Deno.test("fastCdcGearTable is the published table, and a seed changes every entry", () => {
  const table = fastCdcGearTable();
  assertEquals(
    createHash("sha256").update(Buffer.from(table.buffer)).digest("hex"),
    "91a3061015ae351cd3701852712bcd6aa4a1ce26c8a231d3969432b00f028f88",
  );
  assertEquals(fastCdcGearTable(666n).map((value) => value ^ 666n), table);
});

Deno.test("splitMixGearTable has splitmix64's numbers behind the first", () => {
  // The generator's first outputs from the state 0 are known; ours begins one step on.
  const table = splitMixGearTable();
  assertEquals(table[0], 0x6e789e6aa1b965f4n);
  assertEquals(table[1], 0x06c45d188009454fn);
});
