/**
 * What is timed against what. Each row names its goal, and says why when it cannot run here.
 *
 * @module
 */
import { mkdirSync, rmSync } from "node:fs";
import { blessfs, type Command, isInstalled, quoted, run, shell } from "./command.ts";
import {
  compressed,
  layerFiles,
  layoutOf,
  makeFiles,
  plainLayers,
  writeLargeTar,
} from "./inputs.ts";
import { type PairResult, runPairs } from "./pairs.ts";

/** Where a row works. */
export interface RowContext {
  /** `oci:DIR[:REF]` of an image with gzip layers. */
  readonly source: string;
  /** An empty directory of the row's own. */
  readonly scratch: string;
  readonly runCount: number;
}

/** What came of a row: figures, or why there are none. */
export type RowOutcome =
  | { readonly kind: "pair"; readonly result: PairResult }
  | { readonly kind: "figure"; readonly text: string }
  | { readonly kind: "not run"; readonly why: string };

/** One line of the table. */
export interface Row {
  readonly name: string;
  readonly work: string;
  readonly peer: string;
  readonly goal: string;
  readonly measure: (context: RowContext) => Promise<RowOutcome>;
}

const GIB = 2 ** 30;

function bless(source: string, output: string, ...more: string[]): Command {
  return blessfs("bless", source, "-o", output, "--force", "--quiet", ...more);
}

function pair(
  context: RowContext,
  ours: Command,
  peer: Command,
  before?: () => void,
): RowOutcome {
  return { kind: "pair", result: runPairs(ours, peer, { ...context, ...(before && { before }) }) };
}

function needs(program: string): RowOutcome | undefined {
  return isInstalled(program) ? undefined : { kind: "not run", why: `${program} is not installed` };
}

/** A shell line that inflates each blob to a file of its own. */
function inflateAll(program: string, blobs: readonly string[], scratch: string): Command {
  return shell(
    blobs.map((blob, i) => `${program} -dc < ${quoted(blob)} > ${quoted(`${scratch}/peer-${i}`)}`)
      .join(" && "),
  );
}

async function againstGzip(program: string, context: RowContext): Promise<RowOutcome> {
  const missing = needs(program);
  if (missing) return missing;
  const { source, scratch } = context;
  const peer = inflateAll(program, await layerFiles(source), scratch);
  return pair(context, bless(source, `${scratch}/image`), peer);
}

async function againstZstd(context: RowContext): Promise<RowOutcome> {
  const missing = needs("zstd");
  if (missing) return missing;
  const { source, scratch } = context;
  const tars = plainLayers(await layerFiles(source), `${scratch}/plain`);
  const blobs = compressed(tars, "zstd -q -3", `${scratch}/zstd`);
  const mediaType = "application/vnd.oci.image.layer.v1.tar+zstd";
  layoutOf(`${scratch}/layout`, blobs.map((blob, i) => ({ blob, tar: tars[i]!, mediaType })));
  const peer = inflateAll("zstd -q", blobs, scratch);
  return pair(context, bless(`oci:${scratch}/layout`, `${scratch}/image`), peer);
}

async function againstCopy(context: RowContext): Promise<RowOutcome> {
  const { source, scratch } = context;
  const tars = plainLayers(await layerFiles(source), `${scratch}/plain`);
  const mediaType = "application/vnd.oci.image.layer.v1.tar";
  layoutOf(`${scratch}/layout`, tars.map((tar) => ({ blob: tar, tar, mediaType })));
  const peer = shell(
    tars.map((tar, i) => `cp ${quoted(tar)} ${quoted(`${scratch}/peer-${i}`)}`).join(" && "),
  );
  return pair(context, bless(`oci:${scratch}/layout`, `${scratch}/image`), peer);
}

/** One tar, gzipped or not, beside a shell line; `{tar}` and `{out}` in it are files. */
function againstTar(programs: readonly string[], suffix: "" | ".gz", line: string) {
  return async (context: RowContext): Promise<RowOutcome> => {
    for (const program of programs) {
      const missing = needs(program);
      if (missing) return missing;
    }
    const { source, scratch } = context;
    const [layer] = await layerFiles(source);
    const tar = suffix === "" ? plainLayers([layer!], scratch)[0]! : layer!;
    const words = line.replaceAll("{tar}", quoted(tar))
      .replaceAll("{out}", quoted(`${scratch}/peer`));
    return pair(context, bless(`tar:${tar}`, `${scratch}/image`), shell(words));
  };
}

async function rootDirectory(context: RowContext): Promise<RowOutcome> {
  const missing = needs("mke2fs");
  if (missing) return missing;
  const { source, scratch } = context;
  const [root, image] = [`${scratch}/root`, `${scratch}/peer.ext4`];
  const [layer] = await layerFiles(source);
  mkdirSync(root);
  run(shell(`gzip -dc < ${quoted(layer!)} | tar -xf - -C ${quoted(root)}`), scratch);
  const peer = shell(
    `rm -f ${quoted(image)} && mke2fs -q -t ext4 -d ${quoted(root)} ${quoted(image)} 2G`,
  );
  return pair(context, bless(`rootfs:${root}`, `${scratch}/image`), peer);
}

