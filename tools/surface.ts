// deno-lint-ignore-file no-console -- what it prints is what it is for
/**
 * Writes the listing of the public surface, tests/tools/surface.txt, for a change that is wanted:
 *
 *     deno task surface
 *
 * @module
 */
import { LISTING, surfaceListing } from "./surface_listing.ts";

Deno.writeTextFileSync(LISTING, surfaceListing());
console.log(LISTING);
