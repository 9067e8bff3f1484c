import { assertGreater, assertThrows } from "@std/assert";
import { InputError } from "../../../lib/errors.ts";
import { recoverImage } from "../../../lib/ext4/recovery/recover.ts";
import { openFileReader } from "../../../lib/io/random_reader.ts";
import { mustRun, withTemporaryDirectory } from "../../oracle/command.ts";
import { kernelOrNotice } from "../../oracle/kernel.ts";
import { makeCrashImage } from "./crash_image.ts";
import { assertRecovered } from "./recovered.ts";

for (const blockSizeBytes of [1024, 4096]) {
  Deno.test(`an external journal with blocks of ${blockSizeBytes} bytes is replayed`, async () => {
    if (!kernelOrNotice("mounting images with an external journal")) return;
    await withTemporaryDirectory(async (scratch) => {
      const journal = `${scratch}/journal.img`;
      mustRun("mke2fs", [
        "-q",
        "-F",
        "-O",
        "journal_dev",
        "-b",
        `${blockSizeBytes}`,
        journal,
        "8M",
      ]);
      const device = mustRun("losetup", ["--find", "--show", journal]).trim();
      const image = `${scratch}/crash.img`;
      try {
        makeCrashImage(
          {
            ...{ seed: 5, fsType: "ext4", blockSizeBytes, features: "", mountOptions: "" },
            ...{ journalOptions: `device=${device}`, changes: 100, sync: "fsync" },
            copied: () => mustRun("cp", [journal, `${journal}.crash`]),
          },
          image,
          scratch,
        );
      } finally {
        mustRun("losetup", ["--detach", device]);
      }
      const replay = await assertRecovered(image, { journal: `${journal}.crash` });
      assertGreater(replay?.blocks, 0);

      const raw = openFileReader(image);
      assertThrows(() => recoverImage(raw), InputError, "it is on another device");
      assertThrows(
        () => recoverImage(raw, { journal: raw }),
        InputError,
        "it is not an external journal",
      );
      raw.close();
    });
  });
}
