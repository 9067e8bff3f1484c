// deno-lint-ignore-file no-console -- what it prints is what it is for
/**
 * The pinned digests, and the program that pins new ones:
 *
 *     deno run -A tests/pins/pins.ts
 *
 * A pin that is there is only replaced when FORMAT_VERSION (lib/bless/plan_image.ts) was raised: equal sources and options
 * give equal bytes for as long as the format version is the same.
 *
 * @module
 */
import { FORMAT_VERSION } from "../../lib/bless/plan_image.ts";
import { pinnedDigests } from "./images.ts";

const FILE = new URL("digests.json", import.meta.url);

/** What digests.json holds. */
export interface Pins {
  readonly formatVersion: number;
  /** SHA-256 in hex by the name of the image. */
  readonly digests: Readonly<Record<string, string>>;
}

/** The pins as they were committed. */
export function readPins(): Pins {
  return JSON.parse(Deno.readTextFileSync(FILE));
}

/** The digests of the images as they are made now. */
export async function computeDigests(): Promise<Record<string, string>> {
  const scratch = Deno.makeTempDirSync({ prefix: "blessfs-pins-" });
  try {
    return await pinnedDigests(scratch);
  } finally {
    Deno.removeSync(scratch, { recursive: true });
  }
}

/** Names of pins whose image is another one now, or is not made any more. */
export function changedPins(pins: Pins, found: Readonly<Record<string, string>>): string[] {
  return Object.keys(pins.digests).filter((name) => pins.digests[name] !== found[name]);
}

if (import.meta.main) {
  const pins = readPins();
  const digests = await computeDigests();
  const changed = changedPins(pins, digests);
  if (changed.length > 0 && FORMAT_VERSION <= pins.formatVersion) {
    console.error(
      `${changed.length} images changed: raise FORMAT_VERSION first, and say why in CHANGELOG.md\n` +
        changed.join("\n"),
    );
    Deno.exit(1);
  }
  const text = JSON.stringify({ formatVersion: FORMAT_VERSION, digests }, null, 2);
  Deno.writeTextFileSync(FILE, `${text}\n`);
  console.log(`${Object.keys(digests).length} images pinned, ${changed.length} changed`);
}
