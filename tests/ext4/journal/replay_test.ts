import { assertEquals } from "@std/assert";
import { withTemporaryDirectory } from "../../oracle/command.ts";
import { kernelOrNotice } from "../../oracle/kernel.ts";
import { describe, readMounted, readRecovered } from "./outcome.ts";
import { LogImage, type LogOptions, type LogPart } from "./log_builder.ts";

const COMMIT: LogPart = { kind: "commit" };

function blocks(...pairs: readonly (readonly [fileBlock: number, fill: number])[]): LogPart {
  return { kind: "blocks", blocks: pairs.map(([fileBlock, fill]) => ({ fileBlock, fill })) };
}

/** What is in a log, and whether it can be replayed. */
interface Case {
  readonly name: string;
  readonly write: (image: LogImage) => void;
  /** What differs from the plain log. */
  readonly options?: Partial<LogOptions>;
  /** Versions of checksums that it is about; all when left out. */
  readonly versions?: readonly LogOptions["checksumVersion"][];
}

const CASES: readonly Case[] = [
  { name: "an empty log", write: () => {} },
  {
    name: "two transactions",
    write: (image) => image.add(blocks([0, 1], [1, 1]), COMMIT, blocks([1, 2], [2, 2]), COMMIT),
  },
  {
    name: "a transaction without its commit",
    write: (image) => image.add(blocks([0, 1]), COMMIT, blocks([0, 2])),
  },
  {
    name: "two descriptors in a transaction, the later block counts",
    write: (image) => image.add(blocks([0, 1], [3, 1]), blocks([0, 2]), COMMIT),
  },
  {
    name: "escaped blocks",
    write: (image) =>
      image.add({
        kind: "blocks",
        blocks: [{ fileBlock: 4, fill: 7, isMagic: true }, { fileBlock: 5, fill: 7 }],
      }, COMMIT),
  },
  {
    name: "a UUID in every tag",
    write: (image) =>
      image.add({
        kind: "blocks",
        blocks: [6, 7, 8].map((fileBlock) => ({ fileBlock, fill: 9, hasUuid: true })),
      }, COMMIT),
  },
  {
    name: "a block that is revoked later",
    write: (image) =>
      image.add(blocks([0, 1], [1, 1]), COMMIT, { kind: "revoke", fileBlocks: [1] }, COMMIT),
  },
  {
    name: "a block that is revoked in its own transaction",
    write: (image) =>
      image.add(blocks([0, 1], [1, 1]), { kind: "revoke", fileBlocks: [0] }, COMMIT),
  },
  {
    name: "a block that is written again after it was revoked",
    write: (image) =>
      image.add(
        ...[
          blocks([0, 1], [1, 1]),
          COMMIT,
          { kind: "revoke", fileBlocks: [0, 1] } as const,
          COMMIT,
        ],
        ...[blocks([1, 3]), COMMIT],
      ),
  },
  {
    name: "a revocation in a transaction that was not committed",
    write: (image) => image.add(blocks([0, 1]), COMMIT, { kind: "revoke", fileBlocks: [0] }),
  },
  {
    name: "a log that wraps",
    options: { startBlock: 1095, blockCount: 1100 },
    write: (image) =>
      image.add(blocks([0, 1], [1, 1], [2, 1], [3, 1], [4, 1]), COMMIT, blocks([5, 2]), COMMIT),
  },
  {
    name: "transaction numbers that wrap",
    options: { sequence: 0xfffffffe },
    write: (image) => {
      for (let i = 1; i <= 4; i++) image.add(blocks([i, i]), COMMIT);
    },
  },
  {
    name: "an older transaction behind the last",
    write: (image) => {
      image.add(blocks([0, 1]), COMMIT);
      image.journalBlock(image.nextBlock).set(image.journalBlock(1));
    },
  },
  {
    name: "a block past the end of the image",
    write: (image) => image.add(blocks([0, 1], [10_000_000, 1]), COMMIT),
  },
  {
    name: "revocations that do not fit their block",
    write: (image) =>
      image.add(blocks([0, 1]), { kind: "revoke", fileBlocks: [], usedBytes: 70_000 }, COMMIT),
  },
  {
    name: "such revocations in a transaction that was not committed",
    write: (image) =>
      image.add(blocks([0, 1]), COMMIT, { kind: "revoke", fileBlocks: [], usedBytes: 70_000 }),
  },
  ...[0xffffffff, 0].map((sequence) => ({
    name: `a damaged commit of the transaction with the number 0, the first being ${sequence}`,
    versions: [1, 2, 3] as const,
    options: { sequence },
    write: (image: LogImage) => {
      image.add(blocks([0, 1]), COMMIT, blocks([1, 2]), COMMIT);
      image.journalBlock(sequence === 0 ? 3 : 6)[17]! ^= 1;
    },
  })),
  {
    name: "a copy that is damaged",
    write: (image) => {
      image.add(blocks([0, 1], [1, 1]), COMMIT, blocks([2, 2]), COMMIT);
      image.journalBlock(2)[100]! ^= 1;
    },
  },
  {
    name: "a damaged copy that is revoked",
    versions: [2, 3],
    write: (image) => {
      image.add(blocks([0, 1], [1, 1]), COMMIT, { kind: "revoke", fileBlocks: [0] }, COMMIT);
      image.journalBlock(2)[100]! ^= 1;
    },
  },
  {
    name: "a descriptor that is damaged",
    versions: [2, 3],
    write: (image) => {
      image.add(blocks([0, 1]), COMMIT, blocks([2, 2]), COMMIT, blocks([3, 3]), COMMIT);
      image.journalBlock(4)[900]! ^= 1;
    },
  },
  {
    name: "a damaged descriptor of an older log",
    versions: [2, 3],
    write: (image) => {
      image.add(blocks([0, 1]), COMMIT, blocks([2, 2]), { kind: "commit", seconds: 1_600_000_000 });
      image.journalBlock(4)[900]! ^= 1;
    },
  },
  {
    name: "a revocation that is damaged",
    versions: [2, 3],
    write: (image) => {
      image.add(blocks([0, 1]), { kind: "revoke", fileBlocks: [0] }, COMMIT);
      image.journalBlock(3)[900]! ^= 1;
    },
  },
  ...[false, true].flatMap((isAsynchronous) => [
    {
      name: `a commit in the middle that is damaged${isAsynchronous ? ", asynchronous" : ""}`,
      versions: [1, 2, 3] as const,
      options: { isAsynchronous },
      write: (image: LogImage) => {
        image.add(blocks([0, 1]), COMMIT, blocks([1, 2]), COMMIT, blocks([2, 3]), COMMIT);
        image.journalBlock(6)[17]! ^= 1;
      },
    },
    {
      name: `a last commit that is damaged${isAsynchronous ? ", asynchronous" : ""}`,
      versions: [1, 2, 3] as const,
      options: { isAsynchronous },
      write: (image: LogImage) => {
        image.add(blocks([0, 1]), COMMIT, blocks([1, 2]), COMMIT);
        image.journalBlock(6)[17]! ^= 1;
      },
    },
    {
      name: `a damaged commit of an older log${isAsynchronous ? ", asynchronous" : ""}`,
      versions: [1, 2, 3] as const,
      options: { isAsynchronous },
      write: (image: LogImage) => {
        image.add(blocks([0, 1]), COMMIT, blocks([1, 2]), {
          kind: "commit",
          seconds: 1_600_000_000,
        });
        image.journalBlock(6)[17]! ^= 1;
      },
    },
  ]),
  {
    name: "a commit with more than its header in its block",
    versions: [2, 3],
    write: (image) => {
      image.add(blocks([0, 1]), COMMIT);
      image.journalBlock(3).fill(7, 64);
    },
  },
  {
    name: "a commit with something in the padding of its header",
    versions: [2, 3],
    write: (image) => {
      image.add(blocks([0, 1]), COMMIT);
      image.journalBlock(3)[63]! ^= 1;
    },
  },
  {
    name: "a commit without its checksum",
    versions: [1],
    write: (image) => {
      image.add(blocks([0, 1]), COMMIT);
      image.journalBlock(3).fill(0, 12, 20);
    },
  },
  {
    name: "a superblock of version 1",
    versions: [0],
    options: { is64Bit: false },
    write: (image) => {
      image.patchJournal((view) => {
        view.setUint32(4, 3);
        for (let at = 0x24; at < 1024; at += 4) view.setUint32(at, 0);
      });
      image.add(blocks([0, 1]), COMMIT);
    },
  },
  {
    name: "a feature that is not known",
    write: (image) => {
      image.add(blocks([0, 1]), COMMIT);
      image.patchJournal((view) => view.setUint32(0x28, view.getUint32(0x28) | 0x40));
    },
  },
  {
    name: "checksums of versions 2 and 3 at once",
    versions: [3],
    write: (image) => image.patchJournal((view) => view.setUint32(0x28, 0x1b)),
  },
  {
    name: "a journal that claims more blocks than its inode",
    write: (image) => image.patchJournal((view) => view.setUint32(0x10, 100_000)),
  },
  { name: "no first block", write: (image) => image.patchJournal((v) => v.setUint32(0x14, 0)) },
  {
    name: "a start past the end",
    write: (image) => image.patchJournal((view) => view.setUint32(0x1c, 50_000)),
  },
  {
    name: "another block size",
    write: (image) => image.patchJournal((view) => view.setUint32(0x0c, 8192)),
  },
  {
    name: "a superblock whose checksum is wrong",
    versions: [2, 3],
    write: (image) => {
      image.journalBlock(0)[0xfc]! ^= 1;
    },
  },
  {
    name: "no log to replay",
    write: (image) => {
      image.add(blocks([0, 1]), COMMIT);
      image.patchJournal((view) => view.setUint32(0x1c, 0));
    },
  },
  {
    name: "room for fast commits behind the log, which wraps before it",
    options: { startBlock: 1020, blockCount: 1100, fastCommitBlocks: 76 },
    write: (image) => {
      for (let i = 1; i <= 5; i++) image.add(blocks([i, i]), COMMIT);
    },
  },
  {
    name: "too much room for fast commits",
    options: { blockCount: 1100 },
    write: (image) => {
      image.add(blocks([0, 1]), COMMIT);
      image.patchJournal((view) => {
        view.setUint32(0x28, view.getUint32(0x28) | 0x20);
        view.setUint32(0x54, 1000);
      });
    },
  },
];

for (const blockSizeBytes of [1024, 4096]) {
  for (const checksumVersion of [0, 1, 2, 3] as const) {
    for (const is64Bit of [true, false]) {
      const plain = { blockSizeBytes, checksumVersion, is64Bit };
      const title = `${blockSizeBytes} bytes, checksums of version ${checksumVersion}, ${
        is64Bit ? 64 : 32
      } bits`;
      Deno.test(`logs are replayed or refused as the kernel does: ${title}`, async () => {
        if (!kernelOrNotice("mounting images with a journal written by hand")) return;
        await withTemporaryDirectory(async (scratch) => {
          const cases = CASES.filter(({ versions = [0, 1, 2, 3] }) =>
            versions.includes(checksumVersion)
          );
          for (const { name, write, options } of cases) {
            const image = new LogImage(scratch, { ...plain, ...options });
            write(image);
            const found = await readRecovered(image.bytes);
            const wanted = describe(readMounted(image.bytes, scratch));
            assertEquals(describe(found), wanted, `${name}: ${found.error}`);
          }
        });
      });
    }
  }
}
