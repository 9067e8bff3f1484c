import { assertEquals, assertThrows } from "@std/assert";
import { UsageError } from "../../lib/errors.ts";
import {
  bestPlatforms,
  formatPlatform,
  hostPlatform,
  normalizePlatform,
  parsePlatform,
  platformRank,
} from "../../lib/source/platform.ts";

Deno.test("parsePlatform knows the other names of architectures", () => {
  const same: readonly [string, string][] = [
    ["linux/amd64", "linux/amd64"],
    ["linux/x86_64", "linux/amd64"],
    ["Linux/AMD64", "linux/amd64"],
    ["linux/amd64/v1", "linux/amd64"],
    ["linux/amd64/v3", "linux/amd64/v3"],
    ["linux/aarch64", "linux/arm64"],
    ["linux/arm64/v8", "linux/arm64"],
    ["linux/arm64/8", "linux/arm64"],
    ["linux/arm64/v9", "linux/arm64/v9"],
    ["linux/armhf", "linux/arm/v7"],
    ["linux/armel", "linux/arm/v6"],
    ["linux/arm/7", "linux/arm/v7"],
    ["linux/arm", "linux/arm"],
    ["linux/i386", "linux/386"],
    ["linux/i686", "linux/386"],
    ["linux/ppc64el", "linux/ppc64le"],
    ["macos/arm64", "darwin/arm64"],
    ["linux/riscv64/rva22u64", "linux/riscv64/rva22u64"],
  ];
  for (const [written, wanted] of same) {
    assertEquals(formatPlatform(parsePlatform(written)), wanted, written);
  }
});

Deno.test("parsePlatform refuses what is no platform", () => {
  for (const text of ["", "linux", "linux/", "/amd64", "linux/amd64/v1/x", "linux/a b", "l/\x1b"]) {
    assertThrows(() => parsePlatform(text), UsageError, "platform: ");
  }
});

Deno.test("hostPlatform is linux on a normalised architecture", () => {
  const host = hostPlatform();
  assertEquals(host.os, "linux");
  assertEquals(normalizePlatform(host), host);
});

function chosen(wanted: string, candidates: readonly string[]): string | undefined {
  const described = candidates.map((text) => ({ text, platform: parsePlatform(text) }));
  return bestPlatforms(parsePlatform(wanted), described)[0]?.text;
}

Deno.test("bestPlatforms takes the same, else the best that runs, else the one without variant", () => {
  const arms = ["linux/arm/v5", "linux/arm/v7", "linux/arm/v6", "linux/arm64", "linux/amd64"];
  assertEquals(chosen("linux/arm/v7", arms), "linux/arm/v7");
  assertEquals(chosen("linux/arm/v8", arms), "linux/arm/v7");
  assertEquals(chosen("linux/arm/v6", arms), "linux/arm/v6");
  assertEquals(chosen("linux/arm", arms), "linux/arm/v7");
  // No variant is v7, the least that distributions are made for.
  assertEquals(chosen("linux/arm", ["linux/arm/v6", "linux/arm/v7", "linux/arm"]), "linux/arm/v7");
  assertEquals(chosen("linux/arm", ["linux/arm/v6", "linux/arm"]), "linux/arm");
  assertEquals(chosen("linux/arm/v5", ["linux/arm/v6", "linux/arm"]), "linux/arm");
  assertEquals(chosen("linux/arm/v5", ["linux/arm/v6"]), undefined);
  assertEquals(chosen("linux/arm64", arms), "linux/arm64");
  assertEquals(chosen("linux/arm64", ["linux/arm/v7"]), undefined);
  assertEquals(chosen("linux/arm64", ["linux/arm64/v8"]), "linux/arm64/v8");
  assertEquals(chosen("linux/arm64", ["linux/arm64/v9"]), undefined);
  assertEquals(chosen("linux/arm64/v9", ["linux/arm64/v9", "linux/arm64"]), "linux/arm64/v9");
});

Deno.test("bestPlatforms does not give a machine more than it can run", () => {
  const levels = ["linux/amd64/v4", "linux/amd64/v3", "linux/amd64/v2", "linux/amd64"];
  assertEquals(chosen("linux/amd64", levels), "linux/amd64");
  assertEquals(chosen("linux/amd64/v3", levels), "linux/amd64/v3");
  assertEquals(chosen("linux/amd64/v2", ["linux/amd64/v3", "linux/amd64"]), "linux/amd64");
  assertEquals(chosen("linux/amd64", ["linux/amd64/v2"]), undefined);
});

Deno.test("bestPlatforms gives all equals, and never another system", () => {
  const named = (name: string, platform: string) => ({ name, platform: parsePlatform(platform) });
  const first = named("first", "linux/amd64");
  const second = named("second", "linux/amd64");
  const windows = named("windows", "windows/amd64");
  const pick = (candidates: readonly typeof first[]) =>
    bestPlatforms(parsePlatform("linux/amd64"), candidates).map(({ name }) => name);
  assertEquals(pick([windows, first, second]), ["first", "second"]);
  assertEquals(pick([windows]), []);
  assertEquals(pick([]), []);
});

Deno.test("platformRank treats unknown variants by their names alone", () => {
  const rank = (wanted: string, candidate: string) =>
    platformRank(parsePlatform(wanted), parsePlatform(candidate));
  assertEquals(rank("linux/riscv64/rva22u64", "linux/riscv64/rva22u64"), 0);
  assertEquals(rank("linux/riscv64", "linux/riscv64/rva22u64"), 1);
  assertEquals(rank("linux/riscv64/rva22u64", "linux/riscv64"), 1);
  assertEquals(rank("linux/riscv64/a", "linux/riscv64/b"), undefined);
  assertEquals(rank("linux/arm/vx", "linux/arm/v7"), undefined);
  assertEquals(rank("linux/constructor", "linux/constructor/x"), 1);
});
