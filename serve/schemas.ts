/**
 * The API's requests and responses: one schema each, used to check requests, derive types and generate /openapi.json.
 *
 * @module
 */
import * as v from "valibot";

export const DigestSchema = v.pipe(
  v.string(),
  v.regex(/^sha256:[0-9a-f]{64}$/, "wanted sha256: and 64 hexadecimal digits"),
);

export const NameSchema = v.pipe(
  v.string(),
  v.regex(
    /^[A-Za-z0-9][A-Za-z0-9._:@/-]{0,254}$/,
    "wanted up to 255 letters, digits, and . _ : @ / -",
  ),
  v.check((name) => !name.split("/").includes(".."), "wanted a name without .. in it"),
);

/** The states of a job, in order. */
export const JOB_STATES = [
  "queued",
  "resolving",
  "loading",
  "planning",
  "writing",
  "storing",
  "complete",
  "failed",
  "cancelled",
] as const;

export type JobState = typeof JOB_STATES[number];

/** The states in which a job has ended. */
export const FINAL_STATES: readonly JobState[] = ["complete", "failed", "cancelled"];

const StateSchema = v.picklist(JOB_STATES);
const ModeSchema = v.picklist(["merged", "layered"]);
const Count = v.pipe(v.number(), v.integer(), v.minValue(0));
const Time = v.pipe(v.string(), v.isoTimestamp());
const OptionValue = v.union([
  v.pipe(v.string(), v.maxLength(1024)),
  v.pipe(v.number(), v.integer(), v.minValue(0)),
  v.boolean(),
  v.pipe(v.array(v.pipe(v.string(), v.maxLength(1024))), v.maxLength(256)),
]);

/** The body of `POST /v1/images`. */
export const BlessRequestSchema = v.strictObject({
  source: v.pipe(v.string(), v.minLength(1), v.maxLength(4096)),
  mode: v.optional(ModeSchema, "merged"),
  options: v.optional(
    v.record(v.pipe(v.string(), v.regex(/^[a-z][a-z-]{0,40}$/)), OptionValue),
    {},
  ),
  name: v.optional(NameSchema),
  priority: v.optional(
    v.pipe(v.number(), v.integer(), v.minValue(-100), v.maxValue(100)),
    0,
  ),
});

export type BlessRequest = v.InferOutput<typeof BlessRequestSchema>;

export type OptionValue = v.InferOutput<typeof OptionValue>;

const FaultSchema = v.object({
  code: v.string(),
  message: v.string(),
  hint: v.nullable(v.string()),
});

export type Fault = v.InferOutput<typeof FaultSchema>;

/** The body of every error response. */
export const ErrorSchema = v.object({ error: FaultSchema });

const TaskSchema = v.object({
  task: v.string(),
  doneBytes: Count,
  totalBytes: v.nullable(Count),
  done: v.boolean(),
});

/** A job's progress: layers being read, then the image being written. */
const ProgressSchema = v.object({ tasks: v.array(TaskSchema) });

export type JobProgress = v.InferOutput<typeof ProgressSchema>;

export const JobSchema = v.object({
  id: v.string(),
  state: StateSchema,
  source: v.string(),
  mode: ModeSchema,
  options: v.record(v.string(), OptionValue),
  names: v.array(v.string()),
  priority: v.pipe(v.number(), v.integer()),
  key: v.nullable(v.string()),
  manifestDigest: v.nullable(v.string()),
  image: v.nullable(DigestSchema),
  error: v.nullable(FaultSchema),
  attempts: Count,
  runs: Count,
  host: v.nullable(v.string()),
  progress: ProgressSchema,
  secondsByState: v.record(v.string(), v.number()),
  createdAt: Time,
  startedAt: v.nullable(Time),
  finishedAt: v.nullable(Time),
});

export type Job = v.InferOutput<typeof JobSchema>;

export const JobPageSchema = v.object({ jobs: v.array(JobSchema), next: v.nullable(v.string()) });

