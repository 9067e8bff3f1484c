/**
 * The workers of one host: they claim jobs, renew their leases, and put back jobs that other hosts have lost.
 *
 * @module
 */
import { errorFacts } from "./observe.ts";
import { type JobContext, JobRun, type StopReason } from "./run_job.ts";

const IDLE_MS = 1000;
const AFTER_OUTAGE_MS = 1000;
const JANITOR_MS = 10 * 60_000;

/** Runs jobs, a bounded number at a time. */
export class Workers {
  readonly #context: JobContext;
  readonly #owner: string;
  readonly #running = new Map<string, JobRun>();
  readonly #ends = new Set<Promise<void>>();
  readonly #timers = new Set<ReturnType<typeof setTimeout>>();
  #claimCount = 0;
  #isOpen = true;
  #isClaiming = false;
  #wantsMore = false;
  #renewedMs = performance.now();
  #onAllEnded: (() => void)[] = [];

  /** @param owner a name that no other process ever uses */
  constructor(context: JobContext, owner: string) {
    this.#context = context;
    this.#owner = owner;
  }

  get runningCount(): number {
    return this.#running.size;
  }

  runOf(id: string): JobRun | undefined {
    return this.#running.get(id);
  }

  start(): void {
    const { leaseMs } = this.#context.settings;
    this.#every(IDLE_MS, () => this.#fill());
    this.#every(leaseMs / 3, () => this.#renew());
    this.#every(leaseMs / 2, () => this.#recover());
    this.#every(JANITOR_MS, () => this.#tidy());
    this.kick();
  }

  /** Looks for work, because there may be some. */
  kick(): void {
    void this.#fill();
  }

