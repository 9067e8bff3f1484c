/**
 * `blessfs inspect SOURCE`: describes an image in a layout, an archive or a registry without reading its layers.
 *
 * @module
 */
import { plainJson } from "../../lib/bytes/byte_string.ts";
import { UsageError } from "../../lib/errors.ts";
import {
  CONTAINER_FIELDS,
  containerConfig,
  type InspectedLayer,
  inspectSource,
  type SourceInspection,
} from "../../lib/source/inspect.ts";
import type { CommandIo, ParsedArguments } from "../command.ts";
import { safeLine } from "../errors.ts";
import { aligned } from "../text.ts";
import { formatCount, formatSize } from "../values.ts";
import { parseSourceOptions } from "./sources.ts";

export async function runSource(args: ParsedArguments, io: CommandIo): Promise<void> {
  const source = args.positional("IMAGE");
  refuseImageOptions(args);
  const options = parseSourceOptions(args, io, [source]);
  const inspection = await inspectSource(source, options);
  const warnings = options.warnings.list();
  io.warn(warnings);
  if (io.json) await io.writeJson({ ...inspection, warnings });
  else await io.stdout.write(inspectionText(inspection));
}

/** Refuses options that only apply to an ext4 image. */
function refuseImageOptions(args: ParsedArguments): void {
  const details = { hint: "name an ext4 image as ext4:FILE" };
  if (args.positionals("PATH").length > 0) {
    throw new UsageError(
      "PATH",
      "names a file in an ext4 image: there is none to look into",
      details,
    );
  }
  const name = args.firstGiven(["max-extents", "external-journal"]) ??
    (args.flag("replay") ? undefined : "no-replay");
  if (name === undefined) return;
  throw new UsageError(`--${name}`, "only applies to ext4 images", details);
}

function inspectionText(inspection: SourceInspection): string {
  const { source, kind, manifestDigest, configDigest, layers, sizeBytes } = inspection;
  const platform = [inspection.os, inspection.architecture, inspection.variant]
    .filter((part) => part !== null).join("/");
  const rows: (readonly [string, string])[] = [["source", safeLine(source)], ["kind", kind]];
  if (manifestDigest !== null) rows.push(["manifest", manifestDigest]);
  if (configDigest !== null) rows.push(["config", configDigest]);
  if (platform !== "") rows.push(["platform", safeLine(platform)]);
  const container = containerConfig(inspection.config);
  for (const name of CONTAINER_FIELDS) {
    const value = container?.[name] ?? null;
    if (value !== null) rows.push([rowName(name), valueText(value)]);
  }
  rows.push(["layers", formatCount(layers.length)]);
  layers.forEach((layer, i) => rows.push([`layer ${i + 1}`, layerText(layer)]));
  rows.push(["size", sizeText(sizeBytes)]);
  return aligned(rows);
}

/** Turns `WorkingDir` into `working dir`. */
function rowName(name: string): string {
  return name.replace(/(?<=[a-z])[A-Z]/g, (letter) => ` ${letter}`).toLowerCase();
}

function valueText(value: unknown): string {
  return safeLine(typeof value === "string" ? value : plainJson(value));
}

function layerText({ digest, diffId, mediaType, sizeBytes }: InspectedLayer): string {
  const name = digest ?? diffId;
  return [
    ...name === null ? [] : [name],
    sizeText(sizeBytes),
    ...mediaType === null ? [] : [mediaType],
  ]
    .map(safeLine).join(", ");
}

function sizeText(sizeBytes: number | null): string {
  return sizeBytes === null ? "not known before it is read" : formatSize(sizeBytes);
}
