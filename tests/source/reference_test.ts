import { assertEquals, assertThrows } from "@std/assert";
import { BlessfsError, UsageError } from "../../lib/errors.ts";
import { formatReference, parseReference, sameReference } from "../../lib/source/source_name.ts";

const DIGEST = `sha256:${"a".repeat(64)}`;

Deno.test("parseReference fills in what goes without saying", () => {
  const full: readonly [string, string][] = [
    ["debian", "docker.io/library/debian:latest"],
    ["debian:12", "docker.io/library/debian:12"],
    ["me/app", "docker.io/me/app:latest"],
    ["docker.io/debian", "docker.io/library/debian:latest"],
    ["index.docker.io/library/debian", "docker.io/library/debian:latest"],
    ["ghcr.io/a/b/c:v1", "ghcr.io/a/b/c:v1"],
    ["localhost/x", "localhost/x:latest"],
    ["localhost:5000/x:1", "localhost:5000/x:1"],
    ["host:5000/x", "host:5000/x:latest"],
    ["127.0.0.1:5555/test/x:v1", "127.0.0.1:5555/test/x:v1"],
    ["[::1]:5000/x", "[::1]:5000/x:latest"],
    [`quay.io/x@${DIGEST}`, `quay.io/x@${DIGEST}`],
    [`quay.io/x:tag@${DIGEST}`, `quay.io/x:tag@${DIGEST}`],
    ["x.y/a__b/c-d---e/f.g:T_.-1", "x.y/a__b/c-d---e/f.g:T_.-1"],
  ];
  for (const [written, wanted] of full) {
    assertEquals(formatReference(parseReference(written)), wanted, written);
  }
});

Deno.test("parseReference takes a reference apart", () => {
  assertEquals(parseReference(`r.io:80/a/b:t@${DIGEST}`), {
    registry: "r.io:80",
    repository: "a/b",
    tag: "t",
    digest: DIGEST,
  });
});

Deno.test("parseReference refuses what is no reference", () => {
  const wrong = [
    "",
    ":tag",
    "Debian",
    "debian:",
    "debian@",
    "debian@sha256:12",
    "debian:-x",
    `debian:${"x".repeat(129)}`,
    "a//b",
    "/a",
    "a/",
    "r.io/",
    "r.io/A",
    "r.io/a..b",
    "r.io/../b",
    "r..io/a",
    "-r.io/a",
    "r.io:port/a",
    "r.io:123456/a",
    "user@r.io/a",
    "http://r.io/a",
    "r.io/a\n",
    "r.io/a b",
    `r.io/${"a".repeat(300)}`,
  ];
  for (const text of wrong) assertThrows(() => parseReference(text), BlessfsError, "reference");
});

Deno.test("parseReference repeats no password that stands in front of a host", () => {
  const error = assertThrows(
    () => parseReference("me:hunter22@r.io/a"),
    UsageError,
    "not a digest",
  );
  assertEquals(`${error.message} ${error.hint}`.includes("hunter22"), false);
  assertThrows(() => parseReference("r.io/a@sha256:00"), UsageError, "not a digest");
});

Deno.test("sameReference compares names as docker completes them", () => {
  assertEquals(sameReference("debian", "docker.io/library/debian:latest"), true);
  assertEquals(sameReference("debian:12", "debian"), false);
  assertEquals(sameReference("No Reference", "No Reference"), true);
  assertEquals(sameReference("No Reference", "no reference"), false);
});
