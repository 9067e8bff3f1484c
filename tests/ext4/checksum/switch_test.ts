import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { Buffer } from "node:buffer";
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { InputError, InterruptedError } from "../../../lib/errors.ts";
import { NODE_IMAGE_FILES } from "../../../lib/ext4/checksum/change_journal.ts";
import {
  changeJournalPath,
  refuseUnfit,
  switchMetadataChecksums,
} from "../../../lib/ext4/checksum/switch.ts";
import { COMPAT, INCOMPAT, RO_COMPAT } from "../../../lib/ext4/format/constants.ts";
import { MMP_SEQUENCE_CLEAN } from "../../../lib/ext4/format/special_blocks.ts";
import { editSuperblock, type Superblock } from "../../../lib/ext4/format/superblock.ts";
import { ReadingJudge } from "../../../lib/ext4/volume/judge.ts";
import type { Volume } from "../../../lib/ext4/volume/volume.ts";
import { BLOCK_SIZE_BYTES } from "../../../lib/model/node.ts";
import { NO_PROGRESS } from "../../../lib/progress.ts";
import { Warnings } from "../../../lib/warnings.ts";
import { mustRun, withTemporaryDirectory } from "../../oracle/command.ts";
import { assertE2fsckClean } from "../../oracle/e2fsck.ts";
import { kernelOrNotice, mountReadWrite } from "../../oracle/kernel.ts";
import { assertKernelTree } from "../../oracle/kernel_tree.ts";
import { dir, file, treeOf } from "../../oracle/tree_builder.ts";
import { fixture, FIXTURES } from "../format/fixture_image.ts";
import { makeCase, writeCase } from "../fuzz_case.ts";
import { makeImage as bless } from "../made_image.ts";
import { volumeOfBytes } from "../volume/open_volume.ts";
import { makeImage, makeTree, RECIPES } from "./mke2fs_image.ts";

const set = (image: string, enable: boolean) =>
  switchMetadataChecksums(image, { enable, progress: NO_PROGRESS });

function features(image: string): string[] {
  const line = /^Filesystem features:\s+(.*)$/m.exec(mustRun("dumpe2fs", ["-h", image]))!;
  return line[1]!.split(" ");
}

/** The image without backup descriptors: tools that make images leave old ones there, and a switch makes them new. */
function withoutBackups(image: string): Uint8Array {
  const bytes = new Uint8Array(readFileSync(image));
  const volume = volumeOfBytes(bytes);
  for (let i = 0; i * volume.descriptorsPerBlock < volume.groupCount; i++) {
    for (const { block } of volume.descriptorBackups(i)) {
      bytes.fill(0, block * volume.blockSizeBytes, (block + 1) * volume.blockSizeBytes);
    }
  }
  return bytes;
}

Deno.test("switchMetadataChecksums takes checksums away and gives the same image back", async () => {
  await withTemporaryDirectory(async (directory) => {
    const tree = join(directory, "tree");
    makeTree(tree);
    for (const [name, recipe] of Object.entries(RECIPES)) {
      const image = join(directory, "image");
      makeImage(image, tree, recipe);
      const before = withoutBackups(image);
      assertE2fsckClean(image);
      if (name.startsWith("csum")) {
        const away = await set(image, false);
        assertEquals([away.changed, away.metadataChecksums, away.resumed], [true, false, false]);
        assert(!features(image).includes("metadata_csum") && features(image).includes("uninit_bg"));
        assertE2fsckClean(image);
        const back = await set(image, true);
        assertE2fsckClean(image);
        assertEquals(Buffer.compare(withoutBackups(image), before), 0, name);
        assertEquals(back.inodes, away.inodes);
        assertEquals(back.directoryBlocks, away.directoryBlocks);
      } else {
        const refused = await set(image, true).catch((error) => error);
        if (refused instanceof InputError) {
          assert(/no room for checksums in \d+ directory blocks/.test(refused.message), name);
          assertEquals(Buffer.compare(withoutBackups(image), before), 0, name);
          // What the hint says: tune2fs asks for the same.
          mustRun("tune2fs", ["-O", "metadata_csum", image]);
          continue;
        }
        assertE2fsckClean(image);
        assert(!features(image).includes("uninit_bg"), name);
        await set(image, false);
        assertE2fsckClean(image);
      }
      assert(!existsSync(changeJournalPath(image)));
    }
  });
});

