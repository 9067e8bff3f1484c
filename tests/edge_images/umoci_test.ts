import { assert } from "@std/assert";
import { buildTree } from "../../lib/tree/build.ts";
import { hasCommand, runCommand, withTemporaryDirectory } from "../oracle/command.ts";
import { describeDifference, firstDifference } from "../oracle/compare.ts";
import { viewDirectory } from "../oracle/directory_view.ts";
import { isRoot } from "../oracle/libc_user.ts";
import { notRun } from "../oracle/notice.ts";
import { viewTree } from "../oracle/tree_view.ts";
import { writeOciLayout } from "../source/build_layout.ts";
import { buildTar } from "../tar/build.ts";
import { describeTree } from "../tree/describe.ts";
import { DEFAULT_TIME, layersOf, treeOptions } from "../tree/layers.ts";
import { EDGE_IMAGES } from "./cases.ts";
import type { EdgeImage } from "./edge_image.ts";

Deno.test("umoci unpacks every edge image to the tree of buildTree, but for those that say why not", () => {
  if (!hasCommand("umoci")) return notRun("edge images against umoci", "umoci is not installed");
  if (!isRoot()) return notRun("edge images against umoci", "unpacking owners needs root");
  const wrong = EDGE_IMAGES.filter(({ layers }) => layers.length > 0).flatMap((image) => {
    const difference = differenceFromUmoci(image);
    if (difference === undefined && image.umociDiffers) {
      return [`${image.name}: said to differ, but does not`];
    }
    return difference !== undefined && !image.umociDiffers ? [`${image.name}: ${difference}`] : [];
  });
  assert(wrong.length === 0, wrong.join("\n"));
});

/** Undefined when both give the same tree, or both refuse the image. */
function differenceFromUmoci(image: EdgeImage): string | undefined {
  return withTemporaryDirectory((directory) => {
    const layout = `${directory}/layout`;
    writeOciLayout(layout, { layers: image.layers.map(buildTar) });
    const bundle = `${directory}/bundle`;
    const { status, stderr } = runCommand("umoci", [
      "unpack",
      "--image",
      `${layout}:latest`,
      bundle,
    ]);
    if ("refused" in image) return status === 0 ? "umoci accepts it" : undefined;
    if (status !== 0) return `umoci refuses it: ${stderr.trim()}`;
    const tree = buildTree(layersOf(image.layers, image.whiteouts ?? true), treeOptions());
    const described = describeTree(tree);
    const difference = firstDifference(
      viewDirectory(`${bundle}/rootfs`, { directoryLinks: "counted" }),
      viewTree(tree),
      {
        // Implied directories get the time of unpacking.
        ignore: (path, field) =>
          field === "mtime" && described[path || "/"]?.mtime[1] === DEFAULT_TIME.nanoseconds,
      },
    );
    return difference && describeDifference(difference);
  });
}
