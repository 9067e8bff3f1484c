/**
 * Bytes as 32-bit words. An index into an array of words costs a fraction of what four bytes or a DataView cost before
 * a runtime has compiled the loop around it, and much of a short run is over by then.
 *
 * @module
 */

/** Whether this machine keeps the low byte of a word first, as ext4 does. Few do not. */
const IS_LITTLE_ENDIAN = new Uint8Array(Uint32Array.of(1).buffer)[0] === 1;

/**
 * The little-endian words of some bytes, a number of whole words. They are the same memory where the machine and the
 * place of the bytes allow it, and a copy elsewhere.
 *
 * @param isLittleEndian what the machine is
 */
export function littleEndianWords(
  bytes: Uint8Array,
  isLittleEndian = IS_LITTLE_ENDIAN,
): Int32Array {
  if (isLittleEndian && (bytes.byteOffset & 3) === 0) {
    return new Int32Array(bytes.buffer, bytes.byteOffset, bytes.length >>> 2);
  }
  const words = new Int32Array(bytes.length >>> 2);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let i = 0; i < words.length; i++) words[i] = view.getInt32(4 * i, true);
  return words;
}
