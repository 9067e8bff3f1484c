import { assertEquals, assertThrows } from "@std/assert";
import { UsageError } from "../../lib/errors.ts";
import { likelySource, parseSourceName } from "../../lib/source/source_name.ts";

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
