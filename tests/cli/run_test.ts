import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { ClosedPipeError } from "../../cli/errors.ts";
import { runCommandLine } from "../../cli/run.ts";
import {
  InputError,
  InterruptedError,
  IoError,
  throwIfAborted,
  UsageError,
} from "../../lib/errors.ts";
import { fakeProcess, runFake } from "./fake_io.ts";
import { behaviour, SAMPLE_COMMANDS } from "./sample_commands.ts";

function throwing(error: unknown): void {
  behaviour.run = () => Promise.reject(error);
}

Deno.test("runCommandLine alone prints the usage on standard error and is a wrong command line", async () => {
  const { code, stdout, stderr } = await runFake([], SAMPLE_COMMANDS);
  assertEquals([code, stdout], [2, ""]);
  assertStringIncludes(stderr, "usage: blessfs COMMAND");
});

Deno.test("runCommandLine prints help and version as results", async () => {
  const help = await runFake(["bless", "--nonsense", "--help"], SAMPLE_COMMANDS);
  assertEquals([help.code, help.stderr], [0, ""]);
  assertStringIncludes(help.stdout, "blessfs bless merged");
  const version = await runFake(["-V"], SAMPLE_COMMANDS);
  assertMatch(version.stdout, /^blessfs \d+\.\d+\.\d+\S*\n$/);
  const unknown = await runFake(["blss", "--help"], SAMPLE_COMMANDS);
  assertEquals([unknown.code, unknown.stdout], [2, ""]);
});

Deno.test("runCommandLine gives a command its arguments and passes on the answer no", async () => {
  behaviour.run = async (args, io) => {
    await io.stdout.write(`${args.positional("IMAGE")}\n`);
    return 1;
  };
  assertEquals(await runFake(["cat", "x"], SAMPLE_COMMANDS), {
    code: 1,
    stdout: "x\n",
    stderr: "",
  });
});

Deno.test("runCommandLine turns each kind of error into its code, its line and its hint", async () => {
  const cases: [error: unknown, code: number, text: string][] = [
    [
      new UsageError("--grid", "too small", { hint: "try 4K" }),
      2,
      "blessfs: --grid: too small\nhint: try 4K\n",
    ],
    [new InputError("a.tar", "cut off"), 3, "blessfs: a.tar: cut off\n"],
    [new IoError("x", "no space"), 4, "blessfs: x: no space\n"],
    [
      Object.assign(new Error("ENOENT: no such file, open '/q'"), { code: "ENOENT", path: "/q" }),
      4,
      "blessfs: /q: no such file or directory\n",
    ],
    [new InterruptedError("interrupted", "stop"), 130, "blessfs: interrupted: stop\n"],
    [
      new InterruptedError("interrupted", "stop", { data: { signal: "SIGTERM" } }),
      143,
      "blessfs: interrupted: stop\n",
    ],
  ];
  for (const [error, code, text] of cases) {
    throwing(error);
    assertEquals(await runFake(["cat", "x"], SAMPLE_COMMANDS), { code, stdout: "", stderr: text });
  }
});

Deno.test("runCommandLine asks for a report of what is its own fault", async () => {
  for (const error of [new TypeError("x is undefined"), "a string", undefined]) {
    throwing(error);
    const { code, stderr } = await runFake(["cat", "x"], SAMPLE_COMMANDS);
    assertEquals(code, 70);
    assertMatch(
      stderr,
      /^blessfs: internal error: .*\nhint: this is a bug in blessfs \S+: please report it .*\n$/,
    );
  }
});

Deno.test("runCommandLine shows stacks and causes only under BLESSFS_DEBUG=1", async () => {
  throwing(new InputError("a", "b", { cause: new Error("the root") }));
  const plain = await runFake(["cat", "x"], SAMPLE_COMMANDS, { env: { BLESSFS_DEBUG: "0" } });
  assertEquals(plain.stderr, "blessfs: a: b\n");
  const debug = await runFake(["cat", "x"], SAMPLE_COMMANDS, { env: { BLESSFS_DEBUG: "1" } });
  assertStringIncludes(debug.stderr, "run_test.ts");
  assertStringIncludes(debug.stderr, "caused by Error: the root");
});

