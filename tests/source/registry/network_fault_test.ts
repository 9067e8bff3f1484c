import { assert, assertEquals } from "@std/assert";
import {
  NetworkFault,
  networkFault,
  UNTRUSTED_CERTIFICATE,
} from "../../../lib/source/registry/network_fault.ts";

/** Errors as runtimes throw them. */
function thrown(message: string, code?: string, cause?: Error): Error {
  const error = new TypeError(message, cause === undefined ? {} : { cause });
  return code === undefined ? error : Object.assign(error, { code });
}

const URL_TEXT = "error sending request for url (https://s3.example.com/x?X-Amz-Signature=0123)";

Deno.test("networkFault says the same of what Deno, Bun and Node say in their own ways", () => {
  const words: [string, boolean, Error[]][] = [
    ["the connection is refused", true, [
      thrown(
        "fetch failed",
        undefined,
        new Error(`${URL_TEXT}: Connection refused (os error 111)`),
      ),
      thrown("Unable to connect. Is the computer able to access the url?", "ECONNREFUSED"),
      thrown("fetch failed", undefined, thrown("connect ECONNREFUSED 127.0.0.1:9", "ECONNREFUSED")),
    ]],
    ["the name of the host cannot be resolved", true, [
      thrown("fetch failed", undefined, new Error(`${URL_TEXT}: dns error: failed to lookup`)),
      thrown("getaddrinfo ENOTFOUND x.invalid", "ENOTFOUND"),
    ]],
    [UNTRUSTED_CERTIFICATE, false, [
      thrown("fetch failed", undefined, new Error(`${URL_TEXT}: invalid peer certificate: Unk`)),
      thrown("self signed certificate", "DEPTH_ZERO_SELF_SIGNED_CERT"),
      thrown("fetch failed", undefined, thrown("has expired", "CERT_HAS_EXPIRED")),
    ]],
    ["it does not speak TLS there", false, [
      thrown("fetch failed", undefined, new Error(`${URL_TEXT}: corrupt message of type Invalid`)),
      thrown("EPROTO: The TLS handshake failed.", "EPROTO"),
      thrown("fetch failed", undefined, thrown("wrong version", "ERR_SSL_WRONG_VERSION_NUMBER")),
    ]],
    ["the connection broke", true, [
      thrown("error reading a body from connection"),
      thrown("The socket connection was closed unexpectedly.", "ECONNRESET"),
      thrown("terminated", undefined, thrown("other side closed", "UND_ERR_SOCKET")),
    ]],
  ];
  for (const [why, isTransient, errors] of words) {
    for (const error of errors) {
      const fault = networkFault(error);
      assertEquals([fault.message, fault.isTransient], [why, isTransient]);
    }
  }
});

Deno.test("networkFault shows no address of an error that it does not know", () => {
  const fault = networkFault(new TypeError(`${URL_TEXT}: \u001b[31mstrange`));
  assert(fault instanceof NetworkFault);
  assert(!fault.message.includes("Signature") && !fault.message.includes("\u001b"), fault.message);
  assertEquals(fault.cause, undefined);
  assert(networkFault("no error").message.startsWith("the request failed"));
});
