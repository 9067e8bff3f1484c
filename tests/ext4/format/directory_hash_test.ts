import { assert, assertEquals, assertNotEquals, assertThrows } from "@std/assert";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import fc from "fast-check";
import { bytesFromByteString, byteStringFromBytes } from "../../../lib/bytes/byte_string.ts";
import { InputError } from "../../../lib/errors.ts";
import { directoryHash } from "../../../lib/ext4/format/htree.ts";
import { notRun } from "../../oracle/notice.ts";
import { VECTOR_SEED, VECTOR_SEED_UUID, VECTORS } from "./directory_hash_vectors.ts";

const NO_SEED = [0, 0, 0, 0];

/** The six hashes in the order of the vectors; debugfs knows them by these numbers. */
const KINDS = [0, 1, 2, 3, 4, 5].map((number) => ({ version: number % 3, signed: number < 3 }));

Deno.test("directoryHash matches debugfs dx_hash", () => {
  for (const [name, expected] of VECTORS) {
    const computed = [NO_SEED, VECTOR_SEED].flatMap((seed) =>
      KINDS.map((kind) => {
        const { hash, minor } = directoryHash(name, { ...kind, seed });
        return [hash, minor];
      })
    );
    assertEquals(computed, expected.map((pair) => [...pair]), name);
  }
});

Deno.test("directoryHash matches the installed debugfs for random names", () => {
  // A command line of debugfs cannot hold these.
  const name = fc.uint8Array({ minLength: 1, maxLength: 255 }).map((bytes) =>
    byteStringFromBytes(bytes.map((byte) => byte < 0x30 || byte === 0x7f ? byte | 0x40 : byte))
      .replace(/\x7f/g, "a")
  );
  const names = fc.sample(name, { seed: 1, numRuns: 60 });
  const found = dxHashes(names);
  if (found === undefined) {
    notRun("directoryHash against the installed debugfs", "there is no debugfs");
    return;
  }
  const computed = names.flatMap((one) =>
    KINDS.map((kind) => directoryHash(one, { ...kind, seed: VECTOR_SEED }))
  );
  assertEquals(found, computed);
});

/** What debugfs says for each name and kind; undefined when there is no debugfs. */
function dxHashes(names: readonly string[]): { hash: number; minor: number }[] | undefined {
  const directory = mkdtempSync(join(tmpdir(), "blessfs-test-"));
  try {
    const commands = names.flatMap((name) =>
      KINDS.map((_, number) =>
        `dx_hash -h ${number === 0 ? "legacy" : number} -s ${VECTOR_SEED_UUID} "${name}"\n`
      )
    ).join("");
    const file = join(directory, "commands");
    writeFileSync(file, bytesFromByteString(commands));
    const path = `${process.env["PATH"] ?? ""}:/usr/sbin:/sbin`;
    const run = spawnSync("debugfs", ["-f", file], { env: { PATH: path }, encoding: "latin1" });
    if (run.error) return undefined;
    return [...run.stdout.matchAll(/ is 0x([0-9a-f]+) \(minor 0x([0-9a-f]+)\)/g)].map((match) => ({
      hash: parseInt(match[1] ?? "", 16),
      minor: parseInt(match[2] ?? "", 16),
    }));
  } finally {
    rmSync(directory, { recursive: true });
  }
}

Deno.test("no name has the hash that means the end of a directory", () => {
  // Found by search: the legacy hash of this name is 0xfffffffe. libext2fs keeps it, the kernel does not.
  const { hash } = directoryHash("mgrc2N", { version: 0, seed: NO_SEED, signed: true });
  assertEquals(hash, 0xfffffffc);
});

Deno.test("signed and unsigned hashes differ just where bytes have the high bit", () => {
  fc.assert(fc.property(fc.uint8Array({ minLength: 1, maxLength: 40 }), (bytes) => {
    const name = byteStringFromBytes(bytes.map((byte) => byte & 0x7f));
    for (const version of [0, 1, 2]) {
      assertEquals(
        directoryHash(name, { version, seed: VECTOR_SEED, signed: true }),
        directoryHash(name, { version, seed: VECTOR_SEED, signed: false }),
      );
    }
  }));
  const options = { version: 1, seed: VECTOR_SEED };
  assertNotEquals(
    directoryHash("\xe9", { ...options, signed: true }),
    directoryHash("\xe9", { ...options, signed: false }),
  );
});

Deno.test("directoryHash leaves the collision bit clear", () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 255 }), fc.nat(2), (bytes, version) => {
    const name = byteStringFromBytes(bytes);
    const { hash, minor } = directoryHash(name, { version, seed: NO_SEED, signed: false });
    assert(hash % 2 === 0 && hash >= 0 && hash < 2 ** 32 && minor >= 0 && minor < 2 ** 32);
  }));
});

Deno.test("directoryHash refuses versions it does not know, bad seeds and long names", () => {
  const options = { version: 1, seed: NO_SEED, signed: true };
  for (const version of [3, 6]) {
    assertThrows(() => directoryHash("a", { ...options, version }), InputError, "hash version");
  }
  assertThrows(() => directoryHash("a", { ...options, seed: [1] }), Error, "Invariant");
  assertThrows(() => directoryHash("a".repeat(256), options), Error, "Invariant");
});
