import { assert, assertEquals, assertThrows } from "@std/assert";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { readAwsSettings } from "../../lib/chunk/aws_settings.ts";
import { IoError, UsageError } from "../../lib/errors.ts";
import { withDirectory } from "./helpers.ts";

const CREDENTIALS = `
# keys
[default]
aws_access_key_id = AKDEFAULT
aws_secret_access_key=secret-of/default+=
[ work ]
aws_access_key_id=AKWORK
aws_secret_access_key=secret-of-work
aws_session_token=token==
region = ignored-here
`;

const CONFIG = `[default]
region = eu-west-1
s3 =
  region = not-this
  max_concurrent_requests = 20
[profile work]
region=ap-south-1
; a comment
[profile  only-config]
aws_access_key_id=AKCONFIG
aws_secret_access_key=secret-of-config
[profile sso]
sso_session = corp
[profile half]
aws_access_key_id=AKHALF
`;

async function inHome(test: (home: string) => void): Promise<void> {
  await withDirectory((home) => {
    mkdirSync(join(home, ".aws"));
    writeFileSync(join(home, ".aws", "credentials"), CREDENTIALS);
    writeFileSync(join(home, ".aws", "config"), CONFIG);
    test(home);
  });
}

Deno.test("readAwsSettings takes the keys of the environment before those of files", async () => {
  await inHome((HOME) => {
    const keys = { AWS_ACCESS_KEY_ID: "AK", AWS_SECRET_ACCESS_KEY: "SK", HOME };
    assertEquals(readAwsSettings({ ...keys, AWS_SESSION_TOKEN: "T", AWS_REGION: "r-1" }), {
      accessKeyId: "AK",
      secretAccessKey: "SK",
      sessionToken: "T",
      region: "r-1",
    });
    assertEquals(readAwsSettings({ ...keys, AWS_SESSION_TOKEN: "" }).sessionToken, undefined);
    assertEquals(readAwsSettings(keys).region, "eu-west-1");
    assertEquals(readAwsSettings({ ...keys, AWS_PROFILE: "work" }).region, "ap-south-1");
    assertEquals(readAwsSettings({ ...keys, AWS_DEFAULT_REGION: "r-2" }).region, "r-2");
    assertEquals(readAwsSettings({ ...keys, HOME: "/nowhere" }).region, "us-east-1");
  });
});

Deno.test("readAwsSettings reads profiles of both files", async () => {
  await inHome((HOME) => {
    assertEquals(readAwsSettings({ HOME }), {
      accessKeyId: "AKDEFAULT",
      secretAccessKey: "secret-of/default+=",
      sessionToken: undefined,
      region: "eu-west-1",
    });
    assertEquals(readAwsSettings({ HOME, AWS_PROFILE: "work" }), {
      accessKeyId: "AKWORK",
      secretAccessKey: "secret-of-work",
      sessionToken: "token==",
      region: "ap-south-1",
    });
    const other = readAwsSettings({ HOME, AWS_PROFILE: "only-config" });
    assertEquals([other.accessKeyId, other.region], ["AKCONFIG", "us-east-1"]);
    const files = {
      AWS_SHARED_CREDENTIALS_FILE: join(HOME, ".aws", "credentials"),
      AWS_CONFIG_FILE: join(HOME, ".aws", "config"),
    };
    assertEquals(readAwsSettings({ ...files, HOME: "/nowhere" }).accessKeyId, "AKDEFAULT");
  });
});

Deno.test("readAwsSettings says what is missing, and shows no key", async () => {
  await inHome((HOME) => {
    const cases: [Record<string, string>, string, string][] = [
      [{ HOME: "/nowhere" }, "there are none", "AWS_ACCESS_KEY_ID"],
      [{ HOME, AWS_PROFILE: "other" }, 'nor a profile "other"', "AWS_PROFILE"],
      [{ HOME, AWS_PROFILE: "sso" }, "single sign-on", "export-credentials"],
      [{ HOME, AWS_PROFILE: "half" }, "no secret access key", ""],
      [{ HOME, AWS_SECRET_ACCESS_KEY: "hush" }, "no access key id", ""],
      [{ HOME, AWS_ACCESS_KEY_ID: "a", AWS_SECRET_ACCESS_KEY: "hush\n" }, "a character", ""],
      ...["hush\r\nx", "hush\u20ac"].map((
        AWS_SESSION_TOKEN,
      ): [Record<string, string>, string, string] => [
        { HOME, AWS_ACCESS_KEY_ID: "a", AWS_SECRET_ACCESS_KEY: "b", AWS_SESSION_TOKEN },
        "the session token of the environment has a character",
        "",
      ]),
      [{ HOME, AWS_REGION: "eu\nwest" }, "is no name of one", "AWS_REGION"],
    ];
    for (const [env, why, hint] of cases) {
      const error = assertThrows(() => readAwsSettings(env), UsageError, why);
      assert((error.hint ?? "").includes(hint), error.hint);
      assert(!/hush|secret-of|AKHALF/.test(error.message));
    }
    const env = { HOME, AWS_SHARED_CREDENTIALS_FILE: HOME };
    assertThrows(() => readAwsSettings(env), IoError, "cannot be read");
  });
});
