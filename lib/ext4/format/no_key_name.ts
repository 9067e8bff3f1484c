/**
 * Names without their key: what the kernel shows in place of an encrypted name, so that each can be listed, looked up and
 * removed (struct fscrypt_nokey_name, fs/crypto/fname.c; kernel documentation, "Filesystem-level encryption", "Without
 * the key").
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import type { ByteString } from "../../bytes/byte_string.ts";
import { bytesFromByteString } from "../../bytes/byte_string.ts";
import type { DirectoryHash } from "./htree.ts";

/** The shortest encrypted name (FSCRYPT_FNAME_MIN_MSG_LEN). */
export const CIPHERTEXT_BYTES_MIN = 16;
const HASHES_SIZE_BYTES = 8;
/** Of a longer name the rest is hashed. */
const KEPT_BYTES = 149;

/**
 * The name that the kernel lists without the key: the hashes of the directory's index, then the encrypted name, in
 * base64url.
 *
 * @param hash of the name; zeros where a directory is not read by hashes, and for targets of symlinks
 */
export function noKeyName(ciphertext: ByteString, hash: DirectoryHash): ByteString {
  const bytes = bytesFromByteString(ciphertext);
  const hashes = Buffer.alloc(HASHES_SIZE_BYTES);
  hashes.writeUInt32LE(hash.hash, 0);
  hashes.writeUInt32LE(hash.minor, 4);
  const parts: Uint8Array[] = [hashes, bytes.subarray(0, KEPT_BYTES)];
  if (bytes.length > KEPT_BYTES) {
    parts.push(createHash("sha256").update(bytes.subarray(KEPT_BYTES)).digest());
  }
  return Buffer.concat(parts).toString("base64url");
}
