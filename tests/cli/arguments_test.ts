import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { readCommandLine } from "../../cli/arguments.ts";
import { UsageError } from "../../lib/errors.ts";
import { SAMPLE_COMMANDS } from "./sample_commands.ts";

function read(...words: string[]) {
  return readCommandLine(words, SAMPLE_COMMANDS);
}

function refused(words: string[], message: string, hint?: string): void {
  const error = assertThrows(
    () => read(...words).arguments(),
    UsageError,
    undefined,
    words.join(" "),
  );
  assertStringIncludes(error.message, message);
  assertEquals(error.hint ?? "", hint ?? error.hint ?? "");
}

Deno.test("readCommandLine finds options before, after and between the words of the command", () => {
  const forms = [
    "bless merged -o out --size 4K SRC",
    "bless -o out SRC --size=4K",
    "-o out bless --size 4K merged SRC",
    "--size=4K -oout bless SRC",
    "--output=out --size 4K -- bless SRC",
  ];
  for (const form of forms) {
    const request = read(...form.split(" "));
    assertEquals(request.command?.name, "bless merged", form);
    const args = request.arguments();
    assertEquals([args.value("output"), args.value("size"), args.positional("SOURCE")], [
      "out",
      "4K",
      "SRC",
    ], form);
  }
});

Deno.test("readCommandLine takes the longest name and knows aliases", () => {
  assertEquals(read("bless", "layered", "SRC").command?.name, "bless layered");
  assertEquals(read("dedup-probe", "A", "B").command?.name, "probe");
  assertEquals(read("bless", "--", "merged").command?.name, "bless merged");
  assertEquals(read("bless", "-o", "x", "--", "merged").arguments().positional("SOURCE"), "merged");
});

Deno.test("readCommandLine ends options at -- and takes a lone dash as a value and an operand", () => {
  const args = read("bless", "-o", "-", "--", "--size").arguments();
  assertEquals([args.value("output"), args.positional("SOURCE")], ["-", "--size"]);
  assertEquals(read("cat", "-").arguments().positional("IMAGE"), "-");
});

Deno.test("ParsedArguments gives flags their defaults and negations", () => {
  const plain = read("bless", "S", "-o", "x").arguments();
  assertEquals([plain.flag("force"), plain.flag("checksum"), plain.flag("json")], [
    false,
    true,
    false,
  ]);
  assertEquals([plain.value("size"), plain.value("backups")], [undefined, undefined]);
  const changed = read("bless", "S", "-fo", "x", "--no-checksum", "--json", "--no-json")
    .arguments();
  assertEquals([changed.flag("force"), changed.flag("checksum"), changed.flag("json")], [
    true,
    false,
    false,
  ]);
});

Deno.test("ParsedArguments collects lists from commas and repetitions", () => {
  const args = read("probe", "A", "B", "C", "--grid", "4K,8K", "--grid=1M").arguments();
  assertEquals(args.values("grid"), ["4K", "8K", "1M"]);
  assertEquals(args.positionals("SOURCE"), ["A", "B", "C"]);
  assertEquals(read("probe", "A", "B").arguments().values("grid"), undefined);
  refused(["probe", "A", "B", "--grid", "4K,,8K"], "--grid: `4K,,8K`: an item is empty");
});

Deno.test("ParsedArguments treats a name that is not in the table as a fault of the program", () => {
  const args = read("cat", "x").arguments();
  for (
    const wrong of [
      () => args.flag("nope"),
      () => args.value("nope"),
      () => args.positional("NOPE"),
    ]
  ) {
    assertThrows(wrong, Error, "Invariant broken");
  }
  assertEquals(args.positionals("PATH"), []);
});

Deno.test("readCommandLine refuses unknown options with the nearest one", () => {
  refused(
    ["bless", "S", "-o", "x", "--szie=4K"],
    "unknown option `--szie`",
    "did you mean `--size`?",
  );
  refused(
    ["bless", "S", "-o", "x", "--no-cheksum"],
    "unknown option `--no-cheksum`",
    "did you mean `--no-checksum`?",
  );
  refused(["bless", "S", "-o", "x", "--no-size"], "unknown option `--no-size`");
  refused(["bless", "S", "-o", "x", "-F"], "unknown option `-F`", "did you mean `-f`?");
  refused(["bless", "S", "-o", "x", "-force"], "unknown option", "did you mean `--force`?");
  refused(["cat", "x", "--size", "4K"], "unknown option `--size`");
  refused(["bless", "S", "-o", "x", "--\x1b[2J"], "unknown option `--\\x1b[2J`");
});

