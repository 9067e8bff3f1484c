/**
 * Known holes of other tools in which two readers see different entries in one tar, or a length field makes one run over,
 * run on, or allocate what it says.
 */
import { assert, assertEquals } from "@std/assert";
import { Buffer } from "node:buffer";
import { chmodSync, existsSync, mkdirSync, writeFileSync } from "node:fs";
import process from "node:process";
import { gzipSync } from "node:zlib";
import { MAIN, runProgramWith } from "../cli/program.ts";
import { SAMPLE_XZ } from "../io/compressed_samples.ts";
import { oldDockerEntries } from "../source/build_archives.ts";
import { buildTar } from "../tar/build.ts";
import { longName, padded, paxHeader, rawEntry, rawHeader, rawTar } from "../tar/raw.ts";
import { accepted, assertRefused, withSandbox } from "./sandbox.ts";

const octal = (value: number) => value.toString(8).padStart(11, "0") + "\0";
const SPARSE_1_0 = [["GNU.sparse.major", "1"], ["GNU.sparse.minor", "0"], [
  "GNU.sparse.realsize",
  "9",
]] as const;

/** What the file really is, hidden in the payload of another for readers that miss the PAX size. */
const INNER = buildTar([{ path: "evil", data: "1" }]);

for (const cve of ["CVE-2025-62518", "CVE-2026-33055"]) {
  Deno.test(`${cve}: a PAX size counts, whatever the header says`, async () => {
    await withSandbox(async (sandbox) => {
      for (const size of [0, 1, 512, 77]) {
        const tar = rawTar(
          paxHeader([["size", `${INNER.length}`]]),
          rawHeader({ name: "archive.tar", size }),
          padded(INNER),
          rawEntry({ name: "after" }, "2"),
        );
        const tree = accepted(await sandbox.blessTar(tar));
        assertEquals(Object.keys(tree), ["/", "/after", "/archive.tar"]);
        assertEquals(tree["/archive.tar"]?.data?.length, INNER.length);
      }
    });
  });
}

for (const cve of ["RUSTSEC-2026-0112", "CVE-2026-53655"]) {
  Deno.test(`${cve}: PAX records are for the entry, not for the long names between`, async () => {
    await withSandbox(async (sandbox) => {
      const tar = rawTar(
        paxHeader([["size", "3"]]),
        longName("L", "a-long-name"),
        rawHeader({ name: "f", size: 0 }),
        padded("abc"),
        rawEntry({ name: "after" }, "2"),
      );
      const tree = accepted(await sandbox.blessTar(tar));
      assertEquals(Object.keys(tree), ["/", "/a-long-name", "/after"]);
      assertEquals(tree["/a-long-name"]?.data, "abc");
    });
  });
}

Deno.test("CVE-2025-8194: sizes below zero are refused, and nothing goes back", async () => {
  await withSandbox(async (sandbox) => {
    const negative = "\xff".repeat(11) + "\x00";
    assertRefused(await sandbox.blessTar(rawTar(rawHeader({ size: negative }))), "its size");
    assertRefused(
      await sandbox.blessTar(rawTar(rawHeader({ flag: "x", size: negative }), rawHeader({}))),
      "its size",
    );
    for (const size of ["-1", "-512", "-9223372036854775808"]) {
      assertRefused(
        await sandbox.blessTar(rawTar(paxHeader([["size", size]]), rawHeader({}))),
        "size",
      );
    }
  });
});

Deno.test("CVE-2022-48303: numbers in base 256 that fill their field are read to its end and no further", async () => {
  await withSandbox(async (sandbox) => {
    const time = rawHeader({ name: "f", mtime: "\x80\0\0\0\0\0\0\0\0\0\0\x05" });
    assertEquals(accepted(await sandbox.blessTar(rawTar(time)))["/f"]?.mtime, [5, 0]);
    assertRefused(
      await sandbox.blessTar(rawTar(rawHeader({ size: "\x80" + "\xff".repeat(11) }))),
      "field size is too large",
    );
    assertRefused(
      await sandbox.blessTar(rawTar(rawHeader({ size: "8".repeat(12) }))),
      "field size",
    );
  });
});

Deno.test("CVE-2022-2879: a header that claims gibibytes is refused before any of it is there", async () => {
  await withSandbox(async (sandbox) => {
    for (const flag of ["x", "g", "L", "K"]) {
      assertRefused(
        await sandbox.blessTar(rawHeader({ flag, size: octal(2 ** 33 - 1) })),
        "more than the limit of 1048576",
      );
    }
  });
});

Deno.test("CVE-2025-58183: a sparse map that claims millions of ranges is refused at its count", async () => {
  await withSandbox(async (sandbox) => {
    const map = padded("1000000000\n");
    assertRefused(
      await sandbox.blessTar(rawTar(paxHeader(SPARSE_1_0), rawEntry({}, map))),
      "is 1000000000, more than the limit of 262144",
    );
  });
});

