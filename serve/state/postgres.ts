/**
 * State in PostgreSQL, for many hosts. The library manages the connections; apart from the dialect, the statements are
 * those of SQLite.
 *
 * @module
 */
import { setTimeout as delay } from "node:timers/promises";
import postgres from "postgres";
import {
  type Database,
  type Dialect,
  type Row,
  schemaStatements,
  type Session,
  type Value,
} from "./database.ts";

const DIALECT: Dialect = {
  name: "postgres",
  now: "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)",
  serial: "BIGSERIAL PRIMARY KEY",
  bytes: "BYTEA",
  skipLocked: " FOR UPDATE SKIP LOCKED",
  lockRows: " FOR UPDATE",
};
const CONNECTIONS_MAX = 8;
const CONNECT_SECONDS = 5;
/** Makes hosts that start together create the tables one after another. An arbitrary number that nothing else uses. */
const SCHEMA_LOCK = 0x626c6573;
/** PostgreSQL, appendix A: connections, resources, an operator's intervention, a system error. */
const OUTAGE_CLASSES = ["08", "53", "57", "58"];
/** Deadlock detected, and serialization failure. */
const CLASHES = ["40P01", "40001"];
const CLASH_TRIES = 5;
const START_TRIES = 30;
const START_WAIT_MS = 500;
const OID_BIGINT = 20;

/**
 * Connects, and creates the tables if they are missing.
 *
 * @param address `postgres://USER:PASSWORD@HOST/DATABASE`; `?host=/DIR` names the directory of a socket
 */
export async function openPostgres(address: string): Promise<Database> {
  const { url, path } = socketOf(address);
  const sql = postgres(url, {
    ...path === undefined ? {} : { path },
    max: CONNECTIONS_MAX,
    connect_timeout: CONNECT_SECONDS,
    // A lost connection is reopened at once, then with increasing delays.
    backoff: (retries: number) => Math.min(0.05 * 2 ** retries, 2),
    onnotice: () => {},
    connection: { application_name: "blessfs" },
    types: {
      // Milliseconds and sizes, which all fit into a number.
      number: {
        to: OID_BIGINT,
        from: [OID_BIGINT],
        serialize: (value: number) => String(value),
        parse: (text: string) => Number(text),
      },
    },
  });
  const database = new PostgresDatabase(sql);
  for (let tries = 1;; tries++) {
    try {
      await makeTables(database);
      return database;
    } catch (error) {
      // Wait for a server that is starting or stopping; if there is none, fail at once.
      const isPassing = isSqlState(error) && database.isOutage(error) && tries < START_TRIES;
      if (!isPassing) {
        await database.close();
        throw error;
      }
      await delay(START_WAIT_MS);
    }
  }
}

/** Creates the tables if they are missing. If they exist, this locks nothing that other hosts use. */
async function makeTables(database: Database): Promise<void> {
  await database.transaction(async (session) => {
    await session.run(`SELECT pg_advisory_xact_lock(${SCHEMA_LOCK})`);
    const [row] = await session.run("SELECT to_regclass('image_indexes') AS last");
    if (row!["last"] !== null) return;
    for (const statement of schemaStatements(DIALECT)) await session.run(statement);
  });
}

/** An SQLSTATE has five characters; other codes of the library and the system are words. */
function isSqlState(error: unknown): error is { readonly code: string } {
  const code = (error as { code?: unknown } | null)?.code;
  return typeof code === "string" && /^[0-9A-Z]{5}$/.test(code) && !code.startsWith("E");
}

/** libpq allows `host` in the query to name the directory of a socket; the library wants the socket as an option. */
function socketOf(address: string): { readonly url: string; readonly path: string | undefined } {
  const url = new URL(address);
  const host = url.searchParams.get("host");
  if (host === null || !host.startsWith("/")) return { url: address, path: undefined };
  const port = url.searchParams.get("port") ?? (url.port || "5432");
  url.searchParams.delete("host");
  url.searchParams.delete("port");
  return { url: url.href, path: `${host}/.s.PGSQL.${port}` };
}

/** Replaces `?` placeholders with PostgreSQL's numbered ones. No statement has the character in a string. */
function numbered(sql: string): string {
  let count = 0;
  return sql.replace(/\?/g, () => `$${++count}`);
}

type Runner = Pick<postgres.Sql, "unsafe">;

async function runOn(
  runner: Runner,
  sql: string,
  values: readonly Value[] = [],
): Promise<readonly Row[]> {
  return await runner.unsafe(numbered(sql), [...values], { prepare: true }) as unknown as Row[];
}

class PostgresDatabase implements Database {
  readonly dialect = DIALECT;
  readonly #sql: postgres.Sql;

  constructor(sql: postgres.Sql) {
    this.#sql = sql;
  }

  run(sql: string, values?: readonly Value[]): Promise<readonly Row[]> {
    return runOn(this.#sql, sql, values);
  }

  async transaction<T>(work: (session: Session) => Promise<T>): Promise<T> {
    for (let tries = 1;; tries++) {
      try {
        return await this.#sql.begin((transaction) =>
          work({ run: (sql, values) => runOn(transaction, sql, values) })
        ) as T;
      } catch (error) {
        // Two transactions conflicted and this one was rolled back, so retry it.
        const isClash = isSqlState(error) && CLASHES.includes(error.code);
        if (!isClash || tries === CLASH_TRIES) throw error;
      }
    }
  }

  isOutage(error: unknown): boolean {
    if (isSqlState(error)) {
      return OUTAGE_CLASSES.includes(error.code.slice(0, 2)) || CLASHES.includes(error.code);
    }
    const code = (error as { code?: unknown } | null)?.code;
    if (typeof code !== "string") return false;
    return /^(?:CONNECT|ECONN|ENOENT|EPIPE|ETIMEDOUT|EHOSTUNREACH|ENOTFOUND|EAI_AGAIN)/.test(code);
  }

  async close(): Promise<void> {
    await this.#sql.end({ timeout: 2 });
  }
}
