/**
 * From what is written behind `--store` to a store.
 *
 * @module
 */
import { optionError } from "../errors.ts";
import { type CertificateFiles, readCertificates } from "../io/http_fetch.ts";
import { displayPath } from "../io/system_error.ts";
import { type Environment, readAwsSettings } from "./aws_settings.ts";
import type { ChunkStore } from "./chunk_store.ts";
import { DirectoryStore } from "./directory_store.ts";
import { isS3Address, parseS3Address } from "./s3_request.ts";
import { S3Store } from "./s3_store.ts";

/** What opening a store needs. */
export interface OpenStoreOptions {
  /** Where the keys for S3 are looked for first. */
  readonly env: Environment;
  /** Ends requests that are under way. */
  readonly signal?: AbortSignal | undefined;
  /** Make a directory that does not exist: without it, a name that is typed wrong is an error. Default false. */
  readonly createStore?: boolean | undefined;
  /** Certificates for S3, beside those that everybody trusts. */
  readonly certificates?: CertificateFiles | undefined;
}

/**
 * Opens a directory or `s3+https://HOST/BUCKET/PREFIX`, and looks whether it can be used.
 *
 * @throws {UsageError} when it is written wrong, or there are no keys for it
 * @throws {IoError} when it cannot be used
 */
export async function openChunkStore(
  text: string,
  options: OpenStoreOptions,
): Promise<ChunkStore> {
  const store = await newStore(text, options);
  await store.open();
  return store;
}

async function newStore(text: string, options: OpenStoreOptions): Promise<ChunkStore> {
  const { env, signal, createStore = false, certificates = {} } = options;
  if (text.includes("\ufffd")) {
    throw optionError("store", `${displayPath(text)} is not UTF-8: such names are not supported`);
  }
  if (isS3Address(text)) {
    // A wrong address is reported before keys are looked for.
    parseS3Address(text);
    const connection = { environment: env, certificates: readCertificates(certificates) };
    return new S3Store(text, { settings: await readAwsSettings(env), signal, connection });
  }
  const scheme = /^([A-Za-z][A-Za-z0-9+.-]*):\/\//.exec(text)?.[1];
  if (scheme === undefined) return new DirectoryStore(text, { signal, mustExist: !createStore });
  throw optionError("store", `${scheme}:// is not a store that can be written to`, {
    hint: "name a directory, or s3+https://HOST/BUCKET/PREFIX",
  });
}
