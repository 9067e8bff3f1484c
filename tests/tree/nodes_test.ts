import { assertEquals, assertNotEquals, assertStrictEquals, assertThrows } from "@std/assert";
import { InputError } from "../../lib/errors.ts";
import type { TreeNode, Xattr } from "../../lib/model/node.ts";
import {
  attributesOf,
  emptyDirectory,
  impliedDirectoryAttributes,
  isWhiteoutDevice,
  nodeOf,
  sortXattrs,
} from "../../lib/tree/layer.ts";
import { Warnings } from "../../lib/warnings.ts";
import type { SimpleEntry } from "../tar/build.ts";
import { layerOf } from "./layers.ts";

const ORIGIN = { layerIndex: 2, entryIndex: 3 };

function contextOf(warnings = new Warnings()): Parameters<typeof attributesOf>[1] {
  return { warnings, describe: ({ path }) => path, known: [] };
}

function node(entry: SimpleEntry): TreeNode {
  const { entries, store } = layerOf([entry]);
  return nodeOf(entries[0]!, ORIGIN, store, contextOf());
}

function xattr(name: string, byte = 0): Xattr {
  return { name, value: new Uint8Array([byte]) };
}

Deno.test("nodeOf makes each kind of node, with its origin", () => {
  const kinds = ["characterDevice", "blockDevice", "fifo"] as const;
  for (const kind of kinds) {
    const { attributes: _, firstLayer: __, ...rest } = node({
      path: "n",
      kind,
      major: 3,
      minor: 4,
    });
    const isFifo = kind === "fifo";
    assertEquals(rest, {
      kind,
      origin: ORIGIN,
      deviceMajor: isFifo ? 0 : 3,
      deviceMinor: isFifo ? 0 : 4,
    });
  }
  const directory = node({ path: "d/" });
  assertEquals(directory.kind === "directory" && directory.children.size, 0);
  const symlink = node({ path: "s", link: "t", mode: 0o600 });
  assertEquals(symlink.kind === "symlink" && symlink.target, "t");
  assertEquals(symlink.attributes.mode, 0o777);
  const { entries, store } = layerOf([{ path: "f", data: "abc" }]);
  const file = nodeOf(entries[0]!, ORIGIN, store, contextOf());
  assertEquals(file.kind === "file" && file.payload, { ...entries[0]!.payload!, store });
});

Deno.test("nodeOf shares equal attributes, and no others", () => {
  const context = contextOf();
  const { entries, store } = layerOf([
    { path: "a", mode: 0o644, mtime: 5 },
    { path: "b", mode: 0o644, mtime: 5 },
    { path: "c", mode: 0o600, mtime: 5 },
    { path: "d", mode: 0o644, mtime: 5, xattrs: { "user.x": "1" } },
    { path: "e", mode: 0o644, mtime: 5 + 256 },
    { path: "f", mode: 0o644, mtime: 5, uid: 1 },
  ]);
  const [a, ...others] = entries.map((entry) => nodeOf(entry, ORIGIN, store, context).attributes);
  assertStrictEquals(others[0], a);
  for (const [i, attributes] of others.slice(1).entries()) {
    assertNotEquals(attributes, a, `${i}`);
    const { mode, uid, mtimeSeconds } = entries[i + 2]!;
    assertEquals([attributes.mode, attributes.uid, attributes.mtimeSeconds], [
      mode,
      uid,
      mtimeSeconds,
    ]);
  }
});

Deno.test("nodeOf takes symlink targets of 1 to 4095 bytes without a NUL", () => {
  node({ path: "s", link: "t".repeat(4095) });
  for (const link of ["", "t".repeat(4096), "a\0"]) {
    assertThrows(() => node({ path: "s", kind: "symlink", link }), InputError, "s: the symlink");
  }
});

Deno.test("nodeOf takes a hard link or a file without a payload for a fault of the program", () => {
  const { entries, store } = layerOf([{ path: "h", kind: "hardlink", link: "a" }, { path: "f" }]);
  assertThrows(() => nodeOf(entries[0]!, ORIGIN, store, contextOf()), Error, "Invariant");
  const bare = { ...entries[1]!, payload: undefined };
  assertThrows(() => nodeOf(bare, ORIGIN, store, contextOf()), Error, "Invariant");
});

Deno.test("attributesOf cuts the file type off the mode and drops what the kind cannot have", () => {
  const warnings = new Warnings();
  const xattrs = {
    "user.a": "",
    "trusted.a": "",
    "security.capability": "",
    "system.posix_acl_access": "",
    "system.posix_acl_default": "",
  };
  const kept = (entry: SimpleEntry) => {
    const { mode, xattrs: list } = attributesOf(
      layerOf([{ ...entry, mode: 0o177777, xattrs }]).entries[0]!,
      contextOf(warnings),
    );
    assertEquals(mode, 0o7777);
    return list.map(({ name }) => name);
  };
  const [security, access, initial, trusted, user] = Object.keys(xattrs).sort();
  assertEquals(kept({ path: "d/" }), [security, access, initial, trusted, user]);
  assertEquals(kept({ path: "f" }), [security, access, trusted, user]);
  assertEquals(kept({ path: "p", kind: "fifo" }), [security, access, trusted]);
  assertEquals(kept({ path: "s", link: "t" }), [security, trusted]);
  assertEquals(warnings.list().map(({ kind, count }) => [kind, count]), [["unsupportedXattr", 6]]);
});

Deno.test("sortXattrs returns sorted ones as they are, else in byte order, the last of a name", () => {
  const sorted = [xattr("a"), xattr("b"), xattr("b\x80")];
  assertStrictEquals(sortXattrs(sorted), sorted);
  assertEquals(sortXattrs([xattr("b", 1), xattr("\xff"), xattr("a"), xattr("b", 2)]), [
    xattr("a"),
    xattr("b", 2),
    xattr("\xff"),
  ]);
});

Deno.test("emptyDirectory and impliedDirectoryAttributes make what no entry describes", () => {
  const attributes = impliedDirectoryAttributes({ seconds: -5, nanoseconds: 6 });
  assertEquals(emptyDirectory(attributes, ORIGIN), {
    kind: "directory",
    attributes: {
      mode: 0o755,
      uid: 0,
      gid: 0,
      mtimeSeconds: -5,
      mtimeNanoseconds: 6,
      xattrs: [],
    },
    origin: ORIGIN,
    firstLayer: undefined,
    children: new Map(),
  });
});

Deno.test("isWhiteoutDevice is true for 0:0 character devices only", () => {
  const device = { path: "n", kind: "characterDevice" } as const;
  assertEquals(isWhiteoutDevice(node(device)), true);
  assertEquals(isWhiteoutDevice(node({ ...device, minor: 1 })), false);
  assertEquals(isWhiteoutDevice(node({ ...device, major: 1 })), false);
  assertEquals(isWhiteoutDevice(node({ path: "n", kind: "blockDevice" })), false);
  assertEquals(isWhiteoutDevice(node({ path: "n", kind: "fifo" })), false);
});
