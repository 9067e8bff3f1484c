/**
 * Progress on standard error: on a terminal, one line per task, redrawn in place; elsewhere, an occasional plain line.
 * Work that takes less than a second shows nothing. Programs get one JSON object per line.
 *
 * It draws from `advance` as well as from a timer, because the timer cannot fire while the work loops without yielding.
 *
 * @module
 */
import { plainJson } from "../lib/bytes/byte_string.ts";
import type { Progress, ProgressTask } from "../lib/progress.ts";
import type { NoticeStream } from "./command.ts";
import { safeLine } from "./errors.ts";
import { formatClock, formatSize } from "./values.ts";

const QUIET_MS = 1000;
const FRAME_MS = 100;
const PLAIN_LINE_MS = 2000;
const MAX_LINES = 8;
const DEFAULT_COLUMNS = 80;
const NAME_COLUMNS = 24;

/** Progress that can be removed from the screen. */
export interface ShownProgress extends Progress {
  /** Removes the lines so that something else can be printed; the next frame restores them. */
  clear(): void;
  /** Removes the lines permanently and stops the timer. */
  close(): void;
}

export const NO_SHOWN_PROGRESS: ShownProgress = {
  begin: () => ({ advance: () => {}, end: () => {} }),
  clear: () => {},
  close: () => {},
};

interface ProgressOptions {
  readonly stderr: NoticeStream;
  readonly now: () => number;
  /** Whether lines can be redrawn; otherwise they are printed one after another, and rarely. */
  readonly canRedraw: boolean;
}

export function createProgress(options: ProgressOptions): ShownProgress {
  return new Renderer(options);
}

interface Task {
  readonly name: string;
  readonly totalBytes: number | undefined;
  readonly startMs: number;
  doneBytes: number;
}

class Renderer implements ShownProgress {
  readonly #options: ProgressOptions;
  readonly #tasks = new Set<Task>();
  /** The overlapping tasks taken together: all those begun since no task was last running. */
  #overall = { startMs: 0, doneBytes: 0, totalBytes: 0, begun: 0 };
  #timer: ReturnType<typeof setInterval> | undefined;
  #nextFrameMs = 0;
  #drawnLines = 0;
  #closed = false;

  constructor(options: ProgressOptions) {
    this.#options = options;
    this.#nextFrameMs = options.now() + QUIET_MS;
  }

  begin(name: string, totalBytes?: number): ProgressTask {
    const task: Task = {
      name: safeLine(name),
      totalBytes,
      startMs: this.#options.now(),
      doneBytes: 0,
    };
    if (this.#tasks.size === 0) {
      this.#overall = { startMs: task.startMs, doneBytes: 0, totalBytes: 0, begun: 0 };
    }
    this.#tasks.add(task);
    this.#overall.begun++;
    // Once one total is unknown, so is the overall total.
    this.#overall.totalBytes += totalBytes ?? NaN;
    this.#startTimer();
    return {
      advance: (bytes) => {
        task.doneBytes += bytes;
        this.#overall.doneBytes += bytes;
        this.#drawWhenDue();
      },
      end: () => {
        this.#tasks.delete(task);
        this.#drawWhenDue();
        if (this.#tasks.size === 0) this.#rest();
      },
    };
  }

  clear(): void {
    if (this.#drawnLines === 0) return;
    this.#options.stderr.write(`${cursorToFirst(this.#drawnLines)}\x1b[J`);
    this.#drawnLines = 0;
  }

  close(): void {
    this.#closed = true;
    this.#rest();
  }

  /** No task is running: removes the lines and stops the timer. */
  #rest(): void {
    this.clear();
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  #startTimer(): void {
    if (this.#timer !== undefined || this.#closed) return;
    this.#timer = setInterval(() => this.#drawWhenDue(), FRAME_MS);
    this.#timer.unref?.();
  }

  #drawWhenDue(): void {
    const now = this.#options.now();
    if (now < this.#nextFrameMs || this.#closed || this.#tasks.size === 0) return;
    this.#nextFrameMs = now + (this.#options.canRedraw ? FRAME_MS : PLAIN_LINE_MS);
    if (this.#options.canRedraw) this.#redraw(now);
    else this.#printPlain(now);
  }

  #redraw(now: number): void {
    const columns = this.#options.stderr.columns() ?? DEFAULT_COLUMNS;
    const lines = this.#lines(now, Math.max(columns - 1, 1));
    // Clear the rest of each line, and whatever a longer previous frame left below.
    const frame = lines.map((line) => `${line}\x1b[K`).join("\n");
    this.#options.stderr.write(`${cursorToFirst(this.#drawnLines)}${frame}\x1b[J`);
    this.#drawnLines = lines.length;
  }

  #printPlain(now: number): void {
    const lines = this.#lines(now, Infinity).map((line) =>
      `blessfs: ${line.replace(/\s+/g, " ").trim()}\n`
    );
    this.#options.stderr.write(lines.join(""));
  }

