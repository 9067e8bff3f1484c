/**
 * What tests of layered mode share: sources with several layers, and blessing them.
 *
 * @module
 */
import { readdirSync, readFileSync } from "node:fs";
import {
  blessLayered,
  type BlessLayeredOptions,
  type LayeredReport,
} from "../../lib/bless/layered.ts";
import { LAYERED_DEFAULTS, type LayoutOptions } from "../../lib/bless/options.ts";
import { digestOf } from "../../lib/bytes/digest.ts";
import { type BuiltImage, type LayoutSpec, writeOciLayout } from "../source/build_layout.ts";
import { testOptions } from "../source/helpers.ts";
import { buildTar, type SimpleEntry } from "../tar/build.ts";

/** Writes an OCI layout of such layers. */
export function writeLayers(
  directory: string,
  layers: readonly (readonly SimpleEntry[])[],
  more: Partial<LayoutSpec> = {},
): BuiltImage {
  return writeOciLayout(directory, { layers: layers.map(buildTar), ...more });
}

/** Blesses with the defaults, but for what is given. */
export async function blessTo(
  outputDir: string,
  source: string,
  more: Partial<BlessLayeredOptions> = {},
  layout: Partial<LayoutOptions> = {},
): Promise<LayeredReport> {
  return await blessLayered({
    ...testOptions(),
    source,
    outputDir,
    layout: { ...LAYERED_DEFAULTS, ...layout },
    ...more,
  });
}

/** The digest of every file of a directory, by name. */
export function filesOf(directory: string): Record<string, string> {
  return Object.fromEntries(
    readdirSync(directory, { withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map(({ name }) => name).sort()
      .map((name) => [name, digestOf(readFileSync(`${directory}/${name}`))]),
  );
}
