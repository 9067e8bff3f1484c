import { assertEquals } from "@std/assert";
import { parseChallenges } from "../../../lib/source/registry/challenge.ts";

function parsed(header: string): [string, Record<string, string>][] {
  return parseChallenges(header).map(({ scheme, parameters }) => [
    scheme,
    Object.fromEntries(parameters),
  ]);
}

Deno.test("parseChallenges reads what registries send", () => {
  assertEquals(
    parsed('Bearer realm="https://auth.docker.io/token",service="registry.docker.io"'),
    [["bearer", { realm: "https://auth.docker.io/token", service: "registry.docker.io" }]],
  );
  assertEquals(parsed('Basic realm="a"'), [["basic", { realm: "a" }]]);
  assertEquals(parsed("BASIC  Realm = plain"), [["basic", { realm: "plain" }]]);
});

Deno.test("parseChallenges keeps commas, quotes and equal signs inside of quotes", () => {
  assertEquals(
    parsed('Bearer realm="https://a/?b=c,d",scope="repository:x/y:pull,push",error="a \\"b\\" c"'),
    [["bearer", {
      realm: "https://a/?b=c,d",
      scope: "repository:x/y:pull,push",
      error: 'a "b" c',
    }]],
  );
});

Deno.test("parseChallenges takes several challenges apart", () => {
  const both = [["basic", { realm: "a" }], ["bearer", { realm: "b", service: "c" }]];
  assertEquals(parsed('Basic realm="a", Bearer realm="b",service="c"'), both as never);
  assertEquals(parsed('Negotiate, Basic realm="a"'), [["negotiate", {}], ["basic", {
    realm: "a",
  }]]);
  assertEquals(parsed('Negotiate abc+/d==, Basic realm="a"').map(([scheme]) => scheme), [
    "negotiate",
    "basic",
  ]);
});

Deno.test("parseChallenges comes to an end whatever it is given", () => {
  assertEquals(parsed(""), []);
  assertEquals(parsed(", ,, "), []);
  assertEquals(parsed('Bearer realm="never closed'), [["bearer", {}], ["realm", {}]]);
  assertEquals(parsed("\u0007\u0000"), []);
  assertEquals(parsed(`Basic realm="${"a".repeat(100_000)}"`)[0]![0], "basic");
  parsed('a="b\\'.repeat(5000));
  parsed("a,".repeat(50_000));
});
