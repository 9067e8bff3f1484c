/**
 * Jobs, names and images in a database: every change of a job's state is one transaction here.
 *
 * A running job has an owner and a lease. Every change names the owner, so that a host presumed dead cannot finish a
 * job that another host has started.
 *
 * @module
 */
import { createHash, randomBytes } from "node:crypto";
import type {
  BlessRequest,
  Fault,
  ImageRecord,
  JobProgress,
  JobState,
  OptionValue,
} from "../schemas.ts";
import type { Database, Row, Session } from "./database.ts";

export interface JobRecord {
  readonly id: string;
  readonly key: string | undefined;
  readonly source: string;
  readonly mode: BlessRequest["mode"];
  readonly options: Readonly<Record<string, OptionValue>>;
  readonly priority: number;
  readonly state: JobState;
  /** The job that this one was merged into. */
  readonly sameAs: string | undefined;
  readonly createdMs: number;
  readonly startedMs: number | undefined;
  readonly finishedMs: number | undefined;
  /** How often it was put back because of network failures. */
  readonly attempts: number;
  /** How often it was started. */
  readonly runs: number;
  readonly owner: string | undefined;
  readonly cancelRequested: boolean;
  readonly manifestDigest: string | undefined;
  readonly imageDigest: string | undefined;
  readonly error: Fault | undefined;
  readonly progress: JobProgress;
  readonly seconds: Readonly<Record<string, number>>;
  readonly stateMs: number;
  readonly traceparent: string;
  readonly names: readonly string[];
}

export type NamedImage = ImageRecord & { readonly names: readonly string[] };

export interface StoredIndex {
  readonly position: number;
  readonly bytes: Uint8Array;
}

/** Identifies who runs a job; changes succeed only while the job still belongs to that owner. */
export interface Claim {
  readonly id: string;
  readonly owner: string;
}

export type Cancelled = "cancelled" | "requested" | "finished" | "unknown";

export type Deletion =
  | { readonly kind: "deleted"; readonly record: ImageRecord }
  | { readonly kind: "named"; readonly names: readonly string[] }
  | { readonly kind: "unknown" };

export interface JobFilter {
  readonly state?: JobState | undefined;
  readonly name?: string | undefined;
  readonly after?: string | undefined;
  readonly limit: number;
}

const JOB_IS_LISTED = "same_as IS NULL";
const EMPTY_PROGRESS: JobProgress = { tasks: [] };
/** After this many runs, a job whose host died counts as failed: it may be what kills the hosts. */
export const RUNS_MAX = 25;

let lastJobMs = 0;
let jobsOfLastMs = 0;

/**
 * A job id that sorts by time; 32 hexadecimal digits. Jobs of one process and one millisecond sort in call order, so
 * that the queue is first in, first out.
 */
export function newJobId(nowMs: number): string {
  jobsOfLastMs = nowMs === lastJobMs ? jobsOfLastMs + 1 : 0;
  lastJobMs = nowMs;
  const hex = (value: number, digits: number) => value.toString(16).padStart(digits, "0");
  return `${hex(nowMs, 12)}${hex(jobsOfLastMs, 6)}${randomBytes(7).toString("hex")}`;
}

/** SHA-256 of a JSON document with sorted keys. */
export function keyOf(document: unknown): string {
  return createHash("sha256").update(JSON.stringify(sorted(document))).digest("hex");
}

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value).sort(([a], [b]) => a < b ? -1 : 1);
  return Object.fromEntries(entries.map(([key, item]) => [key, sorted(item)]));
}

function jobOf(row: Row, names: readonly string[]): JobRecord {
  const get = <T>(column: string): T => (row[column] ?? undefined) as T;
  const json = <T>(column: string, fallback: T): T => {
    const text = row[column];
    return typeof text === "string" ? JSON.parse(text) as T : fallback;
  };
  return {
    id: get("id"),
    key: get("job_key"),
    source: get("source"),
    mode: get("mode"),
    options: json("options", {}),
    priority: get("priority"),
    state: get("state"),
    sameAs: get("same_as"),
    createdMs: get("created_ms"),
    startedMs: get("started_ms"),
    finishedMs: get("finished_ms"),
    attempts: get("attempts"),
    runs: get("runs"),
    owner: get("owner"),
    cancelRequested: row["cancel_requested"] === 1,
    manifestDigest: get("manifest_digest"),
    imageDigest: get("image_digest"),
    error: json<Fault | undefined>("error", undefined),
    progress: json("progress", EMPTY_PROGRESS),
    seconds: json("seconds", {}),
    stateMs: get("state_ms"),
    traceparent: get("traceparent"),
    names,
  };
}

