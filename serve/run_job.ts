/**
 * One run of one job: resolves its source to an image, blesses it in a separate process, then measures and publishes
 * the result.
 *
 * @module
 */
import { mkdir, readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { formatReference, parseReference } from "../lib/source/source_name.ts";
import { optionWords } from "./access.ts";
import type { JobEvents, LayerClaims } from "./events.ts";
import { type Verdict, verdictOf } from "./faults.ts";
import type { ImageDirectory, MadeFile } from "./images.ts";
import { errorFacts, type Log, type Metrics, traceIdOf } from "./observe.ts";
import { runProgramAgain } from "./program.ts";
import type { Fault, ImageFile, ImageRecord, JobProgress, JobState } from "./schemas.ts";
import type { ServeSettings } from "./settings.ts";
import type { JobStore } from "./state/jobs.ts";
import { type Claim, type JobRecord, keyOf, type StoredIndex } from "./state/store.ts";
import type { MeasuredFile, ResolvedSource } from "./tasks.ts";

export interface JobContext {
  readonly settings: ServeSettings;
  readonly store: JobStore;
  readonly images: ImageDirectory;
  readonly claims: LayerClaims;
  readonly events: JobEvents;
  readonly metrics: Metrics;
  readonly log: Log;
}

/**
 * Why a run is stopped from outside: it was cancelled, another host has taken it over, or this server is shutting down.
 */
export type StopReason = "cancel" | "lost" | "drain";

type Outcome =
  | {
    readonly kind: "complete";
    readonly image: ImageRecord;
    readonly files: readonly MadeFile[];
    readonly imagePaths: readonly string[];
    readonly indexes: readonly StoredIndex[];
  }
  | { readonly kind: "joined" }
  | { readonly kind: "moved" }
  | { readonly kind: "failed"; readonly fault: Fault; readonly isTransient: boolean };

interface BlessReport {
  readonly manifestDigest: string | null;
  readonly sizeBytes: number;
  readonly cellBytes: number;
  readonly grid: number;
  readonly layers: readonly {
    readonly diffId: string;
    readonly file?: string;
  }[];
  readonly chunkStore?: { readonly newBytes: number; readonly reusedBytes: number };
  readonly verity?: { readonly rootHash?: string };
}

const PROGRESS_MS = 200;
const OUTAGE_WAIT_MS = 1000;

export class JobRun {
  readonly record: JobRecord;
  readonly #context: JobContext;
  /** Identifies the run in the database. */
  readonly claim: Claim;
  readonly #abort = new AbortController();
  readonly #tasks = new Map<unknown, JobProgress["tasks"][number]>();
  readonly #seconds: Record<string, number>;
  readonly #begunMs = performance.now();
  #reason: StopReason | undefined;
  #key: string | undefined;
  #hasNews = false;
  #state: JobState = "resolving";
  #stateSinceMs = performance.now();
  #written: Promise<void> = Promise.resolve();
  #progressTimer: ReturnType<typeof setTimeout> | undefined;

  constructor(context: JobContext, record: JobRecord, owner: string) {
    this.#context = context;
    this.record = record;
    this.claim = { id: record.id, owner };
    this.#seconds = { ...record.seconds };
  }

  get progress(): JobProgress {
    return { tasks: [...this.#tasks.values()] };
  }

  /**
   * Stops the run. The first reason counts, except that `lost` always wins: a host that lost a job must not record its
   * end.
   */
  stop(reason: StopReason): void {
    if (this.#reason === undefined || reason === "lost") this.#reason = reason;
    this.#abort.abort(new Error(`stopped: ${reason}`));
  }

  /** Runs the job until it ends in some way. Never rejects. */
  async run(): Promise<void> {
    const { images, claims, log } = this.#context;
    let stage: string | undefined;
    this.#log("info", "job begins", { run: this.record.runs });
    try {
      stage = await images.stage(this.record.id);
      const outcome = await this.#outcome(stage);
      claims.release(this.record.id);
      await this.#written;
      await this.#settle(outcome, stage);
    } catch (error) {
      log.error("job could not be ended", { job: this.record.id, ...errorFacts(error) });
    } finally {
      claims.forget(this.record.id);
      clearTimeout(this.#progressTimer);
      this.#publishProgress();
      clearTimeout(this.#progressTimer);
      if (stage !== undefined) await rm(stage, { recursive: true, force: true }).catch(() => {});
      this.#context.events.publish(this.record.id, { kind: "state" });
    }
  }

  async #outcome(stage: string): Promise<Outcome> {
    try {
      return await this.#work(stage);
    } catch (error) {
      const code = (error as { code?: unknown }).code;
      const isFull = code === "ENOSPC" || code === "EDQUOT";
      const message = error instanceof Error ? error.message : String(error);
      const fault = { code: isFull ? "no_space" : "internal", message, hint: null };
      return { kind: "failed", fault, isTransient: false };
    }
  }

  async #work(stage: string): Promise<Outcome> {
    const { store, claims, images, metrics } = this.#context;
    const verdict = await this.#resolve(stage);
    if (verdict.kind === "failed") return verdict;
    const source = verdict.document as unknown as ResolvedSource;
    const manifestDigest = source.manifestDigest ?? undefined;
    const key = this.#keyOf(source);
    this.#key = key;
    const next = await this.#duringOutages(() =>
      store.resolved(this.claim, { key, manifestDigest })
    );
    if (next === "lost") this.stop("lost");
    if (next !== "bless") return { kind: "joined" };
    if (this.#usesNetwork) {
      const digests = source.layers.flatMap(({ digest }) => digest ?? []);
      this.#goTo("loading");
      const found = await claims.take(
        this.record.id,
        digests,
        (wanted) => images.presentBlobs(wanted),
        this.#abort.signal,
      );
      metrics.add("blessfs_layers_total", { kind: "fetched" }, found.fetched);
      metrics.add("blessfs_layers_total", { kind: "shared" }, found.shared);
    }
    return await this.#bless(stage, source);
  }

  get #usesNetwork(): boolean {
    return this.record.source.startsWith("docker://");
  }

  #keyOf({ manifestDigest, contentDigest }: ResolvedSource): string {
    const { mode, options, id } = this.record;
    const { timestamp, version } = this.#context.settings;
    // A directory tree has no digest to compare, so it is blessed again every time.
    const content = manifestDigest ?? contentDigest ?? `job:${id}`;
    return keyOf({ content, mode, options, timestamp, version });
  }

  async #resolve(stage: string): Promise<Verdict> {
    const { source, options } = this.record;
    const platform = options["platform"];
    const words = [
      "serve-task",
      "resolve",
      source,
      "--json",
      ...platform === undefined ? [] : [`--platform=${platform}`],
      ...this.#sourceWords(),
    ];
    const mostMs = this.#context.settings.resolveMs;
    const verdict = await this.#runProgram(stage, words, this.#usesNetwork, mostMs);
    if (verdict.kind === "done") return verdict;
    // A registry that did not respond may do so later.
    const isSilent = verdict.fault.code === "deadline" && this.#usesNetwork;
    return { ...verdict, isTransient: verdict.isTransient || isSilent };
  }

  /** The options that the server itself sets for the source. */
  #sourceWords(): string[] {
    const { authFile, plainHttp, tmpdir } = this.#context.settings;
    return [
      ...tmpdir === undefined ? [] : [`--tmpdir=${tmpdir}`],
      ...this.#usesNetwork && authFile !== undefined ? [`--authfile=${authFile}`] : [],
      ...this.#usesNetwork && plainHttp ? ["--plain-http"] : [],
    ];
  }

  async #bless(stage: string, resolved: ResolvedSource): Promise<Outcome> {
    const { settings, images } = this.#context;
    const { mode, options } = this.record;
    this.#goTo("loading");
    const out = join(stage, mode === "merged" ? "image.ext4" : "layers");
    if (mode === "layered") {
      await mkdir(out);
      const diffIds = resolved.layers.flatMap(({ diffId }) => diffId ?? []);
      await images.offerLayers(this.#poolKey, diffIds, out);
    }
    const indexPath = join(stage, "image.caibx");
    const words = [
      "bless",
      mode,
      this.#pinnedSource(resolved),
      `--output=${out}`,
      "--json",
      "--progress=json",
      ...optionWords(options, settings.optionRules),
      ...this.#sourceWords(),
      ...this.#usesNetwork ? [`--blob-cache=${images.blobDir}`] : [],
      ...settings.store === undefined ? [] : [`--store=${settings.store}`],
      ...settings.store === undefined || mode === "layered" ? [] : [`--index=${indexPath}`],
    ];
    const verdict = await this.#runProgram(stage, words, this.#usesNetwork);
    if (verdict.kind === "failed") return verdict;
    const report = verdict.document as unknown as BlessReport;
    // The tag may have moved between the two processes.
    if (report.manifestDigest !== resolved.manifestDigest) return { kind: "moved" };
    this.#goTo("storing");
    return await this.#measure(stage, out, report, resolved);
  }

  get #poolKey(): string {
    const { options } = this.record;
    const { timestamp, version } = this.#context.settings;
    const { platform: _platform, ...rest } = options;
    return keyOf({ options: rest, timestamp, version }).slice(0, 32);
  }

  /** Names the resolved image by digest, because its tag may have moved. */
  #pinnedSource({ manifestDigest }: ResolvedSource): string {
    const { source } = this.record;
    if (!this.#usesNetwork || manifestDigest === null) return source;
    const reference = parseReference(source.slice("docker://".length));
    return `docker://${formatReference({ ...reference, tag: undefined, digest: manifestDigest })}`;
  }

  async #measure(
    stage: string,
    out: string,
    report: BlessReport,
    resolved: ResolvedSource,
  ): Promise<Outcome> {
    const { settings, images } = this.#context;
    const made = this.#madeFiles(out, report);
    const paths = made.map(({ path }) => path);
    const options = [`--grid-bytes=${report.grid}`, `--cells=${images.cellsPath}`, "--json"];
    const words = ["serve-task", "measure", ...paths, ...options];
    const verdict = await this.#runProgram(stage, words, false);
    if (verdict.kind === "failed") return verdict;
    const { files } = verdict.document as unknown as { files: readonly MeasuredFile[] };
    const digest = this.record.mode === "merged"
      ? files[0]!.digest
      : `sha256:${
        keyOf(files.map((file, i) => ({ diffId: made[i]!.diffId, digest: file.digest })))
      }`;
    const image = this.#imageRecord(digest, report, made, files, resolved, stage);
    const moves = this.record.mode === "merged"
      ? [{ from: out, to: `${digest.slice("sha256:".length)}.ext4` }]
      : await this.#layerMoves(out);
    const indexes: StoredIndex[] = [];
    if (settings.store !== undefined) {
      for (const [position, { indexPath }] of made.entries()) {
        indexes.push({ position, bytes: await readFile(indexPath) });
      }
    }
    const imagePaths = made.map(({ path }) => moves.find(({ from }) => from === path)!.to);
    return { kind: "complete", image, files: moves, imagePaths, indexes };
  }

  /** The layer images and the records that prove them; files that belong only to this image stay behind. */
  async #layerMoves(out: string): Promise<MadeFile[]> {
    const names = await readdir(out);
    return names.filter((name) => !name.startsWith("image") && !name.endsWith(".caibx"))
      .map((name) => ({ from: join(out, name), to: `layers/${this.#poolKey}/${name}` }));
  }

  #madeFiles(out: string, report: BlessReport) {
    if (this.record.mode === "merged") {
      return [{ path: out, diffId: undefined, indexPath: out.replace(/ext4$/, "caibx") }];
    }
    return report.layers.map(({ diffId, file = "" }) => {
      const path = join(out, file);
      return { path, diffId, indexPath: path.replace(/ext4$/, "caibx") };
    });
  }

  #imageRecord(
    digest: string,
    report: BlessReport,
    made: readonly { readonly diffId: string | undefined }[],
    files: readonly MeasuredFile[],
    { config }: ResolvedSource,
    stage: string,
  ): ImageRecord {
    const sum = (pick: (file: MeasuredFile) => number) =>
      files.reduce((total, file) => total + pick(file), 0);
    const { metrics } = this.#context;
    metrics.add("blessfs_cells_total", { kind: "new" }, sum((file) => file.newCells));
    metrics.add("blessfs_cells_total", { kind: "shared" }, sum((file) => file.sharedCells));
    const { chunkStore } = report;
    const documentFiles = files.map((file, position): ImageFile => {
      const { digest, sizeBytes, newCells, sharedCells, map } = file;
      const diffId = made[position]!.diffId ?? null;
      const gridBytes = report.grid;
      return { position, digest, diffId, sizeBytes, gridBytes, newCells, sharedCells, map };
    });
    const { source, mode, id } = this.record;
    const document = JSON.stringify({
      report: { ...report, source },
      config,
      files: documentFiles,
      // Clients need not know the working directory, which no longer exists.
    }).replaceAll(`${stage}/`, "");
    return {
      digest,
      mode,
      jobId: id,
      source,
      manifestDigest: report.manifestDigest,
      createdMs: Date.now(),
      sizeBytes: report.sizeBytes,
      cellBytes: report.cellBytes,
      newBytes: chunkStore?.newBytes ?? sum((file) => file.newBytes),
      sharedBytes: chunkStore?.reusedBytes ?? sum((file) => file.sharedBytes),
      rootHash: report.verity?.rootHash ?? null,
      document,
    };
  }

  async #settle(outcome: Outcome, stage: string): Promise<void> {
    const { store, metrics } = this.#context;
    this.#countSeconds();
    if (this.#reason === "lost") return this.#log("warn", "job was taken by another host");
    if (this.#reason === "drain") {
      await this.#duringOutages(() => store.putBack(this.claim, 0, false));
      return this.#log("info", "job is put back");
    }
    if (this.#reason === "cancel") return await this.#end("cancelled", undefined);
    switch (outcome.kind) {
      case "joined":
        return this.#log("info", "job is the same as another");
      case "moved":
        return await this.#putBack(0, {
          code: "source_moved",
          message: "the source changed each time that it was read",
          hint: null,
        });
      case "complete":
        return await this.#publish(outcome, stage);
      case "failed":
        if (!outcome.isTransient) return await this.#end("failed", outcome.fault);
        metrics.add("blessfs_job_retries_total");
        return await this.#putBack(undefined, outcome.fault);
    }
  }

  async #putBack(delayMs: number | undefined, fault: Fault): Promise<void> {
    const { store, settings } = this.#context;
    const wait = settings.retryDelaysMs[this.record.attempts];
    if (wait === undefined) return await this.#end("failed", fault);
    await this.#duringOutages(() => store.putBack(this.claim, delayMs ?? wait, true));
    this.#log("warn", "job is tried again", { waitMs: delayMs ?? wait, fault });
  }

  async #end(state: "failed" | "cancelled", fault: Fault | undefined): Promise<void> {
    const { store, metrics } = this.#context;
    const isOurs = await this.#duringOutages(() =>
      store.end(this.claim, state, fault, this.#seconds)
    );
    if (!isOurs) return;
    metrics.add("blessfs_jobs_ended_total", { state, code: fault?.code ?? "" });
    this.#log(state === "failed" ? "warn" : "info", `job ${state}`, { fault });
  }

  async #publish(
    { image, files, imagePaths, indexes }: Outcome & { kind: "complete" },
    stage: string,
  ): Promise<void> {
    const { images, metrics } = this.#context;
    const { digest } = image;
    const isOurs = await images.exclusive(async () => {
      const wasThere = await images.has(digest);
      try {
        if (!wasThere) {
          const names = files.map(({ to }) => to);
          const whole = { files: names, images: [...imagePaths], record: image };
          await images.publish({ version: 1, key: this.#key ?? null, ...whole }, files, stage);
        }
        const isOurs = await this.#duringOutages(() => this.#complete(image, indexes));
        if (!isOurs && !wasThere) await this.#unpublish(digest);
        return isOurs;
      } catch (error) {
        if (!wasThere) await this.#unpublish(digest);
        throw error;
      }
    }).catch(async (error: unknown) => {
      // A host that lost its claim during an outage must not record how the job ended: the job runs again.
      if (this.#reason === "lost") return undefined;
      const isFull = (error as { code?: unknown }).code === "ENOSPC";
      await this.#end("failed", {
        code: isFull ? "no_space" : "io",
        message: error instanceof Error ? error.message : String(error),
        hint: null,
      });
      return undefined;
    });
    if (isOurs === undefined) return;
    if (!isOurs) return await this.#end("cancelled", undefined);
    metrics.add("blessfs_jobs_ended_total", { state: "complete", code: "" });
    metrics.add("blessfs_stage_bytes_total", { stage: "storing" }, image.newBytes);
    this.#log("info", "job complete", { image: digest, seconds: this.#seconds });
  }

  async #complete(image: ImageRecord, indexes: readonly StoredIndex[]): Promise<boolean> {
    const { store } = this.#context;
    if (await store.complete(this.claim, image, indexes, this.#seconds)) return true;
    // It may have been recorded earlier, with the confirmation lost in an outage.
    const job = await store.job(this.record.id);
    return job?.state === "complete" && job.imageDigest === image.digest;
  }

  async #unpublish(digest: string): Promise<void> {
    const { images, store } = this.#context;
    const record = await this.#duringOutages(() => store.image(digest));
    if (record === undefined) await images.remove(digest);
  }

  async #runProgram(
    workDir: string,
    words: readonly string[],
    usesNetwork: boolean,
    mostMs = Infinity,
  ): Promise<Verdict> {
    const { settings } = this.#context;
    const leftMs = settings.deadlineMs - (performance.now() - this.#begunMs);
    const end = await runProgramAgain(settings.program, {
      words,
      workDir,
      traceparent: this.record.traceparent,
      deadlineMs: Math.max(1, Math.min(leftMs, mostMs)),
      memoryBytes: settings.jobMemoryBytes,
      signal: this.#abort.signal,
      onLine: (line) => this.#onLine(line),
    });
    return verdictOf(end, usesNetwork);
  }

  #onLine(line: Readonly<Record<string, unknown>>): void {
    const { id, task, event, doneBytes, totalBytes } = (line["progress"] ?? {}) as Record<
      string,
      unknown
    >;
    if (typeof task !== "string" || typeof doneBytes !== "number") return;
    const before = this.#tasks.get(id)?.doneBytes ?? 0;
    const stage = task.startsWith("layer ") ? "loading" : task === "write" ? "writing" : undefined;
    if (stage !== undefined) {
      this.#context.metrics.add("blessfs_stage_bytes_total", { stage }, doneBytes - before);
    }
    this.#tasks.set(id, {
      task,
      doneBytes,
      totalBytes: typeof totalBytes === "number" ? totalBytes : null,
      done: event === "end",
    });
    if (task === "write") {
      this.#goTo(event === "end" ? "storing" : "writing");
    } else if (stage === "loading" && event === "end") {
      const isReading = [...this.#tasks.values()].some((other) => !other.done);
      const [, , count] = /^layer (\d+) of (\d+)/.exec(task) ?? [];
      const layers = [...this.#tasks.values()].filter((other) => other.task.startsWith("layer "));
      if (!isReading && layers.length >= Number(count ?? 0)) this.#goTo("planning");
    }
    this.#hasNews = true;
    if (this.#progressTimer === undefined) this.#publishProgress();
  }

  /** Reports progress, then nothing more for a while. */
  #publishProgress(): void {
    this.#progressTimer = undefined;
    if (!this.#hasNews) return;
    this.#hasNews = false;
    this.#context.events.publish(this.record.id, { kind: "progress", progress: this.progress });
    this.#progressTimer = setTimeout(() => this.#publishProgress(), PROGRESS_MS);
  }

  /** Moves to another state, never back, except to write the next layer's image. */
  #goTo(state: JobState): void {
    if (state === this.#state || this.#abort.signal.aborted) return;
    this.#countSeconds();
    if (this.#state === "loading") this.#context.claims.release(this.record.id);
    this.#state = state;
    const { store, events, log } = this.#context;
    this.#written = this.#written.then(async () => {
      // If the job has moved on meanwhile, this state need not be written.
      if (this.#state !== state) return;
      try {
        if (!await store.advance(this.claim, state, this.#seconds)) this.stop("lost");
        events.publish(this.record.id, { kind: "state" });
      } catch (error) {
        log.warn("state could not be written", { job: this.record.id, ...errorFacts(error) });
      }
    });
  }

  #countSeconds(): void {
    const now = performance.now();
    const seconds = (now - this.#stateSinceMs) / 1000;
    this.#stateSinceMs = now;
    this.#seconds[this.#state] = Math.round(
      ((this.#seconds[this.#state] ?? 0) + seconds) * 1000,
    ) / 1000;
    this.#context.metrics.observe("blessfs_stage_seconds", { stage: this.#state }, seconds);
  }

  /** Retries while the database is unavailable, so that a job's outcome is not lost. */
  async #duringOutages<T>(step: () => Promise<T>): Promise<T> {
    for (;;) {
      try {
        return await step();
      } catch (error) {
        if (!this.#context.store.isOutage(error) || this.#reason === "lost") throw error;
        this.#log("warn", "the state cannot be reached", errorFacts(error));
        await new Promise((resolve) => setTimeout(resolve, OUTAGE_WAIT_MS));
      }
    }
  }

  #log(
    level: "info" | "warn",
    message: string,
    facts: Readonly<Record<string, unknown>> = {},
  ): void {
    const { id, traceparent } = this.record;
    this.#context.log[level](message, { job: id, trace: traceIdOf(traceparent), ...facts });
  }
}