Deno.test("runCommandLine writes a failure under --json as one JSON object, wrong command lines too", async () => {
  throwing(new InputError("a.tar", "cut \x1b off", { hint: "look", data: { offset: 7 } }));
  const failed = await runFake(["probe", "A", "B", "--json"], SAMPLE_COMMANDS);
  assertEquals([failed.code, failed.stdout], [3, ""]);
  assertEquals(failed.stderr.trimEnd().split("\n").length, 1);
  assertEquals(JSON.parse(failed.stderr), {
    error: {
      category: "input",
      code: "damaged",
      exitCode: 3,
      message: "a.tar: cut \x1b off",
      hint: "look",
      data: { offset: 7 },
    },
  });
  assertEquals(failed.stderr.includes("\x1b"), false);
  const wrong = await runFake(["prob", "--json"], SAMPLE_COMMANDS);
  assertEquals(JSON.parse(wrong.stderr).error.category, "usage");
  throwing(new TypeError("oops"));
  const internal = await runFake(["probe", "A", "B", "--json"], SAMPLE_COMMANDS);
  assertEquals(JSON.parse(internal.stderr).error.category, "internal");
});

Deno.test("runCommandLine neutralises control characters of an error", async () => {
  throwing(new InputError("a\x1b]0;title\x07b\u202ec", "line one\n  line two\x9b"));
  const { stderr } = await runFake(["cat", "x"], SAMPLE_COMMANDS);
  assertEquals(stderr, "blessfs: a\\x1b]0;title\\x07b\\u{202e}c: line one line two\\u{9b}\n");
});

Deno.test("runCommandLine ends quietly when the reader closes the pipe, wherever that comes up", async () => {
  const epipe = () => Object.assign(new Error("EPIPE"), { code: "EPIPE" });
  behaviour.run = async (_args, io) => {
    for (let i = 0; i < 10; i++) await io.stdout.write("x".repeat(40_000));
  };
  const whileWriting = await runFake(["cat", "x"], SAMPLE_COMMANDS, { failWrite: epipe });
  assertEquals(whileWriting, { code: 0, stdout: "", stderr: "" });
  behaviour.run = async (_args, io) => await io.stdout.write("short");
  assertEquals(await runFake(["cat", "x"], SAMPLE_COMMANDS, { failWrite: epipe }), {
    code: 0,
    stdout: "",
    stderr: "",
  });
  throwing(new IoError("image", "cannot be written", { cause: new ClosedPipeError() }));
  assertEquals(await runFake(["cat", "x"], SAMPLE_COMMANDS), { code: 0, stdout: "", stderr: "" });
});

Deno.test("runCommandLine tells of a failure even when the reader has closed the pipe", async () => {
  behaviour.run = async (_args, io) => {
    await io.stdout.write("some of it");
    throw new InputError("image", "is damaged");
  };
  const failWrite = () => Object.assign(new Error("EPIPE"), { code: "EPIPE" });
  const { code, stderr } = await runFake(["cat", "x"], SAMPLE_COMMANDS, { failWrite });
  assertEquals([code, stderr], [3, "blessfs: image: is damaged\n"]);
});

Deno.test("runCommandLine reports a full disk under standard output as I/O", async () => {
  behaviour.run = async (_args, io) => await io.stdout.write("text");
  const failWrite = () => Object.assign(new Error("ENOSPC"), { code: "ENOSPC" });
  const { code, stderr } = await runFake(["cat", "x"], SAMPLE_COMMANDS, { failWrite });
  assertEquals(code, 4);
  assertStringIncludes(stderr, "standard output: cannot be written: no space left");
});

Deno.test("runCommandLine prints what was written before a failure", async () => {
  behaviour.run = async (_args, io) => {
    await io.stdout.write("first lines\n");
    throw new InputError("x", "is damaged here");
  };
  const { stdout, code } = await runFake(["cat", "x"], SAMPLE_COMMANDS);
  assertEquals([stdout, code], ["first lines\n", 3]);
});

Deno.test("runCommandLine says that it cleans up at the moment of a signal and gives the signal's code", async () => {
  for (const [signal, code] of [["SIGINT", 130], ["SIGTERM", 143], ["SIGHUP", 129]] as const) {
    const fake = fakeProcess();
    let saidBeforeCleaning = "";
    behaviour.run = async (_args, io) => {
      io.signal.addEventListener("abort", () => saidBeforeCleaning = fake.stderr());
      await Promise.resolve();
      fake.controller.abort(
        new InterruptedError("interrupted", `by ${signal}`, { data: { signal } }),
      );
      throwIfAborted(io.signal);
    };
    assertEquals(await runCommandLine(["cat", "x"], fake.io, SAMPLE_COMMANDS), code);
    assertEquals(fake.stderr(), "blessfs: interrupted, cleaning up\n");
    assertEquals(saidBeforeCleaning, fake.stderr());
  }
});