export function imageOf(row: Row): ImageRecord {
  const get = <T>(column: string): T => row[column] as T;
  return {
    digest: get("digest"),
    mode: get("mode"),
    jobId: get("job_id"),
    source: get("source"),
    manifestDigest: get("manifest_digest"),
    createdMs: get("created_ms"),
    sizeBytes: get("size_bytes"),
    cellBytes: get("stored_bytes"),
    newBytes: get("new_bytes"),
    sharedBytes: get("shared_bytes"),
    rootHash: get("root_hash"),
    document: get("document"),
  };
}

export class StoreQueries {
  protected readonly database: Database;

  constructor(database: Database) {
    this.database = database;
  }

  /** The kind of database; with SQLite, no other host shares the state. */
  get dialectName(): "sqlite" | "postgres" {
    return this.database.dialect.name;
  }

  /** Whether an error is temporary. */
  isOutage(error: unknown): boolean {
    return this.database.isOutage(error);
  }

  /** Fails when the database cannot be used. */
  async check(): Promise<void> {
    await this.database.run("SELECT count(*) AS n FROM names WHERE name = ''");
  }

  async close(): Promise<void> {
    await this.database.close();
  }

  /** A job, or the job it was merged into; undefined if it does not exist. */
  async job(id: string): Promise<JobRecord | undefined> {
    let wanted = id;
    for (let depth = 0; depth < 8; depth++) {
      const [row] = await this.database.run("SELECT * FROM jobs WHERE id = ?", [wanted]);
      if (row === undefined) return undefined;
      if (row["same_as"] === null) return (await this.#withNames([row]))[0];
      wanted = row["same_as"] as string;
    }
    return undefined;
  }

  /** Jobs, newest first. */
  async jobs({ state, name, after, limit }: JobFilter): Promise<readonly JobRecord[]> {
    const conditions = [JOB_IS_LISTED];
    const values: (string | number)[] = [];
    if (state !== undefined) conditions.push("state = ?") && values.push(state);
    if (name !== undefined) {
      conditions.push("id IN (SELECT job_id FROM job_names WHERE name = ?)");
      values.push(name);
    }
    if (after !== undefined) conditions.push("id < ?") && values.push(after);
    const rows = await this.database.run(
      `SELECT * FROM jobs WHERE ${conditions.join(" AND ")} ORDER BY id DESC LIMIT ?`,
      [...values, limit],
    );
    return await this.#withNames(rows);
  }

  /** Jobs that have not ended, in the order in which they run. */
  async unfinished(limit: number): Promise<readonly JobRecord[]> {
    const rows = await this.database.run(
      `SELECT * FROM jobs WHERE finished_ms IS NULL AND ${JOB_IS_LISTED}
       ORDER BY CASE WHEN owner IS NULL THEN 1 ELSE 0 END, priority DESC, created_ms, id LIMIT ?`,
      [limit],
    );
    return await this.#withNames(rows);
  }

  /** Several jobs at once, for watchers. */
  async jobsById(ids: readonly string[]): Promise<readonly JobRecord[]> {
    if (ids.length === 0) return [];
    const rows = await this.database.run(
      `SELECT * FROM jobs WHERE id IN (${ids.map(() => "?").join(", ")})`,
      ids,
    );
    return await this.#withNames(rows);
  }

  async counts(): Promise<ReadonlyMap<string, number>> {
    const rows = await this.database.run(
      `SELECT state, count(*) AS n FROM jobs WHERE ${JOB_IS_LISTED} GROUP BY state`,
    );
    return new Map(rows.map((row) => [row["state"] as string, Number(row["n"])]));
  }

  async image(digest: string): Promise<NamedImage | undefined> {
    const rows = await this.database.run("SELECT * FROM images WHERE digest = ?", [digest]);
    return (await this.#withImageNames(rows))[0];
  }

  /** Images, newest first. `after` is `MILLISECONDS-DIGEST` of the last one seen. */
  async images(
    { after, limit, manifest }: {
      readonly after?: string | undefined;
      readonly limit: number;
      readonly manifest?: string | undefined;
    },
  ): Promise<readonly NamedImage[]> {
    const conditions = ["1 = 1"];
    const values: (string | number)[] = [];
    const [, createdMs, digest] = /^(\d{1,15})-(sha256:[0-9a-f]{64})$/.exec(after ?? "") ?? [];
    if (createdMs !== undefined) {
      conditions.push("(created_ms < ? OR created_ms = ? AND digest < ?)");
      values.push(Number(createdMs), Number(createdMs), digest!);
    }
    if (manifest !== undefined) conditions.push("manifest_digest = ?") && values.push(manifest);
    const rows = await this.database.run(
      `SELECT * FROM images WHERE ${conditions.join(" AND ")}
       ORDER BY created_ms DESC, digest DESC LIMIT ?`,
      [...values, limit],
    );
    return await this.#withImageNames(rows);
  }

  async imageTotals(): Promise<Record<"count" | "sizeBytes" | "newBytes", number>> {
    const [row] = await this.database.run(
      `SELECT count(*) AS n, coalesce(sum(size_bytes), 0) AS bytes,
         coalesce(sum(new_bytes), 0) AS new_bytes FROM images`,
    );
    const number = (column: string) => Number(row![column]);
    return { count: number("n"), sizeBytes: number("bytes"), newBytes: number("new_bytes") };
  }

  async name(
    name: string,
  ): Promise<
    { readonly image: string; readonly job: string; readonly updatedMs: number } | undefined
  > {
    const [row] = await this.database.run("SELECT * FROM names WHERE name = ?", [name]);
    return row && {
      image: row["image_digest"] as string,
      job: row["job_id"] as string,
      updatedMs: row["updated_ms"] as number,
    };
  }

  /** The chunk index of one file of an image; undefined if none is kept. */
  async chunkIndex(digest: string, position: number): Promise<Uint8Array | undefined> {
    const [row] = await this.database.run(
      "SELECT chunk_index FROM image_indexes WHERE image_digest = ? AND position = ?",
      [digest, position],
    );
    return row?.["chunk_index"] as Uint8Array | undefined;
  }

  async #withNames(rows: readonly Row[]): Promise<JobRecord[]> {
    const names = await this.#namesBy(
      "SELECT job_id AS k, name FROM job_names WHERE job_id",
      rows.map((row) => row["id"] as string),
    );
    return rows.map((row) => jobOf(row, names.get(row["id"] as string) ?? []));
  }