function layeredAgain(context: RowContext): Promise<RowOutcome> {
  const { source, scratch } = context;
  const layered = (directory: string) =>
    blessfs("bless", "layered", source, "-o", directory, "--quiet");
  const [present, fresh] = [`${scratch}/present`, `${scratch}/fresh`];
  const before = () => rmSync(fresh, { recursive: true, force: true });
  run(layered(present), scratch);
  return Promise.resolve(pair(context, layered(present), layered(fresh), before));
}

function againstMke2fs(fileCount: number, perDirectory: number) {
  return (context: RowContext): Promise<RowOutcome> => {
    const missing = needs("mke2fs");
    if (missing) return Promise.resolve(missing);
    const { scratch } = context;
    const [root, image] = [`${scratch}/root`, `${scratch}/peer.ext4`];
    makeFiles(root, fileCount, perDirectory);
    const peer = shell(
      `rm -f ${quoted(image)} && ` +
        `mke2fs -q -t ext4 -N ${2 * fileCount} -d ${quoted(root)} ${quoted(image)} 2G`,
    );
    return Promise.resolve(pair(context, bless(`rootfs:${root}`, `${scratch}/image`), peer));
  };
}

/** The peer is ourselves with a quarter of the files, so a linear cost gives 4 or less. */
function growth(context: RowContext): Promise<RowOutcome> {
  const { scratch } = context;
  for (const count of [30_000, 120_000]) makeFiles(`${scratch}/${count}`, count, count);
  const ofCount = (count: number) => bless(`rootfs:${scratch}/${count}`, `${scratch}/image`);
  return Promise.resolve(pair(context, ofCount(120_000), ofCount(30_000)));
}

function terabyte(context: RowContext): Promise<RowOutcome> {
  const { source, scratch } = context;
  const huge = bless(source, `${scratch}/huge`, "--size", "1T");
  return Promise.resolve(pair(context, huge, bless(source, `${scratch}/exact`)));
}

async function probeSweep(context: RowContext): Promise<RowOutcome> {
  const { source, scratch } = context;
  const layers = plainLayers(await layerFiles(source), `${scratch}/plain`);
  const mediaType = "application/vnd.oci.image.layer.v1.tar+gzip";
  const blobs = compressed(layers, "gzip -1", `${scratch}/gzip`);
  // Four images: the whole one, and three of fewer layers or of another order.
  const stacks = [
    [...blobs.keys()],
    [0],
    [...blobs.keys()].slice(0, -1),
    [...blobs.keys()].reverse(),
  ];
  const sources = stacks.map((stack, i) => {
    layoutOf(
      `${scratch}/image-${i}`,
      stack.map((at) => ({ blob: blobs[at]!, tar: layers[at]!, mediaType })),
    );
    return `oci:${scratch}/image-${i}`;
  });
  const thresholds = "16K,64K,128K,256K,1M";
  const probe = blessfs("probe", ...sources, "--align-threshold", thresholds, "--format", "json");
  const all = sources.map((each) => bless(each, `${scratch}/image`));
  const words = all.map(({ program, args }) => [program, ...args].map(quoted).join(" "));
  return pair(context, probe, shell(words.join(" && ")));
}

function verify(context: RowContext): Promise<RowOutcome> {
  const missing = needs("e2fsck");
  if (missing) return Promise.resolve(missing);
  const { source, scratch } = context;
  const image = `${scratch}/image`;
  run(bless(source, image, "--size", "1G"), scratch);
  const peer: Command = { program: "e2fsck", args: ["-fn", image] };
  return Promise.resolve(pair(context, blessfs("verify", image), peer));
}

/** Where the time goes to inodes and names, and not to the start of the program. */
function verifyMany(context: RowContext): Promise<RowOutcome> {
  const missing = needs("e2fsck");
  if (missing) return Promise.resolve(missing);
  const { scratch } = context;
  const [root, image] = [`${scratch}/root`, `${scratch}/image`];
  makeFiles(root, 120_000, 120_000);
  run(bless(`rootfs:${root}`, image), scratch);
  const peer: Command = { program: "e2fsck", args: ["-fn", image] };
  return Promise.resolve(pair(context, blessfs("verify", image), peer));
}

function peakMemory(context: RowContext): Promise<RowOutcome> {
  const { scratch } = context;
  const peaks = [1, 4].map((gibibytes) => {
    const [tar, gzip] = [`${scratch}/${gibibytes}.tar`, `${scratch}/${gibibytes}.tar.gz`];
    writeLargeTar(tar, gibibytes * GIB, 2000);
    run(shell(`gzip -1 < ${quoted(tar)} > ${quoted(gzip)}`), scratch);
    rmSync(tar);
    const { peakBytes } = run(bless(`tar:${gzip}`, `${scratch}/image`), scratch);
    rmSync(gzip);
    return peakBytes;
  });
  const [one, four] = peaks;
  if (one === undefined || four === undefined) {
    return Promise.resolve({ kind: "not run", why: "/usr/bin/time is not installed" });
  }
  const mib = (bytes: number) => `${(bytes / 2 ** 20).toFixed(0)} MiB`;
  const text = `${mib(one)} at 1 GiB, ${mib(four)} at 4 GiB: ${(four / one).toFixed(2)}`;
  return Promise.resolve({ kind: "figure", text });
}

