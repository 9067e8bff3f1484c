import { assertEquals, assertStringIncludes } from "@std/assert";
import { optionsOf } from "../../cli/command.ts";
import { COMMANDS } from "../../cli/commands.ts";
import { hintOf, kebabCase, messageOf } from "../../cli/errors.ts";
import { LIMITS } from "../../lib/bless/options.ts";
import { InputError, limitError, optionError } from "../../lib/errors.ts";

const BLESS = optionsOf(COMMANDS.find(({ name }) => name === "bless merged")!);
const LS = optionsOf(COMMANDS.find(({ name }) => name === "ls")!);

Deno.test("an error about an option of the library names it as it is typed", () => {
  const error = optionError("alignThresholdBytes", "wanted at least 4K, found 1");
  assertEquals(messageOf(error, BLESS), "--align-threshold: wanted at least 4K, found 1");
  // A command without that option says what the library says.
  assertEquals(messageOf(error, LS), "alignThresholdBytes: wanted at least 4K, found 1");
  assertEquals(messageOf(optionError("timestamp", "x"), BLESS), "SOURCE_DATE_EPOCH: x");
  assertEquals(messageOf(optionError("metadataChecksums", "x"), BLESS), "--no-metadata-csum: x");
});

Deno.test("options with other values than the wanted ones are named as they are typed", () => {
  const differences = [
    { option: "gridBytes", found: "65536", wanted: "131072" },
    { option: "metadataChecksums", found: "no", wanted: "yes" },
    { option: "timestamp", found: "5", wanted: "0" },
  ];
  const error = new InputError("a.ext4", "made with other options", { differences });
  assertEquals(
    messageOf(error, BLESS),
    "a.ext4: made with other options: --grid 65536 (wanted 131072), " +
      "--metadata-csum no (wanted yes), SOURCE_DATE_EPOCH 5 (wanted 0)",
  );
  assertEquals(
    error.message,
    "a.ext4: made with other options: gridBytes 65536 (wanted 131072), " +
      "metadataChecksums no (wanted yes), timestamp 5 (wanted 0)",
  );
});

Deno.test("a hint joins what the library advises and the options that help", () => {
  const error = new InputError("a", "b", {
    hint: "ask",
    remedies: [
      { option: "platform", change: "set", value: "linux/arm64", when: "if that will do" },
      { option: "force", change: "set", to: "replace it" },
      { option: "strict", change: "omit" },
      { option: "tmpdir", change: "set" },
    ],
  });
  assertEquals(
    hintOf(error, BLESS),
    "ask; if that will do, use --platform linux/arm64; use --force to replace it; " +
      "leave out --strict; use --tmpdir DIR",
  );
  assertEquals(hintOf(error, LS), "ask; leave out --strict");
  const remedies = [{ option: "force", change: "set" }] as const;
  assertEquals(hintOf(new InputError("a", "b", { remedies }), LS), undefined);
});

Deno.test("a limit that can be raised is named with --limit, where the command has that option", () => {
  for (const { name, isFixed } of LIMITS) {
    const hint = hintOf(limitError("a", "b", { name, expected: 1, isFixed }), BLESS);
    if (isFixed) assertEquals(hint, undefined);
    else assertStringIncludes(hint!, `use --limit ${kebabCase(name)}=VALUE`);
  }
  assertEquals(hintOf(limitError("a", "b", { name: "layers", expected: 1 }), LS), undefined);
});
