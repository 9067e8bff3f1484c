import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { estimatedBytes, RemoteSink, type SinkOperation } from "../../lib/bless/bless_thread.ts";
import { type Blesser, createBlesser, MemoryBudget } from "../../lib/bless/blesser.ts";
import { blessLayered } from "../../lib/bless/layered.ts";
import { blessMerged } from "../../lib/bless/merged.ts";
import { BlessfsError, InputError, InterruptedError, UsageError } from "../../lib/errors.ts";
import { createFileSink } from "../../lib/io/file_sink.ts";
import type { ImageSink } from "../../lib/io/sink.ts";
import { CONSTANT_SALT } from "../../lib/verity/format.ts";
import { Warnings } from "../../lib/warnings.ts";
import { sampleTar } from "../source/helpers.ts";

const SOURCE = `oci:${new URL("../../fixtures/oci-tiny", import.meta.url).pathname}`;

async function inDirectory(work: (at: (name: string) => string) => Promise<void>): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), "blesser-"));
  try {
    await work((name) => join(directory, name));
  } finally {
    rmSync(directory, { recursive: true });
  }
}

/** A sink that keeps what it is told. */
class Recorder implements ImageSink {
  readonly bytes: Uint8Array[] = [];
  readonly offsets: number[] = [];
  sizeBytes: number | undefined;
  aborts = 0;
  write(bytes: Uint8Array, offset: number): Promise<void> {
    this.bytes.push(bytes.slice());
    this.offsets.push(offset);
    return Promise.resolve();
  }
  finish(sizeBytes: number): void {
    this.sizeBytes = sizeBytes;
  }
  abort(): void {
    this.aborts++;
  }
  image(): Uint8Array {
    const image = new Uint8Array(this.sizeBytes!);
    this.bytes.forEach((bytes, i) => image.set(bytes, this.offsets[i]!));
    return image;
  }
}

async function withBlesser(jobs: number, work: (blesser: Blesser) => Promise<void>): Promise<void> {
  await using blesser = createBlesser({ jobs });
  await work(blesser);
}

Deno.test("a blesser makes the images and reports that calls by themselves make", () =>
  inDirectory(async (at) => {
    const plain = new Recorder();
    const wanted = await blessMerged({ source: SOURCE, sink: plain });
    await withBlesser(2, async (blesser) => {
      const recorder = new Recorder();
      const fileSink = createFileSink(at("merged.ext4"));
      const [inFile, recorded, layered] = await Promise.all([
        blesser.blessMerged({ source: SOURCE, sink: fileSink }),
        blesser.blessMerged({ source: SOURCE, sink: recorder }),
        blesser.blessLayered({ source: SOURCE, outputDir: at("threads") }),
      ]);
      assertEquals([inFile, recorded], [wanted, wanted]);
      assertEquals(recorder.image(), plain.image());
      assertEquals(new Uint8Array(readFileSync(at("merged.ext4"))), plain.image());
      assertEquals(layered, await blessLayered({ source: SOURCE, outputDir: at("plain") }));
      assertEquals(readdirSync(at("threads")), readdirSync(at("plain")));
    });
  }));

Deno.test("a blesser hands over hash sinks, partitions and warnings, and tells how far it is", () =>
  inDirectory(async (at) => {
    writeFileSync(at("odd.tar"), sampleTar().subarray(0, -1024));
    const told: string[] = [];
    const warnings = new Warnings();
    const hashes = new Recorder();
    await withBlesser(1, async (blesser) => {
      const report = await blesser.blessMerged({
        source: `tar:${at("odd.tar")}`,
        sink: new Recorder(),
        layout: { journalBytes: 0 },
        envelope: { verity: { salt: CONSTANT_SALT, hashSink: hashes } },
        warnings,
        progress: {
          begin: (name) => ({ advance: () => {}, end: () => told.push(name) }),
        },
      });
      assertEquals(report.verity?.rootHash.length, 64);
    });
    assert(hashes.sizeBytes! > 0);
    assertEquals(warnings.list().map(({ kind }) => kind), ["missingEndMarker"]);
    assert(told.includes("write"));
  }));

