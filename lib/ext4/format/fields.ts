/**
 * Field tables: an on-disk structure as an object with one codec per field, in the order of the specification.
 * Everything is little-endian. The compiler checks that a table has a codec for every field of its interface.
 *
 * @module
 */
import { InputError, invariant } from "../../errors.ts";

/** How one field is read and written. Offsets are in bytes from the start of the structure. */
export interface Field<V> {
  readonly offset: number;
  /** Reads the field; throws InputError for a number that a JavaScript number cannot hold exactly. */
  read(structure: Structure): V;
  /** Writes the field; a value that does not fit is a bug in the program. */
  write(structure: Structure, value: V, name: string): void;
}

/** The location of a structure. Structures share a view, since creating a view costs more than reading a structure. */
export interface Structure {
  readonly view: DataView<ArrayBufferLike>;
  at: number;
  /** How many bytes of fields it has: fields beyond them read as neutral and cannot be written. */
  sizeBytes: number;
}

/** One codec for each field of `T`, in specification order. */
export type FieldTable<T> = { readonly [K in keyof T]: Field<T[K]> };

export function viewOf(bytes: Uint8Array): DataView<ArrayBufferLike> {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

export function u8(offset: number): Field<number> {
  return whole({ offset, sizeBytes: 1 });
}

export function u16(offset: number): Field<number> {
  return whole({ offset, sizeBytes: 2 });
}

export function u32(offset: number): Field<number> {
  return whole({ offset, sizeBytes: 4 });
}

/** An unsigned 32-bit big-endian number, as in a journal. */
export function u32BigEndian(offset: number): Field<number> {
  return {
    offset,
    read: ({ view, at }) => view.getUint32(at + offset),
    write: ({ view, at }, value, name) =>
      view.setUint32(at + offset, fitting(value, 0xffffffff, name)),
  };
}

export function i16(offset: number): Field<number> {
  return {
    offset,
    read: ({ view, at }) => view.getInt16(at + offset, true),
    write({ view, at }, value, name) {
      const fits = Number.isInteger(value) && value >= -0x8000 && value <= 0x7fff;
      invariant(fits, `${name} = ${value} is not a signed 16-bit number`);
      view.setInt16(at + offset, value, true);
    },
  };
}

/** An unsigned 64-bit number that fits a JavaScript number. */
export function u64(offset: number): Field<number> {
  return u32WithHigh(offset, offset + 4, 4);
}

/** A 32-bit low half, and a high part of 1, 2 or 4 bytes elsewhere. */
export function u32WithHigh(
  lowOffset: number,
  highOffset: number,
  highSizeBytes: 1 | 2 | 4,
): Field<number> {
  const high = { offset: highOffset, sizeBytes: highSizeBytes };
  return split({ offset: lowOffset, sizeBytes: 4 }, high);
}

/** A 16-bit low half and a 16-bit high half. */
export function u16WithHigh(lowOffset: number, highOffset: number): Field<number> {
  return split({ offset: lowOffset, sizeBytes: 2 }, { offset: highOffset, sizeBytes: 2 });
}

export function bytes(offset: number, sizeBytes: number): Field<Uint8Array> {
  return {
    offset,
    read: (structure) => bytesOf(structure, offset, sizeBytes).slice(),
    write({ view, at }, value, name) {
      if (value.length !== sizeBytes) {
        invariant(false, `${name} has ${value.length} bytes, not ${sizeBytes}`);
      }
      // Byte by byte: for so few bytes, creating an array takes longer, and every inode has them.
      for (let i = 0; i < sizeBytes; i++) view.setUint8(at + offset + i, value[i]!);
    },
  };
}

/** Up to `sizeBytes` bytes, padded with zeros on disk; trailing zeros are not part of the value. */
export function paddedBytes(offset: number, sizeBytes: number): Field<Uint8Array> {
  return {
    offset,
    read(structure) {
      const whole = bytesOf(structure, offset, sizeBytes);
      let length = sizeBytes;
      while (length > 0 && whole[length - 1] === 0) length--;
      return whole.slice(0, length);
    },
    write(structure, value, name) {
      invariant(value.length <= sizeBytes, `${name} has ${value.length} bytes, over ${sizeBytes}`);
      const whole = bytesOf(structure, offset, sizeBytes);
      whole.fill(0);
      whole.set(value);
    },
  };
}

/** `count` consecutive unsigned 32-bit numbers. */
export function u32Array(offset: number, count: number): Field<readonly number[]> {
  const words = Array.from({ length: count }, (_, i) => u32(offset + 4 * i));
  return {
    offset,
    read: (structure) => words.map((word) => word.read(structure)),
    write(structure, value, name) {
      invariant(value.length === count, `${name} has ${value.length} numbers, not ${count}`);
      words.forEach((word, i) => word.write(structure, value[i] ?? 0, name));
    },
  };
}

/** A number missing from older and shorter structures: it reads as 0 there, and must be 0. */
export function optional(field: Field<number>, sizeBytes: number): Field<number> {
  const { offset } = field;
  return {
    offset,
    read: (structure) => offset + sizeBytes <= structure.sizeBytes ? field.read(structure) : 0,
    write(structure, value, name) {
      if (offset + sizeBytes <= structure.sizeBytes) field.write(structure, value, name);
      else if (value !== 0) {
        invariant(false, `${name} is past the ${structure.sizeBytes} bytes of its structure`);
      }
    },
  };
}

/** No structure is longer than this. */
const ZEROS = new Uint8Array(1024);

/** An object whose fields all have the value that zeros give. */
export function neutralFields<T extends object>(table: FieldTable<T>): T {
  return readFields(table, ZEROS);
}

function structureOf(bytes: Uint8Array): Structure {
  return { view: viewOf(bytes), at: 0, sizeBytes: bytes.length };
}

export function readFields<T extends object>(
  table: FieldTable<T>,
  bytes: Uint8Array,
  structure = structureOf(bytes),
): T {
  const record: Partial<T> = {};
  for (const name in table) record[name] = table[name].read(structure);
  return record as T;
}

/** Writes every field of a structure; bytes that belong to no field are unchanged. */
export function writeFields<T extends object>(
  table: FieldTable<T>,
  bytes: Uint8Array,
  record: Readonly<T>,
  structure = structureOf(bytes),
): void {
  for (const name in table) table[name].write(structure, record[name], name);
}

interface Part {
  readonly offset: number;
  readonly sizeBytes: 1 | 2 | 4;
}

function whole(part: Part): Field<number> {
  const max = 2 ** (8 * part.sizeBytes) - 1;
  return {
    offset: part.offset,
    read: ({ view, at }) => readPart(view, at, part),
    write: ({ view, at }, value, name) => writePart(view, at, part, fitting(value, max, name)),
  };
}

/** A number in two parts. A structure too short for the high part (a 32-byte group descriptor) has only the low one. */
function split(low: Part, high: Part): Field<number> {
  const lowRange = 2 ** (8 * low.sizeBytes);
  const max = Math.min(lowRange * 2 ** (8 * high.sizeBytes) - 1, Number.MAX_SAFE_INTEGER);
  return {
    offset: low.offset,
    read({ view, at, sizeBytes }) {
      const lowValue = readPart(view, at, low);
      if (high.offset >= sizeBytes) return lowValue;
      const highValue = readPart(view, at, high);
      const value = highValue * lowRange + lowValue;
      if (value <= max) return value;
      const exact = BigInt(highValue) * BigInt(lowRange) + BigInt(lowValue);
      throw new InputError(
        `number at offset ${low.offset} of the structure`,
        `${exact} is over ${max}`,
        { data: { offset: low.offset } },
      );
    },
    write({ view, at, sizeBytes }, value, name) {
      const isWhole = high.offset < sizeBytes;
      const fitted = fitting(value, isWhole ? max : lowRange - 1, name);
      writePart(view, at, low, fitted % lowRange);
      if (isWhole) writePart(view, at, high, Math.floor(fitted / lowRange));
    },
  };
}

function readPart(view: DataView<ArrayBufferLike>, start: number, part: Part): number {
  const at = start + part.offset;
  if (part.sizeBytes === 4) return view.getUint32(at, true);
  return part.sizeBytes === 2 ? view.getUint16(at, true) : view.getUint8(at);
}

function writePart(
  view: DataView<ArrayBufferLike>,
  start: number,
  part: Part,
  value: number,
): void {
  const at = start + part.offset;
  if (part.sizeBytes === 4) view.setUint32(at, value, true);
  else if (part.sizeBytes === 2) view.setUint16(at, value, true);
  else view.setUint8(at, value);
}

/** Build the message only when needed: this runs for every field of every inode. */
function fitting(value: number, max: number, name: string): number {
  if (!(Number.isInteger(value) && value >= 0 && value <= max)) {
    invariant(false, `${name} = ${value} is not a whole number between 0 and ${max}`);
  }
  return value;
}

function bytesOf({ view, at }: Structure, offset: number, sizeBytes: number): Uint8Array {
  return new Uint8Array(view.buffer, view.byteOffset + at + offset, sizeBytes);
}
