import { assertEquals, assertStringIncludes } from "@std/assert";
import { CAT } from "../../../cli/table/images.ts";
import { runCommandLine } from "../../../cli/run.ts";
import { type FakeOptions, fakeProcess, runFake } from "../fake_io.ts";
import { withFixture } from "./fixture_file.ts";

const cat = (words: readonly string[], options: FakeOptions = {}) =>
  runFake(["cat", ...words], [CAT], options);

Deno.test("cat prints files one after another, holes as zeros", async () => {
  await withFixture("csum-1k", async (image) => {
    const fake = fakeProcess();
    const words = ["cat", image, "/directory/small", "/holes", "/empty"];
    assertEquals(await runCommandLine(words, fake.io, [CAT]), 0);
    const bytes = fake.stdoutBytes();
    assertEquals(bytes.length, 6 + 449 * 2048 + 6);
    assertEquals(new TextDecoder().decode(bytes.subarray(0, 13)), "hello\nhello\n\0");
    assertEquals(bytes.subarray(6 + 1024, 6 + 2048).every((byte) => byte === 0), true);
    assertEquals(new TextDecoder().decode(bytes.subarray(-6)), "hello\n");
  });
});

Deno.test("cat reads inline data, and inodes by their number", async () => {
  await withFixture("rare-4k", async (image) => {
    assertEquals((await cat([image, "/inline-with-xattr"])).stdout, "w".repeat(100));
    assertEquals((await cat([image, "<15>"])).stdout, "hello\n");
  });
});

Deno.test("cat refuses what is no file, and damaged ones before a byte is printed", async () => {
  await withFixture("csum-1k", async (image) => {
    const directory = await cat([image, "/directory"]);
    assertEquals([directory.code, directory.stdout], [3, ""]);
    assertStringIncludes(directory.stderr, "/directory: is a directory: wanted a regular file");
    const bytes = Deno.readFileSync(image);
    // Extent blocks begin with F30A and depth 0: break the third of them.
    let left = 3;
    const at = bytes.findIndex((byte, i) =>
      i % 1024 === 0 && byte === 0x0a && bytes[i + 1] === 0xf3 && bytes[i + 6] === 0 && --left === 0
    );
    bytes[at + 30]! ^= 1;
    Deno.writeFileSync(image, bytes);
    const damaged = await cat([image, "/holes"]);
    assertEquals([damaged.code, damaged.stdout], [3, ""]);
    assertStringIncludes(damaged.stderr, "extent tree");
  });
});

Deno.test("cat ends quietly when its reader goes away", async () => {
  await withFixture("csum-1k", async (image) => {
    const failWrite = () => Object.assign(new Error("gone"), { code: "EPIPE" });
    const { code, stderr } = await cat([image, "/holes"], { failWrite });
    assertEquals([code, stderr], [0, ""]);
  });
});
