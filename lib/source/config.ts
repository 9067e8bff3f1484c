/**
 * What an image's config says of the container: the program to run, and what is around it.
 * OCI image specification, config.md, "Properties".
 *
 * @module
 */
import { InputError } from "../errors.ts";
import { displayText, field, type JsonObject } from "./json.ts";
import type { OpenedImage } from "./types.ts";

/** The fields of a container's config, as the image has them. */
export const CONTAINER_FIELDS = [
  "Entrypoint",
  "Cmd",
  "Env",
  "WorkingDir",
  "User",
  "ExposedPorts",
  "Volumes",
  "StopSignal",
  "Labels",
] as const;

/** What a container runs, and how: the values of the image, unchanged; null for what it does not have. */
export type ContainerConfig = Readonly<Record<typeof CONTAINER_FIELDS[number], unknown>>;

/**
 * The part of a config that a runtime needs; null for a source without a config.
 *
 * @param config the document
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { containerConfig } from "./config.ts";
 * const config = containerConfig({ config: { Cmd: ["sh"] } });
 * assertEquals([config?.Cmd, config?.Entrypoint], [["sh"], null]);
 * ```
 */
export function containerConfig(config: unknown): ContainerConfig | null {
  if (typeof config !== "object" || config === null) return null;
  const container = field(config as JsonObject, "config");
  const values = typeof container === "object" && container !== null ? container : {};
  const entries = CONTAINER_FIELDS.map((name) => [name, field(values as JsonObject, name) ?? null]);
  return Object.fromEntries(entries) as ContainerConfig;
}

/** What a config says of the platform, unchanged; null for what it does not say. */
export interface StatedPlatform {
  /** Such as `amd64`. */
  readonly architecture: string | null;
  /** Such as `linux`. */
  readonly os: string | null;
  /** Such as `v8`. */
  readonly variant: string | null;
}

/**
 * The platform as a config states it.
 *
 * @param config the document
 */
export function statedPlatform(config: unknown): StatedPlatform {
  const textOf = (key: string) => {
    const isObject = typeof config === "object" && config !== null;
    const value = isObject ? field(config as JsonObject, key) : undefined;
    return typeof value === "string" && value !== "" ? value : null;
  };
  return {
    architecture: textOf("architecture"),
    os: textOf("os"),
    variant: textOf("variant"),
  };
}

/**
 * The config of an image as it is stored, byte for byte.
 *
 * @throws {InputError} for a source without one
 */
export function storedConfig({ source, configBytes }: OpenedImage): Uint8Array {
  if (configBytes !== undefined) return configBytes;
  throw new InputError(
    displayText(source),
    "has no config: only images have one, trees have none",
    {
      code: "missingPart",
    },
  );
}
