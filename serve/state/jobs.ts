/**
 * Changes to jobs, made by requests, workers, cancellation and timeouts.
 *
 * @module
 */
import type { BlessRequest, Fault, ImageRecord, JobProgress, JobState } from "../schemas.ts";
import type { Row, Session, Value } from "./database.ts";
import {
  type Cancelled,
  type Claim,
  type Deletion,
  imageOf,
  type JobRecord,
  keyOf,
  newJobId,
  ownedRow,
  RUNS_MAX,
  type StoredIndex,
  StoreQueries,
} from "./store.ts";

type Posted =
  | { readonly kind: "created" | "joined"; readonly id: string }
  | { readonly kind: "full"; readonly queued: number };

interface ResolvedWork {
  readonly key: string;
  readonly manifestDigest: string | undefined;
}

type AfterResolving = "bless" | "joined" | "lost";

export class JobStore extends StoreQueries {
  /**
   * Stores a job, or finds an active one for the same request.
   *
   * @param queueMax how many jobs may wait; further ones are refused
   */
  async post(request: BlessRequest, traceparent: string, queueMax: number): Promise<Posted> {
    const { source, mode, options, name, priority } = request;
    const requestKey = keyOf({ source, mode, options });
    return await this.database.transaction(async (session) => {
      const now = await this.#now(session);
      const find = async () =>
        (await session.run(
          "SELECT id FROM jobs WHERE request_key = ? AND finished_ms IS NULL AND same_as IS NULL",
          [requestKey],
        ))[0];
      const waiting = await find();
      if (waiting !== undefined) return await this.#join(session, waiting, request);
      const [queued] = await session.run(
        "SELECT count(*) AS n FROM jobs WHERE state = 'queued' AND same_as IS NULL",
      );
      const count = Number(queued!["n"]);
      if (count >= queueMax) return { kind: "full", queued: count };
      const id = newJobId(now);
      const [created] = await session.run(
        `INSERT INTO jobs (id, request_key, source, mode, options, priority, state, created_ms,
           state_ms, traceparent)
         VALUES (?, ?, ?, ?, ?, ?, 'queued', ?, ?, ?)
         ON CONFLICT DO NOTHING RETURNING id`,
        [id, requestKey, source, mode, JSON.stringify(options), priority, now, now, traceparent],
      );
      if (created === undefined) {
        // Another host was faster.
        const other = await find();
        if (other !== undefined) return await this.#join(session, other, request);
        throw new Error("Invariant broken: a job is neither new nor there");
      }
      if (name !== undefined) await this.#addName(session, id, name);
      return { kind: "created", id };
    });
  }

