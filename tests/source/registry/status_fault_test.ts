import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { InputError, IoError } from "../../../lib/errors.ts";
import { sendRequest } from "../../../lib/source/registry/http.ts";
import { Secrets } from "../../../lib/source/registry/secrets.ts";
import { statusFault } from "../../../lib/source/registry/status_fault.ts";
import { errorBody, sendCut, TestTiming, withRegistry } from "./fake_registry.ts";

async function faultOf(status: number, body: string | Uint8Array): Promise<InputError | IoError> {
  return await withRegistry(async (registry) => {
    const url = new URL(registry.origin);
    const request = { what: "app:v1", url, signal: undefined };
    const secrets = new Secrets();
    secrets.add("hunter22");
    const fault = await statusFault(
      await sendRequest(request, new TestTiming()),
      "app:v1",
      secrets,
    );
    assertStringIncludes(fault.message, `app:v1: ${registry.host} `);
    assertEquals(fault.data["status"], status);
    return fault;
  }, (_, response) => {
    response.writeHead(status).end(body);
    return true;
  });
}

Deno.test("statusFault tells what is missing from what is refused", async () => {
  const missing = await faultOf(404, JSON.stringify(errorBody("MANIFEST_UNKNOWN", "no such tag")));
  assert(missing instanceof InputError);
  assertStringIncludes(missing.message, "does not have it: MANIFEST_UNKNOWN: no such tag");
  for (const status of [401, 403]) {
    const refused = await faultOf(status, JSON.stringify(errorBody("DENIED", "not yours")));
    assert(refused instanceof IoError);
    assertStringIncludes(refused.message, `refuses access (status ${status}): DENIED: not yours`);
    assertStringIncludes(refused.hint!, "docker login");
  }
  assertStringIncludes((await faultOf(429, "")).message, "too many requests");
  assertStringIncludes((await faultOf(418, "")).message, "answers with status 418");
});

Deno.test("statusFault reads the errors of token servers", async () => {
  const oauth = await faultOf(400, '{"error":"invalid_grant","error_description":"expired"}');
  assertStringIncludes(oauth.message, "status 400: invalid_grant: expired");
  assertStringIncludes((await faultOf(400, '{"details":"wrong"}')).message, "status 400: wrong");
});

Deno.test("statusFault shows neither secrets nor escapes, and no more than a line", async () => {
  const message = `hunter22 \u001b[2J\r\n${"x".repeat(5000)}`;
  const fault = await faultOf(403, JSON.stringify(errorBody("\u001b]0;DENIED\u0007", message)));
  for (const part of ["hunter", "\u001b", "\r", "\n", "\u0007"]) {
    assert(!fault.message.includes(part), fault.message);
  }
  assertStringIncludes(fault.message, "***");
  assert(fault.message.length < 500);
});

Deno.test("statusFault has nothing to say of bodies that are no errors", async () => {
  const bodies = ["<html>\u001b[2J</html>", "{", "{}", "[]", '{"errors":{}}', '{"errors":[7]}', ""];
  for (const body of bodies) {
    const { message } = await faultOf(404, body);
    assert(message.endsWith("does not have it"), message);
  }
  const long = new TextEncoder().encode(`{"errors":[{"code":"${"x".repeat(100_000)}"}]}`);
  assert((await faultOf(404, long)).message.endsWith("does not have it"));
});

Deno.test("statusFault stands by the status when the body breaks off", async () => {
  await withRegistry(async (registry) => {
    const request = { what: "x", url: new URL(registry.origin), signal: undefined };
    const answer = await sendRequest(request, new TestTiming());
    const fault = await statusFault(answer, "x", new Secrets());
    assert(fault.message.endsWith("does not have it"), fault.message);
  }, (_, response) => {
    sendCut(response, 404, { "content-length": 100 }, new TextEncoder().encode("{"));
    return true;
  });
});
