import { assertEquals } from "@std/assert";
import { recoverImage } from "../../../lib/ext4/recovery/recover.ts";
import { verifyImage } from "../../../lib/ext4/verify/verify.ts";
import { openFileReader } from "../../../lib/io/random_reader.ts";
import { mustRun, runCommand, withTemporaryDirectory } from "../../oracle/command.ts";
import { kernelOrNotice } from "../../oracle/kernel.ts";
import { assertRecovered, writtenFault } from "./recovered.ts";

const FEATURES = [
  "",
  "^metadata_csum,^64bit",
  "^extents,^64bit,^metadata_csum",
  "uninit_bg,^metadata_csum",
];

/** One file that a machine had not finished with. */
interface Unfinished {
  readonly name: string;
  /** What it is cut to; undefined for one that is deleted. */
  readonly sizeBytes?: number;
}

/** Makes debugfs leave files as a machine leaves them that stops while it cuts or deletes them. */
function leaveUnfinished(image: string, files: readonly Unfinished[]): void {
  const numberOf = (name: string) =>
    Number(/Inode: (\d+)/.exec(mustRun("debugfs", ["-R", `stat ${name}`, image]))![1]);
  const numbers = files.map(({ name }) => numberOf(name));
  const commands = [
    "feature needs_recovery",
    `set_super_value last_orphan ${numbers[0]}`,
    ...files.flatMap(({ name, sizeBytes }, i) => [
      `set_inode_field <${numbers[i]}> dtime @${numbers[i + 1] ?? 0}`,
      ...sizeBytes === undefined
        ? [`unlink ${name}`, `set_inode_field <${numbers[i]}> links_count 0`]
        : [`set_inode_field <${numbers[i]}> size ${sizeBytes}`],
    ]),
  ];
  for (const command of commands) mustRun("debugfs", ["-w", "-R", command, image]);
}

for (const features of FEATURES) {
  for (const blockSizeBytes of [1024, 4096]) {
    Deno.test(`orphans are cut and deleted as the kernel does: ${blockSizeBytes} ${features}`, async () => {
      if (!kernelOrNotice("mounting images with orphans")) return;
      await withTemporaryDirectory(async (scratch) => {
        const image = `${scratch}/image`;
        const tree = `${scratch}/tree`;
        Deno.mkdirSync(tree);
        const content = (sizeBytes: number) => new Uint8Array(sizeBytes).fill(0x61);
        for (const name of ["whole", "cut", "empty", "gone", "long", "deep"]) {
          Deno.writeFileSync(`${tree}/${name}`, content(name === "long" ? 6_000_000 : 500_000));
        }
        // Every other block, so that the map needs blocks of its own.
        const deep = Deno.openSync(`${tree}/scattered`, { write: true, create: true });
        for (let i = 0; i < 400; i++) {
          deep.seekSync(2 * i * blockSizeBytes, Deno.SeekMode.Start);
          deep.writeSync(content(100));
        }
        deep.close();
        Deno.symlinkSync("x".repeat(300), `${tree}/slow`);
        mustRun("mke2fs", [
          ...["-q", "-F", "-t", "ext4", "-b", `${blockSizeBytes}`, "-d", tree],
          ...features === "" ? [] : ["-O", features],
          ...[image, "40M"],
        ]);
        leaveUnfinished(image, [
          { name: "cut", sizeBytes: 12_345 },
          { name: "gone" },
          { name: "scattered", sizeBytes: 300 * blockSizeBytes },
          { name: "empty", sizeBytes: 0 },
          { name: "long", sizeBytes: 3_000_000 },
          { name: "slow" },
          { name: "deep", sizeBytes: 20 * blockSizeBytes },
        ]);
        // A mount sets the times of what it cuts to its own.
        const ignore = (_path: string, field: string) => field === "mtime";
        const replay = await assertRecovered(image, { ignore });
        assertEquals(replay?.orphans, { deleted: 2, truncated: 5 });
      });
    });
  }
}

Deno.test("orphans are taken out of quotas, and e2fsck finds the counts right", async () => {
  await withTemporaryDirectory(async (scratch) => {
    const image = `${scratch}/image`;
    const tree = `${scratch}/tree`;
    Deno.mkdirSync(tree);
    for (const name of ["whole", "cut", "gone"]) {
      Deno.writeFileSync(`${tree}/${name}`, new Uint8Array(500_000).fill(0x61));
    }
    mustRun("mke2fs", ["-q", "-F", "-t", "ext4", "-O", "quota", "-d", tree, image, "40M"]);
    for (const [name, owner] of [["cut", 1000], ["gone", 70_000]] as const) {
      mustRun("debugfs", ["-w", "-R", `set_inode_field ${name} uid ${owner}`, image]);
    }
    // mke2fs counts before it copies; e2fsck counts again.
    assertEquals(runCommand("e2fsck", ["-fy", image]).status, 1);
    leaveUnfinished(image, [{ name: "cut", sizeBytes: 12_345 }, { name: "gone" }]);
    const raw = openFileReader(image);
    try {
      const { reader, replay } = recoverImage(raw);
      assertEquals(replay?.orphans, { deleted: 1, truncated: 1 });
      assertEquals(writtenFault(reader), undefined);
      assertEquals((await verifyImage(reader)).findings, []);
    } finally {
      raw.close();
    }
  });
});
