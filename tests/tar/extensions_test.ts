import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { InputError } from "../../lib/errors.ts";
import { joinBytes } from "./build.ts";
import { longName, paxHeader, rawEntry, rawHeader, rawTar } from "./raw.ts";
import { faultOf, readTar } from "./read.ts";

Deno.test("TarIndexer lets GNU long names win over PAX paths, and the last of a kind over the first", () => {
  const tar = rawTar(
    longName("L", "first"),
    longName("K", "first target"),
    longName("L", "second"),
    paxHeader([["path", "pax"], ["linkpath", "pax target"]]),
    longName("K", "second target"),
    rawHeader({ flag: "2", link: "short" }),
    rawHeader({ flag: "2", name: "next", link: "short" }),
  );
  const { entries } = readTar(tar);
  assertEquals(
    entries.map(({ path, linkTarget }) => [path, linkTarget]),
    [["second", "second target"], ["next", "short"]],
  );
});

Deno.test("TarIndexer cuts GNU long names at their first NUL", () => {
  const tar = rawTar(
    rawEntry({ flag: "L", format: "gnu" }, "0123456789\0abcdef\0"),
    rawHeader({}),
    rawEntry({ flag: "L", format: "gnu" }, "no NUL at all"),
    rawHeader({}),
    rawEntry({ flag: "L", format: "gnu" }, ""),
    rawHeader({ name: "plain" }),
  );
  assertEquals(readTar(tar).entries.map((entry) => entry.path), [
    "0123456789",
    "no NUL at all",
    "plain",
  ]);
});

Deno.test("TarIndexer wants an entry behind extended headers", () => {
  const pax = paxHeader([["path", "p"]]);
  assertStringIncludes(faultOf(pax).message, "the entry of this header is missing");
  assertStringIncludes(faultOf(joinBytes([pax, new Uint8Array(512)])).message, "is missing");
  assertEquals(readTar(rawTar(pax)).warningKinds, ["danglingHeader"]);
});

Deno.test("TarIndexer passes over global headers, keeps what stood before them, and speaks of what they say", () => {
  const comment = paxHeader([["comment", "commit id"]], { flag: "g" });
  const quiet = readTar(rawTar(comment, rawHeader({ name: "a" })));
  assertEquals([quiet.entries[0]!.path, quiet.warningKinds], ["a", []]);
  const loud = readTar(rawTar(
    paxHeader([["path", "own"]]),
    paxHeader([["path", "global"], ["uid", "7"], ["mtime", ""]], { flag: "g" }),
    rawHeader({ name: "a" }),
    rawHeader({ name: "b" }),
  ));
  assertEquals(loud.entries.map(({ path, uid }) => [path, uid]), [["own", 0], ["b", 0]]);
  assertEquals(loud.warningKinds, ["globalHeader", "globalHeader"]);
  assertThrows(() => readTar(rawTar(rawEntry({ flag: "g" }, "3 x\n"))), InputError);
});

Deno.test("TarIndexer does not apply the PAX size to long names or further extended headers between", () => {
  const { entries } = readTar(rawTar(
    paxHeader([["size", "2"], ["uid", "5"]]),
    longName("L", "long/".repeat(200)),
    longName("K", "target"),
    rawEntry({ name: "a", size: 700 }, "hi"),
    rawHeader({ name: "b" }),
  ));
  assertEquals(entries.map(({ path }) => path), ["long/".repeat(200), "b"]);
  assertEquals(entries.map(({ payload }) => payload?.sizeBytes), [2, 0]);
});
