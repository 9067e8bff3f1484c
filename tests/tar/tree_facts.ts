/**
 * What fixtures/tar/tree.sh builds, said once more by hand: what every tar made of that tree must read as.
 *
 * @module
 */
import { type ByteString, byteStringFromText } from "../../lib/bytes/byte_string.ts";
import type { TarEntry, TarEntryKind } from "../../lib/tar/entry.ts";
import { contentOf } from "./read.ts";

/** One name of the tree. */
export interface TreeFact {
  readonly kind: TarEntryKind;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtime: readonly [seconds: number, nanoseconds: number];
  /** A file's content, a link's target, a device's numbers; otherwise empty. */
  readonly content: ByteString;
  /** `NAME=HEX`, in order. */
  readonly xattrs: readonly string[];
}

/** Facts by path. Paths of directories have no slash at the end. */
export type TreeFacts = ReadonlyMap<ByteString, TreeFact>;

const USUAL_MTIME = [1700000000, 123456789] as const;
const ROOT = { uid: 0, gid: 0, mtime: USUAL_MTIME, xattrs: [] } as const;

function file(content: ByteString, rest: Partial<TreeFact> = {}): TreeFact {
  return { ...ROOT, kind: "file", mode: 0o644, content, ...rest };
}

function directory(rest: Partial<TreeFact> = {}): TreeFact {
  return { ...ROOT, kind: "directory", mode: 0o755, content: "", ...rest };
}

function symlink(content: ByteString): TreeFact {
  return { ...ROOT, kind: "symlink", mode: 0o777, content };
}

/** The part of the tree that every format can hold. Hard links are not told apart from files: both have the content. */
export const SIMPLE_FACTS: TreeFacts = new Map([
  ["simple", directory()],
  ["simple/dir", directory({ mode: 0o1777 })],
  ["simple/dir/file", file("a file in a directory\n")],
  ["simple/hardlink", file("a file in a directory\n")],
  ["simple/size-0", file("")],
  ["simple/size-1", file("x", { mode: 0o4751 })],
  ["simple/size-4096", file("x".repeat(4096))],
  ["simple/size-5000", file("x".repeat(5000))],
  ["simple/size-511", file("x".repeat(511))],
  ["simple/size-512", file("x".repeat(512))],
  ["simple/size-513", file("x".repeat(513))],
  ["simple/symlink", symlink("dir/file")],
  ["simple/zeros", file("\0".repeat(10000))],
]);

const LONG = "7".padStart(120, "0");
const DEEP = ["1", "2", "3"].map((name) => name.padStart(90, "0"));

function sparseContent(): ByteString {
  const first = "\0".repeat(70000) + "first";
  return (first + "\0".repeat(290000 - first.length) + "last").padEnd(300000, "\0");
}

const DEFAULT_ACL = "system.posix_acl_default=" +
  "0200000001000700ffffffff020007000000000004000500ffffffff10000700ffffffff20000500ffffffff";
const ACCESS_ACL = "system.posix_acl_access=" +
  "0200000001000600ffffffff020007000100000004000400ffffffff080005007011010010000700ffffffff20000000ffffffff";

/** The rest of the tree, as root builds it. */
export const HARD_FACTS: TreeFacts = new Map([
  ["hard", directory()],
  [`hard/${LONG}`, file("long")],
  ["hard/acl", file("acl", { mode: 0o670, xattrs: [ACCESS_ACL] })],
  ["hard/after-2038", file("new", { mtime: [2208988800, 0] })],
  ["hard/before-1970", file("old", { mtime: [-3, 250000000] })],
  ["hard/caf\xe9\xff", file("latin1")],
  ["hard/dir", directory({ xattrs: [DEFAULT_ACL] })],
  [`hard/dir/${DEEP[0]}`, directory()],
  [`hard/dir/${DEEP[0]}/${DEEP[1]}`, directory()],
  [`hard/dir/${DEEP.join("/")}`, directory()],
  [`hard/dir/${DEEP.join("/")}/file`, file("deep")],
  ["hard/disk", { ...ROOT, kind: "blockDevice", mode: 0o644, content: "259:70000" }],
  ["hard/fifo", { ...ROOT, kind: "fifo", mode: 0o644, content: "" }],
  ["hard/hole", file("\0".repeat(100000))],
  ["hard/long-hardlink", file("long")],
  ["hard/long-symlink", symlink(`../${LONG}/${LONG}`)],
  ["hard/null", { ...ROOT, kind: "characterDevice", mode: 0o644, content: "1:3" }],
  ["hard/owner", file("owned", { uid: 3000000, gid: 70000 })],
  ["hard/sparse", file(sparseContent())],
  [
    "hard/xattr",
    file("xattr", {
      xattrs: [
        "security.capability=0100000200200000000000000000000000000000",
        "user.a=b%c=31",
        "user.bytes=00ff0a3d41",
        "user.empty=",
      ],
    }),
  ],
  [byteStringFromText("hard/ü€"), file("utf8")],
]);

/** The facts that a tar gives. A hard link must point to a file before it, and has its content. */
export function factsOf(entries: readonly TarEntry[], tar: Uint8Array): TreeFacts {
  const facts = new Map<ByteString, TreeFact>();
  for (const entry of entries) {
    const target = entry.kind === "hardlink" ? facts.get(entry.linkTarget) : undefined;
    if (entry.kind === "hardlink" && target === undefined) {
      throw new Error(`${entry.path} is a hard link to nothing before it`);
    }
    facts.set(entry.path.replace(/\/$/, ""), {
      kind: target?.kind ?? entry.kind,
      mode: entry.mode,
      uid: entry.uid,
      gid: entry.gid,
      mtime: [entry.mtimeSeconds, entry.mtimeNanoseconds],
      content: target?.content ?? contentFact(entry, tar),
      xattrs: target?.xattrs ?? entry.xattrs.map(({ name, value }) => `${name}=${hex(value)}`),
    });
  }
  return new Map([...facts].sort(([a], [b]) => (a < b ? -1 : 1)));
}

function contentFact(entry: TarEntry, tar: Uint8Array): ByteString {
  if (entry.kind === "symlink") return entry.linkTarget;
  if (entry.kind.endsWith("Device")) return `${entry.deviceMajor}:${entry.deviceMinor}`;
  if (entry.kind !== "file") return "";
  let text = "";
  const content = contentOf(entry, tar);
  for (let at = 0; at < content.length; at += 4096) {
    text += String.fromCharCode(...content.subarray(at, at + 4096));
  }
  return text;
}

function hex(bytes: Uint8Array): string {
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** What of the facts a format cannot hold, or a command left out. */
export interface FactChanges {
  readonly withoutNanoseconds?: boolean;
  readonly withoutXattrs?: boolean;
  readonly withoutPaths?: RegExp;
  readonly replaced?: Readonly<Record<ByteString, Partial<TreeFact>>>;
}

/** The facts as a tar can give them. */
export function changedFacts(facts: TreeFacts, changes: FactChanges): TreeFacts {
  const kept = [...facts].filter(([path]) => !changes.withoutPaths?.test(path));
  return new Map(kept.map(([path, fact]) => {
    const mtime = changes.withoutNanoseconds ? [fact.mtime[0], 0] as const : fact.mtime;
    const xattrs = changes.withoutXattrs ? [] : fact.xattrs;
    return [path, { ...fact, mtime, xattrs, ...changes.replaced?.[path] }];
  }));
}
