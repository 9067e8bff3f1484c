import { assert, assertEquals, assertRejects } from "@std/assert";
import { InputError, InterruptedError, IoError } from "../../../lib/errors.ts";
import { Authorizer, parseChallenges } from "../../../lib/source/registry/authorizer.ts";
import type { Credentials, Secrets } from "../../../lib/source/registry/credentials.ts";
import {
  type FakeRegistry,
  type Misbehaviour,
  sendJson,
  testSession,
  withRegistry,
} from "./fake_registry.ts";

const SCOPE = "repository:team/app:pull";
const PASSWORD: Credentials = { kind: "password", username: "me", password: "hunter22" };

/** A token server that counts its tokens. */
const COUNTING: Misbehaviour = (_, response, { requests }) => {
  sendJson(response, 200, { token: `t${requests.length}`, expires_in: 300 });
  return true;
};

/** Runs a test with a token server and an authorizer that was refused once. */
async function withTokens(
  test: (authorizer: Authorizer, server: FakeRegistry, secrets: Secrets) => Promise<void>,
  more: {
    readonly server?: Misbehaviour;
    readonly credentials?: Credentials;
    readonly header?: (origin: string) => string;
    readonly address?: string;
  } = {},
): Promise<void> {
  await withRegistry(async (server) => {
    const session = testSession();
    const authorizer = new Authorizer({
      registry: "r.example.com",
      address: new URL(more.address ?? "http://r.example.com/"),
      scope: SCOPE,
      findCredentials: () => Promise.resolve(more.credentials),
      session,
    });
    const usual = (origin: string) => `Bearer realm="${origin}/token?a=b",service="example"`;
    assertEquals(await authorizer.authorization(undefined), undefined);
    assertEquals(authorizer.refused((more.header ?? usual)(server.origin), undefined), true);
    await test(authorizer, server, session.secrets);
  }, more.server ?? COUNTING);
}

Deno.test("Authorizer gets an anonymous token and uses it as long as it is good", async () => {
  await withTokens(async (authorizer, { requests }) => {
    assertEquals(await authorizer.authorization(undefined), "Bearer t1");
    assertEquals(await authorizer.authorization(undefined), "Bearer t1");
    assertEquals(requests.map(({ path, headers }) => [path, headers.authorization]), [
      ["/token?a=b&service=example&scope=repository%3Ateam%2Fapp%3Apull", undefined],
    ]);
    assertEquals(authorizer.refused(undefined, "Bearer t1"), true);
    assertEquals(await authorizer.authorization(undefined), "Bearer t2");
    // The refusal of a request that was under way with the old one.
    assertEquals(authorizer.refused(undefined, "Bearer t1"), true);
    assertEquals(await authorizer.authorization(undefined), "Bearer t2");
  });
});

Deno.test("Authorizer asks once for many that need a token", async () => {
  await withTokens(async (authorizer, { requests }) => {
    const many = Array.from({ length: 8 }, () => authorizer.authorization(undefined));
    assertEquals(new Set(await Promise.all(many)), new Set(["Bearer t1"]));
    assertEquals(requests.length, 1);
  });
});

Deno.test("Authorizer does not fail those that wait for one that is told to stop", async () => {
  const controller = new AbortController();
  await withTokens(async (authorizer) => {
    const first = authorizer.authorization(controller.signal);
    const second = authorizer.authorization(undefined);
    await assertRejects(() => first, InterruptedError);
    assertEquals(await second, "Bearer t2");
  }, {
    server: (request, response, registry) => {
      if (registry.requests.length === 1) setTimeout(() => controller.abort(), 0);
      else COUNTING(request, response, registry);
      return true;
    },
  });
});

Deno.test("Authorizer shows a password to the token server, and hides it elsewhere", async () => {
  await withTokens(async (authorizer, { requests }, secrets) => {
    assertEquals(await authorizer.authorization(undefined), "Bearer t1");
    assertEquals(requests[0]!.headers.authorization, "Basic bWU6aHVudGVyMjI=");
    assert(requests[0]!.path.endsWith("&account=me"));
    assertEquals(secrets.hide("hunter22 bWU6aHVudGVyMjI="), "*** ***");
  }, { credentials: PASSWORD });
});

Deno.test("Authorizer trades an identity token in by POST", async () => {
  await withTokens(async (authorizer, { requests }) => {
    assertEquals(await authorizer.authorization(undefined), "Bearer access");
    const [{ method, path, body, headers }] = requests as [typeof requests[0]];
    assertEquals([method, path, headers.authorization], ["POST", "/token?a=b", undefined]);
    assertEquals(Object.fromEntries(new URLSearchParams(body)), {
      grant_type: "refresh_token",
      client_id: "blessfs",
      refresh_token: "identity",
      service: "example",
      scope: SCOPE,
    });
  }, {
    credentials: { kind: "identityToken", token: "identity" },
    server: (_, response) => {
      sendJson(response, 200, { access_token: "access" });
      return true;
    },
  });
});

