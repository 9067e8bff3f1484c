/**
 * The module that this library's threads load; it does nothing in a main thread. An application needs it only to ship
 * the threads' code separately: bundle it as its own file and pass its URL as `workerUrl`.
 *
 * @module
 */
import { type MessagePort, parentPort, workerData } from "node:worker_threads";
import { announceThread, type ThreadData, useWorkerUrl } from "./lib/io/thread.ts";

/** What a thread can do. Each role loads only what it needs. */
const ROLES: Readonly<Record<string, () => Promise<(port: MessagePort, setup: never) => void>>> = {
  blessing: async () => (await import("./lib/bless/bless_thread.ts")).serveBlessing,
  layers: async () => (await import("./lib/source/layers/worker.ts")).serveLayers,
  hashes: async () => (await import("./lib/verity/hash_tree.ts")).serveHashes,
  compression: async () => (await import("./probe/units/stored_sizes.ts")).serveCompression,
};

const { role, workerUrl, setup } = (workerData ?? {}) as Partial<ThreadData>;
const load = role === undefined ? undefined : ROLES[role];
if (parentPort && load && workerUrl !== undefined) {
  useWorkerUrl(workerUrl);
  const serve = await load();
  serve(parentPort, setup as never);
  announceThread(parentPort);
}