Deno.test("switchMetadataChecksums gives blessed images back, and the kernel mounts both", async () => {
  const hasKernel = kernelOrNotice("images whose checksums were switched");
  await withTemporaryDirectory(async (directory) => {
    let [switched, mounted] = [0, 0];
    for (let seed = 1; switched < 6; seed++) {
      const fuzzCase = makeCase(seed);
      const path = join(directory, `image${seed}`);
      const plan = await writeCase(path, fuzzCase);
      if (plan.totalBlocks * BLOCK_SIZE_BYTES > 32 << 20) continue;
      const before = readFileSync(path);
      const { metadataChecksums } = fuzzCase.options;
      const outcome = await set(path, !metadataChecksums).catch((error) => error);
      if (outcome instanceof InputError) {
        assert(/ea_inode|no room/.test(outcome.message), outcome.message);
        assertEquals(readFileSync(path).compare(before), 0);
        continue;
      }
      assertE2fsckClean(path);
      if (hasKernel && mounted++ < 2) assertKernelTree(path, fuzzCase.tree);
      await set(path, metadataChecksums);
      // uninit_bg is not where it was when there were no checksums.
      if (metadataChecksums) assertEquals(readFileSync(path).compare(before), 0);
      assertE2fsckClean(path);
      rmSync(path);
      switched++;
    }
  });
});

Deno.test("switchMetadataChecksums goes on where the kernel wrote a journal with checksums", async () => {
  if (!kernelOrNotice("checksums of a journal that the kernel wrote")) return;
  await withTemporaryDirectory(async (directory) => {
    const image = join(directory, "image");
    await bless(image, treeOf({ file: file("content"), directory: dir({ name: file("x") }) }), {
      size: { kind: "free", freeBytes: 8 << 20 },
    });
    const write = (name: string) =>
      mountReadWrite(image, (mountPoint) => {
        mkdirSync(join(mountPoint, name));
        for (let i = 0; i < 30; i++) writeFileSync(join(mountPoint, name, `file${i}`), `${i}`);
      });
    write("with");
    await set(image, false);
    assertE2fsckClean(image);
    write("without");
    assertE2fsckClean(image);
    await set(image, true);
    assertE2fsckClean(image);
    write("again");
    assertE2fsckClean(image);
  });
});

Deno.test("switchMetadataChecksums refuses images that are damaged, in use or unknown, and leaves them alone", async () => {
  await withTemporaryDirectory(async (directory) => {
    const image = join(directory, "image");
    await bless(
      image,
      treeOf({ directory: dir({ name: file("x", { xattrs: { "user.a": "b" } }) }) }),
    );
    const good = new Uint8Array(readFileSync(image));
    const volume = volumeOfBytes(good);
    const { superblock } = volume;
    const edited = (changes: Partial<Superblock>) => {
      const bytes = new Uint8Array(good);
      bytes.set(editSuperblock(bytes.slice(1024, 2048), changes), 1024);
      return bytes;
    };
    const flipped = (offset: number) => {
      const bytes = new Uint8Array(good);
      bytes[offset]! ^= 1;
      return bytes;
    };
    const table = volume.group(0).descriptor!.inodeTableBlock * 4096;
    const { featureIncompat, featureRoCompat } = superblock;
    const cases: [image: Uint8Array, why: string][] = [
      [edited({ featureIncompat: featureIncompat | INCOMPAT.RECOVER }), "not written back"],
      [edited({ state: 0 }), "not unmounted"],
      [edited({ state: 3 }), "not unmounted"],
      [edited({ lastOrphan: 12 }), "waits to be deleted"],
      [edited({ featureIncompat: featureIncompat | 0x1000000 }), "0x1000000"],
      [edited({ featureCompat: 0x80000000 }), "0x80000000"],
      [edited({ featureRoCompat: featureRoCompat | RO_COMPAT.GDT_CSUM }), "both"],
      [edited({ inodesPerGroup: 7 }), "s_inodes_per_group is 7"],
      [edited({ logBlockSize: 60 }), "s_log_block_size is 60"],
      [edited({ inodeSizeBytes: 96 }), "s_inode_size is 96"],
      [edited({ revision: 0 }), "revision 0"],
      [edited({ descriptorSizeBytes: 32 }), "s_desc_size is 32"],
      [good.subarray(0, good.length - 4096), "its file system"],
      [flipped(1024 + 0x78), "superblock: its checksum is"],
      [flipped(4096 + 3), "group descriptor (group 0, byte 4096): checksum"],
      [flipped(volume.group(0).descriptor!.blockBitmapBlock * 4096 + 9), "block bitmap of group 0"],
      [flipped(volume.group(0).descriptor!.inodeBitmapBlock * 4096 + 1), "inode bitmap of group 0"],
      [flipped(table + 256 + 8), "inode 2: its checksum is"],
    ];
    for (const [bytes, why] of cases) {
      writeFileSync(image, bytes);
      await assertRejects(() => set(image, false), InputError, why, why);
      assertEquals(readFileSync(image).compare(bytes), 0, why);
      assertEquals(readdirSync(directory), ["image"], why);
    }
    await assertRejects(() => set(directory, false), InputError, "not a regular file");
    await assertRejects(() => set(`${image}.not`, false), InputError, "does not exist: wanted");
  });
});