Deno.test("Authorizer shows a registry token as it is", async () => {
  await withTokens(async (authorizer, { requests }) => {
    assertEquals(await authorizer.authorization(undefined), "Bearer mine");
    assertEquals(requests.length, 0);
  }, { credentials: { kind: "registryToken", token: "mine" } });
});

Deno.test("Authorizer asks for the scope that a refusal names, and keeps tokens by scope", async () => {
  await withTokens(async (authorizer, { origin, requests }) => {
    await authorizer.authorization(undefined);
    const header = `Bearer realm="${origin}/token",scope="a:b:pull",error="insufficient_scope"`;
    assertEquals(authorizer.refused(header, "Bearer t1"), true);
    assertEquals(await authorizer.authorization(undefined), "Bearer t2");
    assertEquals(requests[1]!.path, "/token?scope=a%3Ab%3Apull");
    authorizer.refused(`Bearer realm="${origin}/token",scope="${SCOPE}"`, "Bearer t2");
    assertEquals(await authorizer.authorization(undefined), "Bearer t1");
  });
});

Deno.test("Authorizer takes no scope from a challenge that it did not provoke", async () => {
  await withTokens(async (authorizer, { requests }) => {
    await authorizer.authorization(undefined);
    assertEquals(requests[0]!.path, `/token?scope=${encodeURIComponent(SCOPE)}`);
  }, { header: (origin) => `Bearer realm="${origin}/token",scope="repository:user/image:pull"` });
});

Deno.test("Authorizer answers basic challenges with a password alone", async () => {
  const header = () => 'Basic realm="x"';
  await withTokens(async (authorizer) => {
    const used = await authorizer.authorization(undefined);
    assertEquals(used, "Basic bWU6aHVudGVyMjI=");
    assertEquals(authorizer.refused(header(), used), false);
  }, { credentials: PASSWORD, header });
  await withTokens(async (authorizer) => {
    const ask = () => authorizer.authorization(undefined);
    await assertRejects(ask, IoError, "asks for a user name and a password: found none");
  }, { header });
});

Deno.test("Authorizer prefers tokens where both are offered", async () => {
  await withTokens(async (authorizer) => {
    assertEquals(await authorizer.authorization(undefined), "Bearer t1");
  }, { header: (origin) => `Basic realm="x", Bearer realm="${origin}/token"` });
});

Deno.test("Authorizer knows no answer to refusals that offer nothing", () => {
  const authorizer = new Authorizer({
    registry: "r.example.com",
    address: new URL("https://r.example.com/"),
    scope: SCOPE,
    findCredentials: () => Promise.reject(new Error("nobody asked for them")),
    session: testSession(),
  });
  for (const header of [undefined, "", "Negotiate", "Digest realm=x"]) {
    assertEquals(authorizer.refused(header, undefined), false);
  }
});

Deno.test("Authorizer refuses token servers that it must not trust", async () => {
  const wrong: [realm: string, why: string][] = [
    ["http://auth.example.com/token", "over plain http, at auth.example.com"],
    ["", "names no address"],
    ["/token", "names no address"],
    ["file:///etc/passwd", "not reached over HTTP"],
    ["\u001b[2J", "names no address"],
  ];
  for (const [realm, why] of wrong) {
    await withTokens(async (authorizer) => {
      await assertRejects(() => authorizer.authorization(undefined), InputError, why);
    }, {
      header: () => `Bearer realm="${realm}"`,
      address: "https://r.example.com/",
      credentials: PASSWORD,
    });
  }
});

Deno.test("Authorizer tells what is wrong with a token server's answer, but not the answer", async () => {
  const answers: [status: number, body: string, why: string][] = [
    [200, "{}", "has no token in it"],
    [200, '{"token":"hunter22 x"}', "has no token in it"],
    [200, '{"token":"hunter22"', "is not valid JSON"],
    [200, "<html>hunter22</html>", "is not valid JSON"],
    [200, `{"token":"${"x".repeat(1 << 20)}"}`, "answers with more than 1048576 bytes"],
    [401, '{"details":"incorrect username or password"}', "incorrect username or password"],
    [403, '{"errors":[{"code":"DENIED","message":"not bWU6aHVudGVyMjI="}]}', "DENIED: not ***"],
  ];
  for (const [status, body, why] of answers) {
    await withTokens(async (authorizer) => {
      const ask = () => authorizer.authorization(undefined);
      const error = await assertRejects(ask, Error, why);
      assert(!error.message.includes("hunter"), error.message);
      assert(error.message.startsWith("r.example.com: its token server"), error.message);
    }, {
      credentials: PASSWORD,
      server: (_, response) => {
        response.writeHead(status).end(body);
        return true;
      },
    });
  }
});

Deno.test("Authorizer is patient with token servers", async () => {
  await withTokens(async (authorizer) => {
    assertEquals(await authorizer.authorization(undefined), "Bearer t3");
  }, {
    server: (request, response, registry) => {
      if (registry.requests.length === 1) response.writeHead(503).end();
      else if (registry.requests.length === 2) response.destroy();
      else COUNTING(request, response, registry);
      return true;
    },
  });
});

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
