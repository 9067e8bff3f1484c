/**
 * The masks of normalised chunking: bits spread over 48 positions, so that a hash looks at 48 bytes.
 *
 * @module
 */

/** By the binary logarithm of the chunk size that a mask alone gives, from 2^5. Facts of the published algorithm. */
const MASKS: readonly bigint[] = [
  0x1804110n,
  0x1803110n,
  0x18035100n,
  0x1800035300n,
  0x19000353000n,
  0x590003530000n,
  0xd90003530000n,
  0xd90103530000n,
  0xd90303530000n,
  0xd90313530000n,
  0xd90f03530000n,
  0xd90303537000n,
  0xd90703537000n,
  0xd90707537000n,
  0xd91707537000n,
  0xd91747537000n,
  0xd91767537000n,
  0xd93767537000n,
  0xd93777537000n,
  0xd93777577000n,
  0xdb3777577000n,
];
const FIRST_BITS = 5;

/** The masks up to the average and behind it: harder to meet, then easier. */
export function normalizedMasks(
  averageBytes: number,
  normalization: number,
): { readonly maskSmall: bigint; readonly maskLarge: bigint } {
  const bits = Math.round(Math.log2(averageBytes));
  return {
    maskSmall: MASKS[bits + normalization - FIRST_BITS]!,
    maskLarge: MASKS[bits - normalization - FIRST_BITS]!,
  };
}
