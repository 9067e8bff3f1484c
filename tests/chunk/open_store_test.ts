import { assert, assertEquals, assertRejects } from "@std/assert";
import { join } from "node:path";
import { openChunkStore } from "../../lib/chunk/store.ts";
import { IoError, UsageError } from "../../lib/errors.ts";
import { TEST_KEYS, TEST_REGION, withFakeS3 } from "./fake_s3.ts";
import { withDirectory } from "./helpers.ts";

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
