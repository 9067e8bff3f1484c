/**
 * Counts of a plan, for reports.
 *
 * @module
 */
import { BLOCK_SIZE_BYTES } from "../../model/payload.ts";
import type { ImagePlan, PlanSummary } from "./image_plan.ts";
import type { InodeDrafts } from "./inode_drafts.ts";
import type { Layout } from "./layout.ts";
import { countBlocks } from "./range_list.ts";

/** Counts what a plan holds. */
export function summarize(
  plan: Omit<ImagePlan, "summary">,
  facts: {
    readonly layout: Layout;
    readonly inodes: InodeDrafts;
    readonly freeInodes: number;
    readonly uuid: Uint8Array;
  },
): PlanSummary {
  const kinds = countKinds(facts.inodes);
  const { placement } = facts.layout;
  let payloadBlocks = 0;
  for (const { blockCount } of plan.payload) payloadBlocks += blockCount;
  let reservedInPayload = 0;
  for (const { startBlock, blockCount } of plan.geometry.reserved) {
    const isInside = startBlock >= placement.startBlock && startBlock < placement.endBlock;
    if (isInside) reservedInPayload += blockCount;
  }
  const paddingBlocks = placement.endBlock - placement.startBlock - payloadBlocks -
    reservedInPayload;
  return {
    uuid: facts.uuid,
    sizeBytes: plan.totalBlocks * BLOCK_SIZE_BYTES,
    usedBytes: countBlocks(plan.usedRanges) * BLOCK_SIZE_BYTES,
    ...kinds,
    inodes: plan.geometry.groupCount * plan.geometry.inodesPerGroup,
    freeInodes: facts.freeInodes,
    alignedFiles: placement.alignedCount,
    paddingBytes: paddingBlocks * BLOCK_SIZE_BYTES,
  };
}

function countKinds(
  inodes: InodeDrafts,
): Pick<PlanSummary, "files" | "directories" | "symlinks" | "specialFiles"> {
  const counts = { files: 0, directories: 0, symlinks: 0, specialFiles: 0 };
  for (const draft of inodes.drafts) {
    if (draft.kind !== "node") continue;
    const { kind } = draft.node;
    if (kind === "file") counts.files++;
    else if (kind === "directory") counts.directories++;
    else if (kind === "symlink") counts.symlinks++;
    else counts.specialFiles++;
  }
  return counts;
}
