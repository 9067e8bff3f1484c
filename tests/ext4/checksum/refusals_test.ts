import { assertThrows } from "@std/assert";
import { InputError } from "../../../lib/errors.ts";
import { refuseUnfit } from "../../../lib/ext4/checksum/refusals.ts";
import { ReadingJudge } from "../../../lib/ext4/volume/judge.ts";
import type { Volume } from "../../../lib/ext4/volume/volume.ts";
import { COMPAT, INCOMPAT, RO_COMPAT } from "../../../lib/ext4/format/constants.ts";
import { MMP_SEQUENCE_CLEAN } from "../../../lib/ext4/format/mmp.ts";
import type { Superblock } from "../../../lib/ext4/format/superblock.ts";
import { editSuperblock } from "../../../lib/ext4/format/superblock.ts";
import { Warnings } from "../../../lib/warnings.ts";
import { fixture, FIXTURES } from "../format/fixture_image.ts";
import { volumeOfBytes } from "../volume/open_volume.ts";

function openVolume(bytes: Uint8Array): Volume {
  return volumeOfBytes(bytes, new ReadingJudge(new Warnings()));
}

Deno.test("refuseUnfit lets clean images pass", () => {
  for (const name of FIXTURES) {
    if (name !== "mmp") refuseUnfit(openVolume(fixture(name).bytes));
  }
});

Deno.test("refuseUnfit refuses a file system that a machine says it has mounted", () => {
  const bytes = fixture("mmp").bytes.slice();
  const { superblock, blockSizeBytes } = openVolume(bytes);
  const sequenceAt = superblock.mmpBlock * blockSizeBytes + 4;
  const withSequence = (sequence: number) => {
    new DataView(bytes.buffer).setUint32(sequenceAt, sequence, true);
    return openVolume(bytes);
  };
  refuseUnfit(withSequence(MMP_SEQUENCE_CLEAN));
  assertThrows(() => refuseUnfit(withSequence(7)), InputError, "a machine uses the file system");
});

Deno.test("refuseUnfit refuses what is not clean or not known", () => {
  const { bytes, superblock } = fixture("csum-4k");
  const { featureIncompat, featureCompat, featureRoCompat } = superblock;
  const cases: [Partial<Superblock>, string][] = [
    [{ featureIncompat: featureIncompat | INCOMPAT.JOURNAL_DEV }, "incompat feature 0x8"],
    [{ featureIncompat: featureIncompat | INCOMPAT.DIRDATA }, "incompat feature 0x1000"],
    [{ featureIncompat: featureIncompat | INCOMPAT.ENCRYPT | INCOMPAT.CASEFOLD }, "casefolded"],
    [{ featureRoCompat: (featureRoCompat | 0x80000000) >>> 0 }, "ro_compat feature 0x80000000"],
    [{
      featureCompat: featureCompat | COMPAT.ORPHAN_FILE,
      featureRoCompat: featureRoCompat | RO_COMPAT.ORPHAN_PRESENT,
    }, "orphan file"],
  ];
  for (const [changes, why] of cases) {
    const edited = bytes.slice();
    edited.set(editSuperblock(bytes.slice(1024, 2048), changes), 1024);
    assertThrows(() => refuseUnfit(openVolume(edited)), InputError, why);
  }
});