Deno.test("readCommandLine refuses missing, empty, doubled and unwanted values", () => {
  refused(["bless", "S", "-o"], "-o: needs a value: FILE");
  refused(
    ["bless", "S", "-o", "--force"],
    "`--force` looks like an option",
    "write `--output=--force` if it is meant",
  );
  refused(["bless", "S", "-o", "x", "--size", "-4K"], "`-4K` looks like an option");
  refused(["bless", "S", "-o", "x", "--size="], "--size: the value is empty");
  refused(["bless", "S", "-o", "x", "--size", ""], "--size: the value is empty");
  refused(["bless", "S", "-o=x"], "begins with `=`", "write `-o x`");
  refused(["bless", "S", "-o", "x", "--output", "y"], "--output: was given twice: `x` and `y`");
  refused(["bless", "S", "-o", "x", "--force=yes"], "--force: takes no value");
  assertEquals(read("bless", "S", "-o", "x", "--size=-4K").arguments().value("size"), "-4K");
});

Deno.test("readCommandLine refuses a word that is none of the choices, and lets open ones through", () => {
  refused(
    ["bless", "S", "-o", "x", "--backups", "spares"],
    "wanted sparse, none",
    "did you mean `sparse`?",
  );
  refused(["completions", "bush"], "SHELL: `bush`: wanted bash, zsh", "did you mean `bash`?");
  assertEquals(
    read("bless", "S", "-o", "x", "--packing", "resync:1M").arguments().value("packing"),
    "resync:1M",
  );
});

Deno.test("readCommandLine refuses missing and superfluous operands and required options", () => {
  refused(["bless", "-o", "x"], "blessfs bless merged: SOURCE is missing");
  refused(["bless", "S"], "blessfs bless merged: -o, --output FILE is missing");
  refused(["probe", "A"], "SOURCE is missing: 1 given, wanted at least 2");
  refused(["cat", "a", "b", "c"], "one operand too many: `c`");
  refused(["bless", "-o", "x", ""], "SOURCE is empty");
});

Deno.test("readCommandLine refuses unknown commands with the nearest one", () => {
  refused(["blss", "S"], "unknown command `blss`", "did you mean `bless`?");
  refused(
    ["bless", "layred", "S", "-o", "x"],
    "one operand too many: `S`",
    "did you mean `blessfs bless layered`?",
  );
  refused(
    ["oci:image"],
    "unknown command `oci:image`",
    "`blessfs bless oci:image -o IMAGE` makes an image of it",
  );
  refused(["mount"], "unknown command `mount`", "`blessfs --help` lists the commands");
  refused(["--json"], "no command was given");
  refused(["--jsno"], "unknown option `--jsno`", "did you mean `--json`?");
});

Deno.test("readCommandLine knows a wish for help, version or JSON whatever else is wrong", () => {
  assertEquals(read("bless", "--nonsense", "--help").wantsHelp, true);
  assertEquals(read("-V").wantsVersion, true);
  assertEquals(read("bless", "--nonsense", "--json").wantsJson, true);
  assertEquals(read("bless", "--", "--json").wantsJson, false);
});

Deno.test("readCommandLine splits what parse-args alone takes for something else", () => {
  const valueOf = (name: string, ...words: string[]) =>
    read("bless", "S", ...words).arguments().value(name);
  assertEquals(valueOf("output", "--output", "-"), "-");
  assertEquals(valueOf("output", "-fo-"), "-");
  assertEquals(valueOf("size", "-o", "x", "--size", "010"), "010");
  assertEquals(valueOf("size", "-o", "x", "--size=a=b"), "a=b");
  // Words behind a flag are operands, whatever they say.
  for (const word of ["true", "false", "7", "0x10", "1e3"]) {
    const args = read("bless", "-o", "x", "--force", word).arguments();
    assertEquals([args.positional("SOURCE"), args.flag("force")], [word, true]);
    const short = read("bless", "-o", "x", "-f", word).arguments();
    assertEquals([short.positional("SOURCE"), short.flag("force")], [word, true]);
  }
  refused(["bless", "S", "-o", "x", "--no-size=4K"], "unknown option `--no-size`");
  refused(["bless", "S", "-o", "x", "--no-checksum=1"], "--no-checksum: takes no value");
  refused(["bless", "S", "-o", "x", "--a.b=1"], "unknown option `--a.b`");
  refused(["bless", "S", "-o", "x", "--__proto__=1"], "unknown option `--__proto__`");
  assertEquals(read("--color", "always", "--no-color", "cat", "true").colour, "never");
  const last = read("bless", "S", "-o", "x", "--no-force", "--force").arguments();
  assertEquals(last.flag("force"), true);
});
