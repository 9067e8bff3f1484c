/** Samples for the tests of packages. */
import { gzipSync } from "node:zlib";
import { buildTar } from "../tar/build.ts";

/** A layer that is too large to be read without a thread. */
export function bigLayer(): Uint8Array {
  const data = new Uint8Array(1 << 20);
  let state = 1;
  for (let i = 0; i < data.length; i++) {
    state = Math.imul(state, 1_664_525) + 1_013_904_223 | 0;
    data[i] = state >>> 24;
  }
  return gzipSync(buildTar([{ path: "big", data }]));
}
