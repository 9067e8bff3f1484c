import { assert, assertEquals, assertRejects } from "@std/assert";
import { join } from "node:path";
import { openChunkStore } from "../../lib/chunk/store.ts";
import { IoError, UsageError } from "../../lib/errors.ts";
import { TEST_KEYS, TEST_REGION, withFakeS3 } from "./fake_s3.ts";
import { withDirectory } from "./helpers.ts";
import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import process from "node:process";
import { type Environment, readAwsSettings } from "../../lib/chunk/aws_settings.ts";

const ENV = {
  HOME: "/nowhere",
  AWS_ACCESS_KEY_ID: TEST_KEYS.accessKeyId,
  AWS_SECRET_ACCESS_KEY: TEST_KEYS.secretAccessKey,
  AWS_REGION: TEST_REGION,
};

Deno.test("openChunkStore opens a directory, and makes one only when it is told to", async () => {
  await withDirectory(async (directory) => {
    assertEquals((await openChunkStore(directory, { env: {} })).name, directory);
    await openChunkStore(join(directory, "new"), { env: {}, createStore: true });
    const missing = () => openChunkStore(join(directory, "neww"), { env: {} });
    const error = await assertRejects(missing, IoError, "does not exist: wanted a directory");
    assertEquals(error.remedies.map(({ option }) => option), ["createStore"]);
    const below = { env: {}, createStore: true };
    await assertRejects(() => openChunkStore(join(directory, "a/b"), below), IoError);
  });
});

Deno.test("openChunkStore opens a store on S3 with the keys of the environment", async () => {
  await withFakeS3({}, async (server) => {
    const store = await openChunkStore(server.store("x"), { env: ENV });
    assertEquals([store.name, server.faults], [server.store("x"), []]);
    await assertRejects(
      () => openChunkStore(server.store(), { env: { HOME: "/nowhere" } }),
      UsageError,
      "AWS credentials",
    );
    const wrong = { ...ENV, AWS_SECRET_ACCESS_KEY: "wrong" };
    await assertRejects(
      () => openChunkStore(server.store(), { env: wrong }),
      IoError,
      "SignatureDoesNotMatch",
    );
  });
});

Deno.test("openChunkStore refuses other schemes", async () => {
  for (const text of ["http://host/store", "s3://bucket/x", "oci+https://host/repo"]) {
    const error = await assertRejects(() => openChunkStore(text, { env: ENV }), UsageError, "://");
    assert(error.hint!.includes("s3+https"));
  }
});

// The last link of the chain asks the network that instances of Amazon have.
process.env["AWS_EC2_METADATA_DISABLED"] = "true";

const CREDENTIALS = `
# keys
[default]
aws_access_key_id = AKDEFAULT
aws_secret_access_key=secret-of/default+=
[work]
aws_access_key_id=AKWORK
aws_secret_access_key=secret-of-work
aws_session_token=token==
`;

const configOf = (program: string) =>
  `[default]
region = eu-west-1
s3 =
  region = not-this
  max_concurrent_requests = 20
[profile work]
region=ap-south-1
; a comment
[profile only-config]
aws_access_key_id=AKCONFIG
aws_secret_access_key=secret-of-config
[profile program]
credential_process = ${program}
[profile sso]
sso_session = corp
[profile half]
aws_access_key_id=AKHALF
`;

async function inHome(test: (home: string) => Promise<void>): Promise<void> {
  await withDirectory(async (home) => {
    const program = join(home, "keys.sh");
    const keys = { Version: 1, AccessKeyId: "AKPROGRAM", SecretAccessKey: "secret-of-program" };
    writeFileSync(program, `#!/bin/sh\necho '${JSON.stringify(keys)}'\n`);
    chmodSync(program, 0o755);
    mkdirSync(join(home, ".aws"));
    writeFileSync(join(home, ".aws", "credentials"), CREDENTIALS);
    writeFileSync(join(home, ".aws", "config"), configOf(program));
    await test(home);
  });
}

