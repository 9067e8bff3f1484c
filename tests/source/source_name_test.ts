import { assertEquals, assertThrows } from "@std/assert";
import { BlessfsError, UsageError } from "../../lib/errors.ts";
import {
  formatReference,
  likelySource,
  parseReference,
  parseSourceName,
  sameReference,
} from "../../lib/source/source_name.ts";

function parse(source: string, existing: readonly string[] = []): unknown {
  return parseSourceName(source, (path) => existing.includes(path));
}

Deno.test("parseSourceName takes every kind of source apart", () => {
  assertEquals(parse("-"), { kind: "stdin" });
  assertEquals(parse("oci:d"), { kind: "oci", path: "d", reference: undefined });
  assertEquals(parse("oci:d:r"), { kind: "oci", path: "d", reference: "r" });
  assertEquals(parse("oci-archive:f.tar:r"), {
    kind: "oci-archive",
    path: "f.tar",
    reference: "r",
  });
  assertEquals(parse("docker-archive:f.tar:x:1"), {
    kind: "docker-archive",
    path: "f.tar",
    reference: "x:1",
  });
  assertEquals(parse("docker://a/b:c"), { kind: "docker", reference: "a/b:c" });
  for (const kind of ["docker-daemon", "containers-storage"]) {
    assertEquals(parse(`${kind}:a/b:c`), { kind, reference: "a/b:c" });
  }
  for (const kind of ["dir", "tar", "rootfs"]) {
    assertEquals(parse(`${kind}:a:b`), { kind, path: "a:b" });
  }
  assertEquals(parse("ext4:a:b"), { kind: "ext4", path: "a:b", partition: undefined });
  assertEquals(parse("ext4:a#12"), { kind: "ext4", path: "a", partition: 12 });
  assertEquals(parse("ext4:a#b"), { kind: "ext4", path: "a#b", partition: undefined });
});

Deno.test("parseSourceName splits a reference off behind the path that exists", () => {
  const parsed = (path: string, reference: string | undefined) => ({
    kind: "oci",
    path,
    reference,
  });
  assertEquals(parse("oci:/x/a:b:c"), parsed("/x/a", "b:c"));
  assertEquals(parse("oci:/x/a:b:c", ["/x/a:b"]), parsed("/x/a:b", "c"));
  assertEquals(parse("oci:/x/a:b:c", ["/x/a", "/x/a:b"]), parsed("/x/a", "b:c"));
  assertEquals(parse("oci:/x/a:b:c", ["/x/a:b:c"]), parsed("/x/a:b:c", undefined));
  assertEquals(parse("oci:d:@0"), parsed("d", "@0"));
});

Deno.test("parseSourceName leaves paths to be recognised", () => {
  for (const path of ["x.tar", "/a/b", "./x:y", "C", "../up"]) {
    assertEquals(parse(path), { kind: "path", path });
  }
  assertEquals(parse("odd:name.tar", ["odd:name.tar"]), { kind: "path", path: "odd:name.tar" });
});

Deno.test("parseSourceName refuses what cannot be meant", () => {
  const wrong = ["", "oci:", "oci::r", "oci:d:", "tar:", "dir:", "docker://", "a\0b"];
  for (const source of wrong) assertThrows(() => parse(source), UsageError);
  assertThrows(() => parse("docker:debian"), UsageError, "docker://");
  assertThrows(() => parse("oic:dir"), UsageError, `"oic:" is not a kind of source`);
});

Deno.test("likelySource names an image of a layout that is there, or of a registry", () => {
  const exists = (path: string) => path === "images/python";
  const hints: [source: string, hint: string | undefined][] = [
    ["images/python:latest", "for an image of a layout, write oci:images/python:latest"],
    ["nginx:latest", "for an image in a registry, write docker://nginx:latest"],
    ["team/app", "for an image in a registry, write docker://team/app"],
    [
      "https://registry.example.com/a/b:1",
      "for an image in a registry, write docker://registry.example.com/a/b:1",
    ],
    ["docker:debian", "for an image in a registry, write docker://debian"],
    ["/images/x:tag", undefined],
    ["./app", undefined],
    ["python.ext4", undefined],
    ["root.tar.gz", undefined],
    ["Not a reference", undefined],
  ];
  for (const [source, hint] of hints) assertEquals(likelySource(source, exists), hint, source);
});

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
