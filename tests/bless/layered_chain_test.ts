import { assertEquals, assertNotEquals, assertThrows } from "@std/assert";
import {
  chainKeys,
  contentDigestOf,
  layerFileName,
  treeFileName,
} from "../../lib/bless/layered_chain.ts";
import { InputError } from "../../lib/errors.ts";
import { digestOf } from "../../lib/io/digest.ts";

const A = digestOf(new TextEncoder().encode("a"));
const B = digestOf(new TextEncoder().encode("b"));
const C = digestOf(new TextEncoder().encode("c"));

function layers(...diffIds: (string | undefined)[]) {
  return diffIds.map((diffId) => ({ diffId, whiteouts: true }));
}

function sha256(text: string): string {
  return digestOf(new TextEncoder().encode(text));
}

Deno.test("chainKeys gives the chain ids of the image specification", () => {
  const ab = sha256(`${A} ${B}`);
  assertEquals(chainKeys(layers(A, B, C)), [A, ab, sha256(`${ab} ${C}`)]);
  assertEquals(chainKeys([]), []);
});

Deno.test("chainKeys tells a layer without whiteouts from the same with them", () => {
  const [plain, plainTop] = chainKeys([{ diffId: A, whiteouts: false }, {
    diffId: B,
    whiteouts: true,
  }]);
  const [usual, usualTop] = chainKeys(layers(A, B));
  assertNotEquals(plain, usual);
  assertNotEquals(plainTop, usualTop);
});

Deno.test("chainKeys ends where a diff id is not known", () => {
  assertEquals(chainKeys(layers(A, undefined, C)), [A, undefined, undefined]);
});

Deno.test("file names are made of checked digests only", () => {
  assertEquals(layerFileName(A), A.slice("sha256:".length));
  assertEquals(treeFileName(B, A), `${layerFileName(B)}-${A.slice(7, 23)}`);
  assertThrows(() => treeFileName(B, "sha256:../../etc/passwd"), InputError);
  assertThrows(() => layerFileName("sha256:../../etc/passwd"), InputError);
});

Deno.test("contentDigestOf depends on the layers and their order", () => {
  assertEquals(contentDigestOf([A, B]), sha256(`${A}\n${B}\n`));
  assertNotEquals(contentDigestOf([A, B]), contentDigestOf([B, A]));
});
