/**
 * The layers of the code: imports point down only.
 *
 * @module
 */

/** From the bottom up. Folders on one line are side by side and know nothing of each other. */
const LAYERS: readonly (readonly string[])[] = [
  ["lib/errors.ts", "lib/warnings.ts", "lib/progress.ts"],
  ["lib/bytes/"],
  ["lib/io/"],
  ["lib/model/", "lib/chunk/", "lib/layout/", "lib/verity/", "lib/disk/"],
  ["lib/tar/", "lib/ext4/format/"],
  ["lib/ext4/journal/"],
  ["lib/ext4/volume/", "lib/ext4/plan/"],
  ["lib/ext4/write/", "lib/ext4/read/", "lib/ext4/verify/", "lib/ext4/checksum/"],
  ["lib/ext4/recovery/"],
  ["lib/ext4/mod.ts"],
  ["lib/tree/"],
  ["lib/source/"],
  ["lib/bless/"],
  ["probe/"],
  ["worker.ts"],
  ["serve/"],
  ["cli/"],
];

/** The files at the bottom may import one another; otherwise a folder is one unit. */
export interface Unit {
  readonly name: string;
  readonly rank: number;
}

/** Where a file belongs; undefined when no layer claims it. */
export function unitOf(path: string): Unit | undefined {
  for (const [rank, names] of LAYERS.entries()) {
    const name = names.find((n) => (n.endsWith("/") ? path.startsWith(n) : path === n));
    if (name !== undefined) return { name: rank === 0 ? "lib/" : name, rank };
  }
  return undefined;
}

/** Why a file must not import another one; undefined when it may. Data that holds no code has no layer. */
export function importFault(from: string, to: string): string | undefined {
  if (to.endsWith(".json")) return undefined;
  const [importer, imported] = [unitOf(from), unitOf(to)];
  if (importer === undefined) return `${from} belongs to no layer`;
  if (imported === undefined) return `${from} imports ${to}, which belongs to no layer`;
  if (importer.name === imported.name || imported.rank < importer.rank) return undefined;
  const direction = imported.rank > importer.rank ? "up" : "sideways";
  return `${from} imports ${direction}: ${to}`;
}

/** A path of imports that leads back to where it began; undefined when there is none. */
export function findCycle(imports: ReadonlyMap<string, readonly string[]>): string[] | undefined {
  const finished = new Set<string>();
  const trail: string[] = [];
  const visit = (path: string): string[] | undefined => {
    if (finished.has(path)) return undefined;
    const known = trail.indexOf(path);
    if (known >= 0) return [...trail.slice(known), path];
    trail.push(path);
    for (const next of imports.get(path) ?? []) {
      const cycle = visit(next);
      if (cycle) return cycle;
    }
    trail.pop();
    finished.add(path);
    return undefined;
  };
  for (const path of imports.keys()) {
    const cycle = visit(path);
    if (cycle) return cycle;
  }
  return undefined;
}
