/**
 * The interface to a database: statements with `?` placeholders, and transactions. SQLite serves one host, PostgreSQL
 * many.
 *
 * @module
 */

export type Value = string | number | null | Uint8Array;

/** A row, keyed by column name. */
export type Row = Readonly<Record<string, Value>>;

export interface Session {
  /** Runs one statement and returns its rows. */
  run(sql: string, values?: readonly Value[]): Promise<readonly Row[]>;
}

export interface Database extends Session {
  /** The necessary differences between the SQL dialects. */
  readonly dialect: Dialect;
  /**
   * Runs the work as one transaction. Its changes are on disk when the promise resolves; if the work throws, nothing is
   * changed.
   */
  transaction<T>(work: (session: Session) => Promise<T>): Promise<T>;
  /** Whether an error means that the database is temporarily unavailable. */
  isOutage(error: unknown): boolean;
  close(): Promise<void>;
}

/** The parts that SQLite and PostgreSQL write differently. */
export interface Dialect {
  readonly name: "sqlite" | "postgres";
  /** Milliseconds since 1970 by the database's clock, which all hosts share. */
  readonly now: string;
  /** The type of an auto-incrementing column. */
  readonly serial: string;
  readonly bytes: string;
  /** Ends a SELECT that locks its rows and skips rows locked by other transactions. */
  readonly skipLocked: string;
  /** Ends a SELECT that locks its rows until this transaction ends. */
  readonly lockRows: string;
}

export function schemaStatements({ serial, bytes }: Dialect): readonly string[] {
  return [
    `CREATE TABLE IF NOT EXISTS jobs (
      id TEXT PRIMARY KEY,
      request_key TEXT NOT NULL,
      job_key TEXT,
      source TEXT NOT NULL,
      mode TEXT NOT NULL,
      options TEXT NOT NULL,
      priority INTEGER NOT NULL,
      state TEXT NOT NULL,
      same_as TEXT,
      created_ms BIGINT NOT NULL,
      started_ms BIGINT,
      finished_ms BIGINT,
      not_before_ms BIGINT NOT NULL DEFAULT 0,
      attempts INTEGER NOT NULL DEFAULT 0,
      runs INTEGER NOT NULL DEFAULT 0,
      owner TEXT,
      lease_until_ms BIGINT,
      cancel_requested INTEGER NOT NULL DEFAULT 0,
      manifest_digest TEXT,
      image_digest TEXT,
      error TEXT,
      progress TEXT,
      seconds TEXT,
      state_ms BIGINT NOT NULL,
      traceparent TEXT NOT NULL
    )`,
    // At most one active job for equal requests, and one for equal work.
    `CREATE UNIQUE INDEX IF NOT EXISTS jobs_request ON jobs (request_key)
      WHERE finished_ms IS NULL AND same_as IS NULL`,
    `CREATE UNIQUE INDEX IF NOT EXISTS jobs_key ON jobs (job_key)
      WHERE job_key IS NOT NULL AND finished_ms IS NULL AND same_as IS NULL`,
    `CREATE INDEX IF NOT EXISTS jobs_queue ON jobs (priority DESC, runs, created_ms, id)
      WHERE state = 'queued' AND same_as IS NULL`,
    `CREATE INDEX IF NOT EXISTS jobs_state ON jobs (state, id)`,
    `CREATE INDEX IF NOT EXISTS jobs_owner ON jobs (owner) WHERE owner IS NOT NULL`,
    `CREATE TABLE IF NOT EXISTS job_names (
      place ${serial},
      job_id TEXT NOT NULL,
      name TEXT NOT NULL
    )`,
    `CREATE INDEX IF NOT EXISTS job_names_job ON job_names (job_id)`,
    `CREATE INDEX IF NOT EXISTS job_names_name ON job_names (name)`,
    `CREATE TABLE IF NOT EXISTS names (
      name TEXT PRIMARY KEY,
      place BIGINT NOT NULL,
      job_id TEXT NOT NULL,
      image_digest TEXT NOT NULL,
      updated_ms BIGINT NOT NULL
    )`,
    `CREATE INDEX IF NOT EXISTS names_image ON names (image_digest)`,
    `CREATE TABLE IF NOT EXISTS images (
      digest TEXT PRIMARY KEY,
      mode TEXT NOT NULL,
      job_id TEXT NOT NULL,
      source TEXT NOT NULL,
      manifest_digest TEXT,
      created_ms BIGINT NOT NULL,
      size_bytes BIGINT NOT NULL,
      stored_bytes BIGINT NOT NULL,
      new_bytes BIGINT NOT NULL,
      shared_bytes BIGINT NOT NULL,
      root_hash TEXT,
      document TEXT NOT NULL
    )`,
    `CREATE INDEX IF NOT EXISTS images_created ON images (created_ms, digest)`,
    `CREATE TABLE IF NOT EXISTS image_keys (
      job_key TEXT PRIMARY KEY,
      image_digest TEXT NOT NULL
    )`,
    `CREATE INDEX IF NOT EXISTS image_keys_image ON image_keys (image_digest)`,
    `CREATE TABLE IF NOT EXISTS image_indexes (
      image_digest TEXT NOT NULL,
      position INTEGER NOT NULL,
      chunk_index ${bytes} NOT NULL,
      PRIMARY KEY (image_digest, position)
    )`,
  ];
}
