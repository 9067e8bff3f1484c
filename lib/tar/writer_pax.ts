/**
 * Writes the records of a PAX extended header (POSIX.1-2017 pax, "pax Extended Header").
 *
 * @module
 */
import type { ByteString } from "../bytes/byte_string.ts";
import { bytesFromByteString } from "../bytes/byte_string.ts";

/** Collects `LENGTH KEY=VALUE\n` records. */
export class PaxRecordWriter {
  readonly #parts: Uint8Array[] = [];
  #sizeBytes = 0;

  /** Adds a record. The key holds no `=` and no NUL; a value may be any bytes. */
  add(key: ByteString, value: ByteString | Uint8Array): void {
    const valueBytes = typeof value === "string" ? bytesFromByteString(value) : value;
    const restSizeBytes = key.length + valueBytes.length + 3; // the space, the '=' and the newline
    // The length counts its own digits, and they may become one more by that.
    let lengthBytes = restSizeBytes + `${restSizeBytes}`.length;
    lengthBytes = restSizeBytes + `${lengthBytes}`.length;
    const record = new Uint8Array(lengthBytes);
    const start = bytesFromByteString(`${lengthBytes} ${key}=`);
    record.set(start);
    record.set(valueBytes, start.length);
    record[lengthBytes - 1] = 0x0a;
    this.#parts.push(record);
    this.#sizeBytes += lengthBytes;
  }

  /** All records so far. */
  bytes(): Uint8Array<ArrayBuffer> {
    const bytes = new Uint8Array(this.#sizeBytes);
    let at = 0;
    for (const part of this.#parts) {
      bytes.set(part, at);
      at += part.length;
    }
    return bytes;
  }
}
