/**
 * State in a file: SQLite through node:sqlite, which Deno, Bun and Node provide.
 *
 * Waiting transactions are committed together, with one write to disk for all of them. Reads use a separate connection,
 * so they only see committed data.
 *
 * @module
 */
import process from "node:process";
import type { DatabaseSync, StatementSync } from "node:sqlite";
import {
  type Database,
  type Dialect,
  type Row,
  schemaStatements,
  type Session,
  type Value,
} from "./database.ts";

const DIALECT: Dialect = {
  name: "sqlite",
  now: "CAST(unixepoch('subsec') * 1000 AS INTEGER)",
  serial: "INTEGER PRIMARY KEY AUTOINCREMENT",
  bytes: "BLOB",
  // There is only one writer at a time.
  skipLocked: "",
  lockRows: "",
};
/** The maximum number of transactions committed together. */
const BATCH_MAX = 64;
const STATEMENTS_MAX = 256;

/**
 * Opens a database. The module is loaded lazily: in a bundle, an import would load it for every command, and Node would
 * warn that it is experimental.
 */
export function openDatabaseFile(path: string): DatabaseSync {
  const { DatabaseSync } = process.getBuiltinModule("node:sqlite");
  return new DatabaseSync(path);
}

class Connection implements Session {
  readonly #database: DatabaseSync;
  readonly #statements = new Map<string, StatementSync>();

  constructor(path: string) {
    this.#database = openDatabaseFile(path);
    // Wait if another process is using the file.
    this.exec("PRAGMA busy_timeout = 5000");
    this.exec("PRAGMA journal_mode = WAL");
    // With FULL, a commit is on disk in the log before it is reported.
    this.exec("PRAGMA synchronous = FULL");
  }

  exec(sql: string): void {
    this.#database.exec(sql);
  }

  runNow(sql: string, values: readonly Value[] = []): readonly Row[] {
    let statement = this.#statements.get(sql);
    if (statement === undefined) {
      if (this.#statements.size >= STATEMENTS_MAX) this.#statements.clear();
      statement = this.#database.prepare(sql);
      this.#statements.set(sql, statement);
    }
    return statement.all(...values) as Row[];
  }

  run(sql: string, values?: readonly Value[]): Promise<readonly Row[]> {
    try {
      return Promise.resolve(this.runNow(sql, values));
    } catch (error) {
      return Promise.reject(error);
    }
  }

  close(): void {
    this.#statements.clear();
    this.#database.close();
  }
}

interface Waiting {
  readonly work: (session: Session) => Promise<unknown>;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Opens the file, and creates it if it is missing.
 *
 * @param onClose called when the database has been closed
 */
export function openSqlite(path: string, onClose: () => void = () => {}): Database {
  return new SqliteDatabase(path, onClose);
}

class SqliteDatabase implements Database {
  readonly dialect = DIALECT;
  readonly #writer: Connection;
  readonly #reader: Connection;
  readonly #onClose: () => void;
  readonly #waiting: Waiting[] = [];
  #committing: Promise<void> | undefined;

  constructor(path: string, onClose: () => void) {
    this.#onClose = onClose;
    this.#writer = new Connection(path);
    this.#writer.exec("BEGIN IMMEDIATE");
    for (const statement of schemaStatements(DIALECT)) this.#writer.exec(statement);
    this.#writer.exec("COMMIT");
    this.#reader = new Connection(path);
  }

  run(sql: string, values?: readonly Value[]): Promise<readonly Row[]> {
    return this.#reader.run(sql, values);
  }

  transaction<T>(work: (session: Session) => Promise<T>): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      this.#waiting.push({ work, resolve: resolve as (value: unknown) => void, reject });
      this.#committing ??= this.#commitAll();
    });
  }

  isOutage(error: unknown): boolean {
    const text = error instanceof Error ? error.message : "";
    return /database or disk is full|disk I\/O error|database is locked/i.test(text);
  }

  async close(): Promise<void> {
    await this.#committing;
    this.#reader.close();
    this.#writer.close();
    this.#onClose();
  }

  async #commitAll(): Promise<void> {
    // Callers in the same turn of the event loop join the first batch.
    await Promise.resolve();
    while (this.#waiting.length > 0) await this.#commitBatch(this.#waiting.splice(0, BATCH_MAX));
    this.#committing = undefined;
  }

  async #commitBatch(batch: readonly Waiting[]): Promise<void> {
    const settled: (() => void)[] = [];
    try {
      this.#writer.exec("BEGIN IMMEDIATE");
      for (const waiting of batch) settled.push(await this.#runOne(waiting));
      this.#writer.exec("COMMIT");
    } catch (error) {
      this.#rollBack("ROLLBACK");
      for (const { reject } of batch) reject(error);
      return;
    }
    for (const settle of settled) settle();
  }

  /** Runs one transaction of a batch; if it throws, the others keep their changes. */
  async #runOne({ work, resolve, reject }: Waiting): Promise<() => void> {
    this.#writer.exec("SAVEPOINT one");
    try {
      const result = await work(this.#writer);
      this.#writer.exec("RELEASE one");
      return () => resolve(result);
    } catch (error) {
      // A full disk rolls back the whole transaction; then this throws, and the batch fails.
      this.#writer.exec("ROLLBACK TO one");
      this.#writer.exec("RELEASE one");
      return () => reject(error);
    }
  }

  #rollBack(statement: string): void {
    try {
      this.#writer.exec(statement);
    } catch {
      // The transaction is already gone.
    }
  }
}