Deno.test("switchMetadataChecksums stops for a signal and leaves nothing behind", async () => {
  await withTemporaryDirectory(async (directory) => {
    const image = join(directory, "image");
    await bless(image, treeOf({ name: file("x") }));
    const signal = AbortSignal.abort();
    await assertRejects(
      () => switchMetadataChecksums(image, { enable: false, progress: NO_PROGRESS, signal }),
      InterruptedError,
    );
    assertEquals(readdirSync(directory), ["image"]);
  });
});

Deno.test("switchMetadataChecksums says how many blocks have no room", async () => {
  await withTemporaryDirectory(async (directory) => {
    const image = join(directory, "image");
    // Names whose records fill each block of a directory to its last byte.
    const names = Array.from({ length: 400 }, (_, i) => `${i}`.padStart(56, "n"));
    await bless(
      image,
      treeOf({ full: dir(Object.fromEntries(names.map((name) => [name, file()]))) }),
      {
        metadataChecksums: false,
      },
    );
    const before = readFileSync(image);
    const error = await assertRejects(
      () => set(image, true),
      InputError,
      "no room for checksums in ",
    );
    assert(Number(error.data["directoryBlocks"]) > 0);
    assertEquals(readFileSync(image).compare(before), 0);
  });
});

Deno.test("switchMetadataChecksums on gives what tune2fs gives, but for times and empty inodes", async () => {
  await withTemporaryDirectory(async (directory) => {
    const [ours, theirs] = [join(directory, "ours"), join(directory, "theirs")];
    const { bytes, superblock, blockSizeBytes } = fixture("plain-4k");
    writeFileSync(ours, bytes);
    writeFileSync(theirs, bytes);
    await set(ours, true);
    mustRun("tune2fs", ["-O", "metadata_csum", theirs]);
    const table = volumeOfBytes(bytes).group(0).descriptor!.inodeTableBlock * blockSizeBytes;
    const { inodeSizeBytes, firstInode } = superblock;
    const [found, wanted] = [ours, theirs].map((path) => {
      const image = new Uint8Array(readFileSync(path));
      // s_wtime, s_wtime_hi, s_kbytes_written and with them s_checksum.
      for (const [at, length] of [[0x30, 4], [0x274, 1], [0x178, 8], [0x3fc, 4]] as const) {
        image.fill(0, 1024 + at, 1024 + at + length);
      }
      for (let number = 1; number < firstInode; number++) {
        const slot = image.subarray(table).subarray((number - 1) * inodeSizeBytes);
        if (slot[0] === 0 && slot[1] === 0) slot.fill(0, 0x7c, 0x84);
      }
      return image;
    }) as [Uint8Array, Uint8Array];
    assertEquals(found.findIndex((byte, i) => byte !== wanted[i]), -1);
    assertEquals(found.length, wanted.length);
  });
});

Deno.test("switchMetadataChecksums gives up when another run was quicker, and leaves its work alone", async () => {
  await withTemporaryDirectory(async (directory) => {
    const [image, alone] = [join(directory, "image"), join(directory, "alone")];
    await bless(image, treeOf({ a: file("x".repeat(9000)), d: dir({ b: file("b") }) }));
    copyFileSync(image, alone);
    await set(alone, false);
    const others: (() => unknown)[] = [
      // Before the journal of this run has its name, another run begins and ends.
      () => set(image, false),
      // Another run has the name of the journal.
      () => writeFileSync(changeJournalPath(image), "other"),
    ];
    for (const [i, other] of others.entries()) {
      let isFirst = true;
      const sync = async (descriptor: number) => {
        if (isFirst) await other();
        isFirst = false;
        await NODE_IMAGE_FILES.sync(descriptor);
      };
      const before = readFileSync(image);
      const options = {
        enable: i > 0,
        progress: NO_PROGRESS,
        files: { ...NODE_IMAGE_FILES, sync },
      };
      const error = await assertRejects(
        () => switchMetadataChecksums(image, options),
        InputError,
        "was changed meanwhile",
      );
      assertEquals(error.remedies, []);
      assertEquals(readFileSync(image).compare(i === 0 ? readFileSync(alone) : before), 0);
      assertEquals(readdirSync(directory).length, 2 + i);
    }
    rmSync(changeJournalPath(image));
    assertE2fsckClean(image);
  });
});

Deno.test("the file of changes can be read by nobody who could not read the image", async () => {
  await withTemporaryDirectory(async (directory) => {
    const image = join(directory, "image");
    mustRun("mke2fs", ["-q", "-t", "ext4", image, "4M"]);
    for (const [i, mode] of [0o600, 0o640].entries()) {
      chmodSync(image, mode);
      const modes: number[] = [];
      const sync = (descriptor: number) => {
        const other = readdirSync(directory).find((name) => name !== "image");
        if (other !== undefined) modes.push(statSync(join(directory, other)).mode & 0o777);
        return NODE_IMAGE_FILES.sync(descriptor);
      };
      await switchMetadataChecksums(image, {
        enable: i > 0,
        progress: NO_PROGRESS,
        files: { ...NODE_IMAGE_FILES, sync },
      });
      assertEquals(modes[0], mode);
    }
  });
});

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
