/**
 * Bringing the directory of images and the state together: neither shall have an image that the other has not.
 *
 * @module
 */
import type { JobContext } from "./run_job.ts";

/** Looks through both; to be called when nothing is being published. */
export async function reconcile({ images, store, settings, log }: JobContext): Promise<void> {
  const isAlone = store.dialectName === "sqlite";
  for (const digest of await images.digests()) {
    if (await store.image(digest) !== undefined) continue;
    const sidecar = await images.sidecar(digest);
    if (sidecar === undefined) continue;
    if (await store.job(sidecar.record.jobId) !== undefined) {
      // Its job was about to end; it will make the image again, if it was not cancelled.
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
