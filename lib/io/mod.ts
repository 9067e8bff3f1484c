/**
 * Where images are written to and payload is read from.
 *
 * @module
 */
export { descriptorReader, memoryReader, readExactly } from "./random_reader.ts";
export type { RandomReader, ReaderParts, SharedDescriptor } from "./random_reader.ts";
export { MemorySink, readerOf, toWritable } from "./streams.ts";
export type { AsyncReader, BytesSource, ReaderOptions } from "./streams.ts";
export { createFileSink } from "./file_sink.ts";
export type { FileOperations, FileSinkOptions, WriterOperations } from "./file_sink.ts";
export type { OutputOptions } from "./paths.ts";
export { createDeviceSink } from "./device_sink.ts";
export type { DeviceOperations, DeviceSink, DeviceSinkOptions, ZeroedBy } from "./device_sink.ts";
export { createStdoutSink, nullSink, teeSink } from "./sink.ts";
export type { ImageSink, StreamWriter } from "./sink.ts";
export type { ThreadOptions } from "./thread.ts";
export type { CertificateFiles } from "../io/http_fetch.ts";
