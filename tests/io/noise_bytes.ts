/** Noise that fills whole devices. */
import { Buffer } from "node:buffer";
import { Random } from "../oracle/noise.ts";

/** The same bytes for the same seed. */
export function noiseBytes(length: number, seed: number): Buffer<ArrayBuffer> {
  const random = new Random(seed);
  const bytes = Buffer.alloc(Math.ceil(length / 4) * 4);
  for (let at = 0; at < bytes.length; at += 4) bytes.writeUInt32LE(random.next(), at);
  return bytes.subarray(0, length);
}
