/**
 * From a manifest's descriptor to an opened image: manifest and config are read and compared with each other, layers are
 * located but not touched.
 *
 * @module
 */
import { InputError, limitError } from "../errors.ts";
import type { Warnings } from "../warnings.ts";
import { type BlobStore, locateLayer, readDocument } from "./blobs.ts";
import type { ChoiceRequest } from "./choose.ts";
import {
  type ConfigDocument,
  type Descriptor,
  layerCompression,
  type ManifestDocument,
  readConfig,
  readManifest,
  whyNoLayer,
} from "./documents.ts";
import {
  formatPlatform,
  hostPlatform,
  type Platform,
  platformRank,
  type WantedPlatform,
} from "./platform.ts";
import type { LayerSource, OpenedImage } from "./types.ts";

/** Where an image comes from, as the opened image will tell. */
export interface ImageOrigin {
  readonly source: string;
  readonly kind: OpenedImage["kind"];
  readonly warnings: Warnings;
}

/** The manifest has no layers, but the config counts some: Docker 25.0.0 wrote such layouts. */
export class MissingLayersError extends InputError {}

/**
 * Reads the manifest and config that `descriptor` leads to.
 *
 * @throws {InputError} when anything in them is wrong or does not fit together
 */
export async function openManifest(
  store: BlobStore,
  descriptor: Descriptor,
  request: ChoiceRequest,
  origin: ImageOrigin,
): Promise<OpenedImage> {
  const { limits } = request;
  const name = `${store.name}: manifest ${descriptor.digest}`;
  const bytes = await readDocument(store, descriptor, name, limits, "manifestBytes");
  const manifest = readManifest(bytes, name, descriptor.mediaType);
  const configName = `${store.name}: config ${manifest.config.digest}`;
  const configBytes = await readDocument(store, manifest.config, configName, limits, "configBytes");
  const config = readConfig(configBytes, configName);
  checkLayerCount(manifest.layers.length, config.diffIds.length, name, limits.layers);
  if (manifest.oddity) origin.warnings.add("mediaTypeMismatch", name, manifest.oddity);
  const stated = { found: config.platform, announced: descriptor.platform };
  checkPlatform(stated, request.platform, configName, origin.warnings);
  return {
    source: origin.source,
    kind: origin.kind,
    manifestDigest: descriptor.digest,
    configDigest: manifest.config.digest,
    manifest: manifest.json,
    config: config.json,
    configBytes,
    platform: config.platform,
    layers: layerSources(store, manifest, config, name),
    close: () => store.close(),
  };
}

/** What a layer is called in messages. */
export function layerName(index: number, count: number, digest: string): string {
  return `layer ${index + 1} of ${count} (${digest})`;
}

/**
 * @param what the manifest's name in errors
 * @throws {InputError} when manifest and config count differently, or there are too many
 */
export function checkLayerCount(
  layerCount: number,
  diffIdCount: number,
  what: string,
  limit: number,
): void {
  if (layerCount > limit) {
    throw limitError(what, `has ${layerCount} layers: at most ${limit} are read`, {
      name: "layers",
      expected: limit,
      actual: layerCount,
    });
  }
  if (layerCount === diffIdCount) return;
  const ErrorClass = layerCount === 0 ? MissingLayersError : InputError;
  throw new ErrorClass(
    what,
    `has ${layerCount} layers, but its config has ${diffIdCount} diff ids`,
    {
      data: { expected: diffIdCount, actual: layerCount },
    },
  );
}

/** What is known of an image's platform. */
export interface StatedPlatforms {
  /** What its config says. */
  readonly found: Platform | undefined;
  /** What the index says, if it says anything. */
  readonly announced: Platform | undefined;
}

/**
 * Compares what the config says of its platform with what was asked for and with what the index said.
 *
 * @param request undefined: this machine's is wanted
 * @throws {InputError} when it is for another platform than the wanted one by all that is said
 */
export function checkPlatform(
  { found, announced }: StatedPlatforms,
  request: WantedPlatform | undefined,
  what: string,
  warnings: Warnings,
): void {
  if (
    found && announced && formatPlatform(announced) !== formatPlatform(found) &&
    !sameBut(announced, found)
  ) {
    const why = `is for ${formatPlatform(found)}, though the index says ${
      formatPlatform(announced)
    }`;
    warnings.add("platformMismatch", what, why);
  }
  if (request === "any") return;
  const stated = found ?? announced;
  if (!stated) return request && warnOfUnknownPlatform(what, request, warnings);
  const wanted = request ?? hostPlatform();
  const isEither = [found, announced].some((platform) =>
    platform !== undefined && platformRank(wanted, platform) !== undefined
  );
  if (isEither) return;
  const value = formatPlatform({ ...stated, osVersion: undefined });
  throw new InputError(what, `is for ${value}: wanted ${formatPlatform(wanted)}`, {
    code: "platformMismatch",
    remedies: [{ option: "platform", change: "set", value }],
    data: { expected: formatPlatform(wanted), actual: value },
  });
}

/** Counts an image or a tree that cannot be compared with the platform that was asked for. */
export function warnOfUnknownPlatform(what: string, wanted: Platform, warnings: Warnings): void {
  const why = `states no platform, and cannot be compared with ${formatPlatform(wanted)}`;
  warnings.add("platformUnknown", what, why);
}

/** Configs often leave out the variant that an index states. */
function sameBut(announced: Platform, found: Platform): boolean {
  return (found.variant === undefined || found.variant === announced.variant) &&
    (found.osVersion === undefined || found.osVersion === announced.osVersion ||
      announced.osVersion === undefined) &&
    announced.os === found.os && announced.architecture === found.architecture;
}

function layerSources(
  store: BlobStore,
  manifest: ManifestDocument,
  config: ConfigDocument,
  manifestName: string,
): LayerSource[] {
  return manifest.layers.map((descriptor, i) => {
    const { mediaType, digest, sizeBytes } = descriptor;
    const name = layerName(i, manifest.layers.length, digest);
    if (layerCompression(mediaType) === undefined) {
      throw new InputError(
        `${manifestName}: ${name}`,
        `is of type ${mediaType}, which cannot be read: ${whyNoLayer(mediaType)}`,
        { code: "unsupported", data: { digest, mediaType } },
      );
    }
    return {
      name,
      digest,
      diffId: config.diffIds[i],
      mediaType,
      sizeBytes,
      whiteouts: true,
      stored: locateLayer(store, descriptor, `${store.name}: ${name}`),
    };
  });
}
