import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  isPassing,
  isS3Address,
  networkError,
  objectPath,
  parseS3Address,
  s3Failure,
} from "../../lib/chunk/s3_request.ts";
import { UsageError } from "../../lib/errors.ts";
import { Buffer } from "node:buffer";
import { errorAnswer, TEST_KEYS, TEST_REGION } from "./fake_s3.ts";

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

const ADDRESS = parseS3Address("s3+https://host/bucket/chunks");
const SECRETS = [TEST_KEYS.secretAccessKey, TEST_KEYS.accessKeyId, "TOK+en/with=="];
const CONTEXT = { region: TEST_REGION, secrets: SECRETS };

function failure(status: number, code: string, message = "", more = "", headers = {}) {
  const { body } = errorAnswer(status, code, message, more);
  return s3Failure(
    { status, headers: new Headers(headers), body: Buffer.from(body as string) },
    { request: { method: "PUT", key: "ab/x.cacnk" }, address: ADDRESS, ...CONTEXT },
  );
}

Deno.test("s3Failure says what is wrong and what to do", () => {
  const cases: [number, string, string, string][] = [
    [403, "AccessDenied", "access is denied", "s3:PutObject"],
    [403, "SignatureDoesNotMatch", "access is denied", "AWS_SECRET_ACCESS_KEY"],
    [403, "InvalidAccessKeyId", "access is denied", "AWS_ACCESS_KEY_ID"],
    [403, "", "access is denied", "s3:ListBucket"],
    [400, "ExpiredToken", "the session has expired", "get new keys"],
    [403, "RequestTimeTooSkewed", "access is denied", "clock"],
    [404, "NoSuchBucket", "there is no such bucket", "create the bucket"],
    [503, "SlowDown", "busy at every try", ""],
    [401, "", "authentication failed", "s3:GetObject"],
    [403, "SecondLevelDomainForbidden", "bucket in the host name", "?lookup=dns"],
    [403, "QuotaExceeded", "the store is full", "quota"],
    [507, "XMinioStorageFull", "the store is full", "space"],
    [400, "InvalidToken", "session token is invalid", "AWS_SESSION_TOKEN"],
  ];
  for (const [status, code, why, hint] of cases) {
    const { error } = failure(status, code);
    assert(error.message.startsWith("s3+https://host/bucket/chunks/ab/x.cacnk: "), error.message);
    assert(error.message.includes(why), error.message);
    assert((error.hint ?? "").includes(hint), error.hint);
    assertEquals([error.data["status"], error.data["code"]], [status, code || null]);
  }
});

Deno.test("s3Failure names the region that the bucket is in", () => {
  const answers = [
    failure(
      301,
      "PermanentRedirect",
      "",
      "<Endpoint>bucket.s3.eu-west-3.amazonaws.com</Endpoint>",
      {
        "x-amz-bucket-region": "eu-west-3",
      },
    ),
    failure(400, "AuthorizationHeaderMalformed", "wrong", "<Region>eu-west-3</Region>"),
  ];
  for (const { error } of answers) {
    assert(error.message.includes("in the region eu-west-3, not in eu-test-1"), error.message);
    assert(error.hint!.includes("AWS_REGION=eu-west-3"));
  }
});

Deno.test("s3Failure shows no key, whatever the server sends back", () => {
  const { accessKeyId, secretAccessKey } = TEST_KEYS;
  const said = `no ${accessKeyId}, no ${secretAccessKey}\nnor\x1b[31m this`;
  const { error } = failure(403, "AccessDenied", said, `<StringToSign>hush</StringToSign>`);
  for (const secret of [accessKeyId, secretAccessKey, "hush", "\n", "\x1b"]) {
    assert(!error.message.includes(secret), error.message);
  }
});

Deno.test("s3Failure masks tokens and signatures that a server repeats", () => {
  const token = "TOK+en/with==";
  const encoded = encodeURIComponent(token);
  const signature = "a".repeat(64);
  const answers = [
    failure(307, "", "", "", { location: `http://x/${token}/${encoded}?a=b` }),
    failure(307, "TemporaryRedirect", "go", `<Endpoint>${encoded}.host</Endpoint>`),
    failure(403, "SignatureDoesNotMatch", `you sent Signature=${signature} and token ${token}`),
  ];
  for (const { error } of answers) {
    const said = `${error.message} ${error.hint} ${JSON.stringify(error.data)}`;
    for (const secret of [token, encoded, signature]) assert(!said.includes(secret), said);
    assert(said.includes("***"), said);
  }
});

Deno.test("s3Failure makes do with answers that are no documents", () => {
  for (const body of ["", "<html>oops</html>", "<Code>", "\xff\xfe", "<Code>" + "x".repeat(5000)]) {
    const { error, code } = s3Failure(
      { status: 400, headers: new Headers(), body: Buffer.from(body) },
      { request: { method: "GET" }, address: ADDRESS, ...CONTEXT },
    );
    assertEquals([error.message, code], [
      `${ADDRESS.shown}: the server refused the request (status 400)`,
      "",
    ]);
  }
});

Deno.test("isPassing tells a busy server from one that refuses", () => {
  assertEquals(
    [500, 502, 503, 504, 429].map((status) => isPassing(failure(status, ""))),
    Array(5).fill(true),
  );
  assertEquals(
    [400, 401, 403, 404, 405, 409, 412, 501].map((status) => isPassing(failure(status, ""))),
    Array(8).fill(false),
  );
});

Deno.test("networkError has the reasons of all causes", () => {
  const cause = new TypeError("fetch failed", { cause: new Error("connect ECONNREFUSED") });
  assertEquals(
    networkError(ADDRESS, cause, SECRETS).message,
    "s3+https://host/bucket/chunks: the server cannot be reached: fetch failed: connect ECONNREFUSED",
  );
  const shown = new TypeError(`Invalid header value: "${TEST_KEYS.secretAccessKey}"`);
  assertEquals(
    networkError(ADDRESS, shown, SECRETS).message,
    's3+https://host/bucket/chunks: the server cannot be reached: Invalid header value: "***"',
  );
});