async function found(env: Environment): Promise<readonly [string, string | undefined, string]> {
  const { region, keys } = await readAwsSettings(env);
  const { accessKeyId, sessionToken } = await keys();
  return [accessKeyId, sessionToken, region];
}

Deno.test("readAwsSettings takes the keys of the environment before those of files", async () => {
  await inHome(async (HOME) => {
    const keys = { AWS_ACCESS_KEY_ID: "AK", AWS_SECRET_ACCESS_KEY: "SK", HOME };
    const all = { ...keys, AWS_SESSION_TOKEN: "T", AWS_REGION: "r-1" };
    assertEquals(await found(all), ["AK", "T", "r-1"]);
    assertEquals(await found({ ...keys, AWS_SESSION_TOKEN: "" }), ["AK", undefined, "eu-west-1"]);
    assertEquals(await found({ ...keys, AWS_PROFILE: "work" }), ["AK", undefined, "ap-south-1"]);
    assertEquals((await found({ ...keys, AWS_DEFAULT_REGION: "r-2" }))[2], "r-2");
  });
});

Deno.test("readAwsSettings does with the environment where there is no home", async () => {
  const keys = { AWS_ACCESS_KEY_ID: "AK", AWS_SECRET_ACCESS_KEY: "SK" };
  for (const HOME of ["/nowhere", "/dev/null"]) {
    assertEquals(await found({ ...keys, HOME }), ["AK", undefined, "us-east-1"]);
    assertEquals((await found({ ...keys, HOME, AWS_REGION: "r-1" }))[2], "r-1");
  }
});

Deno.test("readAwsSettings reads profiles of both files, and runs the program of one", async () => {
  await inHome(async (HOME) => {
    assertEquals(await found({ HOME }), ["AKDEFAULT", undefined, "eu-west-1"]);
    assertEquals(await found({ HOME, AWS_PROFILE: "work" }), ["AKWORK", "token==", "ap-south-1"]);
    const other = await found({ HOME, AWS_PROFILE: "only-config" });
    assertEquals(other, ["AKCONFIG", undefined, "us-east-1"]);
    const program = await found({ HOME, AWS_PROFILE: "program" });
    assertEquals(program, ["AKPROGRAM", undefined, "us-east-1"]);
    const files = {
      AWS_SHARED_CREDENTIALS_FILE: join(HOME, ".aws", "credentials"),
      AWS_CONFIG_FILE: join(HOME, ".aws", "config"),
    };
    assertEquals((await found({ ...files, HOME: "/nowhere" }))[0], "AKDEFAULT");
  });
});

Deno.test("readAwsSettings says what is missing, and shows no key", async () => {
  await inHome(async (HOME) => {
    const keys = { HOME, AWS_ACCESS_KEY_ID: "a", AWS_SECRET_ACCESS_KEY: "b" };
    const cases: [Record<string, string>, string, string][] = [
      [{ HOME: "/nowhere" }, "none found", "AWS_ACCESS_KEY_ID"],
      [{ HOME, AWS_PROFILE: "other" }, 'in profile "other"', "AWS_PROFILE"],
      [{ HOME, AWS_PROFILE: "sso" }, 'in profile "sso"', "aws sso login"],
      [{ HOME, AWS_PROFILE: "half" }, 'in profile "half"', ""],
      [{ HOME, AWS_SECRET_ACCESS_KEY: "hush" }, "no access key id", ""],
      [{ ...keys, AWS_SECRET_ACCESS_KEY: "hush\n" }, "a character", ""],
      [{ ...keys, AWS_SESSION_TOKEN: "hush\r\nx" }, "the session token has a character", ""],
      [{ ...keys, AWS_SESSION_TOKEN: "hush\u20ac" }, "the session token has a character", ""],
      [{ HOME, AWS_REGION: "eu\nwest" }, "is not a valid region name", "AWS_REGION"],
    ];
    for (const [env, why, hint] of cases) {
      const error = await assertRejects(() => readAwsSettings(env), UsageError, why);
      assert((error.hint ?? "").includes(hint), error.hint);
      assert(!/hush|secret-of|AKHALF/.test(error.message), error.message);
    }
  });
});
