import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { InputError } from "../../../lib/errors.ts";
import { Findings } from "../../../lib/ext4/volume/judge.ts";
import { checkSuperblock } from "../../../lib/ext4/verify/superblock.ts";
import { memoryReader } from "../../../lib/io/random_reader.ts";
import { unpackFixture } from "../format/fixture_image.ts";
import { problemsOf, viewAt } from "./damage.ts";

Deno.test("checkSuperblock refuses what is no ext4 image", () => {
  for (const size of [0, 1, 1024, 2047, 2048, 100_000]) {
    assertThrows(
      () => checkSuperblock(memoryReader(new Uint8Array(size)), new Findings(9)),
      InputError,
    );
  }
});

Deno.test("a superblock without its magic number is damaged when its checksum shows what it was", () => {
  const bytes = unpackFixture("csum-4k");
  bytes[1024 + 0x38]! ^= 1;
  const findings = new Findings(9);
  assertEquals(checkSuperblock(memoryReader(bytes), findings), undefined);
  assertEquals(findings.kept.map(({ problem }) => problem), ["magic number"]);
});

Deno.test("a feature that nobody knows is refused, or damage where the checksum says so", async () => {
  const unknown = (image: { bytes: Uint8Array }) => {
    image.bytes[1024 + 0x63]! ^= 0x80;
  };
  await assertRejects(() => problemsOf("plain-4k", unknown), InputError, "FEATURE_I31");
  assertEquals(await problemsOf("csum-4k", unknown), [
    "superblock: checksum",
    "superblock: features",
  ]);
});

Deno.test("fields of the superblock are held against each other", async () => {
  const cases: [offset: number, value: number, problem: string][] = [
    [0x08, 600, "s_r_blocks_count"],
    [0xce, 9, "s_reserved_gdt_blocks"],
    [0xe4, 5, "s_journal_inum without the feature"],
    [0x240, 12, "s_usr_quota_inum without the feature"],
    [0x48, 9, "s_creator_os"],
  ];
  for (const [offset, value, problem] of cases) {
    const problems = await problemsOf("plain-4k", ({ bytes }) => {
      viewAt(bytes).setUint16(1024 + offset, value, true);
    });
    assertEquals(problems.includes(`superblock: ${problem}`), true, `${problem}: ${problems}`);
  }
});

Deno.test("an image of the Hurd is verified, but has no file types", async () => {
  const hurd = ({ bytes }: { bytes: Uint8Array }) => {
    bytes[1024 + 0x48] = 1;
  };
  const problems = await problemsOf("plain-4k", hurd);
  assertEquals(problems, ["superblock: the feature filetype, which the Hurd does not know"]);
});
