/**
 * DuckDB in a process of its own. It is neither in deno.json nor in deno.lock: Deno fetches all that is there before any
 * program starts for the first time, and DuckDB takes 140 MB.
 *
 * @module
 */
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { env, execPath } from "node:process";

/** A row of a result: numbers and text. */
export type SqlRow = Readonly<Record<string, unknown>>;

const PACKAGE = "npm:@duckdb/node-api@1.5.5-r.5";
/** Answers each line of input, a statement as JSON, with a line of rows. */
const SERVER = `
import { createInterface } from "node:readline";
const { DuckDBInstance } = await import("${PACKAGE}");
const connection = await (await DuckDBInstance.create(":memory:")).connect();
const plain = (value) => typeof value === "bigint" ? Number(value)
  : typeof value === "object" && value !== null ? String(value) : value;
console.log("ready");
for await (const line of createInterface({ input: process.stdin })) {
  const rows = (await connection.runAndReadAll(JSON.parse(line))).getRowObjects();
  console.log(JSON.stringify(rows.map((row) =>
    Object.fromEntries(Object.entries(row).map(([name, value]) => [name, plain(value)])))));
}
`;

/** A database in memory. */
export interface Database {
  /** Runs a statement. Rejects when it fails, with the first line of what DuckDB said. */
  query(sql: string): Promise<SqlRow[]>;
  close(): void;
}

/** Starts DuckDB. Rejects where it cannot be had. */
export async function openDatabase(): Promise<Database> {
  const deno = "Deno" in globalThis && !("Bun" in globalThis) ? execPath : "deno";
  const server = spawn(deno, ["eval", "--no-config", "--no-lock", SERVER], {
    env: { ...env, NO_COLOR: "1" },
  });
  let complaint = "";
  server.stderr.on("data", (bytes) => complaint += bytes);
  const failed = new Promise<never>((_, reject) => {
    server.on("error", reject);
    server.on("close", () => {
      const lines = complaint.trim().split("\n");
      reject(new Error(lines.find((line) => line.includes("rror:")) ?? lines.at(-1)));
    });
  });
  // It also ends when it is closed, with nobody waiting.
  failed.catch(() => {});
  const lines = createInterface({ input: server.stdout })[Symbol.asyncIterator]();
  const answer = async () => (await Promise.race([lines.next(), failed])).value as string;
  const query = async (sql: string) => {
    server.stdin.write(`${JSON.stringify(sql)}\n`);
    const line = await answer();
    return line === undefined ? await failed : JSON.parse(line) as SqlRow[];
  };
  if (await answer() === undefined) await failed;
  return { query, close: () => server.stdin.end() };
}