function start(context: RowContext): Promise<RowOutcome> {
  const nothing: Command = { program: "/bin/true", args: [] };
  const runCount = 4 * context.runCount;
  return Promise.resolve(pair({ ...context, runCount }, blessfs("--version"), nothing));
}

/** All rows, in the order of the table. */
export const ROWS: readonly Row[] = [
  {
    name: "tar-gzip-tar2ext4",
    work: "a gzip tar",
    peer: "gzip -dc into tar2ext4",
    goal: "cpu 0.5, wall 0.45",
    measure: againstTar(["tar2ext4"], ".gz", "gzip -dc < {tar} | tar2ext4 -o {out}"),
  },
  {
    name: "tar-igzip-tar2ext4",
    work: "a gzip tar",
    peer: "igzip -dc into tar2ext4",
    goal: "cpu 1.0, wall 0.8",
    measure: againstTar(["igzip", "tar2ext4"], ".gz", "igzip -dc < {tar} | tar2ext4 -o {out}"),
  },
  {
    name: "tar-igzip",
    work: "a gzip tar",
    peer: "igzip -dc to a file",
    goal: "cpu 2.2, wall 1.5",
    measure: againstTar(["igzip"], ".gz", "igzip -dc < {tar} > {out}"),
  },
  {
    name: "tar-tar2ext4",
    work: "a plain tar",
    peer: "tar2ext4",
    goal: "cpu 1.5, wall 1.2",
    measure: againstTar(["tar2ext4"], "", "tar2ext4 -i {tar} -o {out}"),
  },
  {
    name: "tar-copy",
    work: "a plain tar",
    peer: "cp",
    goal: "cpu 4.5, wall 3.2",
    measure: againstTar([], "", "cp {tar} {out}"),
  },
  {
    name: "rootfs",
    work: "a root directory",
    peer: "mke2fs -d",
    goal: "cpu 0.9, wall 0.7",
    measure: rootDirectory,
  },
  {
    name: "igzip",
    work: "merged, gzip layers",
    peer: "igzip -dc to files",
    goal: "cpu 2.0, wall 1.2",
    measure: (context) => againstGzip("igzip", context),
  },
  {
    name: "gzip",
    work: "merged, gzip layers",
    peer: "gzip -dc to files",
    goal: "cpu 0.75, wall 0.45",
    measure: (context) => againstGzip("gzip", context),
  },
  {
    name: "zstd",
    work: "merged, zstd layers",
    peer: "zstd -dc to files",
    goal: "<= 1.3",
    measure: againstZstd,
  },
  {
    name: "copy",
    work: "merged, plain layers",
    peer: "cp of the tars",
    goal: "<= 2",
    measure: againstCopy,
  },
  {
    name: "layered",
    work: "layered, all present",
    peer: "the first run",
    goal: "<= 0.1",
    measure: layeredAgain,
  },
  {
    name: "flat",
    work: "30,000 files in one directory",
    peer: "mke2fs -d",
    goal: "< 1",
    measure: againstMke2fs(30_000, 30_000),
  },
  {
    name: "tree",
    work: "100,000 files, 50 a directory",
    peer: "mke2fs -d",
    goal: "< 1",
    measure: againstMke2fs(100_000, 50),
  },
  {
    name: "growth",
    work: "120,000 files in one directory",
    peer: "30,000 files",
    goal: "<= 4",
    measure: growth,
  },
  {
    name: "terabyte",
    work: "merged with --size 1T",
    peer: "the exact size",
    goal: "< 2 s",
    measure: terabyte,
  },
  {
    name: "probe",
    work: "probe, 4 images, 5 thresholds",
    peer: "bless of the four",
    goal: "<= 2",
    measure: probeSweep,
  },
  { name: "verify", work: "verify of 1 GiB", peer: "e2fsck -fn", goal: "<= 1.0", measure: verify },
  {
    name: "verify-many",
    work: "verify of 120,000 files",
    peer: "e2fsck -fn",
    goal: "<= 1.0",
    measure: verifyMany,
  },
  {
    name: "memory",
    work: "peak memory, one gzip tar",
    peer: "",
    goal: "< 300 MB, the same to 20 %",
    measure: peakMemory,
  },
  { name: "start", work: "--version", peer: "true(1)", goal: "< 60 ms", measure: start },
];

/** Measures one row in a directory that is removed afterwards. */
export async function measureRow(row: Row, context: RowContext): Promise<RowOutcome> {
  const scratch = `${context.scratch}/${row.name}`;
  mkdirSync(scratch);
  try {
    return await row.measure({ ...context, scratch });
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}
