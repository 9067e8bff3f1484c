/**
 * `containers-storage:NAME`: an image in the storage that podman, buildah and CRI-O share. Its on-disk layout is private to
 * its library, and an ordinary user's storage is only accessible in a user namespace, so skopeo or podman copies the image
 * out. Both write it in `dir:` form, the only form that preserves manifest and config and compresses nothing.
 *
 * @module
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { InputError, IoError } from "../errors.ts";
import { ioErrorFrom } from "../io/system_error.ts";
import { openDirTransport } from "./layout.ts";
import { displayText } from "./json.ts";
import { type ProgramOutcome, runProgram } from "./rootfs.ts";
import type { LayerSource, OpenedImage, ResolvedOptions } from "./types.ts";

const SHOWN_CHARACTERS = 400;

/** A program that can copy an image, and its arguments. */
interface Copier {
  readonly program: string;
  arguments(image: string, directory: string): string[];
}

/** In the order in which they are tried. */
const COPIERS: readonly Copier[] = [
  {
    program: "skopeo",
    arguments: (image, directory) => [
      "--insecure-policy",
      "copy",
      "-q",
      `containers-storage:${image}`,
      `dir:${directory}`,
    ],
  },
  {
    program: "podman",
    arguments: (image, directory) => ["push", "-q", image, `dir:${directory}`],
  },
];

/**
 * Opens an image from the storage. When this returns, the copied files are open and unlinked, so that nothing is left
 * behind.
 *
 * @param image a name or an id that podman accepts
 * @throws {InputError} if the storage has no such image
 * @throws {IoError} if neither program is installed, or it fails
 */
export async function openStoredImage(
  source: string,
  image: string,
  options: ResolvedOptions,
): Promise<OpenedImage> {
  const what = displayText(source);
  const directory = temporaryDirectory(options.tmpdir ?? tmpdir());
  const remove = () => rmSync(directory, { recursive: true, force: true });
  let opened: OpenedImage | undefined;
  try {
    const task = options.progress.begin(what);
    try {
      await copyOut(what, image, directory, options);
    } finally {
      task.end();
    }
    const copied = await openDirTransport(source, directory, options);
    // The manifest was rewritten for uncompressed layers, so it is not the one the image was pulled by.
    opened = heldOpen({ ...copied, kind: "containers-storage", manifestDigest: undefined });
    remove();
    return opened;
  } catch (error) {
    opened?.close();
    try {
      remove();
    } catch {
      // The first error is more informative.
    }
    throw error;
  }
}

function temporaryDirectory(parent: string): string {
  try {
    return mkdtempSync(join(parent, "blessfs-storage-"));
  } catch (cause) {
    throw ioErrorFrom(parent, "cannot hold temporary files", cause);
  }
}

/** Copies the image with the first program that is installed. */
async function copyOut(
  what: string,
  image: string,
  directory: string,
  options: ResolvedOptions,
): Promise<void> {
  const env = options.registry?.environment ?? process.env;
  // A name with a leading dash would be parsed as an option.
  if (image.startsWith("-")) throw new InputError(what, "is not the name of an image");
  for (const copier of COPIERS) {
    const { program } = copier;
    const words = copier.arguments(image, directory);
    const outcome = await runProgram(program, words, { env, signal: options.signal });
    if (outcome instanceof Error) {
      if (outcome.code === "ENOENT") continue;
      throw new IoError(program, `cannot be run: ${outcome.message}`, { cause: outcome });
    }
    if (outcome.exitCode === 0) return;
    throw copyFault(what, program, outcome);
  }
  throw new IoError(what, "is read through skopeo or podman, and neither is installed", {
    hint: "install one of them, such as with `apt-get install skopeo`",
  });
}

const UNKNOWN_IMAGE = /does not resolve to an image ID|image not known|identifier is not an image/i;

function copyFault(what: string, program: string, { exitCode, complaints }: ProgramOutcome): Error {
  if (UNKNOWN_IMAGE.test(complaints)) {
    return new InputError(what, "the storage has no such image", {
      hint: "`podman images` lists what is there; each user has a storage of their own",
    });
  }
  const lines = complaints.trim().split("\n");
  const message = messageOf(lines.at(-1) ?? "").slice(-SHOWN_CHARACTERS);
  return new IoError(what, `${program} failed with exit code ${exitCode}: ${displayText(message)}`);
}

/** The message in a line from Go's logrus, or the whole line. */
function messageOf(line: string): string {
  const quoted = /\bmsg=("(?:[^"\\]|\\.)*")/.exec(line)?.[1];
  if (quoted === undefined) return line.replace(/^Error: /, "");
  try {
    return String(JSON.parse(quoted));
  } catch {
    return line;
  }
}

/** The image with its layers' files held open, so that they can be unlinked. */
function heldOpen(image: OpenedImage): OpenedImage {
  const releases: (() => void)[] = [];
  const release = () => releases.splice(0).forEach((each) => each());
  try {
    const layers = image.layers.map((layer): LayerSource => {
      const { stored } = layer;
      // The new manifest may still call its layers compressed, as the original did.
      const mediaType = undefined;
      if (stored.kind !== "file") return { ...layer, mediaType };
      const file = stored.open();
      releases.push(() => file.release());
      return { ...layer, mediaType, stored: { ...stored, open: () => file.share() } };
    });
    return {
      ...image,
      layers,
      close: () => {
        release();
        image.close();
      },
    };
  } catch (error) {
    release();
    image.close();
    throw error;
  }
}
