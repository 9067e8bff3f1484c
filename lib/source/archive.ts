/**
 * An open image archive and its members, which are read in place. A compressed archive is first inflated to a spool,
 * because its index may come last.
 *
 * @module
 */
import { InputError } from "../errors.ts";
import { normalizeMemberPath, type TarEntry } from "../tar/entry.ts";
import { TarIndexer } from "../tar/indexer.ts";
import type { WarnCallback } from "../tar/pax.ts";
import { displayText } from "./json.ts";
import { loadAlone, reportWarnings } from "./layers/load_layers.ts";
import {
  contentFault,
  fileReader,
  isCompressed,
  isTarHeader,
  readSmallPart,
  type SourceFile,
  storedHead,
  storedPart,
} from "./source_file.ts";
import { once, treeLayer } from "./tree_image.ts";
import type { DocumentLimit, OpenedImage, ResolvedOptions, StoredFile } from "./types.ts";

type Member =
  | { readonly kind: "file"; readonly offsetBytes: number; readonly lengthBytes: number }
  | { readonly kind: "link"; readonly path: string }
  | { readonly kind: "sparse" }
  | { readonly kind: "other" };

/** docker save writes repeated layers as links; chains are short. */
const MAX_LINK_HOPS = 16;
const WINDOW_BYTES = 64 << 10;

/** Finds members by normalised path. File contents are skipped. */
function scan(
  file: SourceFile,
  { tarLimits = {}, ignoreZeros = false }: Pick<ResolvedOptions, "tarLimits" | "ignoreZeros">,
  warn: WarnCallback,
): Map<string, Member> {
  const reader = fileReader(file);
  try {
    const members = new Map<string, Member>();
    const indexer = new TarIndexer({
      name: reader.name,
      emit: (entry) => members.set(normalizeMemberPath(entry.path), memberOf(entry)),
      // Oddities in the archive's own entries do not matter: none of them get into an image.
      warn: (kind, what, why) => {
        if (kind === "trailingBytes") warn(kind, what, why);
      },
      limits: tarLimits,
      scanPayload: false,
      ignoreZeros,
    });
    const window = new Uint8Array(WINDOW_BYTES);
    for (let position = 0; position < reader.sizeBytes;) {
      const skipped = Math.min(indexer.skippableBytes, reader.sizeBytes - position);
      indexer.skip(skipped);
      position += skipped;
      const count = reader.readAt(window, position);
      if (count === 0) break;
      indexer.push(window.subarray(0, count));
      position += count;
    }
    indexer.end();
    return members;
  } finally {
    reader.close();
  }
}

function memberOf({ kind, path, linkTarget, payload }: TarEntry): Member {
  switch (kind) {
    case "file": {
      const { sizeBytes, segments: [first, ...others] } = payload!;
      if (sizeBytes > 0 && (first?.lengthBytes !== sizeBytes || others.length > 0)) {
        return { kind: "sparse" };
      }
      return { kind, offsetBytes: first?.storeOffset ?? 0, lengthBytes: sizeBytes };
    }
    case "hardlink":
      return { kind: "link", path: normalizeMemberPath(linkTarget) };
    case "symlink": {
      const isAbsolute = linkTarget.startsWith("/");
      const target = isAbsolute ? linkTarget : `${path}/../${linkTarget}`;
      return { kind: "link", path: normalizeMemberPath(target) };
    }
    default:
      return { kind: "other" };
  }
}

/** An uncompressed archive whose members can be read in place. */
export class Archive {
  readonly name: string;
  /** Releases the file; open layers stay usable. */
  readonly close: () => void;
  readonly #file: SourceFile;
  readonly #members: ReadonlyMap<string, Member>;
  readonly #stored = new Map<number, StoredFile>();

  /**
   * Scans the headers. Takes ownership of the file unless this throws. @param warn called for bytes after the end marker
   */
  constructor(
    file: SourceFile,
    options: Pick<ResolvedOptions, "tarLimits" | "ignoreZeros">,
    warn: WarnCallback,
  ) {
    this.name = file.name;
    this.#file = file;
    this.#members = scan(file, options, warn);
    this.close = once(() => file.file.release());
  }

  /** Whether exactly that path exists and is not a directory or device. */
  has(path: string): boolean {
    const kind = this.#members.get(normalizeMemberPath(path))?.kind;
    return kind !== undefined && kind !== "other";
  }

  /** The file at a path, following links; undefined if it does not exist. Throws if it cannot be read in place. */
  find(path: string): Member & { readonly kind: "file" } | undefined {
    let at = normalizeMemberPath(path);
    for (let hops = 0; hops <= MAX_LINK_HOPS; hops++) {
      const member = this.#members.get(at);
      if (!member || member.kind === "file") return member;
      const what = `${this.name}: ${displayText(at)}`;
      if (member.kind === "sparse") {
        const why = "is stored as a sparse file: make the archive again with plain files";
        throw new InputError(what, why, { code: "unsupported" });
      }
      if (member.kind === "other") {
        throw new InputError(what, "is not a regular file", { code: "wrongKind" });
      }
      at = member.path;
    }
    const what = `${this.name}: ${displayText(path)}`;
    throw new InputError(what, `more than ${MAX_LINK_HOPS} links follow one another`, {
      code: "limitExceeded",
    });
  }

  /** Reads a small member whole; undefined if it does not exist. */
  readSmall(path: string, limit: DocumentLimit): Uint8Array | undefined {
    const member = this.find(path);
    if (!member) return undefined;
    const part = { ...this.#file, name: `${this.name}: ${displayText(path)}` };
    const { offsetBytes, lengthBytes } = member;
    return readSmallPart(part, offsetBytes, lengthBytes, limit);
  }

  /** A member as a layer's stored bytes: the same object for the same bytes, whatever the path. */
  stored(path: string): StoredFile | undefined {
    const member = this.find(path);
    if (!member) return undefined;
    const { offsetBytes, lengthBytes } = member;
    // An empty member takes no space, so the next one begins at the same offset.
    if (lengthBytes === 0) return storedPart(this.#file, offsetBytes, 0);
    let stored = this.#stored.get(offsetBytes);
    if (!stored) {
      stored = storedPart(this.#file, offsetBytes, lengthBytes);
      this.#stored.set(offsetBytes, stored);
    }
    return stored;
  }
}

/**
 * Opens the image in an archive, compressed or not; the image closes the file. Takes ownership of the file, even on
 * failure.
 */
export async function openArchive(
  file: SourceFile,
  options: ResolvedOptions,
  open: (archive: Archive) => Promise<OpenedImage>,
): Promise<OpenedImage> {
  const plain = await inflated(file, options);
  try {
    const head = storedHead(plain);
    if (!isTarHeader(head)) throw contentFault(file.name, head, "an image archive");
    return await open(new Archive(plain, options, (...args) => options.warnings.add(...args)));
  } catch (error) {
    plain.file.release();
    throw error;
  }
}

/** The file itself, or its inflated content if it is compressed. Takes ownership of the file, even on failure. */
export async function inflated(file: SourceFile, options: ResolvedOptions): Promise<SourceFile> {
  const { name, sizeBytes } = file;
  let isPlain = false;
  try {
    isPlain = !isCompressed(file);
    if (isPlain) return file;
    const layer = treeLayer({ name, sizeBytes, stored: storedPart(file), content: "bytes" });
    const read = await loadAlone(layer, options);
    try {
      reportWarnings(read, options.warnings);
    } catch (error) {
      read.file.release();
      throw error;
    }
    return { name, file: read.file, sizeBytes: read.facts.uncompressedBytes };
  } finally {
    if (!isPlain) file.file.release();
  }
}