  /** Claims no more jobs and waits for the running ones; after `waitMs` they are put back. */
  async drain(waitMs: number): Promise<void> {
    this.#isOpen = false;
    const timer = setTimeout(() => this.#stopAll("drain"), waitMs);
    await this.#allEnded();
    clearTimeout(timer);
  }

  /** Stops everything now; running jobs are put back. */
  async stop(): Promise<void> {
    this.#isOpen = false;
    this.#stopAll("drain");
    await this.#allEnded();
    for (const timer of this.#timers) clearTimeout(timer);
    this.#timers.clear();
  }

  /** Whether no other host shares the state. */
  get #isAlone(): boolean {
    return this.#context.store.dialectName === "sqlite";
  }

  #stopAll(reason: StopReason): void {
    for (const run of this.#running.values()) run.stop(reason);
  }

  async #allEnded(): Promise<void> {
    while (this.#isClaiming || this.#running.size > 0) {
      await new Promise<void>((resolve) => this.#onAllEnded.push(resolve));
    }
    await Promise.all(this.#ends);
  }

  #wakeWaiting(): void {
    const waiting = this.#onAllEnded;
    this.#onAllEnded = [];
    for (const wake of waiting) wake();
  }

  /** Repeats a step, each time the given interval after the last one has ended. */
  #every(milliseconds: number, step: () => Promise<void>): void {
    const timer = setTimeout(async () => {
      this.#timers.delete(timer);
      await step();
      // Leases must be renewed while the server waits for its jobs.
      if (this.#isOpen || this.#running.size > 0) this.#every(milliseconds, step);
    }, milliseconds);
    this.#timers.add(timer);
  }

  async #fill(): Promise<void> {
    this.#wantsMore = true;
    if (this.#isClaiming) return;
    this.#isClaiming = true;
    const { store, settings, log } = this.#context;
    try {
      while (this.#wantsMore && this.#isOpen && this.#running.size < settings.workers) {
        this.#wantsMore = false;
        // Each claim has its own name, so that a job that comes back to this host is not mistaken for the earlier
        // claim.
        const owner = `${this.#owner}-${++this.#claimCount}`;
        const record = await store.claim(owner, settings.leaseMs);
        if (record === undefined) continue;
        this.#wantsMore = true;
        this.#begin(new JobRun(this.#context, record, owner));
      }
    } catch (error) {
      log.warn("no job could be taken", errorFacts(error));
      await new Promise((resolve) => setTimeout(resolve, AFTER_OUTAGE_MS));
    } finally {
      this.#isClaiming = false;
      this.#wakeWaiting();
    }
  }

  #begin(run: JobRun): void {
    const { id } = run.record;
    // If this host lost the job and gets it back, the old run is stopped and its outcome is ignored.
    this.#running.get(id)?.stop("lost");
    this.#running.set(id, run);
    this.#context.events.publish(id, { kind: "state" });
    // The job was claimed after the drain looked at the list.
    if (!this.#isOpen) run.stop("drain");
    const ended = run.run().then(() => {
      if (this.#running.get(id) === run) this.#running.delete(id);
      this.#ends.delete(ended);
      this.#wakeWaiting();
      this.kick();
    });
    this.#ends.add(ended);
  }

  /** Renews the leases of this host's jobs, and learns which jobs should end. */
  async #renew(): Promise<void> {
    if (this.#running.size === 0) {
      this.#renewedMs = performance.now();
      return;
    }
    const { store, settings, log } = this.#context;
    // Jobs claimed after this point are not expected in the answer.
    const asked = [...this.#running.values()];
    try {
      const claims = asked.map((run) => ({ ...run.claim, progress: run.progress }));
      const mine = await store.renew(claims, settings.leaseMs);
      this.#renewedMs = performance.now();
      for (const run of asked) {
        const state = mine.get(run.record.id);
        if (state?.cancelRequested) run.stop("cancel");
        else if (state === undefined && !await this.#hasEnded(run)) run.stop("lost");
      }
    } catch (error) {
      log.warn("leases could not be renewed", errorFacts(error));
      const isTooLate = performance.now() - this.#renewedMs > settings.leaseMs;
      // Another host may have taken the jobs by now.
      if (isTooLate && !this.#isAlone) this.#stopAll("lost");
    }
  }

  /** A job missing from the answer may have ended in the meantime. */
  async #hasEnded(run: JobRun): Promise<boolean> {
    if (!this.#running.has(run.record.id)) return true;
    const job = await this.#context.store.job(run.record.id);
    return job === undefined || job.finishedMs !== undefined || job.id !== run.record.id;
  }

  async #recover(): Promise<void> {
    const { store, events, log } = this.#context;
    // After the machine has slept, renew this host's own jobs first.
    await this.#renew();
    try {
      for (const { id, state } of await store.recover({ kind: "expired" })) {
        log.warn("job of a host that is silent", { job: id, state });
        events.publish(id, { kind: "state" });
      }
      this.kick();
    } catch (error) {
      log.warn("jobs could not be recovered", errorFacts(error));
    }
  }

  async #tidy(): Promise<void> {
    const { store, images, claims, settings, log } = this.#context;
    try {
      await images.trimBlobs(settings.blobBytesMax, claims.neededDigests);
      // Also removes images that another host has deleted.
      await images.exclusive(() => reconcile(this.#context));
      await store.forgetJobs(settings.keepJobsMs);
    } catch (error) {
      log.warn("tidying failed", errorFacts(error));
    }
  }
}

/** Reconciles the directory with the database; call it only when nothing is being published. */
export async function reconcile({ images, store, settings, log }: JobContext): Promise<void> {
  const isAlone = store.dialectName === "sqlite";
  for (const digest of await images.digests()) {
    if (await store.image(digest) !== undefined) continue;
    const sidecar = await images.sidecar(digest);
    if (sidecar === undefined) continue;
    if (await store.job(sidecar.record.jobId) !== undefined) {
      // Its job was about to end, and will make the image again unless it was cancelled.
      await images.remove(digest);
    } else if (isAlone) {
      await store.adopt(sidecar.record, sidecar.key ?? undefined);
      log.warn("image found that the state does not know", { image: digest });
    }
  }
  if (!isAlone || settings.store !== undefined) return;
  let after: string | undefined;
  do {
    const page = await store.images({ after, limit: 500 });
    for (const { digest } of page) {
      if (await images.has(digest)) continue;
      log.warn("image is missing; it is made again when it is asked for", { image: digest });
      await store.deleteImage(digest, true);
      await images.remove(digest);
    }
    const last = page.at(-1);
    after = last && `${last.createdMs}-${last.digest}`;
  } while (after !== undefined);
}
