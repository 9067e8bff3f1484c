/**
 * The bytes of a file, whole or in part. RFC 9110, sections 13 and 14.
 *
 * @module
 */
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { RequestError } from "../faults.ts";

/** Which bytes a Range header asks for. */
export type ByteRange =
  | { readonly kind: "whole" }
  | { readonly kind: "part"; readonly first: number; readonly last: number }
  | { readonly kind: "outside" };

/**
 * Reads a Range header. What is not understood, or asks for several parts, is answered with the whole, as section 14.2 allows.
 *
 * @param sizeBytes of the file
 */
export function parseRange(header: string | undefined, sizeBytes: number): ByteRange {
  const match = /^bytes=(\d{0,15})-(\d{0,15})$/.exec(header?.trim() ?? "");
  if (match === null || match[1] === "" && match[2] === "") return { kind: "whole" };
  if (match[1] === "") {
    const length = Math.min(Number(match[2]), sizeBytes);
    if (length === 0) return { kind: "outside" };
    return { kind: "part", first: sizeBytes - length, last: sizeBytes - 1 };
  }
  const first = Number(match[1]);
  const last = match[2] === "" ? sizeBytes - 1 : Math.min(Number(match[2]), sizeBytes - 1);
  if (match[2] !== "" && Number(match[2]) < first) return { kind: "whole" };
  return first >= sizeBytes ? { kind: "outside" } : { kind: "part", first, last };
}

/** Answers a request for a file whose content never changes. */
export async function fileResponse(
  path: string,
  digest: string,
  header: (name: string) => string | undefined,
  method: string,
): Promise<Response> {
  const { size } = await stat(path);
  const etag = `"${digest}"`;
  const headers: Record<string, string> = {
    "Accept-Ranges": "bytes",
    "Cache-Control": "private, max-age=31536000, immutable",
    "Content-Type": "application/octet-stream",
    ETag: etag,
  };
  const known = header("if-none-match")?.split(",").map((tag) => tag.trim().replace(/^W\//, ""));
  if (known?.some((tag) => tag === etag || tag === "*")) {
    return new Response(null, { status: 304, headers });
  }
  const ifRange = header("if-range");
  const isSame = ifRange === undefined || ifRange === etag;
  const range = isSame ? parseRange(header("range"), size) : { kind: "whole" } as const;
  if (range.kind === "outside") {
    throw new RequestError(416, "range_outside", `the file has ${size} bytes`, {
      headers: { "Content-Range": `bytes */${size}` },
    });
  }
  const [first, last] = range.kind === "part" ? [range.first, range.last] : [0, size - 1];
  headers["Content-Length"] = String(last - first + 1);
  if (range.kind === "part") headers["Content-Range"] = `bytes ${first}-${last}/${size}`;
  const status = range.kind === "part" ? 206 : 200;
  const body = method === "HEAD" || size === 0 ? null : bodyOf(path, first, last);
  return new Response(body, { status, headers });
}

/** A stream that reads no faster than it is read, and closes the file when its reader goes away. */
function bodyOf(path: string, start: number, end: number): ReadableStream<Uint8Array> {
  const pieces = createReadStream(path, { start, end, highWaterMark: 256 << 10 });
  const iterator = pieces[Symbol.asyncIterator]();
  return new ReadableStream<Uint8Array>({
    async pull(controller) {
      const { done, value } = await iterator.next();
      if (done) controller.close();
      else controller.enqueue(Uint8Array.from(value as Uint8Array));
    },
    async cancel() {
      await iterator.return?.();
      pieces.destroy();
    },
  }, { highWaterMark: 1 });
}