Deno.test("runCommandLine under --json tells an interruption as JSON only", async () => {
  const fake = fakeProcess();
  behaviour.run = () => {
    fake.controller.abort(
      new InterruptedError("interrupted", "by SIGINT", { data: { signal: "SIGINT" } }),
    );
    return Promise.reject(new IoError("x", "whatever came of it"));
  };
  assertEquals(await runCommandLine(["probe", "A", "B", "--json"], fake.io, SAMPLE_COMMANDS), 130);
  assertEquals(JSON.parse(fake.stderr()).error.category, "interrupted");
});

Deno.test("CommandIo.warn shows counted warnings, and nothing under --quiet or --json", async () => {
  behaviour.run = (_args, io) => {
    io.warn([{ kind: "a", message: "x\x1b: was clamped", count: 1 }, {
      kind: "b",
      message: "y: was left out",
      count: 1235,
    }]);
    return Promise.resolve();
  };
  const shown = await runFake(["probe", "A", "B"], SAMPLE_COMMANDS);
  assertEquals(
    shown.stderr,
    "blessfs: warning: x\\x1b: was clamped\nblessfs: warning: y: was left out (and 1,234 more like it)\n",
  );
  for (const option of ["--quiet", "--json"]) {
    assertEquals((await runFake(["probe", "A", "B", option], SAMPLE_COMMANDS)).stderr, "");
  }
});

Deno.test("runCommandLine colours each stream by itself", async () => {
  behaviour.run = async (_args, io) => {
    await io.stdout.write(`${io.style.bold("title")}\n`);
    throw new InputError("a", "b", { hint: "c" });
  };
  const none = { stdout: "title\n", stderr: "blessfs: a: b\nhint: c\n", code: 3 };
  const onlyOut = await runFake(["cat", "x"], SAMPLE_COMMANDS, { stdoutIsTerminal: true });
  assertEquals(onlyOut, { ...none, stdout: "\x1b[1mtitle\x1b[22m\n" });
  const onlyErr = await runFake(["cat", "x"], SAMPLE_COMMANDS, { stderrIsTerminal: true });
  assertEquals(onlyErr.stdout, "title\n");
  assertStringIncludes(onlyErr.stderr, "\x1b[31mblessfs:\x1b[39m");
  const terminals = { stdoutIsTerminal: true, stderrIsTerminal: true };
  for (
    const [words, env] of [[["--no-color"], {}], [["--color=never"], {}], [[], { NO_COLOR: "1" }], [
      [],
      { TERM: "dumb" },
    ]] as const
  ) {
    assertEquals(
      await runFake(["cat", "x", ...words], SAMPLE_COMMANDS, { ...terminals, env }),
      none,
    );
  }
  const forced = await runFake(["cat", "x", "--color=always"], SAMPLE_COMMANDS, {
    env: { NO_COLOR: "1" },
  });
  assertStringIncludes(forced.stdout, "\x1b[1m");
});

Deno.test("CommandIo.writeJson prints one document that ends its line", async () => {
  behaviour.run = async (_args, io) => await io.writeJson({ sizeBytes: 4096 });
  const { stdout } = await runFake(["probe", "A", "B", "--json"], SAMPLE_COMMANDS);
  assertEquals(JSON.parse(stdout), { sizeBytes: 4096 });
  assertEquals(stdout.endsWith("}\n"), true);
});

Deno.test("runCommandLine shows progress only where it is wanted and leaves nothing of it", async () => {
  const cases: [words: string[], terminal: boolean, env: Record<string, string>, shown: boolean][] =
    [
      [[], true, {}, true],
      [[], false, {}, false],
      [["--quiet"], true, {}, false],
      [["--json"], true, {}, false],
      [["--progress=never"], true, {}, false],
      [["--progress=always"], false, {}, true],
      [["--progress=always", "--quiet"], true, {}, true],
      [[], true, { TERM: "dumb" }, false],
    ];
  for (const [words, stderrIsTerminal, env, shown] of cases) {
    const fake = fakeProcess({ stderrIsTerminal, env });
    behaviour.run = (_args, io) => {
      const task = io.progress.begin("layer 1", 100);
      fake.clock.nowMs += 1500;
      task.advance(50);
      throw new InputError("a", "b");
    };
    await runCommandLine(["probe", "A", "B", ...words], fake.io, SAMPLE_COMMANDS);
    assertEquals(fake.stderr().includes("50%"), shown, words.join(" "));
    if (shown && stderrIsTerminal) {
      const cleared = fake.stderr().slice(fake.stderr().lastIndexOf("\r\x1b[J"));
      assertMatch(cleared, /blessfs:.* a: b\n$/);
    }
  }
});
