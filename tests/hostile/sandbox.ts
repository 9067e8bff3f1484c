/**
 * A place for hostile input: everything that blessing may touch lies in it, and it is looked over afterwards.
 *
 * @module
 */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { lstatSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { blessLayered } from "../../lib/bless/layered.ts";
import { blessMerged } from "../../lib/bless/merged.ts";
import { LAYERED_DEFAULTS, MERGED_DEFAULTS } from "../../lib/bless/options.ts";
import { InputError } from "../../lib/errors.ts";
import { digestOf } from "../../lib/bytes/digest.ts";
import { createFileSink } from "../../lib/io/file_sink.ts";
import type { ResolvedOptions, SourceOptions } from "../../lib/source/source.ts";
import { buildTree } from "../../lib/tree/build.ts";
import { writeOciLayout } from "../source/build_layout.ts";
import { openFilesBelow, testOptions, withDirectory, withLoaded } from "../source/helpers.ts";
import { buildTar, type SimpleEntry } from "../tar/build.ts";
import { describeTree, type TreeDescription } from "../tree/describe.ts";
import { treeOptions } from "../tree/layers.ts";

/** A layer as entries, or as the bytes of a tar that no writer would write. */
export type Layer = readonly SimpleEntry[] | Uint8Array;

/** What came of a source: the tree that was blessed, or why it was refused. */
export type Outcome =
  | { readonly tree: TreeDescription; readonly imageDigest: string; readonly warnings: string[] }
  | { readonly error: InputError };

/** A directory with something in it that must not be touched. */
export class Sandbox {
  readonly directory: string;
  /** A file that no image may reach. */
  readonly secretPath: string;
  #count = 0;

  constructor(directory: string) {
    this.directory = directory;
    this.secretPath = join(directory, "outside", "secret");
    mkdirSync(join(directory, "outside"));
    writeFileSync(this.secretPath, "secret", { mode: 0o600 });
    mkdirSync(join(directory, "tmp"));
  }

  /** Blesses an image of layers both ways, and checks that nothing but its outputs has come into being. */
  async blessLayers(...layers: readonly Layer[]): Promise<Outcome> {
    const layout = join(this.directory, `layout-${this.#count}`);
    const tars = layers.map((layer) => layer instanceof Uint8Array ? layer : buildTar(layer));
    writeOciLayout(layout, { layers: tars });
    return await this.bless(`oci:${layout}`);
  }

  /** Blesses a tar that is no layer. */
  async blessTar(tar: Uint8Array): Promise<Outcome> {
    const path = join(this.directory, `root-${this.#count}.tar`);
    writeFileSync(path, tar);
    return await this.bless(`tar:${path}`);
  }

  /** Blesses a source both ways. What is refused one way must be refused the other, and leave nothing. */
  async bless(source: string, more: Partial<SourceOptions> = {}): Promise<Outcome> {
    const out = join(this.directory, `out-${this.#count++}`);
    mkdirSync(out);
    const before = this.#look(out);
    const merged = await this.#try(() => this.#blessMerged(source, `${out}/merged.ext4`, more));
    const layered = await this.#try(() => this.#blessLayered(source, `${out}/layers`, more));
    assertEquals(this.#look(out), before, "blessing touched something");
    assertEquals(openFilesBelow(this.directory), []);
    assertEquals(readdirSync(join(this.directory, "tmp")), []);
    if (merged instanceof InputError) {
      assert(layered instanceof InputError, `only refused merged: ${merged.message}`);
      assertEquals(imagesIn(out), [], merged.message);
      assertEquals(messageFault(merged), undefined);
      return { error: merged };
    }
    if (layered instanceof InputError) throw layered;
    return merged;
  }

  /** Removes what was blessed so far. */
  sweep(): void {
    for (const name of readdirSync(this.directory)) {
      if (name.startsWith("out-")) rmSync(join(this.directory, name), { recursive: true });
    }
  }

  async #blessMerged(source: string, path: string, more: Partial<SourceOptions>): Promise<Outcome> {
    const options = this.#options(more);
    await blessMerged({
      ...options,
      source,
      layout: MERGED_DEFAULTS,
      sink: createFileSink(path),
    });
    const tree = await withLoaded(
      source,
      this.#options(more),
      (layers) => describeTree(buildTree(layers, treeOptions())),
    );
    const warnings = options.warnings.list().map(({ kind }) => kind);
    return { tree, imageDigest: digestOf(readFileSync(path)), warnings };
  }

  async #blessLayered(source: string, outputDir: string, more: Partial<SourceOptions>) {
    const options = { ...this.#options(more), source, outputDir, layout: LAYERED_DEFAULTS };
    return await blessLayered(options);
  }

  #options(more: Partial<SourceOptions>): ResolvedOptions {
    return testOptions({ tmpdir: join(this.directory, "tmp"), ...more });
  }

  async #try<T>(work: () => Promise<T>): Promise<T | InputError> {
    try {
      return await work();
    } catch (error) {
      if (error instanceof InputError) return error;
      throw error;
    }
  }

  /** All that lies in the sandbox, outputs left out. */
  #look(out: string): string[] {
    return readdirSync(this.directory, { recursive: true, encoding: "utf8" }).sort()
      .filter((name) => !join(this.directory, name).startsWith(out))
      .map((name) => {
        const found = lstatSync(join(this.directory, name));
        // A directory's time changes with what comes and goes in it, and that is looked at by name.
        const facts = found.isDirectory() ? [] : [found.size, found.mtimeMs];
        return [name, found.mode.toString(8), ...facts].join(" ");
      });
  }
}

/** Runs a test in a sandbox. */
export async function withSandbox(test: (sandbox: Sandbox) => Promise<void>): Promise<void> {
  await withDirectory(async (directory) => await test(new Sandbox(directory)));
}

/** The tree of what was accepted. */
export function accepted(outcome: Outcome): TreeDescription {
  if ("error" in outcome) throw outcome.error;
  return outcome.tree;
}

/** Checks that a source was refused with a certain reason. */
export function assertRefused(outcome: Outcome, reason: string): void {
  assert("error" in outcome, `it was accepted; wanted: ${reason}`);
  assertStringIncludes(outcome.error.message, reason);
}

/** What is wrong with a message for a terminal. */
export function messageFault(error: Error): string | undefined {
  // deno-lint-ignore no-control-regex
  const found = /[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]/.exec(error.message);
  if (found) return `has ${JSON.stringify(found[0])}`;
  return error.message.length > 2000 ? `has ${error.message.length} characters` : undefined;
}

/** The images below a directory, and parts of images. Layers below the one that is refused may be there, whole. */
function imagesIn(out: string): string[] {
  return readdirSync(out, { recursive: true, encoding: "utf8" })
    .filter((name) =>
      name.includes(".part-") || name === "merged.ext4" || name.endsWith("image.json")
    );
}
