import { assert, assertEquals, assertThrows } from "@std/assert";
import { isS3Address, objectPath, parseS3Address } from "../../lib/chunk/s3_request.ts";
import { UsageError } from "../../lib/errors.ts";

Deno.test("parseS3Address reads host, bucket and prefix", () => {
  const cases: [string, string, string, string][] = [
    [
      "s3+https://s3.eu-central-1.amazonaws.com/images",
      "https://s3.eu-central-1.amazonaws.com",
      "images",
      "",
    ],
    ["s3+http://[::1]:9000/bucket/", "http://[::1]:9000", "bucket", ""],
    ["s3+https://host/bucket/a/b%20c/", "https://host", "bucket", "a/b c/"],
    ["S3+HTTP://Host:80/bucket/x", "http://host", "bucket", "x/"],
  ];
  for (const [text, origin, bucket, prefix] of cases) {
    const address = parseS3Address(text);
    assertEquals([address.origin, address.bucket, address.prefix], [origin, bucket, prefix]);
  }
  assertEquals(parseS3Address("s3+https://host/bucket/a/").shown, "s3+https://host/bucket/a");
});

Deno.test("parseS3Address refuses what is not an address, and what leads into another bucket", () => {
  for (
    const text of [
      "s3+ftp://host/bucket",
      "s3+https:/host/bucket",
      "s3+https://",
      "s3+https://host",
      "s3+https://host/",
      "s3+https://host/b",
      "s3+https://host/buc ket",
      "s3+https://host/bucket//x",
      "s3+https://host/bucket/x?lookup=auto",
      "s3+https://host/bucket/x?region=a",
      "s3+https://host/bucket/..%2F..%2Fother",
      "s3+https://host/bucket/%2e%2e/other",
      "s3+https://host/bucket/../other",
      "s3+https://host/bucket/./x",
      "s3+https://host/bucket/a%5C..%5Cb",
      "s3+https://host/%2e%2e/bucket",
      "s3+https://host/bucket#x",
      "s3+https://host/bucket/%zz",
      "s3+https://ho st/bucket",
    ]
  ) {
    const error = assertThrows(() => parseS3Address(text), UsageError, "store: ");
    assert(error.hint?.includes("s3+https://HOST/BUCKET/PREFIX"), text);
  }
});

Deno.test("parseS3Address puts the bucket into the host name when it is to be looked up there", () => {
  const address = parseS3Address("s3+https://host:9000/bucket/a?lookup=dns");
  assertEquals([address.origin, address.bucket], ["https://bucket.host:9000", "bucket"]);
  assertEquals([objectPath(address, "x"), objectPath(address)], ["/a/x", "/"]);
  const path = parseS3Address("s3+https://host/bucket/a?lookup=path");
  assertEquals([objectPath(path, "x"), objectPath(path)], ["/bucket/a/x", "/bucket"]);
});

Deno.test("parseS3Address refuses keys in an address, and does not show them", () => {
  const error = assertThrows(
    () => parseS3Address("s3+https://AKID:very-secret@host/bucket"),
    UsageError,
    "a user or a password",
  );
  assert(!`${error.message}${error.hint}`.includes("secret"));
});

Deno.test("objectPath encodes everything that could be read in another way", () => {
  const address = parseS3Address("s3+https://host/bucket/a+b/(c)%C3%A9");
  assertEquals(objectPath(address, "12/x.cacnk"), "/bucket/a%2Bb/%28c%29%C3%A9/12/x.cacnk");
});

Deno.test("isS3Address tells stores apart", () => {
  assertEquals(
    ["s3+https://h/b", "S3+http://h/b", "s3/dir", "./s3+https", "dir"].map(isS3Address),
    [true, true, false, false, false],
  );
});
