/**
 * What tests of undamaged images share.
 *
 * @module
 */
import type { VerifyOptions, VerifyReport } from "../../../lib/ext4/verify/verify.ts";
import { verifyImage } from "../../../lib/ext4/verify/verify.ts";
import { openFileReader } from "../../../lib/io/random_reader.ts";

/** Verifies an image file. */
export async function verifyFile(path: string, options?: VerifyOptions): Promise<VerifyReport> {
  const reader = openFileReader(path);
  try {
    return await verifyImage(reader, options);
  } finally {
    reader.close();
  }
}

/** Throws, with the first findings, unless verify finds nothing at all. */
export async function assertUndamaged(what: string, path: string): Promise<void> {
  const { clean, findings } = await verifyFile(path);
  if (!clean) throw new Error(`${what}: ${JSON.stringify(findings.slice(0, 5), undefined, 1)}`);
}
