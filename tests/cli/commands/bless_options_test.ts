import { assertEquals, assertThrows } from "@std/assert";
import { readCommandLine } from "../../../cli/arguments.ts";
import { parseLayout, parsePacking, parseSourceOptions } from "../../../cli/commands/sources.ts";
import { layoutOptions } from "../../../cli/table/options.ts";
import type { CommandIo } from "../../../cli/command.ts";
import { COMMANDS } from "../../../cli/commands.ts";
import type { LayoutOptions } from "../../../lib/bless/options.ts";
import { LAYERED_DEFAULTS, MERGED_DEFAULTS } from "../../../lib/bless/options.ts";
import { UsageError } from "../../../lib/errors.ts";
import { NO_PROGRESS } from "../../../lib/progress.ts";
import { fakeProcess } from "../fake_io.ts";

function layoutOf(...words: string[]): LayoutOptions {
  return parseLayout(
    readCommandLine(["bless", "S", "-o", "x", ...words], COMMANDS).arguments(),
    MERGED_DEFAULTS,
  );
}

Deno.test("parseLayout without options gives the library's defaults", () => {
  assertEquals(layoutOf(), MERGED_DEFAULTS);
});

Deno.test("layoutOptions show defaults that mean the library's when they are typed", () => {
  for (const defaults of [MERGED_DEFAULTS, LAYERED_DEFAULTS]) {
    const words = layoutOptions(defaults)
      .filter(({ name, defaultText }) => defaultText !== undefined && name !== "inodes")
      .map(({ name, defaultText }) => `--${name}=${defaultText}`);
    assertEquals(words.length, 7);
    // The order of payload has no option.
    const { payloadOrder: _order, ...typed } = layoutOf(...words);
    const { payloadOrder: _default, ...shown } = defaults;
    assertEquals(typed, shown);
  }
});

Deno.test("parseLayout reads every option", () => {
  const cases: [words: string[], expected: Partial<LayoutOptions>][] = [
    [["--grid", "64K"], { gridBytes: 65536 }],
    [["--align-threshold", "none"], { alignThresholdBytes: Infinity }],
    [["--align-threshold=1M"], { alignThresholdBytes: 1 << 20 }],
    [["--packing", "tight"], { packing: { kind: "tight" } }],
    [["--packing", "resync:128K"], {
      packing: { kind: "resync", meanBytes: 131072, lowBytes: 32768 },
    }],
    [["--packing", "resync:1M:0"], {
      packing: { kind: "resync", meanBytes: 1 << 20, lowBytes: 0 },
    }],
    [["--size", "10G"], { size: { kind: "total", sizeBytes: 10 * 2 ** 30 } }],
    [["--size", "+1.5G"], { size: { kind: "free", freeBytes: 1.5 * 2 ** 30 } }],
    [["--size=exact"], { size: { kind: "exact" } }],
    [["--journal", "none"], { journalBytes: 0 }],
    [["--journal", "64M"], { journalBytes: 64 << 20 }],
    [["--uuid", "00000000-0000-4000-8000-000000000001"], {
      uuid: "00000000-0000-4000-8000-000000000001",
    }],
    [["--label", "root"], { label: "root" }],
    [["--backups", "none"], { backups: "none" }],
    [["--inline-data"], { inlineData: true }],
    [["--no-metadata-csum"], { metadataChecksums: false }],
    [["--metadata-csum"], { metadataChecksums: true }],
    [["--compat", "3.10"], { compat: ["3.10"] }],
    [["--compat", "grub,u-boot", "--compat=linux-5.10"], {
      compat: ["grub", "u-boot", "linux-5.10"],
    }],
    [["--inodes", "100000"], { inodeCount: 100000 }],
    [["--reserved", "5%"], { reservedBlocks: { kind: "percent", percent: 5 } }],
    [["--reserved", "16M"], { reservedBlocks: { kind: "bytes", bytes: 16 << 20 } }],
  ];
  for (const [words, expected] of cases) {
    assertEquals(layoutOf(...words), { ...MERGED_DEFAULTS, ...expected });
  }
});

Deno.test("parseLayout refuses what cannot be read and names the option", () => {
  const cases: [word: string, message: string][] = [
    ["--grid=lots", "--grid: `lots`: wanted a size"],
    ["--grid=none", "--grid: `none`: wanted a size"],
    ["--align-threshold=non", "--align-threshold: `non`: wanted a size"],
    ["--packing=loose", "--packing: `loose`: wanted merge, resync[:MEAN[:LO]] or tight"],
    ["--packing=tight:1M", "--packing: `tight:1M`: wanted"],
    ["--packing=resync:1M:2K:3K", "--packing: `resync:1M:2K:3K`: wanted"],
    ["--packing=resync:", "--packing: ``: wanted a size"],
    ["--size=+", "--size: ``: wanted a size"],
    ["--size=++1G", "--size: `+1G`: wanted a size"],
    ["--journal=-1M", "--journal: `-1M`: wanted a size"],
    ["--backups=some", "--backups: `some`: wanted sparse, none"],
    ["--inodes=many", "--inodes: `many`: wanted a whole number"],
    ["--reserved=200%", "--reserved: `200%`: wanted a share"],
  ];
  for (const [word, message] of cases) assertThrows(() => layoutOf(word), UsageError, message);
});

Deno.test("parseSourceOptions reads how registries are reached", () => {
  const env = { HOME: "/home/me" };
  const { io } = fakeProcess({ env });
  const source = "docker://registry.example.com/app";
  const registryOf = (...words: string[]) => {
    const args = readCommandLine(["bless", source, "-o", "x", ...words], COMMANDS).arguments();
    const command = { ...io, quiet: true, json: false, progress: NO_PROGRESS } as CommandIo;
    const { registry } = parseSourceOptions(args, command, [source]);
    return Object.fromEntries(Object.entries(registry!).filter(([, value]) => value !== undefined));
  };
  assertEquals(registryOf(), { plainHttp: false, environment: env });
  assertEquals(registryOf("--plain-http", "--authfile", "auth.json"), {
    plainHttp: true,
    authFile: "auth.json",
    environment: env,
  });
});

Deno.test("parsePacking suggests the rule that was probably meant", () => {
  const error = assertThrows(() => parsePacking("rsync:1M", "--packing"), UsageError);
  assertEquals(error.hint, undefined);
  assertEquals(
    assertThrows(() => parsePacking("rsync", "--packing"), UsageError).hint,
    "did you mean `resync`?",
  );
});
