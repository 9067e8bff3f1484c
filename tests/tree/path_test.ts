import { assertEquals, assertThrows } from "@std/assert";
import { InputError } from "../../lib/errors.ts";
import { checkName, normalisePath } from "../../lib/tree/path.ts";

const what = () => "entry";

Deno.test("normalisePath cuts at slashes and leaves out what names nothing", () => {
  for (const path of ["a/b", "./a/b", "a//b/", "a/./b/.", ".//./a/b//"]) {
    assertEquals(normalisePath(path, what), { names: ["a", "b"], clamped: false }, path);
  }
  for (const path of [".", "./", "/", "//", "/.", ""]) {
    assertEquals(normalisePath(path, what), { names: [], clamped: false }, path);
  }
  assertEquals(normalisePath(".../..a/a..", what).names, ["...", "..a", "a.."]);
});

Deno.test("normalisePath keeps paths inside the root and says so", () => {
  const cases: [string, string[]][] = [
    ["/a", ["a"]],
    ["../a", ["a"]],
    ["a/../../b", ["b"]],
    ["a/b/..", ["a"]],
    ["..", []],
    ["/../..", []],
  ];
  for (const [path, names] of cases) {
    assertEquals(normalisePath(path, what), { names, clamped: true }, path);
  }
});

Deno.test("normalisePath and checkName take names of 255 bytes and no more, and no NUL", () => {
  const longest = "n".repeat(255);
  assertEquals(normalisePath(`a/${longest}`, what).names, ["a", longest]);
  checkName(longest, what);
  for (const name of [`${longest}n`, "a\0"]) {
    assertThrows(() => normalisePath(`a/${name}/b`, what), InputError, "entry: the name");
    assertThrows(() => checkName(name, what), InputError, "entry: the name");
  }
});
