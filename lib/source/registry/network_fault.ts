/**
 * Failures of the network, in the same words under every runtime. What a runtime says is never passed on as it is: it
 * holds addresses, and those that registries redirect to are signed.
 *
 * @module
 */
import { displayText } from "../json.ts";

/** What a fault says when the host speaks TLS, but nobody vouches for it. */
export const UNTRUSTED_CERTIFICATE = "its certificate is not trusted";

/** A request that got no answer, or not all of it. */
export class NetworkFault extends Error {
  /** Whether it may well work the next time. */
  readonly isTransient: boolean;
  readonly hint: string | undefined;

  /** @param why in words, without secrets, safe to print */
  constructor(why: string, isTransient: boolean, hint?: string) {
    super(why);
    this.name = "NetworkFault";
    this.isTransient = isTransient;
    this.hint = hint;
  }
}

interface KnownFault {
  /** Codes of errors, or parts of their messages. */
  readonly signs: RegExp;
  readonly why: string;
  readonly isTransient: boolean;
  readonly hint?: string;
}

const CERTIFICATE_HINT =
  "give the certificate authority to the runtime: DENO_CERT=FILE under Deno, NODE_EXTRA_CA_CERTS=FILE under Node and Bun";
const TLS_HINT = "if the registry has no TLS, say --plain-http";

const KNOWN_FAULTS: readonly KnownFault[] = [
  {
    signs: /CERT_|_CERT|SELF_SIGNED|UNABLE_TO_VERIFY|invalid peer certificate|CERTIFICATE/,
    why: UNTRUSTED_CERTIFICATE,
    isTransient: false,
    hint: CERTIFICATE_HINT,
  },
  {
    signs: /EPROTO|ERR_SSL|InvalidContentType|corrupt message|HandshakeFailure/,
    why: "it does not speak TLS there",
    isTransient: false,
    hint: TLS_HINT,
  },
  {
    signs: /ECONNREFUSED|ConnectionRefused|Connection refused/,
    why: "the connection is refused",
    isTransient: true,
  },
  {
    signs: /ENOTFOUND|EAI_AGAIN|dns error|failed to lookup/,
    why: "the name of the host cannot be resolved",
    isTransient: true,
  },
  {
    signs: /EHOSTUNREACH|ENETUNREACH|unreachable/,
    why: "the host cannot be reached",
    isTransient: true,
  },
  {
    signs: /ETIMEDOUT|TIMEOUT|timed out/i,
    why: "the connection timed out",
    isTransient: true,
  },
  {
    signs: /bad port|Requests to port|unsafe port/i,
    why: "the runtime refuses to talk to this port",
    isTransient: false,
  },
  {
    signs: /HPE_|invalid HTTP version|MalformedHTTP|Malformed_HTTP/,
    why: "what it answers is not HTTP",
    isTransient: false,
    hint: "if the registry has TLS, leave out --plain-http",
  },
  {
    signs: /ECONNRESET|EPIPE|UND_ERR_SOCKET|error reading a body|closed|terminated|reset/i,
    why: "the connection broke",
    isTransient: true,
  },
];

const MAX_CAUSES = 6;
const SHOWN_CHARACTERS = 160;

/**
 * What a failed `fetch` or a failed read of its body means.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { networkFault } from "./network_fault.ts";
 * const cause = Object.assign(new Error("socket hang up"), { code: "ECONNRESET" });
 * assertEquals(networkFault(new TypeError("fetch failed", { cause })).message, "the connection broke");
 * ```
 */
export function networkFault(error: unknown): NetworkFault {
  const said: string[] = [];
  let current = error;
  for (let depth = 0; depth < MAX_CAUSES && current instanceof Error; depth++) {
    const { code } = current as { code?: unknown };
    if (typeof code === "string") said.push(code);
    said.push(current.message);
    current = current.cause;
  }
  // The innermost cause says most; the outer ones often only that something failed.
  for (const text of said.reverse()) {
    const known = KNOWN_FAULTS.find(({ signs }) => signs.test(text));
    if (known) return new NetworkFault(known.why, known.isTransient, known.hint);
  }
  const shown = displayText((said[0] ?? "it failed").replace(/[a-z][a-z0-9+.-]*:\/\/\S*/gi, "URL"));
  return new NetworkFault(`the request failed: ${shown.slice(0, SHOWN_CHARACTERS)}`, true);
}