for (const cve of ["CVE-2026-32288", "CVE-2018-20482"]) {
  Deno.test(`${cve}: an old sparse map that goes on for ever ends at the limit`, async () => {
    await withSandbox(async (sandbox) => {
      const block = (octal(0) + octal(0)).repeat(21) + "\x01".padEnd(8, "\0");
      const map = rawHeader({
        flag: "S",
        format: "gnu",
        patches: [[482, "\x01"], [483, octal(0)]],
      });
      assertRefused(
        await sandbox.blessTar(rawTar(map, padded(block.repeat(13_000)))),
        "more than the limit of 262144",
      );
      // A map that is cut off, and one that is longer than the file.
      assertRefused(await sandbox.blessTar(rawTar(map).subarray(0, 512)), "ends");
      const shrunk = rawHeader({
        flag: "S",
        format: "gnu",
        size: 4096,
        patches: [[386, octal(0) + octal(8192)], [483, octal(8192)]],
      });
      const outcome = await sandbox.blessTar(rawTar(shrunk, padded("x".repeat(4096))));
      assert("error" in outcome);
    });
  });
}

Deno.test("CVE-2019-9923: sparse headers without a map, or with half of one, are refused or empty", async () => {
  await withSandbox(async (sandbox) => {
    for (
      const records of [
        [["GNU.sparse.major", "1"], ["GNU.sparse.minor", "0"]],
        [["GNU.sparse.size", "9"], ["GNU.sparse.numblocks", "2"], ["GNU.sparse.map", "0,1,2"]],
        [["GNU.sparse.size", "9"], ["GNU.sparse.offset", "1"]],
        [["GNU.sparse.size", "9"], ["GNU.sparse.map", ","]],
      ] as const
    ) {
      const outcome = await sandbox.blessTar(rawTar(paxHeader(records), rawHeader({})));
      assert("error" in outcome, JSON.stringify(records));
    }
  });
});

for (const cve of ["CVE-2014-9357", "CVE-2026-41567"]) {
  Deno.test(`${cve}: no program is run to inflate a layer`, async () => {
    await withSandbox((sandbox) => {
      const marker = `${sandbox.directory}/outside/was-run`;
      const programs = `${sandbox.directory}/programs`;
      mkdirSync(programs);
      for (const name of ["xz", "unxz", "lzma", "gzip", "pigz", "unpigz", "zstd", "bzip2", "tar"]) {
        writeFileSync(`${programs}/${name}`, `#!/bin/sh\ntouch ${marker}\n`);
        chmodSync(`${programs}/${name}`, 0o755);
      }
      // In a process of its own: PATH is the same for all tests that run at the same time.
      const env = { PATH: `${programs}:${process.env["PATH"]}` };
      const bless = (name: string, bytes: Uint8Array) => {
        const path = `${sandbox.directory}/${name}`;
        writeFileSync(path, bytes);
        return runProgramWith(MAIN, ["bless", `tar:${path}`, "-o", `${path}.ext4`, "-q"], { env });
      };
      const wrong = bless("xz", SAMPLE_XZ);
      assertEquals(wrong.code, 3, `the sample is not a tar: ${wrong.stderr}`);
      const right = bless("gzip", gzipSync(buildTar([{ path: "bin/xz", data: "1" }])));
      assertEquals([right.code, right.stderr], [0, ""]);
      assertEquals(existsSync(marker), false);
      return Promise.resolve();
    });
  });
}

Deno.test("CVE-2021-20291: an xz layer that is cut or damaged anywhere ends in an error, and does not hang", async () => {
  await withSandbox(async (sandbox) => {
    for (let length = 6; length < SAMPLE_XZ.length; length += 13) {
      const outcome = await sandbox.blessTar(SAMPLE_XZ.subarray(0, length));
      assert("error" in outcome, `cut at ${length}`);
    }
    for (let at = 6; at < SAMPLE_XZ.length; at += 17) {
      const damaged = SAMPLE_XZ.slice();
      damaged[at]! ^= 0x55;
      const outcome = await sandbox.blessTar(damaged);
      assert("error" in outcome, `damaged at ${at}`);
    }
  });
});

Deno.test("CVE-2017-14992: zeros behind the end of a tar count as what the layer inflates to", async () => {
  await withSandbox(async (sandbox) => {
    const tar = buildTar([{ path: "f", data: "1" }]);
    const path = `${sandbox.directory}/padded.tar.gz`;
    const zeros = new Uint8Array(8 << 20);
    writeFileSync(path, gzipSync(Buffer.concat([tar, zeros])));
    accepted(await sandbox.bless(`tar:${path}`));
    assertRefused(
      await sandbox.bless(`tar:${path}`, { limits: { unpackedBytes: 1 << 20 } }),
      "inflates to more than 1048576 bytes",
    );
    const ratio = { unpackedRatio: 100, unpackedRatioFloorBytes: 1 << 20 };
    assertRefused(
      await sandbox.bless(`tar:${path}`, { limits: ratio }),
      "inflate to more than 100 times as many",
    );
  });
});

Deno.test("CVE-2017-14992: the same in a compressed archive of an image", async () => {
  await withSandbox(async (sandbox) => {
    const path = `${sandbox.directory}/saved.tar.gz`;
    const zeros = new Uint8Array(8 << 20);
    writeFileSync(path, gzipSync(Buffer.concat([buildTar(oldDockerEntries()), zeros])));
    accepted(await sandbox.bless(`docker-archive:${path}`));
    assertRefused(
      await sandbox.bless(`docker-archive:${path}`, { limits: { unpackedBytes: 1 << 20 } }),
      "inflates to more than 1048576 bytes",
    );
  });
});