  async #withImageNames(rows: readonly Row[]): Promise<NamedImage[]> {
    const names = await this.#namesBy(
      "SELECT image_digest AS k, name FROM names WHERE image_digest",
      rows.map((row) => row["digest"] as string),
    );
    return rows.map((row) => ({
      ...imageOf(row),
      names: names.get(row["digest"] as string) ?? [],
    }));
  }

  async #namesBy(select: string, keys: readonly string[]): Promise<Map<string, string[]>> {
    const names = new Map<string, string[]>();
    if (keys.length === 0) return names;
    const rows = await this.database.run(
      `${select} IN (${keys.map(() => "?").join(", ")}) ORDER BY name`,
      keys,
    );
    for (const row of rows) {
      const key = row["k"] as string;
      const list = names.get(key) ?? [];
      if (!list.includes(row["name"] as string)) list.push(row["name"] as string);
      names.set(key, list);
    }
    return names;
  }
}

/** The row of a job if the claim's owner still has it. */
export async function ownedRow(
  session: Session,
  claim: Claim,
  lock: string,
): Promise<Row | undefined> {
  const [row] = await session.run(
    `SELECT * FROM jobs WHERE id = ? AND owner = ? AND finished_ms IS NULL${lock}`,
    [claim.id, claim.owner],
  );
  return row;
}