const FigureFields = {
  digest: DigestSchema,
  mode: ModeSchema,
  source: v.string(),
  manifestDigest: v.nullable(v.string()),
  job: v.string(),
  names: v.array(v.string()),
  sizeBytes: Count,
  cellBytes: Count,
  newBytes: Count,
  sharedBytes: Count,
  rootHash: v.nullable(v.string()),
  createdAt: Time,
};

/** An image in a list. `newBytes` is what it added to the images, or to the store, that existed when it was made. */
export const ImageFiguresSchema = v.object(FigureFields);

export type ImageFigures = v.InferOutput<typeof ImageFiguresSchema>;

const FileSchema = v.object({
  position: Count,
  digest: DigestSchema,
  diffId: v.nullable(v.string()),
  sizeBytes: Count,
  gridBytes: Count,
  newCells: Count,
  sharedCells: Count,
  map: v.string(),
});

/** A file of an image: the image itself, or one layer's. */
export type ImageFile = v.InferOutput<typeof FileSchema>;

export const ImageSchema = v.object({
  ...FigureFields,
  report: v.record(v.string(), v.unknown()),
  config: v.unknown(),
  files: v.array(FileSchema),
});

export type ImageDocument = v.InferOutput<typeof ImageSchema>;

export const ImagePageSchema = v.object({
  images: v.array(ImageFiguresSchema),
  next: v.nullable(v.string()),
});

/** An image as stored in the database; `document` is its report, config and files as JSON. */
export const ImageRecordSchema = v.object({
  digest: DigestSchema,
  mode: ModeSchema,
  jobId: v.string(),
  source: v.string(),
  manifestDigest: v.nullable(v.string()),
  createdMs: v.number(),
  sizeBytes: v.number(),
  cellBytes: v.number(),
  newBytes: v.number(),
  sharedBytes: v.number(),
  rootHash: v.nullable(v.string()),
  document: v.string(),
});

export type ImageRecord = v.InferOutput<typeof ImageRecordSchema>;

export const NameDocumentSchema = v.object({
  name: v.string(),
  image: DigestSchema,
  job: v.string(),
  updatedAt: Time,
});

export type NameDocument = v.InferOutput<typeof NameDocumentSchema>;

/** The body of `POST /v1/probe`. */
export const ProbeRequestSchema = v.strictObject({
  images: v.pipe(v.array(v.union([DigestSchema, NameSchema])), v.minLength(1), v.maxLength(64)),
  grid: v.optional(v.pipe(v.string(), v.regex(/^[0-9]+[KM]?$/))),
  pairwise: v.optional(v.boolean(), false),
});

export type ProbeRequest = v.InferOutput<typeof ProbeRequestSchema>;

/** What `blessfs probe --format json` prints. */
export const ProbeReportSchema = v.looseObject({ grid: v.unknown(), images: v.unknown() });

export const HealthSchema = v.object({ status: v.string(), version: v.string() });

const PageQuery = {
  limit: v.optional(
    v.pipe(
      v.string(),
      v.regex(/^[0-9]{1,4}$/),
      v.transform(Number),
      v.minValue(1),
      v.maxValue(500),
    ),
    "100",
  ),
  after: v.optional(v.pipe(v.string(), v.maxLength(200))),
};

/** The query of `GET /v1/jobs`. */
export const JobsQuerySchema = v.object({
  ...PageQuery,
  state: v.optional(StateSchema),
  name: v.optional(NameSchema),
});

/** The query of `GET /v1/images`. */
export const ImagesQuerySchema = v.object({
  ...PageQuery,
  manifest: v.optional(DigestSchema),
});

/** The query of `GET /v1/jobs/ID`: `wait=30s` delays the response until the job has ended, or for at most that long. */
export const JobQuerySchema = v.object({
  wait: v.optional(
    v.pipe(
      v.string(),
      v.regex(/^[0-9]{1,3}s?$/, "wanted seconds, such as 30s"),
      v.transform((text) => parseInt(text, 10)),
      v.maxValue(300),
    ),
  ),
});

/** The query of `DELETE /v1/images/DIGEST`. */
export const DeleteImageQuerySchema = v.object({
  force: v.optional(v.picklist(["true", "false"])),
});
