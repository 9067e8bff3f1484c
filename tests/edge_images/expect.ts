/**
 * Compares a tree with what an edge image must give.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import type { FileTree } from "../../lib/model/node.ts";
import { describeTree, type NameDescription } from "../tree/describe.ts";
import type { ExpectedNode } from "./edge_image.ts";

/** What is compared of one name: always the kind, the content and the links; attributes where the case gives them. */
type ComparedName = Partial<Omit<NameDescription, "link">> & { readonly target?: string };

/** Throws unless the tree has exactly the expected names, and each is what it must be. */
export function assertExpectedTree(tree: FileTree, expected: readonly ExpectedNode[]): void {
  const byPath = new Map(expected.map((node) => [rooted(node.path), node]));
  const actual = Object.entries(describeTree(tree))
    .filter(([path]) => path !== "/" || byPath.has("/"))
    .map(([path, name]) => [path, comparedActual(name, nodeOf(byPath, byPath.get(path)))]);
  const wanted = expected.map((node) => [rooted(node.path), comparedExpected(node, expected)]);
  assertEquals(Object.fromEntries(actual), Object.fromEntries(wanted));
}

/** The full names of an expected path: `/` and what follows, without a slash at the end. */
function rooted(path: string): string {
  return path === "/" ? "/" : `/${path.replace(/\/$/, "")}`;
}

/** The node that says what a link is. */
function nodeOf(
  byPath: ReadonlyMap<string, ExpectedNode>,
  node: ExpectedNode | undefined,
): ExpectedNode | undefined {
  return node?.sameAs === undefined ? node : byPath.get(rooted(node.sameAs));
}

function comparedActual(name: NameDescription, node: ExpectedNode | undefined): ComparedName {
  const { kind, data, link, device, firstName, linkCount, mode, uid, gid, mtime, xattrs } = name;
  return {
    kind,
    ...(data !== undefined && { data }),
    ...(link !== undefined && { target: link }),
    ...(device && kind !== "fifo" && { device }),
    ...(firstName !== undefined && { firstName, linkCount: linkCount! }),
    ...(node?.mode !== undefined && { mode }),
    ...(node?.uid !== undefined && { uid }),
    ...(node?.gid !== undefined && { gid }),
    ...(node?.mtime !== undefined && { mtime }),
    ...(node?.xattrs !== undefined && { xattrs }),
  };
}

function comparedExpected(node: ExpectedNode, all: readonly ExpectedNode[]): ComparedName {
  const first = node.sameAs === undefined ? node : all.find(({ path }) => path === node.sameAs);
  if (!first) throw new Error(`the case names ${node.sameAs}, which it does not have`);
  const kind = first.kind ??
    (first.link !== undefined ? "symlink" : first.path.endsWith("/") ? "directory" : "file");
  const linkCount = 1 + all.filter(({ sameAs }) => sameAs === first.path).length;
  const { mode, uid, gid, mtime, xattrs } = first;
  return {
    kind,
    ...(kind === "file" && { data: first.data ?? "" }),
    ...(kind === "symlink" && { target: first.link! }),
    ...(kind.endsWith("Device") && { device: [first.major ?? 0, first.minor ?? 0] as const }),
    ...(kind !== "directory" && { firstName: rooted(first.path), linkCount }),
    ...(mode !== undefined && { mode }),
    ...(uid !== undefined && { uid }),
    ...(gid !== undefined && { gid }),
    ...(mtime !== undefined && { mtime: typeof mtime === "number" ? [mtime, 0] as const : mtime }),
    ...(xattrs !== undefined && { xattrs }),
  };
}
