/**
 * The version, which is kept in deno.json alone.
 *
 * @module
 */
import config from "../deno.json" with { type: "json" };

/** The version of this program, such as `0.1.0`. */
export const VERSION: string = config.version;
