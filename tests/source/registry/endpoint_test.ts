import { assert, assertEquals, assertThrows } from "@std/assert";
import { UsageError } from "../../../lib/errors.ts";
import { parseReference } from "../../../lib/source/reference.ts";
import {
  apiPath,
  credentialKeys,
  helperServer,
  plainCredentialKeys,
  registryAddresses,
} from "../../../lib/source/registry/endpoint.ts";
import { isLoopback } from "../../../lib/io/http_fetch.ts";

Deno.test("isLoopback goes by the name alone", () => {
  for (const host of ["localhost", "LOCALHOST:5000", "127.0.0.1", "127.1.2.3:80", "[::1]:5000"]) {
    assert(isLoopback(host), host);
  }
  const others = ["localhost.example.com", "127.0.0.1.example.com", "127.0.0", "128.0.0.1:5000"];
  for (const host of [...others, "[::2]:5000", "registry.example.com", "10.0.0.1"]) {
    assert(!isLoopback(host), host);
  }
});

function addresses(registry: string, plainHttp = false): string[] {
  return registryAddresses(registry, plainHttp).map(({ href }) => href);
}

Deno.test("registryAddresses names http only on request or behind https on loopback", () => {
  assertEquals(addresses("r.example.com"), ["https://r.example.com/"]);
  assertEquals(addresses("r.example.com:5000", true), ["http://r.example.com:5000/"]);
  assertEquals(addresses("localhost:5000"), ["https://localhost:5000/", "http://localhost:5000/"]);
  assertEquals(addresses("[::1]:5000", true), ["http://[::1]:5000/"]);
});

Deno.test("registryAddresses knows where docker.io is", () => {
  assertEquals(addresses("docker.io"), ["https://registry-1.docker.io/"]);
});

Deno.test("registryAddresses refuses a port that is none", () => {
  assertThrows(() => registryAddresses("a.example.com:70000", false), UsageError, "is not a host");
});

Deno.test("apiPath writes the paths of the specification", () => {
  const reference = parseReference("r.example.com/a/b/c:v1");
  assertEquals(apiPath(reference, "manifests", "v1"), "/v2/a/b/c/manifests/v1");
  assertEquals(apiPath(reference, "blobs", "sha256:00"), "/v2/a/b/c/blobs/sha256:00");
});

Deno.test("credentialKeys goes from the repository to the host", () => {
  assertEquals(credentialKeys(parseReference("r.example.com:5/a/b:v1")), [
    "r.example.com:5/a/b",
    "r.example.com:5/a",
    "r.example.com:5",
  ]);
  assertEquals(credentialKeys(parseReference("debian")).slice(-3), [
    "docker.io",
    "index.docker.io",
    "registry-1.docker.io",
  ]);
});

Deno.test("plainCredentialKeys takes off what docker writes around a host", () => {
  const keys = {
    "https://index.docker.io/v1/": "index.docker.io",
    "http://r.example.com": "r.example.com",
    "https://r.example.com/v2/": "r.example.com",
    "r.example.com/": "r.example.com",
    "r.example.com/team/v1": "r.example.com/team/v1",
    "r.example.com": "r.example.com",
  };
  for (const [key, plain] of Object.entries(keys)) assertEquals(plainCredentialKeys(key), [plain]);
  assertEquals(plainCredentialKeys("https://r.example.com:5/team/app"), [
    "r.example.com:5/team/app",
    "r.example.com:5",
  ]);
});

Deno.test("helperServer asks for docker.io as docker does", () => {
  assertEquals(helperServer("docker.io"), "https://index.docker.io/v1/");
  assertEquals(helperServer("r.example.com:5000"), "r.example.com:5000");
});