  async #join(session: Session, row: Row, { name, priority }: BlessRequest): Promise<Posted> {
    const id = row["id"] as string;
    if (name !== undefined) await this.#addName(session, id, name);
    await session.run("UPDATE jobs SET priority = ? WHERE id = ? AND priority < ?", [
      priority,
      id,
      priority,
    ]);
    return { kind: "joined", id };
  }

  async #addName(session: Session, id: string, name: string): Promise<void> {
    await session.run("INSERT INTO job_names (job_id, name) VALUES (?, ?)", [id, name]);
  }

  /**
   * Claims the next job, if there is one. Jobs that have run before go behind the others of their priority, because
   * they may be what kills servers.
   *
   * @param owner a name that is never used for another claim
   */
  async claim(owner: string, leaseMs: number): Promise<JobRecord | undefined> {
    const { now, skipLocked } = this.database.dialect;
    const [row] = await this.database.transaction((session) =>
      session.run(
        `UPDATE jobs SET state = 'resolving', owner = ?, lease_until_ms = ${now} + ?,
           runs = runs + 1, started_ms = coalesce(started_ms, ${now}), state_ms = ${now},
           progress = NULL
         WHERE id = (
           SELECT id FROM jobs
           WHERE state = 'queued' AND same_as IS NULL AND not_before_ms <= ${now}
           ORDER BY priority DESC, runs, created_ms, id LIMIT 1${skipLocked}
         ) RETURNING id`,
        [owner, leaseMs],
      )
    );
    return row && await this.job(row["id"] as string);
  }

  /**
   * Renews the leases of running jobs, and records their progress. The lease of a job that is not listed eventually
   * expires.
   *
   * @returns the jobs that still belong to their owners; those with `cancelRequested` should end
   */
  async renew(
    running: readonly (Claim & { readonly progress: JobProgress })[],
    leaseMs: number,
  ): Promise<ReadonlyMap<string, { readonly cancelRequested: boolean }>> {
    const { now } = this.database.dialect;
    // Update in a fixed order, so that hosts cannot deadlock.
    const sorted = [...running].sort((a, b) => a.id < b.id ? -1 : 1);
    const rows = await this.database.transaction(async (session) => {
      const renewed: Row[] = [];
      for (const { id, owner, progress } of sorted) {
        renewed.push(
          ...await session.run(
            `UPDATE jobs SET lease_until_ms = ${now} + ?, progress = ?
             WHERE id = ? AND owner = ? AND finished_ms IS NULL RETURNING id, cancel_requested`,
            [leaseMs, JSON.stringify(progress), id, owner],
          ),
        );
      }
      return renewed;
    });
    return new Map(
      rows.map((row) => [row["id"] as string, { cancelRequested: row["cancel_requested"] === 1 }]),
    );
  }

  /**
   * Puts jobs back into the queue: those whose host has fallen silent, or all running ones.
   *
   * @returns the jobs that were put back, or were given up because their host died too often
   */
  async recover(
    which: { readonly kind: "expired" } | { readonly kind: "all" },
  ): Promise<readonly { readonly id: string; readonly state: JobState }[]> {
    const { now } = this.database.dialect;
    const fault: Fault = {
      code: "crashed",
      message: `the server ended ${RUNS_MAX} times while it ran this job`,
      hint: "find the cause, then request it again",
    };
    const expired = which.kind === "expired" ? ` AND lease_until_ms < ${now}` : "";
    const rows = await this.database.transaction((session) =>
      session.run(
        `UPDATE jobs SET
           state = CASE WHEN cancel_requested = 1 THEN 'cancelled'
             WHEN runs >= ${RUNS_MAX} THEN 'failed' ELSE 'queued' END,
           finished_ms = CASE WHEN cancel_requested = 1 OR runs >= ${RUNS_MAX} THEN ${now} END,
           error = CASE WHEN cancel_requested = 0 AND runs >= ${RUNS_MAX} THEN ? END,
           owner = NULL, lease_until_ms = NULL, job_key = NULL, progress = NULL, state_ms = ${now}
         WHERE owner IS NOT NULL AND finished_ms IS NULL${expired} RETURNING id, state`,
        [JSON.stringify(fault)],
      )
    );
    return rows.map((row) => ({ id: row["id"] as string, state: row["state"] as JobState }));
  }

  /**
   * Records what a job's source resolved to. If the same work is already done or in progress, the job is merged into
   * that one.
   */
  async resolved(claim: Claim, { key, manifestDigest }: ResolvedWork): Promise<AfterResolving> {
    for (let tries = 0;; tries++) {
      try {
        return await this.database.transaction((session) =>
          this.#resolveIn(session, claim, key, manifestDigest)
        );
      } catch (error) {
        // Two hosts resolved the same work at the same moment; the other one now has it.
        const isConflict = error instanceof Error && /unique|duplicate/i.test(error.message);
        if (!isConflict || tries === 3) throw error;
      }
    }
  }

  async #resolveIn(
    session: Session,
    claim: Claim,
    key: string,
    manifestDigest: string | undefined,
  ): Promise<AfterResolving> {
    if (await ownedRow(session, claim, this.database.dialect.lockRows) === undefined) return "lost";
    const [active] = await session.run(
      "SELECT id FROM jobs WHERE job_key = ? AND finished_ms IS NULL AND same_as IS NULL AND id <> ?",
      [key, claim.id],
    );
    const [made] = await session.run(
      `SELECT i.digest AS digest, j.id AS job_id FROM image_keys k
       JOIN images i ON i.digest = k.image_digest
       LEFT JOIN jobs j ON j.id = i.job_id AND j.state = 'complete' AND j.id <> ?
       WHERE k.job_key = ?`,
      [claim.id, key],
    );
    const target = (active?.["id"] ?? made?.["job_id"]) as string | null | undefined;
    if (typeof target === "string") {
      await this.#becomeSame(session, claim.id, target);
      if (made !== undefined) await this.#applyNames(session, target, made["digest"] as string);
      return "joined";
    }
    if (made !== undefined) {
      // The image exists, but the job that made it has been forgotten.
      const digest = made["digest"] as string;
      await this.#finish(session, claim.id, "complete", { imageDigest: digest });
    }
    await session.run("UPDATE jobs SET job_key = ?, manifest_digest = ? WHERE id = ?", [
      key,
      manifestDigest ?? null,
      claim.id,
    ]);
    if (made === undefined) return "bless";
    await this.#applyNames(session, claim.id, made["digest"] as string);
    return "joined";
  }

  async #becomeSame(session: Session, id: string, target: string): Promise<void> {
    const { now } = this.database.dialect;
    await session.run("UPDATE job_names SET job_id = ? WHERE job_id = ?", [target, id]);
    await session.run(
      `UPDATE jobs SET same_as = ?, owner = NULL, lease_until_ms = NULL, finished_ms = ${now}
       WHERE id = ?`,
      [target, id],
    );
    await session.run(
      `UPDATE jobs SET priority = greatest_priority FROM
         (SELECT priority AS greatest_priority FROM jobs WHERE id = ?) AS other
       WHERE id = ? AND priority < greatest_priority`,
      [id, target],
    );
  }

  /** Moves to the next state; false if the owner has lost the job. */
  async advance(
    claim: Claim,
    state: JobState,
    seconds: Readonly<Record<string, number>>,
  ): Promise<boolean> {
    const { now } = this.database.dialect;
    const change = `state = ?, state_ms = ${now}, seconds = ?`;
    return await this.#update(claim, change, [state, JSON.stringify(seconds)]);
  }

  /** Changes a job; false if the owner has lost it. */
  async #update(
    { id, owner }: Claim,
    change: string,
    values: readonly Value[],
  ): Promise<boolean> {
    const rows = await this.database.transaction((session) =>
      session.run(
        `UPDATE jobs SET ${change} WHERE id = ? AND owner = ? AND finished_ms IS NULL RETURNING id`,
        [...values, id, owner],
      )
    );
    return rows.length > 0;
  }

  /**
   * Completes a job: the image, its key and its names are stored together, or not at all.
   *
   * @returns false if the job was cancelled or lost meanwhile, and nothing was written
   */
  async complete(
    claim: Claim,
    image: ImageRecord,
    indexes: readonly StoredIndex[],
    seconds: Readonly<Record<string, number>>,
  ): Promise<boolean> {
    return await this.database.transaction(async (session) => {
      const row = await ownedRow(session, claim, this.database.dialect.lockRows);
      if (row === undefined || row["cancel_requested"] === 1) return false;
      await this.#insertImage(session, image, indexes);
      if (row["job_key"] !== null) {
        await session.run(
          `INSERT INTO image_keys (job_key, image_digest) VALUES (?, ?)
           ON CONFLICT (job_key) DO UPDATE SET image_digest = excluded.image_digest`,
          [row["job_key"]!, image.digest],
        );
      }
      await this.#finish(session, claim.id, "complete", { imageDigest: image.digest, seconds });
      await this.#applyNames(session, claim.id, image.digest);
      return true;
    });
  }

  /** Adds an image that exists but is not in the database, for example after the database was lost. */
  async adopt(image: ImageRecord, jobKey: string | undefined): Promise<void> {
    await this.database.transaction(async (session) => {
      await this.#insertImage(session, image, []);
      if (jobKey === undefined) return;
      await session.run(
        "INSERT INTO image_keys (job_key, image_digest) VALUES (?, ?) ON CONFLICT DO NOTHING",
        [jobKey, image.digest],
      );
    });
  }

  async #insertImage(
    session: Session,
    image: ImageRecord,
    indexes: readonly StoredIndex[],
  ): Promise<void> {
    await session.run(
      `INSERT INTO images (digest, mode, job_id, source, manifest_digest, created_ms, size_bytes,
         stored_bytes, new_bytes, shared_bytes, root_hash, document)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (digest) DO NOTHING`,
      [
        image.digest,
        image.mode,
        image.jobId,
        image.source,
        image.manifestDigest,
        image.createdMs,
        image.sizeBytes,
        image.cellBytes,
        image.newBytes,
        image.sharedBytes,
        image.rootHash,
        image.document,
      ],
    );
    for (const { position, bytes } of indexes) {
      await session.run(
        `INSERT INTO image_indexes (image_digest, position, chunk_index) VALUES (?, ?, ?)
         ON CONFLICT DO NOTHING`,
        [image.digest, position, bytes],
      );
    }
  }

  /** A name refers to the image of the latest request, in whatever order the jobs end. */
  async #applyNames(session: Session, jobId: string, digest: string): Promise<void> {
    const { now } = this.database.dialect;
    const rows = await session.run(
      "SELECT name, max(place) AS place FROM job_names WHERE job_id = ? GROUP BY name",
      [jobId],
    );
    for (const row of rows) {
      await session.run(
        `INSERT INTO names (name, place, job_id, image_digest, updated_ms) VALUES (?, ?, ?, ?, ${now})
         ON CONFLICT (name) DO UPDATE SET place = excluded.place, job_id = excluded.job_id,
           image_digest = excluded.image_digest, updated_ms = excluded.updated_ms
         WHERE names.place <= excluded.place`,
        [row["name"]!, row["place"]!, jobId, digest],
      );
    }
  }

  async end(
    claim: Claim,
    state: "failed" | "cancelled",
    error: Fault | undefined,
    seconds: Readonly<Record<string, number>>,
  ): Promise<boolean> {
    return await this.database.transaction(async (session) => {
      if (await ownedRow(session, claim, this.database.dialect.lockRows) === undefined) {
        return false;
      }
      await this.#finish(session, claim.id, state, { error, seconds });
      return true;
    });
  }

  /** Puts a job back into the queue, to be retried later. */
  async putBack(claim: Claim, delayMs: number, isAttempt: boolean): Promise<boolean> {
    const { now } = this.database.dialect;
    const count = isAttempt ? 1 : 0;
    return await this.#update(
      claim,
      `state = 'queued', owner = NULL, lease_until_ms = NULL, job_key = NULL,
       attempts = attempts + ?, not_before_ms = ${now} + ?, state_ms = ${now}, progress = NULL,
       runs = CASE WHEN ? = 1 THEN runs ELSE runs - 1 END`,
      [count, delayMs, count],
    );
  }

  /** Cancels a waiting job, or asks the owner of a running one to stop it. */
  async cancel(id: string): Promise<Cancelled> {
    return await this.database.transaction(async (session) => {
      const [row] = await session.run("SELECT * FROM jobs WHERE id = ?", [id]);
      if (row === undefined) return "unknown";
      if (row["finished_ms"] !== null) return "finished";
      if (row["owner"] === null) {
        // Another host may have claimed it between the two statements.
        const ended = await session.run(
          `UPDATE jobs SET cancel_requested = 1, state = 'cancelled', finished_ms = ${this.database.dialect.now}
           WHERE id = ? AND owner IS NULL RETURNING id`,
          [id],
        );
        if (ended.length > 0) return "cancelled";
      }
      const asked = await session.run(
        "UPDATE jobs SET cancel_requested = 1 WHERE id = ? AND finished_ms IS NULL RETURNING id",
        [id],
      );
      return asked.length > 0 ? "requested" : "finished";
    });
  }

  /** Deletes an image. One with names is kept unless `force` is set, which deletes the names too. */
  async deleteImage(digest: string, force: boolean): Promise<Deletion> {
    return await this.database.transaction(async (session): Promise<Deletion> => {
      const [row] = await session.run("SELECT * FROM images WHERE digest = ?", [digest]);
      if (row === undefined) return { kind: "unknown" };
      const names = await session.run("SELECT name FROM names WHERE image_digest = ?", [digest]);
      if (names.length > 0 && !force) {
        return { kind: "named", names: names.map((named) => named["name"] as string) };
      }
      for (const table of ["names", "image_keys", "image_indexes"]) {
        await session.run(`DELETE FROM ${table} WHERE image_digest = ?`, [digest]);
      }
      await session.run("DELETE FROM images WHERE digest = ?", [digest]);
      return { kind: "deleted", record: imageOf(row) };
    });
  }

  /** Deletes jobs that ended long ago; their images stay. */
  async forgetJobs(olderThanMs: number): Promise<number> {
    const { now } = this.database.dialect;
    return await this.database.transaction(async (session) => {
      const rows = await session.run(
        `DELETE FROM jobs WHERE finished_ms IS NOT NULL AND finished_ms < ${now} - ? RETURNING id`,
        [olderThanMs],
      );
      await session.run(
        "DELETE FROM job_names WHERE job_id NOT IN (SELECT id FROM jobs)",
      );
      return rows.length;
    });
  }

  async #finish(
    session: Session,
    id: string,
    state: JobState,
    { imageDigest, error, seconds }: {
      readonly imageDigest?: string;
      readonly error?: Fault | undefined;
      readonly seconds?: Readonly<Record<string, number>>;
    },
  ): Promise<void> {
    const { now } = this.database.dialect;
    const values: Value[] = [
      state,
      imageDigest ?? null,
      error === undefined ? null : JSON.stringify(error),
      seconds === undefined ? null : JSON.stringify(seconds),
      id,
    ];
    await session.run(
      `UPDATE jobs SET state = ?, image_digest = ?, error = ?, seconds = coalesce(?, seconds),
         finished_ms = ${now}, state_ms = ${now}, owner = NULL, lease_until_ms = NULL, progress = NULL
       WHERE id = ?`,
      values,
    );
  }

  async #now(session: Session): Promise<number> {
    const [row] = await session.run(`SELECT ${this.database.dialect.now} AS now`);
    return Number(row!["now"]);
  }
}
