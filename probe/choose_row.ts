/**
 * Which row the details of a probe are told of.
 *
 * @module
 */
import { optionError, type Remedy } from "../lib/errors.ts";
import { schemeLabel } from "./labels.ts";
import type { ProbeOptions, Scheme } from "./options.ts";
import { mainScheme } from "./options.ts";
import { describeScheme } from "./report.ts";

/**
 * The row that was asked for, by words of its label: `64K tight`, `fastcdc`, `128K resync @64K`. Without any, the first
 * aligned row, else the fixed grid as it is.
 *
 * @throws UsageError when no row has the words, when several have, and when the row cannot have the details
 */
export function chooseRow(
  schemes: readonly Scheme[],
  options: Pick<ProbeOptions, "row" | "explain" | "selfShift">,
): Scheme {
  const { row } = options;
  if (row === undefined) return mainScheme(schemes)!;
  const words = row.split(/\s+/).filter((word) => word !== "");
  const found = words.length === 0 ? [] : schemes.filter((scheme) => hasWords(scheme, words));
  const [scheme] = found;
  if (scheme === undefined || found.length > 1) {
    const rows = (scheme === undefined ? schemes : found).map(labelOf).join(", ");
    const why = scheme === undefined ? "no row is called so" : "several rows are called so";
    throw optionError("row", why, { hint: `the rows are: ${rows}` });
  }
  const isFixedGrid = scheme.gridBytes > 0 && scheme.chunker === undefined;
  const remedies = (["explain", "selfShift"] as const).filter((option) => options[option])
    .map((option): Remedy => ({ option, change: "omit" }));
  if (remedies.length > 0 && !isFixedGrid) {
    throw optionError("row", `\`${row}\` has no cells of a fixed grid`, {
      hint: "choose a row of a fixed grid",
      remedies,
    });
  }
  return scheme;
}

function labelOf(scheme: Scheme): string {
  return schemeLabel(describeScheme(scheme), true);
}

/** Whether each word is one of the label, or one of its words up to a colon. */
function hasWords(scheme: Scheme, words: readonly string[]): boolean {
  const own = [...labelOf(scheme).toLowerCase().split(" "), scheme.kind];
  return words.every((word) => {
    const wanted = word.toLowerCase();
    return own.some((each) => each === wanted || each.startsWith(`${wanted}:`));
  });
}
