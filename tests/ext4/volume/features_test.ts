import { assertEquals, assertThrows } from "@std/assert";
import { InputError } from "../../../lib/errors.ts";
import { checkFeatures, featureNames } from "../../../lib/ext4/volume/superblock.ts";
import { Warnings } from "../../../lib/warnings.ts";

const NONE = { featureCompat: 0, featureIncompat: 0, featureRoCompat: 0 };

Deno.test("featureNames gives dumpe2fs's names, and numbers for bits without one", () => {
  const words = { featureCompat: 0x1004, featureIncompat: 0x80020006, featureRoCompat: 0x20400 };
  assertEquals(featureNames(words), [
    "has_journal",
    "orphan_file",
    "filetype",
    "needs_recovery",
    "casefold",
    "FEATURE_I31",
    "metadata_csum",
    "FEATURE_R17",
  ]);
  assertEquals(featureNames(NONE), []);
});

Deno.test("checkFeatures refuses what would be misread, by name", () => {
  const refusals: [typeof NONE, string][] = [
    [{ ...NONE, featureIncompat: 0x1 }, "compression"],
    [{ ...NONE, featureIncompat: 0x8 }, "journal_dev"],
    [{ ...NONE, featureIncompat: 0x1000 }, "dirdata"],
    [{ ...NONE, featureIncompat: 0x80000000 }, "FEATURE_I31"],
  ];
  for (const [words, name] of refusals) {
    const wanted = `superblock: the feature ${name} is not supported`;
    assertThrows(() => checkFeatures(words, new Warnings()), InputError, wanted);
  }
  const both = { ...NONE, featureRoCompat: 0x410 };
  assertThrows(() => checkFeatures(both, new Warnings()), InputError, "both metadata_csum");
});

Deno.test("checkFeatures warns of ro_compat bits that it does not know, and is silent about all others", () => {
  const warnings = new Warnings();
  checkFeatures({ ...NONE, featureCompat: 0xffffffff, featureIncompat: 0x3e7d6 }, warnings);
  checkFeatures({ ...NONE, featureRoCompat: 0x1f76b }, warnings);
  assertEquals(warnings.list(), []);
  checkFeatures({ ...NONE, featureRoCompat: 0x40000000 }, warnings);
  assertEquals(warnings.list().map(({ kind }) => kind), ["unknownFeature"]);
});

Deno.test("checkFeatures says how to finish an image that is half switched", () => {
  const words = { featureCompat: 0, featureIncompat: 0x80000040, featureRoCompat: 0 };
  const error = assertThrows(() => checkFeatures(words, new Warnings()), InputError);
  assertEquals(error.hint?.includes("blessfs checksum"), true);
});
