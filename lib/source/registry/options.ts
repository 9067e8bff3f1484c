/**
 * What a user may say about registries.
 *
 * @module
 */
import type { RegistryTiming } from "./timing.ts";

/** How registries are reached. */
export interface RegistryOptions {
  /** Speak http, not https. Without it, http is only tried on loopback, when https fails. */
  readonly plainHttp?: boolean;
  /** The only file that credentials are looked for in, as docker and podman write them; default: theirs. */
  readonly authFile?: string;
  /** Where files of credentials and their helpers are looked for; default: the process's environment. */
  readonly environment?: Readonly<Record<string, string | undefined>>;
  /** Replaces the clock. */
  readonly timing?: RegistryTiming;
}
