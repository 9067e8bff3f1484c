/**
 * Builds small ELF files: headers and a dynamic section, no code.
 *
 * @module
 */

/** What a file asks of the dynamic linker. */
export interface ElfSpec {
  readonly bits?: 64 | 32;
  readonly isLittle?: boolean;
  readonly machine?: number;
  readonly interpreter?: string;
  readonly needed?: readonly string[];
  readonly rpath?: string;
  readonly runpath?: string;
}

const X86_64 = 62;
/** Where the file is loaded. */
const ADDRESS = 0x40_0000;

/** An ELF file. */
export function buildElf(spec: ElfSpec = {}): Uint8Array<ArrayBuffer> {
  const { bits = 64, isLittle = true, machine = X86_64, interpreter, needed = [] } = spec;
  const is64 = bits === 64;
  const bytes = new Uint8Array(4096);
  const view = new DataView(bytes.buffer);
  const wide = (at: number, value: number) =>
    is64 ? view.setBigUint64(at, BigInt(value), isLittle) : view.setUint32(at, value, isLittle);
  const text = (at: number, value: string) => bytes.set(new TextEncoder().encode(`${value}\0`), at);
  bytes.set([0x7f, 0x45, 0x4c, 0x46, is64 ? 2 : 1, isLittle ? 1 : 2, 1]);
  view.setUint16(16, 3, isLittle);
  view.setUint16(18, machine, isLittle);
  const [headerBytes, segmentBytes] = is64 ? [64, 56] : [52, 32];
  wide(is64 ? 32 : 28, headerBytes);
  const [interpreterAt, dynamicAt, stringsAt] = [1024, 2048, 3072];
  let stringBytes = 1;
  const stringOf = (value: string) => {
    const at = stringBytes;
    text(stringsAt + at, value);
    stringBytes += new TextEncoder().encode(value).length + 1;
    return at;
  };
  const entries: [tag: number, value: number][] = needed.map((name) => [1, stringOf(name)]);
  if (spec.rpath !== undefined) entries.push([15, stringOf(spec.rpath)]);
  if (spec.runpath !== undefined) entries.push([29, stringOf(spec.runpath)]);
  entries.push([5, ADDRESS + stringsAt], [10, stringBytes], [0, 0]);
  entries.forEach(([tag, value], i) => {
    wide(dynamicAt + i * bits / 4, tag);
    wide(dynamicAt + i * bits / 4 + bits / 8, value);
  });
  const segments: [type: number, offset: number, sizeBytes: number][] = [
    [1, 0, bytes.length],
    [2, dynamicAt, entries.length * bits / 4],
  ];
  if (interpreter !== undefined) {
    text(interpreterAt, interpreter);
    segments.push([3, interpreterAt, interpreter.length + 1]);
  }
  view.setUint16(is64 ? 54 : 42, segmentBytes, isLittle);
  view.setUint16(is64 ? 56 : 44, segments.length, isLittle);
  segments.forEach(([type, offset, sizeBytes], i) => {
    const at = headerBytes + i * segmentBytes;
    view.setUint32(at, type, isLittle);
    wide(at + (is64 ? 8 : 4), offset);
    wide(at + (is64 ? 16 : 8), ADDRESS + offset);
    wide(at + (is64 ? 32 : 16), sizeBytes);
  });
  return bytes;
}

/** /etc/ld.so.cache, in glibc's format alone, or behind the older one. */
export function buildLinkerCache(
  entries: readonly (readonly [name: string, path: string, hwcap?: bigint])[],
  isBehindOld = false,
): Uint8Array<ArrayBuffer> {
  const encoder = new TextEncoder();
  const start = isBehindOld ? 32 : 0;
  const bytes = new Uint8Array(start + 4096);
  const view = new DataView(bytes.buffer);
  if (isBehindOld) {
    bytes.set(encoder.encode("ld.so-1.7.0"));
    view.setUint32(12, 1, true);
  }
  bytes.set(encoder.encode("glibc-ld.so.cache1.1"), start);
  view.setUint32(start + 20, entries.length, true);
  let stringsAt = 48 + entries.length * 24;
  const stringOf = (value: string) => {
    const at = stringsAt;
    bytes.set(encoder.encode(`${value}\0`), start + at);
    stringsAt += value.length + 1;
    return at;
  };
  entries.forEach(([name, path, hwcap = 0n], i) => {
    const at = start + 48 + i * 24;
    view.setInt32(at, 0x303, true);
    view.setUint32(at + 4, stringOf(name), true);
    view.setUint32(at + 8, stringOf(path), true);
    view.setBigUint64(at + 16, hwcap, true);
  });
  return bytes;
}
