/** `blessfs bless` in-process and as a process, on the tiny fixture. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { createHash } from "node:crypto";
import {
  cpSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { COMMANDS } from "../../../cli/commands.ts";
import { runCommandLine } from "../../../cli/run.ts";
import { buildTar } from "../../tar/build.ts";
import { fakeProcess, runFake } from "../fake_io.ts";
import {
  environment,
  hasTerminal,
  inDirectory,
  MAIN,
  programWords,
  runInBash,
  RunningProgram,
  terminalWords,
} from "../program.ts";
import { spawnSync } from "node:child_process";

const LAYOUT = fileURLToPath(new URL("../../../fixtures/oci-tiny", import.meta.url));
const SOURCE = `oci:${LAYOUT}`;

function sha256(path: string): string {
  return createHash("sha256").update(readFileSync(path)).digest("hex");
}

function bless(...words: string[]) {
  return runFake(["bless", ...words], COMMANDS);
}

Deno.test("bless makes an image and reports it in a few aligned lines", async () => {
  await inDirectory(async (directory) => {
    const image = join(directory, "tiny.ext4");
    const { code, stdout, stderr } = await bless(SOURCE, "-o", image);
    assertEquals(code, 0, stderr);
    assertStringIncludes(stdout, `image     ${image}\n`);
    assertMatch(stdout, /^manifest {2}sha256:[0-9a-f]{64}$/m);
    assertMatch(stdout, /^layers {4}3$/m);
    assertEquals(readdirSync(directory), ["tiny.ext4"]);
    assertEquals(readFileSync(image).readUInt16LE(1024 + 0x38), 0xef53);
    const merged = join(directory, "merged.ext4");
    assertEquals((await bless("merged", "--quiet", SOURCE, "-o", merged)).stdout, "");
    assertEquals(sha256(merged), sha256(image));
  });
});

Deno.test("bless --json prints the report of the contract as the only thing on standard output", async () => {
  await inDirectory(async (directory) => {
    const image = join(directory, "tiny.ext4");
    const { code, stdout, stderr } = await bless(
      SOURCE,
      "-o",
      image,
      "--json",
      "--align-threshold",
      "none",
    );
    assertEquals([code, stderr], [0, ""]);
    const report = JSON.parse(stdout);
    const keys =
      "mode source manifestDigest image uuid sizeBytes usedBytes cellBytes storedBytes files directories grid " +
      "alignThreshold packing alignedFiles paddingBytes layers elapsedMs warnings";
    for (const key of keys.split(" ")) assert(key in report, key);
    for (const key of ["digest", "diffId", "entries"]) assert(key in report.layers[0], key);
    assertEquals([report.mode, report.source, report.image], ["merged", SOURCE, image]);
    assertEquals([report.sizeBytes, report.alignThreshold], [statSync(image).size, null]);
  });
});

Deno.test("bless -o - streams the same bytes as it writes to a file", async () => {
  await inDirectory(async (directory) => {
    const image = join(directory, "tiny.ext4");
    await bless(SOURCE, "-o", image);
    const fake = fakeProcess();
    assertEquals(await runCommandLine(["bless", SOURCE, "-o", "-"], fake.io, COMMANDS), 0);
    assertEquals(readFileSync(image).equals(fake.stdoutBytes()), true);
    assertMatch(fake.stderr(), /^blessfs: streamed \d+\.\d MiB, \d+ files in .*\n$/);
    assertEquals((await bless(SOURCE, "-o", "-", "--quiet")).stderr, "");
    const both = await bless(SOURCE, "-o", "-", "--json");
    assertEquals([both.code, both.stdout, JSON.parse(both.stderr).error.category], [
      2,
      "",
      "usage",
    ]);
  });
});

Deno.test("bless reads a source from standard input", async () => {
  await inDirectory(async (directory) => {
    const tar = buildTar([{ path: "etc/" }, { path: "etc/hostname", data: "box\n" }]);
    const fake = fakeProcess({ stdin: [tar.subarray(0, 700), tar.subarray(700)] });
    const image = join(directory, "stdin.ext4");
    assertEquals(
      await runCommandLine(["bless", "-", "-o", image], fake.io, COMMANDS),
      0,
      fake.stderr(),
    );
    assertMatch(fake.stdout(), /1 files, /);
  });
});

Deno.test("bless does not wait for a source from a terminal", async () => {
  const { code, stderr } = await runFake(["bless", "-", "-o", "/nowhere/x"], COMMANDS, {
    stdinIsTerminal: true,
  });
  assertEquals(code, 2);
  assertStringIncludes(stderr, "standard input, and that is a terminal");
});

Deno.test("bless honours SOURCE_DATE_EPOCH and refuses a wrong one", async () => {
  await inDirectory(async (directory) => {
    const blessAt = async (name: string, epoch: string) => {
      const env = { SOURCE_DATE_EPOCH: epoch };
      return await runFake(["bless", SOURCE, "-q", "-o", join(directory, name)], COMMANDS, { env });
    };
    for (const [name, epoch] of [["a", ""], ["b", "0"], ["c", "1700000000"]] as const) {
      assertEquals((await blessAt(name, epoch)).code, 0);
    }
    assertEquals(sha256(join(directory, "a")), sha256(join(directory, "b")));
    // s_mkfs_time, at 0x108 of the superblock.
    assertEquals(readFileSync(join(directory, "c")).readUInt32LE(1024 + 0x108), 1700000000);
    const wrong = await blessAt("d", "yesterday");
    assertEquals(wrong.code, 2);
    assertStringIncludes(
      wrong.stderr,
      "blessfs: SOURCE_DATE_EPOCH: `yesterday`: wanted a whole number",
    );
  });
});

Deno.test("bless gives each kind of failure its code, one line, and no file", async () => {
  await inDirectory(async (directory) => {
    const image = join(directory, "out/image");
    mkdirSync(join(directory, "out"));
    const damaged = join(directory, "damaged");
    cpSync(LAYOUT, damaged, { recursive: true });
    const blobs = join(damaged, "blobs/sha256");
    const [largest] = readdirSync(blobs).toSorted((a, b) =>
      statSync(join(blobs, b)).size - statSync(join(blobs, a)).size
    );
    truncateSync(join(blobs, largest!), 1000);
    const cases: [words: string[], code: number, text: string][] = [
      [[SOURCE], 2, "-o, --output IMAGE is missing"],
      [[SOURCE, "-o", image, "--grid", "100K"], 2, "--grid"],
      [[SOURCE, "-o", image, "--uuid", "nonsense"], 2, "--uuid"],
      [[SOURCE, "-o", image, "--platform", "what"], 2, "platform"],
      [[SOURCE, "-o", image, "--jobs", "0"], 2, "--jobs: `0`: wanted a whole number from 1 to 256"],
      [[`${SOURCE}:no-such-ref`, "-o", image], 3, "no-such-ref"],
      [[`oci:${directory}/nowhere`, "-o", image], 3, "nowhere"],
      [[`oci:${damaged}`, "-o", image], 3, largest!.slice(0, 12)],
      [[SOURCE, "-o", `${directory}/missing/image`], 4, "does not exist"],
      [[SOURCE, "-o", directory], 2, "is a directory"],
    ];
    for (const [words, code, text] of cases) {
      const outcome = await bless(...words);
      assertEquals([outcome.code, outcome.stdout], [code, ""], `${words}: ${outcome.stderr}`);
      const [line, hint, ...rest] = outcome.stderr.trimEnd().split("\n");
      assertStringIncludes(line!, text);
      assert(
        line!.startsWith("blessfs: ") && (hint ?? "hint: ").startsWith("hint: ") &&
          rest.length === 0,
        outcome.stderr,
      );
      assertEquals(readdirSync(join(directory, "out")), [], `${words}`);
    }
  });
});

Deno.test("bless refuses an existing output without --force, and never its own source", async () => {
  await inDirectory(async (directory) => {
    const image = join(directory, "image");
    writeFileSync(image, "mine");
    const refused = await bless(SOURCE, "-o", image);
    assertEquals([refused.code, readFileSync(image, "utf8")], [4, "mine"]);
    assertStringIncludes(refused.stderr, "hint: use --force to replace it");
    assertEquals((await bless(SOURCE, "-o", image, "-f")).code, 0);
    const tar = join(directory, "root.tar");
    writeFileSync(tar, buildTar([{ path: "file", data: "x" }]));
    symlinkSync("root.tar", join(directory, "link"));
    for (const [source, output] of [[`tar:${tar}`, tar], [tar, join(directory, "link")]] as const) {
      const same = await bless(source, "-o", output, "--force");
      assertEquals([same.code, statSync(tar).size > 512], [2, true]);
      assertStringIncludes(same.stderr, "is the source too");
    }
    const inside = await bless(`rootfs:${directory}`, "-o", join(directory, "inside"));
    assertEquals(inside.code, 2);
    assertStringIncludes(inside.stderr, "lies inside its source");
    assertEquals(readdirSync(directory).toSorted(), ["image", "link", "root.tar"]);
  });
});

Deno.test("bless shows warnings, and --strict makes the first one a failure", async () => {
  await inDirectory(async (directory) => {
    const tar = join(directory, "old.tar");
    writeFileSync(tar, buildTar([{ path: "ancient", data: "x", mtime: -(2 ** 40) }]));
    const image = join(directory, "image");
    const kept = await bless(`tar:${tar}`, "-o", image);
    assertEquals(kept.code, 0, kept.stderr);
    assertMatch(kept.stderr, /^blessfs: warning: .*ancient.*\n$/);
    const json = await bless(`tar:${tar}`, "-o", image, "--force", "--json");
    assertEquals([json.stderr, JSON.parse(json.stdout).warnings.length], ["", 1]);
    const strict = await bless(`tar:${tar}`, "-o", join(directory, "strict"), "--strict");
    assertEquals(strict.code, 3);
    assertEquals(readdirSync(directory).includes("strict"), false);
  });
});

Deno.test("the program streams an image into a pipe, and fails when that is closed", async () => {
  await inDirectory((directory) => {
    const { code, stderr } = runInBash(
      `$BLESSFS bless ${SOURCE} -o ${directory}/image -q && ` +
        `$BLESSFS bless ${SOURCE} -o - -q | cmp - ${directory}/image; exit \${PIPESTATUS[0]}`,
    );
    assertEquals([code, stderr], [0, ""]);
    const closed = runInBash(`$BLESSFS bless ${SOURCE} -o - | head -c 1; exit \${PIPESTATUS[0]}`);
    assertEquals([closed.code, closed.stderr], [
      4,
      "blessfs: standard output: was closed before the image was whole\n",
    ]);
    assertEquals(readdirSync(directory), ["image"]);
  });
});

Deno.test("the program on a terminal streams image bytes only where -o - was typed", () => {
  if (!hasTerminal()) return;
  const [command, ...args] = terminalWords(`${programWords(MAIN).join(" ")} bless ${SOURCE}`);
  const run = spawnSync(command, args, { encoding: "latin1", env: environment({ NO_COLOR: "1" }) });
  assertEquals(run.status, 2);
  assertStringIncludes(run.stdout, "-o, --output IMAGE is missing");
});

Deno.test("the program interrupted in the middle of reading leaves nothing behind", async () => {
  for (const [signal, code] of [["SIGINT", 130], ["SIGTERM", 143]] as const) {
    await inDirectory(async (directory) => {
      const [command, ...args] = programWords(MAIN);
      const running = new RunningProgram(command, [
        ...args,
        ...[
          "bless",
          "-",
          "-o",
          `${directory}/image`,
          "--tmpdir",
          directory,
          "--progress",
          "always",
        ],
      ], { stdin: "pipe" });
      // Half of an entry, and then nothing: the program is reading and waits for more.
      running.child.stdin!.write(
        buildTar([{ path: "half", data: new Uint8Array(1 << 20).fill(1) }]).subarray(0, 300_000),
      );
      await running.until("standard input");
      process.kill(running.child.pid!, signal);
      const outcome = await running.ended;
      assertEquals(outcome.code, code, outcome.stderr);
      assertStringIncludes(outcome.stderr, "blessfs: interrupted, cleaning up\n");
      assertEquals(readdirSync(directory), []);
    });
  }
});
