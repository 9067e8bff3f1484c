/** The kernel mounts what blessfs made by its root hash, and refuses what was changed. */
import { assertMatch, assertStringIncludes } from "@std/assert";
import { join } from "node:path";
import { blessMerged } from "../../lib/bless/merged.ts";
import type { EnvelopeOptions } from "../../lib/bless/envelope.ts";
import { MERGED_DEFAULTS } from "../../lib/bless/options.ts";
import type { BlessReport } from "../../lib/bless/report.ts";
import { createFileSink } from "../../lib/io/file_sink.ts";
import { CONSTANT_SALT } from "../../lib/verity/format.ts";
import { withTemporaryDirectory } from "../oracle/command.ts";
import { Random } from "../oracle/noise.ts";
import { notRun } from "../oracle/notice.ts";
import { testOptions } from "../source/helpers.ts";
import { buildTar } from "../tar/build.ts";
import { type GuestKernel, guestKernel, runGuest } from "./guest.ts";

const SOURCE = buildTar([
  { path: "etc/", mtime: 5 },
  { path: "etc/motd", data: "this root proves itself\n", mtime: 5 },
  { path: "large", data: new Random(1).bytes(3_000_000), mtime: 5 },
]);

/** Reads every byte of the mounted file system. */
const READ_ALL = [
  "cat /mnt/etc/motd",
  "if cat /mnt/large > /dev/null; then echo 'read: whole'; else echo 'read: refused'; fi",
].join("\n");

async function bless(directory: string, envelope: EnvelopeOptions): Promise<BlessReport> {
  const tar = join(directory, "root.tar");
  Deno.writeFileSync(tar, SOURCE);
  return await blessMerged({
    ...testOptions(),
    source: `tar:${tar}`,
    layout: { ...MERGED_DEFAULTS, journalBytes: 0 },
    envelope,
    sink: createFileSink(join(directory, "disk"), { force: true }),
  });
}

/** Flips a bit of the file whose blocks are random, in the middle of it. */
function damage(disk: string): void {
  const bytes = Deno.readFileSync(disk);
  const wanted = new Random(1).bytes(3_000_000).subarray(1 << 20, (1 << 20) + 64);
  const at = bytes.findIndex((_, i) =>
    i % 4096 === 0 && wanted.every((byte, k) => bytes[i + k] === byte)
  );
  if (at < 0) throw new Error("the file is not in the image");
  bytes[at + 5]! ^= 1;
  Deno.writeFileSync(disk, bytes);
}

function kernelOrNotice(what: string): GuestKernel | undefined {
  const kernel = guestKernel();
  if (typeof kernel !== "string") return kernel;
  notRun(what, kernel);
  return undefined;
}

Deno.test("a guest mounts a disk's root by its root hash, and refuses a damaged block", async () => {
  const kernel = kernelOrNotice("mounting disks by their root hash in a guest");
  if (kernel === undefined) return;
  await withTemporaryDirectory(async (directory) => {
    const { verity } = await bless(directory, { verity: { salt: CONSTANT_SALT }, disk: {} });
    const disk = join(directory, "disk");
    const { rootHash } = verity!;
    const script = [
      // Where systemd finds them: by PARTUUIDs that are halves of the root hash.
      "for part in /sys/block/vda/vda*; do grep -h ^PARTN $part/uevent; done",
      `veritysetup open /dev/vda1 root /dev/vda2 ${rootHash} && echo 'open: yes'`,
      "mount -t ext4 -o ro /dev/mapper/root /mnt && echo 'mount: yes'",
      READ_ALL,
    ].join("\n");
    const good = runGuest(kernel, { disk, script, directory });
    assertStringIncludes(good, "PARTNAME=root\n");
    assertStringIncludes(good, "open: yes\nmount: yes\nthis root proves itself\nread: whole\n");
    damage(disk);
    const bad = runGuest(kernel, { disk, script, directory });
    assertStringIncludes(bad, "open: yes\nmount: yes\nthis root proves itself\n");
    assertStringIncludes(bad, "read: refused\n");
  });
});

Deno.test("a guest opens a tree behind its image, and no other root hash", async () => {
  const kernel = kernelOrNotice("opening a tree behind its image in a guest");
  if (kernel === undefined) return;
  await withTemporaryDirectory(async (directory) => {
    const { verity } = await bless(directory, { verity: { salt: CONSTANT_SALT } });
    const { rootHash, hashOffset } = verity!;
    const open = (name: string, hash: string) =>
      `veritysetup open /dev/vda ${name} /dev/vda ${hash} --hash-offset=${hashOffset}`;
    const script = [
      // It is a device, but no block of it can be read.
      open("other", "00".repeat(32)),
      "mount -t ext4 -o ro /dev/mapper/other /mnt 2> /dev/null || echo 'other: refused'",
      "veritysetup close other",
      `${open("root", rootHash)} && echo 'open: yes'`,
      "mount -t ext4 -o ro /dev/mapper/root /mnt && echo 'mount: yes'",
      READ_ALL,
    ].join("\n");
    const text = runGuest(kernel, { disk: join(directory, "disk"), script, directory });
    assertMatch(
      text,
      /other: refused\n(?:.*\n)*open: yes\nmount: yes\nthis root proves itself\nread: whole/,
    );
  });
});
