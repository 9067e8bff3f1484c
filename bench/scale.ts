/**
 * How cost grows: with files, with bytes and with layers, on one core and on two.
 *
 * @module
 */
import { mkdirSync, rmSync, statfsSync } from "node:fs";
import { blessfs, type Command, isInstalled, run } from "./command.ts";
import { layoutOf, writeLargeTar, writeManyTar } from "./inputs.ts";

const MIB = 1 << 20;

/** One size of one kind. */
export interface Scale {
  readonly name: string;
  readonly work: string;
  /** Of the input. */
  readonly sizeBytes: number;
  /** Makes the input in a directory; returns the source. */
  readonly make: (directory: string) => string;
}

const ofFiles = (count: number): Scale => ({
  name: `files-${count}`,
  work: `${count.toLocaleString("en")} files, plain tar`,
  // Of image, which is more: a block and an inode for each file.
  sizeBytes: 4500 * count,
  make(directory) {
    writeManyTar(`${directory}/tar`, count);
    return `tar:${directory}/tar`;
  },
});

const ofBytes = (mebibytes: number): Scale => ({
  name: `mib-${mebibytes}`,
  work: `${mebibytes.toLocaleString("en")} MiB in 100 files, plain tar`,
  sizeBytes: mebibytes * MIB,
  make(directory) {
    writeLargeTar(`${directory}/tar`, mebibytes * MIB, 100);
    return `tar:${directory}/tar`;
  },
});

const ofLayers = (count: number): Scale => ({
  name: `layers-${count}`,
  work: count === 1
    ? "1 layer of 200 MiB, plain tar"
    : `${count} layers, 200 MiB in all, plain tars`,
  // Once more in the layout.
  sizeBytes: 400 * MIB,
  make(directory) {
    const layers = Array.from({ length: count }, (_, i) => {
      const tar = `${directory}/${i}.tar`;
      writeLargeTar(tar, 200 * MIB / count, 10, 10 * i);
      return { blob: tar, tar, mediaType: "application/vnd.oci.image.layer.v1.tar" };
    });
    layoutOf(`${directory}/layout`, layers);
    return `oci:${directory}/layout`;
  },
});

/** All sizes, in the order of the table. */
export const SCALES: readonly Scale[] = [
  ...[1_000, 10_000, 100_000, 1_000_000].map(ofFiles),
  ...[10, 100, 1_024, 16_384].map(ofBytes),
  ...[1, 10, 100].map(ofLayers),
];

/** The lines of one size: for each number of cores the second of two runs. */
export function* scaleLines(
  { name, work, sizeBytes, make }: Scale,
  scratch: string,
): Generator<string> {
  const { bavail, bsize } = statfsSync(scratch);
  // The input, the image, and some room.
  const neededBytes = Math.ceil(sizeBytes * 2.1);
  if (bavail * bsize < neededBytes) {
    return yield `| ${work} | | not run: there is no room for ${
      gibibytes(neededBytes)
    } (TMPDIR) | | |`;
  }
  if (!isInstalled("taskset")) return yield `| ${work} | | not run: taskset is not installed | | |`;
  const directory = `${scratch}/${name}`;
  mkdirSync(directory);
  try {
    const words = ["bless", make(directory), "-o", `${directory}/image`, "--force", "--quiet"];
    for (const cores of [1, 2]) {
      const command = onCores(cores, blessfs(...words));
      run(command, scratch);
      const { milliseconds, processorMs, peakBytes } = run(command, scratch);
      const figures = [milliseconds, processorMs].map((value) => (value / 1000).toFixed(2));
      const peak = peakBytes === undefined ? "" : (peakBytes / MIB).toFixed(0);
      yield `| ${[work, cores, ...figures, peak].join(" | ")} |`;
    }
  } finally {
    rmSync(directory, { recursive: true });
  }
}

function gibibytes(bytes: number): string {
  return `${(bytes / 2 ** 30).toFixed(1)} GiB`;
}

function onCores(cores: number, { program, args }: Command): Command {
  return { program: "taskset", args: ["-c", cores === 1 ? "0" : "0,1", program, ...args] };
}
