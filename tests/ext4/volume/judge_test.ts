import { assertEquals, assertThrows } from "@std/assert";
import { InputError } from "../../../lib/errors.ts";
import {
  Findings,
  hex,
  MessageJudge,
  ReadingJudge,
  StrictJudge,
} from "../../../lib/ext4/volume/judge.ts";
import { Warnings } from "../../../lib/warnings.ts";

Deno.test("Findings keeps up to its bound and counts the rest", () => {
  const findings = new Findings(2);
  for (let i = 0; i < 5; i++) findings.report("inode", { inode: i }, "i_size");
  findings.report("superblock", {}, "s_mtime", { severity: "note" });
  assertEquals([findings.total, findings.notes, findings.kept.length], [6, 1, 2]);
});

Deno.test("attempt reports what a decoder refuses, and nothing else", () => {
  const findings = new Findings(9);
  const refuse = () => {
    throw new InputError("here", "its depth is 7, over 5", { data: { actual: 7, expected: 5 } });
  };
  assertEquals(findings.attempt("extent tree", { inode: 12 }, refuse), undefined);
  assertEquals(findings.attempt("extent tree", { inode: 12 }, () => 7), 7);
  assertEquals(findings.kept, [{
    code: "badFormat",
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

Deno.test("ReadingJudge throws for what the kernel refuses, and warns of what it reads past", () => {
  const warnings = new Warnings();
  const judge = new ReadingJudge(warnings);
  assertThrows(
    () => judge.report("extent tree", { inode: 12, block: 9 }, "eh_depth", { found: 3, wanted: 1 }),
    InputError,
    "extent tree (inode 12, block 9): eh_depth: found 3, wanted 1",
  );
  judge.report("inode", { inode: 12 }, "i_faddr", { found: 3, wanted: 0, isReadable: true });
  judge.report("superblock", {}, "s_mtime", { severity: "note" });
  assertEquals(warnings.list().map(({ kind, message }) => [kind, message]), [
    ["damagedMetadata", "inode 12: i_faddr: found 3, wanted 0; it was read anyway"],
  ]);
  assertThrows(
    () => new ReadingJudge(new Warnings(true)).report("inode", {}, "i_faddr", { isReadable: true }),
    InputError,
    "i_faddr",
  );
});

Deno.test("StrictJudge throws for all but notes", () => {
  const judge = new StrictJudge("a.ext4: ");
  judge.report("superblock", {}, "s_mtime", { severity: "note" });
  assertThrows(
    () => judge.report("inode", { inode: 12 }, "i_faddr", { found: 3, isReadable: true }),
    InputError,
    "a.ext4: inode 12: i_faddr: found 3",
  );
});

Deno.test("MessageJudge keeps each message once, and lets other errors through", () => {
  const judge = new MessageJudge();
  const fail = (why: string) => () => {
    throw new InputError("image", why);
  };
  assertEquals(judge.look(() => 7), 7);
  for (const why of ["b", "a", "b"]) assertEquals(judge.look(fail(why)), undefined);
  judge.report("inode", { inode: 3 }, "type");
  assertEquals(judge.messages, ["image: b", "image: a", "inode 3: type"]);
  assertThrows(() => judge.look(() => assertEquals(1, 2)));
  assertEquals(judge.messages.length, 3);
});

Deno.test("hex shows numbers as flags and checksums are written", () => {
  assertEquals([hex(0xea020000), hex(-1)], ["0xea020000", "0xffffffff"]);
});
