/**
 * Options that another thread works with. What is plain data is copied; sinks, readers and callbacks stay where they are, or
 * are made again there.
 *
 * @module
 */
import { optionError } from "../errors.ts";
import { createFileSink, type FileSinkFacts, fileSinkFacts } from "../io/file_sink.ts";
import { memoryReader, type RandomReader, readExactly } from "../io/random_reader.ts";
import type { ImageSink } from "../io/sink.ts";

/** What stands in for something that cannot be copied. */
type StandIn =
  | { readonly standIn: "sink"; readonly index: number }
  | { readonly standIn: "fileSink"; readonly facts: FileSinkFacts }
  | { readonly standIn: "reader"; readonly name: string; readonly bytes: Uint8Array }
  | { readonly standIn: "callback"; readonly index: number };

/** Options as plain data, and what stayed here. */
export interface HandedOver {
  readonly plain: unknown;
  /** The sinks that the thread writes through. */
  readonly sinks: readonly ImageSink[];
  /** The functions that the thread calls without an answer. */
  readonly callbacks: readonly ((...args: unknown[]) => unknown)[];
}

/** Callbacks whose answer nobody waits for. */
const CALLBACKS: readonly string[] = ["onUnreadable"];

/**
 * Makes options fit to be posted.
 *
 * @throws {UsageError} for what no other thread can have, naming the option
 */
export function handOver(options: object): HandedOver {
  const sinks: ImageSink[] = [];
  const callbacks: ((...args: unknown[]) => unknown)[] = [];
  const convert = (value: unknown, key: string): unknown => {
    if (typeof value === "function") {
      if (!CALLBACKS.includes(key)) throw notPlain(key);
      return { standIn: "callback", index: callbacks.push(value as () => unknown) - 1 };
    }
    if (value instanceof URL) return value.href;
    if (typeof value !== "object" || value === null || ArrayBuffer.isView(value)) return value;
    if (isSink(value)) {
      const facts = fileSinkFacts(value);
      if (facts !== undefined) return { standIn: "fileSink", facts };
      return { standIn: "sink", index: sinks.push(value) - 1 };
    }
    if (isReader(value)) return { standIn: "reader", name: value.name, bytes: bytesOf(value) };
    if (Array.isArray(value)) return value.map((item) => convert(item, key));
    const prototype = Object.getPrototypeOf(value);
    if (prototype !== null && Object.getPrototypeOf(prototype) !== null) throw notPlain(key);
    return Object.fromEntries(
      Object.entries(value).map(([name, item]) => [name, convert(item, name)]),
    );
  };
  return { plain: convert(options, ""), sinks, callbacks };
}

/** What the thread needs to use what stayed behind. */
export interface Surrogates {
  sink(index: number): ImageSink;
  callback(index: number): (...args: unknown[]) => void;
  readonly signal: AbortSignal;
}

/** Builds options again from what {@linkcode handOver} made of them. */
export function takeOver(plain: unknown, surrogates: Surrogates): unknown {
  if (typeof plain !== "object" || plain === null || ArrayBuffer.isView(plain)) return plain;
  if (Array.isArray(plain)) return plain.map((item) => takeOver(item, surrogates));
  if ("standIn" in plain) {
    const found = plain as StandIn;
    switch (found.standIn) {
      case "sink":
        return surrogates.sink(found.index);
      case "fileSink":
        return createFileSink(found.facts.path, { ...found.facts, signal: surrogates.signal });
      case "reader":
        return memoryReader(found.bytes, found.name);
      case "callback":
        return surrogates.callback(found.index);
    }
  }
  return Object.fromEntries(
    Object.entries(plain).map(([name, item]) => [name, takeOver(item, surrogates)]),
  );
}

function notPlain(option: string): Error {
  return optionError(option, "cannot be handed to a thread of a blesser", {
    hint: "call blessMerged() or blessLayered() itself",
  });
}

function isSink(value: object): value is ImageSink {
  const { write, finish, abort } = value as Partial<ImageSink>;
  return [write, finish, abort].every((method) => typeof method === "function");
}

function isReader(value: object): value is RandomReader {
  return typeof (value as Partial<RandomReader>).readAt === "function";
}

/** Readers are of what is small beside an image: an EFI system partition, a signature. */
function bytesOf(reader: RandomReader): Uint8Array {
  const bytes = new Uint8Array(reader.sizeBytes);
  readExactly(reader, bytes, 0);
  return bytes;
}
