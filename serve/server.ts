/**
 * Assembles a server from its parts: state, images, workers, HTTP.
 *
 * @module
 */
import { randomBytes } from "node:crypto";
import { mkdirSync } from "node:fs";
import { dirname } from "node:path";
import process from "node:process";
import { BlessfsError, IoError } from "../lib/errors.ts";
import { Tokens } from "./access.ts";
import { JobEvents, LayerClaims } from "./events.ts";
import { createApp } from "./http/app.ts";
import { EventStream } from "./http/responses.ts";
import { listen, type Listener } from "./http/listen.ts";
import { ImageDirectory, takeLock } from "./images.ts";
import { createLog, errorFacts, Metrics } from "./observe.ts";
import { addPages } from "./page/pages.ts";
import { reconcile, Workers } from "./workers.ts";
import type { JobContext } from "./run_job.ts";
import { ServeService } from "./service.ts";
import type { ServeSettings } from "./settings.ts";
import type { Database } from "./state/database.ts";
import { JobStore } from "./state/jobs.ts";

/** How long to wait for responses in progress. */
const CLOSE_MS = 2000;

export interface RunningServer {
  /** `unix:PATH` or `http://HOST:PORT`. */
  readonly address: string;
  /** Accepts no more work, waits for jobs, and shuts down. */
  drain(): Promise<void>;
  /** Shuts down now; running jobs go back into the queue. */
  stop(): Promise<void>;
}

/**
 * Starts a server.
 *
 * @param writeLog receives JSON lines
 * @throws {BlessfsError} when it cannot start: the directory is in use, the state cannot be opened, or the socket is
 * taken
 */
export async function startServer(
  settings: ServeSettings,
  writeLog: (line: string) => void,
): Promise<RunningServer> {
  const log = createLog(writeLog);
  const images = await ImageDirectory.open(settings.images);
  let store: JobStore | undefined;
  try {
    store = new JobStore(await openState(settings.state));
    const context: JobContext = {
      settings,
      store,
      images,
      claims: new LayerClaims(),
      events: new JobEvents(),
      metrics: new Metrics(),
      log,
    };
    // With SQLite, they can only belong to the previous server.
    if (store.dialectName === "sqlite") await store.recover({ kind: "all" });
    await reconcile(context);
    const workers = new Workers(
      context,
      `${settings.host}/${process.pid}-${randomBytes(6).toString("hex")}`,
    );
    const service = new ServeService(context, workers);
    const tokens = new Tokens(settings.tokens);
    const app = createApp({
      service,
      tokens,
      onlyLoopbackHosts: settings.listen.kind === "tcp" && tokens.isOpen,
      pages: (app) => addPages(app, service, tokens),
    });
    const listener = await listen(app, settings.listen);
    workers.start();
    log.info("listening", { address: listener.address, version: settings.version });
    return runningServer(context, service, workers, listener);
  } catch (error) {
    await store?.close();
    images.close();
    throw error;
  }
}

/** Opens the database that `--state` names. Errors do not repeat its address, which may contain a password. */
async function openState(state: string): Promise<Database> {
  try {
    if (/^postgres(?:ql)?:\/\//.test(state)) {
      const { openPostgres } = await import("./state/postgres.ts");
      return await openPostgres(state);
    }
    return await openFile(state);
  } catch (cause) {
    if (cause instanceof BlessfsError) throw cause;
    const why = cause instanceof Error && cause.message !== "" ? cause.message : String(cause);
    throw new IoError("the state", `cannot be opened: ${why}`, {
      hint: "check the file or the database that --state names, and who may use it",
      cause,
    });
  }
}

async function openFile(path: string): Promise<Database> {
  const { openSqlite } = await import("./state/sqlite.ts");
  mkdirSync(dirname(path), { recursive: true });
  const unlock = takeLock(`${path}.lock`, path);
  try {
    return openSqlite(path, unlock);
  } catch (error) {
    unlock();
    throw error;
  }
}

function runningServer(
  { log, store, images, settings }: JobContext,
  service: ServeService,
  workers: Workers,
  listener: Listener,
): RunningServer {
  let ending: Promise<void> | undefined;
  const end = async (drainMs: number) => {
    log.info("draining", { running: workers.runningCount });
    service.beginDraining();
    // Clients waiting for jobs that end meanwhile are still notified.
    await workers.drain(drainMs);
    await workers.stop();
    EventStream.closeAll();
    await listener.close(CLOSE_MS);
    await service.close();
    try {
      await store.close();
    } catch (error) {
      log.warn("the state could not be closed", errorFacts(error));
    }
    images.close();
    log.info("ended");
  };
  return {
    address: listener.address,
    drain: () => ending ??= end(settings.drainMs),
    stop: async () => {
      await workers.stop();
      await (ending ??= end(0));
    },
  };
}
