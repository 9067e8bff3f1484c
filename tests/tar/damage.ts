/**
 * A tar with one of everything in it, and ways to damage it, the same in every run.
 *
 * @module
 */
import { buildTarEntry, joinBytes } from "./build.ts";
import { longName, padded, paxHeader, rawEntry, rawHeader } from "./raw.ts";

/** One of each kind of entry, every sparse format, and every kind of extended header. */
export function seedTar(): Uint8Array {
  const octal = (value: number) => value.toString(8).padStart(11, "0") + "\0";
  return joinBytes([
    buildTarEntry({ path: "d/", mtime: [-5, 1] }),
    buildTarEntry({
      path: "d/f",
      data: "hello".repeat(300),
      xattrs: { "user.a": "\0\n=", "security.capability": "\x01\0\0\x02" },
    }),
    paxHeader([
      ["path", "d/acl"],
      ["uid", "3000000"],
      ["LIBARCHIVE.xattr.user.b", "QUI"],
      ["SCHILY.acl.access", "user::rwx,user:a:r-x:5,group::r-x,mask::r-x,other::---"],
    ]),
    rawEntry({ name: "short" }, "data"),
    buildTarEntry({ path: "l", link: "d/f" }),
    buildTarEntry({ path: "h", kind: "hardlink", link: "d/f" }),
    buildTarEntry({ path: "c", kind: "characterDevice", major: 1, minor: 3 }),
    longName("L", "long/".repeat(40)),
    longName("K", "target/".repeat(30)),
    rawHeader({ flag: "2" }),
    buildTarEntry({
      path: "s",
      data: { sizeBytes: 9000, parts: [[700, new Uint8Array(9).fill(1)]] },
    }),
    rawHeader({
      flag: "S",
      format: "gnu",
      name: "old",
      size: 4,
      patches: [[386, octal(600) + octal(4)], [482, "\x01"], [483, octal(5000)]],
    }),
    new Uint8Array(512),
    padded("data"),
    paxHeader([
      ["GNU.sparse.size", "900"],
      ["GNU.sparse.numblocks", "1"],
      ["GNU.sparse.offset", "10"],
      ["GNU.sparse.numbytes", "4"],
    ]),
    rawEntry({ name: "s00" }, "data"),
    rawEntry({ flag: "D", name: "dump/", format: "gnu" }, "Yx\0"),
    paxHeader([["comment", "c"]], { flag: "g" }),
    buildTarEntry({ path: "last", data: "end" }),
    new Uint8Array(1024),
  ]);
}

/** Park and Miller's generator: the same numbers in every run. */
export function randomSource(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = state * 48271 % 0x7fffffff;
    return state % below;
  };
}

/** Puts right the checksums of all blocks that look like headers, so that the damage gets past them. */
function repairChecksums(tar: Uint8Array): void {
  for (let base = 0; base + 512 <= tar.length; base += 512) {
    const magic = String.fromCharCode(...tar.subarray(base + 257, base + 262));
    if (magic !== "ustar") continue;
    let sum = 8 * 32;
    for (let i = 0; i < 512; i++) if (i < 148 || i >= 156) sum += tar[base + i]!;
    tar.set(new TextEncoder().encode(`${sum.toString(8).padStart(6, "0")}\0 `), base + 148);
  }
}

const INTERESTING = [0, 1, 9, 10, 32, 45, 47, 48, 49, 55, 56, 61, 127, 128, 255];

const FLAGS = "0123457xgLKSDVMNAX\0Z";

/** One to four damages, and in three of four cases right checksums after that. */
export function mutate(seed: Uint8Array, random: (below: number) => number): Uint8Array {
  let tar = seed.slice();
  for (let count = 1 + random(4); count > 0; count--) {
    const at = random(tar.length);
    const block = at - at % 512;
    switch (random(6)) {
      case 0:
        tar[at] = random(256);
        break;
      case 1:
        tar[at] = INTERESTING[random(INTERESTING.length)]!;
        break;
      case 2: // a field of a header
        tar.fill(random(256), block + 124, block + 125 + random(12));
        break;
      case 3: // a block twice
        tar = joinBytes([tar.subarray(0, block + 512), tar.subarray(block)]);
        break;
      case 4: // a block lost
        tar = joinBytes([tar.subarray(0, block), tar.subarray(block + 512)]);
        break;
      default: // a type of entry
        tar[block + 156] = FLAGS.charCodeAt(random(FLAGS.length));
    }
  }
  if (random(4) > 0) repairChecksums(tar);
  return tar;
}
