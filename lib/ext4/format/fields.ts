/**
 * Field tables: an on-disk structure as an object with one codec a field, in the order of the specification.
 * Everything is little-endian. The compiler checks that a table has a codec for every field of its interface.
 *
 * @module
 */
import { InputError, invariant } from "../../errors.ts";

/** How one field is read and written. Offsets are in bytes from the start of the structure. */
export interface Field<V> {
  /** The value of an untouched field: 0, zeros, nothing. */
  neutral(): V;
  /** Reads the field; throws InputError for a number that a JavaScript number cannot hold exactly. */
  read(view: DataView<ArrayBufferLike>): V;
  /** Writes the field; a value that does not fit is a fault of the program. */
  write(view: DataView<ArrayBufferLike>, value: V, name: string): void;
}

/** One codec for each field of `T`, in spec order. */
export type FieldTable<T> = { readonly [K in keyof T]: Field<T[K]> };

/** A view of exactly these bytes. */
export function viewOf(bytes: Uint8Array): DataView<ArrayBufferLike> {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** An unsigned byte. */
export function u8(offset: number): Field<number> {
  return {
    neutral: () => 0,
    read: (view) => view.getUint8(offset),
    write: (view, value, name) => view.setUint8(offset, fitting(value, 0xff, name)),
  };
}

/** An unsigned 16-bit number. */
export function u16(offset: number): Field<number> {
  return {
    neutral: () => 0,
    read: (view) => view.getUint16(offset, true),
    write: (view, value, name) => view.setUint16(offset, fitting(value, 0xffff, name), true),
  };
}

/** A signed 16-bit number. */
export function i16(offset: number): Field<number> {
  return {
    neutral: () => 0,
    read: (view) => view.getInt16(offset, true),
    write(view, value, name) {
      invariant(
        Number.isInteger(value) && value >= -0x8000 && value <= 0x7fff,
        `${name} = ${value} is not a signed 16-bit number`,
      );
      view.setInt16(offset, value, true);
    },
  };
}

/** An unsigned 32-bit number. */
export function u32(offset: number): Field<number> {
  return {
    neutral: () => 0,
    read: (view) => view.getUint32(offset, true),
    write: (view, value, name) => view.setUint32(offset, fitting(value, 0xffffffff, name), true),
  };
}

/** An unsigned 64-bit number that is small enough to be a JavaScript number. */
export function u64(offset: number): Field<number> {
  return u32WithHigh(offset, offset + 4, 4);
}

/** A 32-bit low half and a high part of 1, 2 or 4 bytes somewhere else. */
export function u32WithHigh(
  lowOffset: number,
  highOffset: number,
  highSizeBytes: 1 | 2 | 4,
): Field<number> {
  return split({ offset: lowOffset, sizeBytes: 4 }, {
    offset: highOffset,
    sizeBytes: highSizeBytes,
  });
}

/** A 16-bit low half and a 16-bit high half. */
export function u16WithHigh(lowOffset: number, highOffset: number): Field<number> {
  return split({ offset: lowOffset, sizeBytes: 2 }, { offset: highOffset, sizeBytes: 2 });
}

/** Exactly `sizeBytes` bytes. */
export function bytes(offset: number, sizeBytes: number): Field<Uint8Array> {
  return {
    neutral: () => new Uint8Array(sizeBytes),
    read: (view) => bytesOf(view, offset, sizeBytes).slice(),
    write(view, value, name) {
      invariant(value.length === sizeBytes, `${name} has ${value.length} bytes, not ${sizeBytes}`);
      bytesOf(view, offset, sizeBytes).set(value);
    },
  };
}

/** Up to `sizeBytes` bytes, padded with zeros on disk; zeros at the end are not part of the value. */
export function paddedBytes(offset: number, sizeBytes: number): Field<Uint8Array> {
  return {
    neutral: () => new Uint8Array(0),
    read(view) {
      const whole = bytesOf(view, offset, sizeBytes);
      let length = sizeBytes;
      while (length > 0 && whole[length - 1] === 0) length--;
      return whole.slice(0, length);
    },
    write(view, value, name) {
      invariant(value.length <= sizeBytes, `${name} has ${value.length} bytes, over ${sizeBytes}`);
      const whole = bytesOf(view, offset, sizeBytes);
      whole.fill(0);
      whole.set(value);
    },
  };
}

/** `count` unsigned 32-bit numbers in a row. */
export function u32Array(offset: number, count: number): Field<readonly number[]> {
  const words = Array.from({ length: count }, (_, i) => u32(offset + 4 * i));
  return {
    neutral: () => words.map(() => 0),
    read: (view) => words.map((word) => word.read(view)),
    write(view, value, name) {
      invariant(value.length === count, `${name} has ${value.length} numbers, not ${count}`);
      words.forEach((word, i) => word.write(view, value[i] ?? 0, name));
    },
  };
}

/** An object in which every field has its neutral value. */
export function neutralFields<T extends object>(table: FieldTable<T>): T {
  const record: Partial<T> = {};
  for (const name in table) record[name] = table[name].neutral();
  return record as T;
}

/** Reads every field of a structure. */
export function readFields<T extends object>(table: FieldTable<T>, structure: Uint8Array): T {
  const view = viewOf(structure);
  const record: Partial<T> = {};
  for (const name in table) record[name] = table[name].read(view);
  return record as T;
}

/** Writes every field of a structure; bytes that no field names are left as they are. */
export function writeFields<T extends object>(
  table: FieldTable<T>,
  structure: Uint8Array,
  record: Readonly<T>,
): void {
  const view = viewOf(structure);
  for (const name in table) table[name].write(view, record[name], name);
}

interface Part {
  readonly offset: number;
  readonly sizeBytes: 1 | 2 | 4;
}

/** A number in two parts. A structure too short for the high part (a 32-byte group descriptor) has only the low one. */
function split(low: Part, high: Part): Field<number> {
  const lowRange = 2 ** (8 * low.sizeBytes);
  const max = Math.min(lowRange * 2 ** (8 * high.sizeBytes) - 1, Number.MAX_SAFE_INTEGER);
  return {
    neutral: () => 0,
    read(view) {
      const lowValue = readPart(view, low);
      if (high.offset >= view.byteLength) return lowValue;
      const value = readPart(view, high) * lowRange + lowValue;
      if (value <= max) return value;
      throw new InputError(
        `number at offset ${low.offset} of the structure`,
        `${value} is over ${max}`,
        { data: { offset: low.offset } },
      );
    },
    write(view, value, name) {
      const isWhole = high.offset < view.byteLength;
      const fitted = fitting(value, isWhole ? max : lowRange - 1, name);
      writePart(view, low, fitted % lowRange);
      if (isWhole) writePart(view, high, Math.floor(fitted / lowRange));
    },
  };
}

function readPart(view: DataView<ArrayBufferLike>, part: Part): number {
  if (part.sizeBytes === 4) return view.getUint32(part.offset, true);
  return part.sizeBytes === 2 ? view.getUint16(part.offset, true) : view.getUint8(part.offset);
}

function writePart(view: DataView<ArrayBufferLike>, part: Part, value: number): void {
  if (part.sizeBytes === 4) view.setUint32(part.offset, value, true);
  else if (part.sizeBytes === 2) view.setUint16(part.offset, value, true);
  else view.setUint8(part.offset, value);
}

function fitting(value: number, max: number, name: string): number {
  invariant(
    Number.isInteger(value) && value >= 0 && value <= max,
    `${name} = ${value} is not a whole number between 0 and ${max}`,
  );
  return value;
}

function bytesOf(
  view: DataView<ArrayBufferLike>,
  offset: number,
  sizeBytes: number,
): Uint8Array<ArrayBufferLike> {
  return new Uint8Array(view.buffer, view.byteOffset + offset, sizeBytes);
}
