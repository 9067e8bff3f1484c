import { assertEquals, assertRejects } from "@std/assert";
import { InputError, IoError } from "../../lib/errors.ts";
import { createInflater } from "../../lib/io/inflate.ts";
import { joinBytes } from "../tar/build.ts";
import { gzipOf, HAS_ZSTD, inflate, SAMPLE, samples, zstdOf } from "./compressed_samples.ts";
import { noise } from "../source/helpers.ts";

Deno.test("gzip data may be followed by zeros, and what else follows is counted and left out", async () => {
  const stored = gzipOf(SAMPLE);
  const zeros = new Uint8Array(1000);
  for (const pieceBytes of [1, 300, 1 << 20]) {
    for (
      const [tail, restBytes] of [
        [[0], 0],
        [[1], 1001],
        [[0, 1], 1001],
        [[0, 0x1f, 0x8b, 8], 1003],
        [[0x1f], 1001],
      ] as const
    ) {
      const told: string[] = [];
      const pieces: Uint8Array[] = [];
      const inflater = createInflater("gzip", {
        name: "it",
        emit: (bytes) => pieces.push(bytes.slice()),
        warn: (kind, _, why) => told.push(`${kind}: ${why}`),
      });
      const bytes = joinBytes([stored, new Uint8Array(tail), zeros]);
      for (let at = 0; at < bytes.length; at += pieceBytes) {
        await inflater.push(bytes.slice(at, at + pieceBytes));
      }
      await inflater.end();
      assertEquals(joinBytes(pieces), SAMPLE);
      const why =
        `${restBytes} bytes that are not gzip data follow the gzip data, and are left out`;
      assertEquals(told, restBytes === 0 ? [] : [`trailingBytes: ${why}`]);
    }
    const begun = joinBytes([stored, new Uint8Array([0x1f, 0x8b])]);
    await assertRejects(() => inflate("gzip", begun, pieceBytes), InputError, "ends too early");
  }
});

Deno.test("gzip headers may have all that there is, and trailers must be right", async () => {
  const stored = gzipOf(SAMPLE);
  const extra = [4, 0, 1, 2, 3, 4];
  const text = [...new TextEncoder().encode("name"), 0, ...new TextEncoder().encode("comment"), 0];
  const header = [0x1f, 0x8b, 8, 0x1e, 0, 0, 0, 0, 0, 3, ...extra, ...text, 0, 0];
  const full = joinBytes([new Uint8Array(header), stored.subarray(10)]);
  for (const pieceBytes of [1, 7, 1 << 20]) {
    assertEquals(await inflate("gzip", full, pieceBytes), SAMPLE);
  }
  for (const [at, message] of [[8, "data check"], [4, "length check"]] as const) {
    const wrong = stored.slice();
    wrong[stored.length - at]! ^= 1;
    await assertRejects(() => inflate("gzip", wrong), InputError, message);
  }
});

Deno.test("TransformInflater stops at what its receiver throws, and says just that", async () => {
  for (const [kind, stored] of samples()) {
    const full = new IoError("disk", "is full");
    const inflater = createInflater(kind, {
      name: "sample",
      emit: () => {
        throw full;
      },
    });
    const error = await assertRejects(async () => {
      await inflater.push(stored);
      await inflater.end();
    });
    assertEquals(error, full);
    await assertRejects(() => inflater.push(stored));
    inflater.close();
    inflater.close();
  }
});

Deno.test("TransformInflater tells of a fault in what came out before that of what follows", async () => {
  const fault = new InputError("tar", "is not a tar");
  const tails: [what: string, tail: readonly number[]][] = [
    ["data after padding", [0, 0, 7]],
    ["damage", [0x1f, 0x8b, 8, 0xff]],
    ["another magic", [0x28, 0xb5, 0x2f, 0xfd, 0xff, 0xff]],
  ];
  for (const [kind, stored] of samples()) {
    if (kind === "xz") continue;
    for (const [what, tail] of tails) {
      const inflater = createInflater(kind, {
        name: "sample",
        emit: () => {
          throw fault;
        },
      });
      const error = await assertRejects(async () => {
        await inflater.push(stored);
        await inflater.push(new Uint8Array(tail));
        await inflater.end();
      });
      assertEquals(error, fault, `${kind}: ${what}`);
      inflater.close();
    }
    const cut = createInflater(kind, {
      name: "sample",
      emit: () => {
        throw fault;
      },
    });
    const error = await assertRejects(async () => {
      await cut.push(stored.subarray(0, stored.length - 1));
      await cut.end();
    });
    assertEquals(error, fault, `${kind}: cut`);
    cut.close();
  }
});

Deno.test("TransformInflater ends with what its receiver throws at any chunk, wherever the decoder is then", async () => {
  const plain = noise(4_000_000);
  for (const [kind, stored] of [["gzip", gzipOf(plain)], ...zstdSamples(plain)] as const) {
    for (const pieceBytes of [300_000, 1 << 20, 8 << 20]) {
      for (let failing = 0; failing < 4; failing++) {
        let emitted = 0;
        const inflater = createInflater(kind, {
          name: "sample",
          emit: () => {
            if (emitted++ === failing) throw new IoError("disk", "is full");
          },
        });
        await assertRejects(
          async () => {
            for (let at = 0; at < stored.length; at += pieceBytes) {
              await inflater.push(stored.subarray(at, at + pieceBytes));
            }
            await inflater.end();
          },
          IoError,
          "is full",
        );
        inflater.close();
        assertEquals(emitted, failing + 1);
      }
    }
  }
});

function zstdSamples(plain: Uint8Array): ["zstd", Uint8Array][] {
  return HAS_ZSTD ? [["zstd", zstdOf(plain)]] : [];
}