Deno.test("a blesser throws what the call throws, with code, data and cause, and goes on", () =>
  inDirectory(async (at) => {
    await withBlesser(1, async (blesser) => {
      const recorder = new Recorder();
      const missing = await assertRejects(
        () => blesser.blessMerged({ source: "oci:/nowhere", sink: recorder }),
        InputError,
      );
      assertEquals([missing.code, recorder.aborts > 0], ["notFound", true]);
      const strict = await assertRejects(() => {
        writeFileSync(at("odd.tar"), sampleTar().subarray(0, -1024));
        const warnings = new Warnings(true);
        return blesser.blessMerged({ source: `tar:${at("odd.tar")}`, sink: recorder, warnings });
      }, InputError);
      assertEquals(strict.code, "rejectedWarning");
      class Full extends Recorder {
        override write(): Promise<void> {
          return Promise.reject(Object.assign(new Error("no room"), { code: "ENOSPC" }));
        }
      }
      const full = new Full();
      const error = await assertRejects(() => blesser.blessMerged({ source: SOURCE, sink: full }));
      assertEquals([(error as Error).message, full.aborts > 0], ["no room", true]);
      await blesser.blessMerged({ source: SOURCE, sink: createFileSink(at("later.ext4")) });
      assert(existsSync(at("later.ext4")));
    });
  }));

Deno.test("an abort ends calls that run and calls that wait, with the reason of the signal", () =>
  inDirectory(async (at) => {
    await withBlesser(1, async (blesser) => {
      const reason = new Error("the user left");
      const abort = new AbortController();
      class Aborting extends Recorder {
        override write(bytes: Uint8Array, offset: number): Promise<void> {
          abort.abort(reason);
          return super.write(bytes, offset);
        }
      }
      const sinks = [new Aborting(), new Recorder()];
      const { signal } = abort;
      const outcomes = await Promise.allSettled(
        sinks.map((sink) => blesser.blessMerged({ source: SOURCE, sink, signal })),
      );
      for (const outcome of outcomes) {
        assert(outcome.status === "rejected" && outcome.reason instanceof InterruptedError);
        assertEquals(outcome.reason.cause, reason);
      }
      assert(sinks.every(({ aborts, sizeBytes }) => aborts > 0 && sizeBytes === undefined));
      await blesser.blessMerged({ source: SOURCE, sink: createFileSink(at("later.ext4")) });
    });
  }));

Deno.test("the signal of a file's sink ends the call, as it does without a blesser", () =>
  inDirectory(async (at) => {
    await withBlesser(1, async (blesser) => {
      const reason = new Error("the user left");
      for (const isEarly of [true, false]) {
        const abort = new AbortController();
        const sink = createFileSink(at("image.ext4"), { signal: abort.signal });
        if (isEarly) abort.abort(reason);
        const begin = () => {
          abort.abort(reason);
          return { advance: () => {}, end: () => {} };
        };
        const error = await assertRejects(
          () => blesser.blessMerged({ source: SOURCE, sink, progress: { begin } }),
          InterruptedError,
        );
        assertEquals([error.cause, readdirSync(at(""))], [reason, []]);
      }
    });
  }));

Deno.test("close ends what runs, what waits and what comes later", async () => {
  const blesser = createBlesser({ jobs: 1 });
  const closing: Promise<void>[] = [];
  class Closing extends Recorder {
    override write(bytes: Uint8Array, offset: number): Promise<void> {
      closing.push(blesser.close());
      return super.write(bytes, offset);
    }
  }
  const sinks = [new Closing(), new Recorder()];
  const outcomes = await Promise.allSettled(
    sinks.map((sink) => blesser.blessMerged({ source: SOURCE, sink })),
  );
  assertEquals(outcomes.map(({ status }) => status), ["rejected", "rejected"]);
  await Promise.all(closing);
  const late = await assertRejects(
    () => blesser.blessMerged({ source: SOURCE, sink: new Recorder() }),
    BlessfsError,
  );
  assertEquals(late.code, "interrupted");
  await blesser.close();
});

