import { assertEquals, assertThrows } from "@std/assert";
import { InputError } from "../../lib/errors.ts";
import type { DirectoryNode } from "../../lib/model/node.ts";
import { type DeferredLink, DeferredLinks, missingTarget } from "../../lib/tree/links.ts";
import { dir, file } from "../oracle/tree_builder.ts";

function link(directory: DirectoryNode, name: string, target: string): DeferredLink {
  return { directory, name, target: [target], what: () => `link ${name}` };
}

/** Settles in one directory; returns the names in the order in which they were placed, and how many were looked up. */
function settle(
  links: DeferredLinks,
  directory: DirectoryNode,
): { placed: string[]; finds: number } {
  const placed: string[] = [];
  let finds = 0;
  links.settle({
    find: ({ target }) => {
      finds++;
      const name = target.join("/");
      return { directory, name, node: directory.children.get(name) };
    },
    place: ({ name }, _target, node) => {
      placed.push(name);
      directory.children.set(name, node);
    },
  });
  return { placed, finds };
}

Deno.test("DeferredLinks places each link after the one it points to", () => {
  const directory = dir({ file: file() });
  const links = new DeferredLinks();
  for (const [name, target] of [["c", "b"], ["x", "c"], ["b", "a"], ["a", "file"]] as const) {
    links.add(link(directory, name, target));
  }
  assertEquals(settle(links, directory), { placed: ["a", "b", "c", "x"], finds: 7 });
});

Deno.test("DeferredLinks looks each target up twice at most", () => {
  const directory = dir({ l0: file() });
  const links = new DeferredLinks();
  for (let i = 1000; i > 0; i--) links.add(link(directory, `l${i}`, `l${i - 1}`));
  assertEquals(settle(links, directory).finds, 1999);
});

Deno.test("DeferredLinks forgets what is cancelled, and keeps the later of two with one name", () => {
  const directory = dir({ one: file("1"), two: file("2") });
  const links = new DeferredLinks();
  links.add(link(directory, "gone", "nowhere"));
  assertEquals(links.has({ directory, name: "gone" }), true);
  links.cancel({ directory, name: "gone" });
  assertEquals(links.has({ directory, name: "gone" }), false);
  links.add(link(directory, "a", "one"));
  links.add(link(directory, "a", "two"));
  assertEquals(settle(links, directory).placed, ["a"]);
  assertEquals(directory.children.get("a"), directory.children.get("two"));
});

Deno.test("DeferredLinks refuses rings and links to nothing", () => {
  const directory = dir();
  for (const pairs of [[["a", "b"], ["b", "a"]], [["a", "a"]], [["a", "nowhere"]]] as const) {
    const links = new DeferredLinks();
    for (const [name, target] of pairs) links.add(link(directory, name, target));
    assertThrows(() => settle(links, directory), InputError, "link a: the hard link's target");
  }
});

Deno.test("missingTarget names the target, neutralised", () => {
  const error = missingTarget(link(dir(), "a", "\x1b[m"));
  assertEquals(
    error.message,
    "link a: the hard link's target \\x1b[m exists neither in this layer nor below",
  );
});
