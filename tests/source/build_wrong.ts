/**
 * Layouts with one thing wrong, for tests.
 *
 * @module
 */
import { assertRejects, assertStringIncludes } from "@std/assert";
import { InputError } from "../../lib/errors.ts";
import { openImage, type SourceOptions } from "../../lib/source/source.ts";
import { type Config, type LayoutSpec, type Manifest, writeOciLayout } from "./build_layout.ts";
import { sampleTar, testOptions, withDirectory } from "./helpers.ts";

/** The layers of the layouts. */
export const LAYERS: readonly Uint8Array<ArrayBuffer>[] = [sampleTar()];

type IndexChange = NonNullable<LayoutSpec["changeIndex"]>;

/** Opens a layout that must be refused, and compares what is said. */
export async function refuses(
  spec: Partial<LayoutSpec>,
  message: string,
  options: Partial<SourceOptions> = {},
): Promise<void> {
  await withDirectory(async (directory) => {
    writeOciLayout(directory, { layers: LAYERS, ...spec });
    const open = () => openImage(`oci:${directory}`, testOptions(options));
    const error = await assertRejects(open, InputError);
    assertStringIncludes(error.message, message);
    assertStringIncludes(error.message, directory);
  });
}

/** Opens a layout that must not be refused. */
export async function accepts(
  spec: Partial<LayoutSpec>,
  options: Partial<SourceOptions> = {},
): Promise<void> {
  await withDirectory(async (directory) => {
    writeOciLayout(directory, { layers: LAYERS, ...spec });
    (await openImage(`oci:${directory}`, testOptions(options))).close();
  });
}

/** A layout whose manifest is changed. */
export function manifest(change: (manifest: Manifest) => void): Partial<LayoutSpec> {
  return {
    changeManifest: (value) => {
      change(value);
      return value;
    },
  };
}

/** A layout whose config is changed. */
export function config(change: (config: Config) => void): Partial<LayoutSpec> {
  return {
    changeConfig: (value) => {
      change(value);
      return value;
    },
  };
}

/** A layout whose entry in index.json is changed. */
export function entry(change: (entry: Record<string, unknown>) => void): Partial<LayoutSpec> {
  const changeIndex: IndexChange = (index) => {
    change(index.manifests[0]!);
    return index;
  };
  return { changeIndex };
}
