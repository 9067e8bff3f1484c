/**
 * `image.json`: what a container runtime needs to know of a layered image, how to stack it included.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { plainJson } from "../bytes/byte_string.ts";
import { InputError } from "../errors.ts";
import { outputExistsError, statIfThere } from "../io/paths.ts";
import { displayPath } from "../io/system_error.ts";
import { asString, displayText, field, optional, parseJsonObject } from "../source/json.ts";
import { formatPlatform } from "../source/platform.ts";
import type { OpenedImage } from "../source/source.ts";
import { pathIn, readFileWhole, writeFileWhole } from "./layered_files.ts";

/** The kernel's limit on lower directories (OVL_MAX_STACK in Linux, fs/overlayfs). */
export const STACKED_LAYERS_MAX = 500;

const KIND = "blessfs layered image";
const FILE_NAME = "image.json";
const DESCRIPTION_BYTES_MAX = 64 << 20;

/** One layer, bottom to top. */
export interface DescribedLayer {
  /** The image, a name in the same directory. */
  readonly file: string;
  readonly diffId: string;
  readonly digest: string;
  readonly mediaType: string | null;
  readonly uuid: string;
  /** Of the image. */
  readonly sizeBytes: number;
  /** The index of the image's chunks, a name in the same directory; left out when it went to no chunk store. */
  readonly index?: string;
}

/** How to stack mounted layers. */
export interface OverlayMount {
  /** `mount -t overlay overlay -o OPTIONS TARGET`, in the directory of the mount points. */
  readonly options: string;
  /** Empty directories that must be there too: overlayfs wants two lower directories at least. */
  readonly emptyDirectories: readonly string[];
}

/**
 * The mount points of layers, bottom to top: their numbers from 0, because all mount options together must fit into a
 * page. Null for a layer whose image comes again higher up. The kernel refuses a file system that is in a stack twice
 * (ovl_check_layer gives ELOOP), and the lower one does nothing: all names, whiteouts and opaque directories that it has
 * are in the higher one.
 */
export function layerMountPoints(files: readonly string[]): (string | null)[] {
  return files.map((file, i) => files.lastIndexOf(file) === i ? String(i) : null);
}

/**
 * The mount of a stack.
 *
 * @param mountPoints bottom to top
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { layerMountPoints, overlayMount } from "./layered_description.ts";
 * const options = (...files: string[]) => overlayMount(layerMountPoints(files)).options;
 * assertEquals(options("base.ext4", "app.ext4"), "ro,lowerdir=1:0");
 * assertEquals(options("base.ext4"), "ro,lowerdir=0:empty");
 * ```
 */
export function overlayMount(mountPoints: readonly (string | null)[]): OverlayMount {
  const lower = mountPoints.filter((mountPoint) => mountPoint !== null).reverse();
  const emptyDirectories = ["empty", "empty2"].slice(0, Math.max(0, 2 - lower.length));
  return { options: `ro,lowerdir=${[...lower, ...emptyDirectories].join(":")}`, emptyDirectories };
}

/** The bytes of image.json; the same image always gives the same. */
export function encodeDescription(
  image: OpenedImage,
  contentDigest: string,
  layers: readonly DescribedLayer[],
): Uint8Array {
  const mountPoints = layerMountPoints(layers.map(({ file }) => file));
  const description = {
    kind: KIND,
    contentDigest,
    manifestDigest: image.manifestDigest ?? null,
    configDigest: image.configDigest ?? null,
    platform: image.platform === undefined ? null : formatPlatform(image.platform),
    config: containerConfig(image.config),
    layers: layers.map((layer, i) => ({ mountPoint: mountPoints[i], ...layer })),
    overlay: overlayMount(mountPoints),
  };
  return Buffer.from(`${plainJson(description, 2)}\n`);
}

/**
 * Refuses a directory whose image.json is something else than such a description; that of another image is no obstacle,
 * because the images of layers are there to be shared.
 *
 * @throws {IoError} when it may not be replaced
 */
export function checkDescription(directory: string): void {
  const path = pathIn(directory, FILE_NAME);
  const found = statIfThere(path);
  if (found === undefined) return;
  const shown = displayPath(path);
  if (!found.isFile() || found.size > DESCRIPTION_BYTES_MAX) throw outputExistsError(shown);
  try {
    const document = parseJsonObject(readFileWhole(path), shown);
    if (optional(document, "kind", { what: shown, field: "" }, asString) === KIND) return;
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
  }
  throw outputExistsError(shown);
}

/**
 * Writes image.json, and the same under the name of the image's digest, which stays when another image comes into the
 * directory.
 */
export async function writeDescription(
  directory: string,
  contentDigest: string,
  bytes: Uint8Array,
  signal: AbortSignal | undefined,
): Promise<void> {
  const hex = contentDigest.slice(contentDigest.indexOf(":") + 1);
  for (const name of [`image-${hex}.json`, FILE_NAME]) {
    const path = pathIn(directory, name);
    const found = statIfThere(path);
    const isSame = found?.isFile() && found.size === bytes.length &&
      Buffer.compare(readFileWhole(path), bytes) === 0;
    if (!isSame) await writeFileWhole(path, bytes, signal);
  }
}

/** `Entrypoint`, `Env` and so on; null where the source has none. */
function containerConfig(config: unknown): unknown {
  if (typeof config !== "object" || config === null) return null;
  return field(config as Readonly<Record<string, unknown>>, "config") ?? null;
}

/** The error for more layers than overlayfs stacks. */
export function stackFault(source: string, layerCount: number): InputError {
  return new InputError(
    displayText(source),
    `has ${layerCount} layers: overlayfs stacks at most ${STACKED_LAYERS_MAX}`,
    { hint: "bless it into one image, with `blessfs bless merged`" },
  );
}
