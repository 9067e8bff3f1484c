/**
 * The code of the worker as one module, gzip in base64. Packages have it; in the sources there is none, because worker.ts
 * lies beside them.
 *
 * @module
 */
export const WORKER_CODE: string | undefined = undefined;
