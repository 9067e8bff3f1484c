import { assertEquals, assertThrows } from "@std/assert";
import { InputError } from "../../../../lib/errors.ts";
import { Findings, hex } from "../../../../lib/ext4/read/verify/findings.ts";

Deno.test("Findings keeps up to its bound and counts the rest", () => {
  const findings = new Findings(2);
  for (let i = 0; i < 5; i++) findings.add("inode", { inode: i }, "i_size");
  assertEquals([findings.total, findings.kept.length], [5, 2]);
});

Deno.test("Findings.attempt makes a finding of what a decoder refuses, and of nothing else", () => {
  const findings = new Findings(9);
  const refuse = () => {
    throw new InputError("here", "its depth is 7, over 5", { data: { actual: 7, expected: 5 } });
  };
  assertEquals(findings.attempt("extent tree", { inode: 12 }, refuse), undefined);
  assertEquals(findings.kept, [{
    structure: "extent tree",
    inode: 12,
    problem: "its depth is 7, over 5",
    found: 7,
    wanted: 5,
  }]);
  assertThrows(() =>
    findings.attempt("inode", {}, () => {
      throw new TypeError("a fault of the program");
    }), TypeError);
});

Deno.test("hex shows numbers as flags and checksums are written", () => {
  assertEquals(hex(0xea020000), "0xea020000");
});
