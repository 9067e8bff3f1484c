/**
 * Logs as JSON lines, trace propagation for requests, and metrics in the Prometheus text format.
 *
 * @module
 */
import { randomBytes } from "node:crypto";

type LogFacts = Readonly<Record<string, unknown>>;

export interface Log {
  info(message: string, facts?: LogFacts): void;
  warn(message: string, facts?: LogFacts): void;
  error(message: string, facts?: LogFacts): void;
}

/** A log that writes `{"time","level","message",...facts}`, one object per line. */
export function createLog(write: (line: string) => void): Log {
  const line = (level: string) => (message: string, facts: LogFacts = {}) =>
    write(`${JSON.stringify({ time: new Date().toISOString(), level, message, ...facts })}\n`);
  return { info: line("info"), warn: line("warn"), error: line("error") };
}

/** An error's facts for a log line. Its stack is left out. */
export function errorFacts(error: unknown): LogFacts {
  return { error: error instanceof Error ? error.message : String(error) };
}

/**
 * Continues the request's trace with a span of our own. W3C Trace Context, section 3.2.
 *
 * @param header the request's `traceparent`; an invalid one is ignored, as section 4.3 requires
 */
export function continueTrace(header: string | undefined): string {
  const match = /^00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})$/.exec(header ?? "");
  const isValid = match !== null && !/^0+$/.test(match[1]!) && !/^0+$/.test(match[2]!);
  const traceId = isValid ? match[1]! : randomBytes(16).toString("hex");
  return `00-${traceId}-${randomBytes(8).toString("hex")}-${isValid ? match[3]! : "00"}`;
}

/** The trace id, for logs. */
export function traceIdOf(traceparent: string): string {
  return traceparent.slice(3, 35);
}

type Labels = Readonly<Record<string, string>>;

interface Family {
  readonly kind: "counter" | "gauge" | "histogram";
  readonly help: string;
  readonly values: Map<string, number>;
}

const SECONDS_BOUNDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800];

const FAMILIES: readonly (readonly [string, Family["kind"], string])[] = [
  ["blessfs_http_requests_total", "counter", "Requests by method, route and status."],
  ["blessfs_http_request_seconds", "histogram", "Time to the head of the answer, by route."],
  ["blessfs_jobs", "gauge", "Jobs by state."],
  ["blessfs_queue_limit", "gauge", "Jobs that may wait."],
  ["blessfs_workers", "gauge", "Jobs that this host runs at the same time."],
  ["blessfs_running_jobs", "gauge", "Jobs that this host runs now."],
  ["blessfs_jobs_ended_total", "counter", "Jobs that ended on this host, by state and code."],
  ["blessfs_job_retries_total", "counter", "Jobs put back because of the network."],
  ["blessfs_stage_seconds", "histogram", "Time that jobs were in a state."],
  [
    "blessfs_stage_bytes_total",
    "counter",
    "Bytes that jobs read (loading), wrote (writing) or stored (storing).",
  ],
  ["blessfs_cells_total", "counter", "Cells of images that were made: new ones, and shared ones."],
  [
    "blessfs_layers_total",
    "counter",
    "Layers that jobs needed from registries: fetched, or shared.",
  ],
  ["blessfs_images", "gauge", "Images."],
  ["blessfs_images_bytes", "gauge", "What all images come to."],
  ["blessfs_event_streams", "gauge", "Streams of events that are open."],
];

export class Metrics {
  readonly #families = new Map<string, Family>(
    FAMILIES.map(([name, kind, help]) => [name, { kind, help, values: new Map() }]),
  );

  add(name: string, labels: Labels = {}, amount = 1): void {
    const { values } = this.#family(name);
    const key = labelText(labels);
    values.set(key, (values.get(key) ?? 0) + amount);
  }

  set(name: string, labels: Labels, value: number): void {
    this.#family(name).values.set(labelText(labels), value);
  }

  observe(name: string, labels: Labels, seconds: number): void {
    const { values } = this.#family(name);
    const count = (suffix: string, amount: number, more: Labels = {}) => {
      const key = `${suffix} ${labelText({ ...labels, ...more })}`;
      values.set(key, (values.get(key) ?? 0) + amount);
    };
    for (const bound of SECONDS_BOUNDS) {
      count("_bucket", seconds <= bound ? 1 : 0, { le: String(bound) });
    }
    count("_bucket", 1, { le: "+Inf" });
    count("_sum", seconds);
    count("_count", 1);
  }

  text(): string {
    const lines: string[] = [];
    for (const [name, { kind, help, values }] of this.#families) {
      lines.push(`# HELP ${name} ${help}`, `# TYPE ${name} ${kind}`);
      for (const [key, value] of values) {
        const [suffix, labels] = kind === "histogram" ? splitKey(key) : ["", key];
        lines.push(`${name}${suffix}${labels} ${value}`);
      }
    }
    return `${lines.join("\n")}\n`;
  }

  #family(name: string): Family {
    const family = this.#families.get(name);
    if (family === undefined) throw new Error(`Invariant broken: no metric is called ${name}`);
    return family;
  }
}

function splitKey(key: string): [string, string] {
  const space = key.indexOf(" ");
  return [key.slice(0, space), key.slice(space + 1)];
}

function labelText(labels: Labels): string {
  const entries = Object.entries(labels);
  if (entries.length === 0) return "";
  const escaped = (value: string) =>
    value.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
  return `{${entries.map(([name, value]) => `${name}="${escaped(value)}"`).join(",")}}`;
}
