/**
 * The worker's code as one module, gzipped and base64-encoded. Published packages contain it; the sources do not, because
 * worker.ts is next to them.
 *
 * @module
 */
export const WORKER_CODE: string | undefined = undefined;
