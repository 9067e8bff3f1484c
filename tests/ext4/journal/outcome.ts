/**
 * What the kernel and the reader make of an image with a log written by hand: the file that is in it.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import { InputError } from "../../../lib/errors.ts";
import { openExt4Image } from "../../../lib/ext4/read/image.ts";
import { readTree } from "../../../lib/ext4/read/tree.ts";
import { recoverImage } from "../../../lib/ext4/recovery/recover.ts";
import { memoryReader } from "../../../lib/io/random_reader.ts";
import { readPayload } from "../../../lib/model/node.ts";
import { Warnings } from "../../../lib/warnings.ts";
import { mountReadWrite } from "../../oracle/kernel.ts";

/** The file in an image, or why it cannot be read. */
export interface Outcome {
  readonly content?: Uint8Array;
  readonly error?: string;
}

/** The words that the file has at every KiB, equal neighbours once. */
export function describe({ content }: Outcome): string {
  if (content === undefined) return "refused";
  const view = new DataView(content.buffer, content.byteOffset, content.byteLength);
  const parts: string[] = [];
  for (let at = 0; at < content.length; at += 1024) {
    const part = `${view.getUint32(at).toString(16)} ${view.getUint32(at + 4).toString(16)}`;
    if (parts.at(-1) !== part) parts.push(part);
  }
  return parts.join(", ");
}

export async function readRecovered(bytes: Uint8Array): Promise<Outcome> {
  try {
    const { reader } = recoverImage(memoryReader(bytes, "image"));
    const warnings = new Warnings();
    const { root } = await readTree(openExt4Image(reader, { warnings }), { warnings });
    const node = root.children.get("file");
    if (node?.kind !== "file") throw new Error("the file is gone");
    const content = new Uint8Array(node.payload.sizeBytes);
    readPayload(node.payload, content, 0);
    return { content };
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    assertEquals(error.remedies.map(({ option }) => option), ["replay"]);
    return { error: error.message };
  }
}

/**
 * What the kernel makes of an image. Each is in a file of its own: a loop device of the one before may still be going away,
 * and mount(8) would take it, with what it remembers, for a file of the same name.
 */
export function readMounted(bytes: Uint8Array, scratch: string): Outcome {
  const image = Deno.makeTempFileSync({ dir: scratch });
  try {
    Deno.writeFileSync(image, bytes);
    return { content: mountReadWrite(image, (mount) => Deno.readFileSync(`${mount}/file`)) };
  } catch (error) {
    return { error: (error as Error).message };
  } finally {
    Deno.removeSync(image);
  }
}
