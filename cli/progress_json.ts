/**
 * Progress for programs: one JSON object a line on standard error.
 *
 *     {"progress":{"task":"write","event":"begin","doneBytes":0,"totalBytes":1048576}}
 *
 * `event` is `begin`, `advance` or `end`; `totalBytes` is null where it is not known. Tasks of one name may overlap, so each
 * has a number, `id`, that no other task of the run has.
 *
 * @module
 */
import { plainJson } from "../lib/bytes/byte_string.ts";
import type { ProgressTask } from "../lib/progress.ts";
import type { ProgressOptions, ShownProgress } from "./progress.ts";

/** A task says how far it is no more often than this. */
const ADVANCE_MS = 200;

/** Makes the progress of `--progress json`. */
export function createJsonProgress(
  { stderr, now }: Omit<ProgressOptions, "canRedraw">,
): ShownProgress {
  let taskCount = 0;
  const begin = (task: string, totalBytes?: number): ProgressTask => {
    const id = ++taskCount;
    let doneBytes = 0;
    let nextMs = now() + ADVANCE_MS;
    const tell = (event: string) =>
      stderr.write(
        `${
          plainJson({ progress: { id, task, event, doneBytes, totalBytes: totalBytes ?? null } })
        }\n`,
      );
    tell("begin");
    return {
      advance: (bytes) => {
        doneBytes += bytes;
        if (now() < nextMs) return;
        nextMs = now() + ADVANCE_MS;
        tell("advance");
      },
      end: () => tell("end"),
    };
  };
  return { begin, clear: () => {}, close: () => {} };
}