Deno.test("options that no thread can have are refused by name, and all sinks aborted", async () => {
  await withBlesser(1, async (blesser) => {
    const sinks = [new Recorder(), new Recorder()];
    const error = await assertRejects(
      () =>
        blesser.blessMerged({
          source: SOURCE,
          stdin: (async function* () {})(),
          sink: sinks[0]!,
          configSink: sinks[1]!,
        }),
      UsageError,
    );
    assertEquals(error.option, "stdin");
    assertEquals(sinks.map(({ aborts }) => aborts), [1, 1]);
  });
  for (const jobs of [0, -1, 1.5, NaN]) assertThrows(() => createBlesser({ jobs }), UsageError);
  for (const memoryBytes of [0, -1, NaN]) {
    assertThrows(() => createBlesser({ memoryBytes }), UsageError);
  }
});

Deno.test("memory is taken in order, and what never fits goes alone", () => {
  const budget = new MemoryBudget(100);
  const admitted: string[] = [];
  const take = (name: string, bytes: number) => budget.take(bytes, () => admitted.push(name));
  const first = take("first", 60);
  const huge = take("huge", 1000);
  const small = take("small", 10);
  assertEquals(admitted, ["first"]);
  first();
  first();
  assertEquals(admitted, ["first", "huge"]);
  const left = take("left", 90);
  left();
  huge();
  assertEquals(admitted, ["first", "huge", "small"]);
  small();
  take("last", 100);
  assertEquals(admitted, ["first", "huge", "small", "last"]);
  assert(estimatedBytes({ layers: [] }) > 0);
});

Deno.test("RemoteSink sends pieces of 1 MiB with their gaps, few at a time, and fails once", async () => {
  const operations: SinkOperation[] = [];
  const underway: (() => void)[] = [];
  let most = 0;
  const operate = async (operation: SinkOperation) => {
    operations.push(operation);
    if (operation.kind !== "write") return;
    await new Promise<void>((resolve) => {
      underway.push(resolve);
      most = Math.max(most, underway.length);
      if (underway.length >= 3) underway.splice(0).forEach((answer) => answer());
    });
  };
  const sink = new RemoteSink(operate, () => new ArrayBuffer(1 << 20));
  for (let i = 0; i < 9; i++) await sink.write(new Uint8Array(1 << 20).fill(i), i * (3 << 20));
  const finished = sink.finish(30 << 20);
  while (operations.at(-1)?.kind !== "finish") {
    underway.splice(0).forEach((answer) => answer());
    await Promise.resolve();
  }
  await finished;
  assert(most <= 6);
  assertEquals(
    operations.map((operation) => operation.kind === "write" ? operation.offset >> 20 : -1),
    [0, 3, 6, 9, 12, 15, 18, 21, 24, -1],
  );
  const failing = new RemoteSink(
    ({ kind }) => kind === "write" ? Promise.reject(new Error("full")) : Promise.resolve(),
    () => new ArrayBuffer(1 << 20),
  );
  await failing.write(new Uint8Array(1 << 20), 0);
  await assertRejects(async () => await failing.finish(1 << 20), Error, "full");
});

Deno.test("a blesser whose threads cannot start aborts the sink, and listens to no signal afterwards", async () => {
  let listening = 0;
  const { signal } = new AbortController();
  const [add, remove] = [
    signal.addEventListener.bind(signal),
    signal.removeEventListener.bind(signal),
  ];
  signal.addEventListener = (...args: Parameters<typeof add>) => (listening++, add(...args));
  signal.removeEventListener = (...args: Parameters<typeof remove>) => {
    listening--;
    remove(...args);
  };
  await using blesser = createBlesser({ jobs: 1, workerUrl: "not a URL" });
  const sink = new Recorder();
  await assertRejects(() => blesser.blessMerged({ source: SOURCE, sink, signal }), Error);
  assertEquals([sink.aborts, listening], [1, 0]);
});
