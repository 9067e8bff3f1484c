// deno-lint-ignore-file no-console -- what it prints is what it is for
/**
 * How cost grows: with files, with bytes and with layers, on one core and on two.
 *
 * @module
 */
import { mkdirSync, rmSync } from "node:fs";
import { blessfs, type Command, isInstalled, run } from "./command.ts";
import { layoutOf, writeLargeTar, writeManyTar } from "./inputs.ts";

const MIB = 1 << 20;

/** One size of one kind. */
interface Scale {
  readonly name: string;
  readonly work: string;
  /** Makes the input in a directory; returns the source. */
  readonly make: (directory: string) => string;
}

const ofFiles = (count: number): Scale => ({
  name: `files-${count}`,
  work: `${count.toLocaleString("en")} files, plain tar`,
  make(directory) {
    writeManyTar(`${directory}/tar`, count);
    return `tar:${directory}/tar`;
  },
});

const ofBytes = (mebibytes: number): Scale => ({
  name: `mib-${mebibytes}`,
  work: `${mebibytes.toLocaleString("en")} MiB in 100 files, plain tar`,
  make(directory) {
    writeLargeTar(`${directory}/tar`, mebibytes * MIB, 100);
    return `tar:${directory}/tar`;
  },
});

const ofLayers = (count: number): Scale => ({
  name: `layers-${count}`,
  work: `${count} layers, 200 MiB in all, plain tars`,
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

/** Prints a line for each size and number of cores: the second of two runs. */
export function measureScales(names: readonly string[], scratch: string, machine: string): void {
  console.log(
    [
      machine,
      "",
      "| work | cores | wall s | cpu s | peak MiB |",
      "| ---- | ----: | -----: | ----: | -------: |",
    ].join("\n"),
  );
  for (const { name, work, make } of SCALES) {
    if (names.length > 0 && !names.includes(name)) continue;
    const directory = `${scratch}/${name}`;
    mkdirSync(directory);
    const words = ["bless", make(directory), "-o", `${directory}/image`, "--force", "--quiet"];
    for (const cores of [1, 2]) {
      const command = onCores(cores, blessfs(...words));
      if (command === undefined) {
        console.log(`| ${work} | ${cores} | not run: taskset is not installed | | |`);
        continue;
      }
      run(command, scratch);
      const { milliseconds, processorMs = NaN, peakBytes = NaN } = run(command, scratch);
      const figures = [milliseconds / 1000, processorMs / 1000].map((value) => value.toFixed(2));
      console.log(`| ${[work, cores, ...figures, (peakBytes / MIB).toFixed(0)].join(" | ")} |`);
    }
    rmSync(directory, { recursive: true });
  }
}

function onCores(cores: number, { program, args }: Command): Command | undefined {
  if (!isInstalled("taskset")) return undefined;
  return { program: "taskset", args: ["-c", cores === 1 ? "0" : "0,1", program, ...args] };
}
