/**
 * The operations of the API, without HTTP.
 *
 * @module
 */
import { existsSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { canonicalOptions, checkSource } from "./access.ts";
import { RequestError, verdictOf } from "./faults.ts";
import { errorFacts } from "./observe.ts";
import { type ProgramEnd, runProgramAgain } from "./program.ts";
import type { JobContext } from "./run_job.ts";
import {
  type BlessRequest,
  FINAL_STATES,
  type ImageDocument,
  type ImageFigures,
  type Job,
  JOB_STATES,
  type NameDocument,
  type ProbeRequest,
} from "./schemas.ts";
import type { ServeSettings } from "./settings.ts";
import type { JobFilter, JobRecord, NamedImage } from "./state/store.ts";
import type { MeasuredFile } from "./tasks.ts";
import type { Workers } from "./workers.ts";

const RETRY_AFTER_SECONDS = 5;
const PROBES_MAX = 2;
/** How often to check jobs of other hosts that clients are watching. */
const WATCH_MS = 1000;

export class ServeService {
  readonly context: JobContext;
  readonly #workers: Workers;
  #isDraining = false;
  #probeCount = 0;
  #watchTimer: ReturnType<typeof setInterval> | undefined;
  readonly #seen = new Map<string, string>();
  readonly #restoring = new Map<string, Promise<string>>();
  /** Work in processes of its own that is not a job, and what ends it. */
  readonly #tasks = new Set<Promise<unknown>>();
  readonly #closing = new AbortController();

  constructor(context: JobContext, workers: Workers) {
    this.context = context;
    this.#workers = workers;
    // With SQLite, every change is made here and announced at once.
    if (context.store.dialectName === "postgres") {
      this.#watchTimer = setInterval(() => void this.#lookAtOthers(), WATCH_MS);
    }
  }

  get isDraining(): boolean {
    return this.#isDraining;
  }

  get runningCount(): number {
    return this.#workers.runningCount;
  }

  /** Refuses new work from now on. */
  beginDraining(): void {
    this.#isDraining = true;
  }

  /** Ends what still runs for clients. No process and no temporary file of it is left when the promise resolves. */
  async close(): Promise<void> {
    clearInterval(this.#watchTimer);
    this.#closing.abort();
    while (this.#tasks.size > 0) await Promise.allSettled(this.#tasks);
  }

  async #tracked<T>(work: Promise<T>): Promise<T> {
    this.#tasks.add(work);
    try {
      return await work;
    } finally {
      this.#tasks.delete(work);
    }
  }

  /** Stores a job. It is on disk when the promise resolves. */
  async post(request: BlessRequest, traceparent: string): Promise<Job> {
    const { store, settings, log } = this.context;
    if (this.#isDraining) throw drainingError();
    const source = checkSource(request.source, settings.policy);
    const options = canonicalOptions(request.options, settings.optionRules);
    const posted = await store.post(
      { ...request, source, options },
      traceparent,
      settings.queueMax,
    );
    if (posted.kind === "full") {
      throw new RequestError(429, "queue_full", `${posted.queued} jobs wait already`, {
        hint: "ask again later",
        headers: { "Retry-After": String(RETRY_AFTER_SECONDS) },
      });
    }
    this.context.events.publish(posted.id, { kind: "state" });
    this.#workers.kick();
    log.info("job asked for", { job: posted.id, new: posted.kind === "created", source });
    return await this.job(posted.id);
  }

  /** A job, or the job it was merged into. */
  async job(id: string): Promise<Job> {
    return this.viewOf(await this.#record(id));
  }

  /** Like `job`, once the job has ended or after `seconds`. */
  async jobAfter(id: string, seconds: number, signal: AbortSignal): Promise<Job> {
    const untilMs = performance.now() + seconds * 1000;
    for (;;) {
      const asked = await this.#record(id);
      const restMs = untilMs - performance.now();
      if (asked.finishedMs !== undefined || restMs <= 0 || signal.aborted) {
        return this.viewOf(asked);
      }
      await this.#news([id, asked.id], restMs, signal, async () => {
        const record = await this.context.store.job(id);
        return record?.finishedMs !== undefined || record?.id !== asked.id;
      });
    }
  }

  /** Waits for a change of state. `isOver` is checked once after listening has begun, so that no change is missed. */
  #news(
    ids: readonly string[],
    milliseconds: number,
    signal: AbortSignal,
    isOver: () => Promise<boolean>,
  ): Promise<void> {
    return new Promise((resolve) => {
      const end = () => {
        for (const stop of stops) stop();
        clearTimeout(timer);
        signal.removeEventListener("abort", end);
        resolve();
      };
      const timer = setTimeout(end, milliseconds);
      const stops = ids.map((id) =>
        this.context.events.listen(id, ({ kind }) => kind === "state" && end())
      );
      signal.addEventListener("abort", end);
      isOver().then((over) => over && end(), end);
    });
  }

  async jobs(filter: JobFilter): Promise<{ readonly jobs: Job[]; readonly next: string | null }> {
    const records = await this.context.store.jobs({ ...filter, limit: filter.limit + 1 });
    const page = records.slice(0, filter.limit);
    const next = records.length > page.length ? page.at(-1)!.id : null;
    return { jobs: page.map((record) => this.viewOf(record)), next };
  }

  /** Cancels a job; resolves at once, and the job ends when its process has exited. */
  async cancel(asked: string): Promise<Job> {
    const { store, events } = this.context;
    // The job may have been merged into another one.
    const { id } = await this.#record(asked);
    const done = await store.cancel(id);
    if (done === "unknown") throw unknownJob(id);
    if (done === "finished") {
      throw new RequestError(409, "job_ended", `job ${id} has ended already`);
    }
    events.publish(id, { kind: "state" });
    this.#workers.runOf(id)?.stop("cancel");
    return await this.job(id);
  }

  viewOf(record: JobRecord): Job {
    const time = (ms: number | undefined) => ms === undefined ? null : new Date(ms).toISOString();
    return {
      id: record.id,
      state: record.state,
      source: record.source,
      mode: record.mode,
      options: record.options,
      names: [...record.names],
      priority: record.priority,
      key: record.key ?? null,
      manifestDigest: record.manifestDigest ?? null,
      image: record.imageDigest ?? null,
      error: record.error ?? null,
      attempts: record.attempts,
      runs: record.runs,
      host: record.owner?.split("/")[0] ?? null,
      progress: this.#workers.runOf(record.id)?.progress ?? record.progress,
      secondsByState: record.seconds,
      createdAt: time(record.createdMs)!,
      startedAt: time(record.startedMs),
      finishedAt: time(record.finishedMs),
    };
  }

  async image(digest: string): Promise<ImageDocument> {
    const record = await this.imageRecord(digest);
    return { ...figuresOf(record), ...JSON.parse(record.document) };
  }

  async imageRecord(digest: string): Promise<NamedImage> {
    const record = await this.context.store.image(digest);
    if (record === undefined) throw unknownImage(digest);
    return record;
  }

  async images(
    filter: { after?: string | undefined; limit: number; manifest?: string | undefined },
  ): Promise<{ readonly images: ImageFigures[]; readonly next: string | null }> {
    const records = await this.context.store.images({ ...filter, limit: filter.limit + 1 });
    const page = records.slice(0, filter.limit);
    const last = page.at(-1);
    const next = records.length > page.length ? `${last!.createdMs}-${last!.digest}` : null;
    return { images: page.map(figuresOf), next };
  }

  async deleteImage(digest: string, force: boolean): Promise<ImageFigures> {
    const { store, images, log } = this.context;
    const deletion = await images.exclusive(async () => {
      const deletion = await store.deleteImage(digest, force);
      if (deletion.kind === "deleted") await images.remove(digest);
      return deletion;
    });
    if (deletion.kind === "unknown") throw unknownImage(digest);
    if (deletion.kind === "named") {
      throw new RequestError(409, "image_is_named", `${deletion.names.join(", ")} refer to it`, {
        hint: "add ?force=true to remove the names as well",
      });
    }
    log.info("image deleted", { image: digest });
    const { files } = JSON.parse(deletion.record.document) as ImageDocument;
    const digests = files.map((file) => file.digest);
    // This only affects figures, so only the end of the server waits for it.
    void this.#tracked(this.#forget(digests));
    return figuresOf({ ...deletion.record, names: [] });
  }

  /** Removes files from the figures of what images share. */
  async #forget(digests: readonly string[]): Promise<void> {
    const { images, settings, log } = this.context;
    try {
      const stage = await images.stage("forget");
      const words = ["serve-task", "forget", ...digests, `--cells=${images.cellsPath}`, "--json"];
      await runTask(settings, stage, words);
      await images.unstage(stage);
    } catch (error) {
      log.warn("figures", errorFacts(error));
    }
  }

  /** The file of an image; fetched from the chunk store if this host did not make it. */
  async filePath(digest: string, position: number): Promise<string> {
    const { images } = this.context;
    const record = await this.imageRecord(digest);
    const { files } = JSON.parse(record.document) as ImageDocument;
    if (files[position] === undefined) {
      throw new RequestError(404, "unknown_layer", `the image has ${files.length} files`);
    }
    return await images.filePath(digest, position) ??
      await this.#restored(record, files[position].digest, position);
  }

  /** Fetches a file from the store, once for all who ask for it. */
  async #restored(record: NamedImage, fileDigest: string, position: number): Promise<string> {
    const { store, settings } = this.context;
    const index = await store.chunkIndex(record.digest, position);
    if (index === undefined || settings.store === undefined) {
      throw new RequestError(404, "not_here", "the image's file is on another host", {
        hint: "with --store every host can serve every image",
      });
    }
    const words = [`--store=${settings.store}`, "--json"];
    const running = this.#restoring.get(fileDigest) ??
      this.#tracked(this.#restore(index, fileDigest, words))
        .finally(() => this.#restoring.delete(fileDigest));
    this.#restoring.set(fileDigest, running);
    return await running;
  }

  /** Puts the file into the directory of images after checking its digest. */
  async #restore(
    index: Uint8Array,
    fileDigest: string,
    options: readonly string[],
  ): Promise<string> {
    const { images, settings } = this.context;
    const known = images.restoredPath(fileDigest);
    if (existsSync(known)) return known;
    const stage = await images.stage("restore");
    const run = async (words: readonly string[]) => {
      const end = await runTask(settings, stage, words, this.#closing.signal);
      const verdict = verdictOf(end, true);
      if (verdict.kind === "done") return verdict.document;
      const headers = { "Retry-After": String(RETRY_AFTER_SECONDS) };
      throw new RequestError(503, verdict.fault.code, verdict.fault.message, { headers });
    };
    try {
      const [indexPath, made] = [join(stage, "image.caibx"), join(stage, "image.ext4")];
      await writeFile(indexPath, index);
      await run(["restore", indexPath, `--output=${made}`, ...options]);
      const measure = [`--grid-bytes=${128 << 10}`, `--cells=${join(stage, "cells.db")}`, "--json"];
      const document = await run(["serve-task", "measure", made, ...measure]);
      const { files } = document as unknown as { files: readonly MeasuredFile[] };
      if (files[0]!.digest !== fileDigest) {
        throw new RequestError(503, "damaged_store", `the chunk store gave ${files[0]!.digest}`);
      }
      return await images.keepRestored(fileDigest, made);
    } finally {
      await images.unstage(stage);
    }
  }

  /** Measures what a store would save over images that are here. */
  async probe(request: ProbeRequest): Promise<unknown> {
    if (this.#isDraining) throw drainingError();
    if (this.#probeCount >= PROBES_MAX) {
      throw new RequestError(429, "busy", `${PROBES_MAX} probes run already`, {
        headers: { "Retry-After": String(RETRY_AFTER_SECONDS) },
      });
    }
    this.#probeCount++;
    try {
      return await this.#tracked(this.#probe(request));
    } finally {
      this.#probeCount--;
    }
  }

  async #probe({ images: wanted, grid, pairwise }: ProbeRequest): Promise<unknown> {
    const { images, settings } = this.context;
    const stage = await images.stage("probe");
    try {
      const paths = await this.#filesOf(wanted);
      const options = [
        ...grid === undefined ? [] : [`--grid=${grid}`],
        ...pairwise ? ["--pairwise"] : [],
      ];
      const words = ["probe", "--as-is", ...paths, "--format=json", ...options];
      const end = await runTask(settings, stage, words, this.#closing.signal);
      const verdict = verdictOf(end, false);
      if (verdict.kind === "done") return verdict.document;
      const { code, message, hint } = verdict.fault;
      throw new RequestError(400, code, message, { hint: hint ?? undefined });
    } finally {
      await images.unstage(stage);
    }
  }

  async #filesOf(wanted: readonly string[]): Promise<string[]> {
    const paths: string[] = [];
    for (const text of wanted) {
      const digest = text.startsWith("sha256:") ? text : (await this.name(text)).image;
      const { document } = await this.imageRecord(digest);
      const { files } = JSON.parse(document) as ImageDocument;
      for (const { position } of files) paths.push(await this.filePath(digest, position));
    }
    return paths;
  }

  async name(name: string): Promise<NameDocument> {
    const found = await this.context.store.name(name);
    if (found === undefined) {
      throw new RequestError(404, "unknown_name", `no image has the name ${name}`);
    }
    return {
      name,
      image: found.image,
      job: found.job,
      updatedAt: new Date(found.updatedMs).toISOString(),
    };
  }

  /** Whether the server accepts work: the database can be reached, and the server is not draining. */
  async readiness(): Promise<"ready" | "draining" | "no state"> {
    if (this.#isDraining) return "draining";
    try {
      await this.context.store.check();
      return "ready";
    } catch {
      return "no state";
    }
  }

  /** The metrics, with the current values of the gauges. */
  async metricsText(): Promise<string> {
    const { metrics, store, settings, events } = this.context;
    const counts = await store.counts();
    for (const state of JOB_STATES) {
      metrics.set("blessfs_jobs", { state }, counts.get(state) ?? 0);
    }
    const totals = await store.imageTotals();
    metrics.set("blessfs_images", {}, totals.count);
    metrics.set("blessfs_images_bytes", {}, totals.sizeBytes);
    metrics.set("blessfs_queue_limit", {}, settings.queueMax);
    metrics.set("blessfs_workers", {}, settings.workers);
    metrics.set("blessfs_running_jobs", {}, this.#workers.runningCount);
    metrics.set("blessfs_event_streams", {}, events.listenerCount);
    return metrics.text();
  }

  async #record(id: string): Promise<JobRecord> {
    const record = await this.context.store.job(id);
    if (record === undefined) throw unknownJob(id);
    return record;
  }

  /** Notifies watchers of changes to jobs on other hosts. */
  async #lookAtOthers(): Promise<void> {
    const { events, store } = this.context;
    const ids = events.watchedIds.filter((id) => this.#workers.runOf(id) === undefined);
    try {
      const records = await store.jobsById(ids);
      for (const { id, state, sameAs, progress } of records) {
        const news = JSON.stringify([state, sameAs]);
        const before = this.#seen.get(id);
        // The first check also notifies: the state may have changed since the watcher read it.
        if (before !== news) events.publish(id, { kind: "state" });
        else if (!FINAL_STATES.includes(state)) events.publish(id, { kind: "progress", progress });
        this.#seen.set(id, news);
      }
      for (const id of this.#seen.keys()) if (!ids.includes(id)) this.#seen.delete(id);
    } catch {
      // The database is unavailable; watchers see the change when it is back.
    }
  }
}

export function figuresOf(record: NamedImage): ImageFigures {
  const { digest, mode, source, manifestDigest, jobId, names, createdMs } = record;
  const { sizeBytes, cellBytes, newBytes, sharedBytes, rootHash } = record;
  const what = { digest, mode, source, manifestDigest, job: jobId, names: [...names] };
  const createdAt = new Date(createdMs).toISOString();
  return { ...what, sizeBytes, cellBytes, newBytes, sharedBytes, rootHash, createdAt };
}

function unknownJob(id: string): RequestError {
  return new RequestError(404, "unknown_job", `there is no job ${id}`);
}

function unknownImage(digest: string): RequestError {
  return new RequestError(404, "unknown_image", `there is no image ${digest}`);
}

function drainingError(): RequestError {
  return new RequestError(503, "draining", "the server is about to end", {
    headers: { "Retry-After": String(RETRY_AFTER_SECONDS) },
  });
}

function runTask(
  { program, jobMemoryBytes, deadlineMs }: ServeSettings,
  workDir: string,
  words: readonly string[],
  signal?: AbortSignal,
): Promise<ProgramEnd> {
  const limits = { memoryBytes: jobMemoryBytes, deadlineMs };
  return runProgramAgain(program, { words, workDir, ...limits, ...signal && { signal } });
}