  #lines(now: number, columns: number): string[] {
    const shown = [...this.#tasks].slice(0, MAX_LINES);
    const lines = shown.map((task) => taskLine(task, now, columns));
    const hidden = this.#tasks.size - shown.length;
    if (hidden > 0) lines.push(fit(`... and ${hidden} more`, columns));
    if (this.#overall.begun > 1) {
      const { totalBytes } = this.#overall;
      const known = Number.isNaN(totalBytes) ? undefined : totalBytes;
      lines.push(taskLine({ ...this.#overall, name: "overall", totalBytes: known }, now, columns));
    }
    return lines;
  }
}

function cursorToFirst(drawnLines: number): string {
  return drawnLines > 1 ? `\r\x1b[${drawnLines - 1}A` : "\r";
}

/**
 * One line: `name   42%  210.0 MiB / 500.0 MiB  95.1 MiB/s  0:03 left`. Fields that do not fit are dropped from the
 * right, and the rest is cut.
 */
export function taskLine(task: Task, nowMs: number, columns: number): string {
  const { doneBytes, totalBytes } = task;
  const seconds = Math.max(nowMs - task.startMs, 1) / 1000;
  const rate = doneBytes / seconds;
  const fields = [fit(task.name, NAME_COLUMNS).padEnd(columns < 60 ? 0 : NAME_COLUMNS)];
  if (totalBytes !== undefined && totalBytes > 0) {
    fields.push(`${Math.min(Math.floor(doneBytes / totalBytes * 100), 100)}%`.padStart(4));
    fields.push(`${formatSize(doneBytes)} / ${formatSize(totalBytes)}`);
  } else {
    fields.push(formatSize(doneBytes));
  }
  if (doneBytes > 0) {
    fields.push(`${formatSize(rate)}/s`);
    if (totalBytes !== undefined && totalBytes > doneBytes) {
      fields.push(`${formatClock((totalBytes - doneBytes) / rate)} left`);
    }
  }
  while (fields.length > 2 && fields.join("  ").length > columns) fields.pop();
  return fit(fields.join("  "), columns);
}

/** Cuts text to a width. Characters beyond ASCII count as two columns, which is never too few. */
function fit(text: string, columns: number): string {
  let used = 0;
  let kept = "";
  for (const character of text) {
    used += character > "~" ? 2 : 1;
    if (used > columns) return kept;
    kept += character;
  }
  return kept;
}

/** The shortest interval between two reports of one task. */
const ADVANCE_MS = 200;

/**
 * The progress of `--progress json`:
 *
 *     {"progress":{"id":1,"task":"write","event":"begin","doneBytes":0,"totalBytes":1048576}}
 *
 * `event` is `begin`, `advance` or `end`; `totalBytes` is null where it is not known. Tasks of one name may overlap, so
 * each has a number, `id`, that no other task of the run has.
 */
export function createJsonProgress(
  { stderr, now }: Omit<ProgressOptions, "canRedraw">,
): ShownProgress {
  let taskCount = 0;
  const begin = (task: string, totalBytes?: number): ProgressTask => {
    const id = ++taskCount;
    let doneBytes = 0;
    let nextMs = now() + ADVANCE_MS;
    const print = (event: string) =>
      stderr.write(
        `${
          plainJson({ progress: { id, task, event, doneBytes, totalBytes: totalBytes ?? null } })
        }\n`,
      );
    print("begin");
    return {
      advance: (bytes) => {
        doneBytes += bytes;
        if (now() < nextMs) return;
        nextMs = now() + ADVANCE_MS;
        print("advance");
      },
      end: () => print("end"),
    };
  };
  return { begin, clear: () => {}, close: () => {} };
}
