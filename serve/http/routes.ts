/**
 * The routes of the API: their parameters, responses and actions. Both the Hono routes and /openapi.json (OpenAPI 3.1)
 * are generated from this table.
 *
 * @module
 */
import { type ConversionConfig, toJsonSchema } from "@valibot/to-json-schema";
import * as v from "valibot";
import { RequestError } from "../faults.ts";
import { eventStream, fileResponse } from "./responses.ts";
import {
  BlessRequestSchema,
  DeleteImageQuerySchema,
  DigestSchema,
  ErrorSchema,
  HealthSchema,
  ImageFiguresSchema,
  ImagePageSchema,
  ImageSchema,
  ImagesQuerySchema,
  JobPageSchema,
  JobQuerySchema,
  JobSchema,
  JobsQuerySchema,
  NameDocumentSchema,
  NameSchema,
  ProbeReportSchema,
  ProbeRequestSchema,
} from "../schemas.ts";
import type { ServeService } from "../service.ts";

export const DOCUMENTS = {
  BlessRequest: BlessRequestSchema,
  Error: ErrorSchema,
  Health: HealthSchema,
  Image: ImageSchema,
  ImageFigures: ImageFiguresSchema,
  ImagePage: ImagePageSchema,
  Job: JobSchema,
  JobPage: JobPageSchema,
  Name: NameDocumentSchema,
  ProbeReport: ProbeReportSchema,
  ProbeRequest: ProbeRequestSchema,
} as const;

export type DocumentName = keyof typeof DOCUMENTS;

export interface RouteRequest {
  readonly service: ServeService;
  readonly params: Readonly<Record<string, string>>;
  // deno-lint-ignore no-explicit-any -- checked against the route's own schemas
  readonly query: any;
  // deno-lint-ignore no-explicit-any -- as above
  readonly body: any;
  readonly header: (name: string) => string | undefined;
  readonly method: string;
  readonly traceparent: string;
  readonly signal: AbortSignal;
  /** Needed by the routes that serve the server's own documents. */
  readonly documents: { readonly version: string; openapi(): unknown };
}

type AnySchema = v.GenericSchema<unknown, unknown>;

interface RouteAnswer {
  readonly description: string;
  /** A JSON document, or another content type. */
  readonly content?: DocumentName | { readonly type: string };
}

export interface Route {
  readonly id: string;
  readonly method: "get" | "post" | "delete";
  /** `:NAME` stands for one segment, and `:NAME{.+}` for a part that may contain slashes. */
  readonly path: string;
  readonly summary: string;
  readonly params?: Readonly<Record<string, AnySchema>>;
  readonly query?: v.ObjectSchema<v.ObjectEntries, undefined>;
  readonly body?: "BlessRequest" | "ProbeRequest";
  readonly answers: Readonly<Record<number, RouteAnswer>>;
  /** Requires no token. */
  readonly isOpen?: boolean;
  run(request: RouteRequest): Promise<Response> | Response;
}

const JobId = v.pipe(v.string(), v.regex(/^[0-9a-f]{32}$/, "wanted the id of a job"));
const Position = v.pipe(v.string(), v.regex(/^[0-9]{1,4}$/));
const JOB_ANSWER: RouteAnswer = { description: "The job", content: "Job" };
const BYTES: RouteAnswer = {
  description: "The bytes",
  content: { type: "application/octet-stream" },
};
const BYTES_ANSWERS: Route["answers"] = {
  200: BYTES,
  206: { ...BYTES, description: "The part that Range asks for" },
  304: { description: "The bytes that If-None-Match names are right" },
  416: { description: "Range lies outside of the file", content: "Error" },
};

function json(document: unknown, status = 200, headers: Record<string, string> = {}): Response {
  return Response.json(document, { status, headers });
}

/** All routes below /v1, and those about the server itself. */
export const ROUTES: readonly Route[] = [
  {
    id: "bless",
    method: "post",
    path: "/v1/images",
    summary: "Ask for an image. The job is on disk when this answers; equal requests are one job",
    body: "BlessRequest",
    answers: {
      202: JOB_ANSWER,
      429: {
        description: "The queue is full; Retry-After says when to ask again",
        content: "Error",
      },
      503: { description: "The server is about to end, or has no state", content: "Error" },
    },
    async run({ service, body, traceparent }) {
      const job = await service.post(body, traceparent);
      return json(job, 202, { Location: `/v1/jobs/${job.id}` });
    },
  },
  {
    id: "listJobs",
    method: "get",
    path: "/v1/jobs",
    summary: "List jobs, the newest first",
    query: JobsQuerySchema,
    answers: { 200: { description: "A page of jobs", content: "JobPage" } },
    run: async ({ service, query }) => json(await service.jobs(query)),
  },
  {
    id: "getJob",
    method: "get",
    path: "/v1/jobs/:id",
    summary: "Get a job, with ?wait=30s when it has ended or after so long",
    params: { id: JobId },
    query: JobQuerySchema,
    answers: { 200: JOB_ANSWER },
    run: async ({ service, params, query, signal }) =>
      json(
        query.wait === undefined
          ? await service.job(params["id"]!)
          : await service.jobAfter(params["id"]!, query.wait, signal),
      ),
  },
  {
    id: "watchJob",
    method: "get",
    path: "/v1/jobs/:id/events",
    summary: "Follow a job: events `state` with the job and `progress` with how far it is",
    params: { id: JobId },
    answers: { 200: { description: "Events", content: { type: "text/event-stream" } } },
    run: async ({ service, params, signal }) => await eventStream(service, params["id"]!, signal),
  },
  {
    id: "cancelJob",
    method: "delete",
    path: "/v1/jobs/:id",
    summary: "Cancel a job; it leaves nothing",
    params: { id: JobId },
    answers: {
      202: JOB_ANSWER,
      409: { description: "The job has ended already", content: "Error" },
    },
    run: async ({ service, params }) => json(await service.cancel(params["id"]!), 202),
  },
  {
    id: "listImages",
    method: "get",
    path: "/v1/images",
    summary: "List images, the newest first",
    query: ImagesQuerySchema,
    answers: { 200: { description: "A page of images", content: "ImagePage" } },
    run: async ({ service, query }) => json(await service.images(query)),
  },
  {
    id: "getImage",
    method: "get",
    path: "/v1/images/:digest",
    summary: "Get an image's report, config and files",
    params: { digest: DigestSchema },
    answers: { 200: { description: "The image", content: "Image" } },
    run: async ({ service, params }) => json(await service.image(params["digest"]!)),
  },
  {
    id: "deleteImage",
    method: "delete",
    path: "/v1/images/:digest",
    summary: "Delete an image; one that has names only with ?force=true",
    params: { digest: DigestSchema },
    query: DeleteImageQuerySchema,
    answers: {
      200: { description: "What was deleted", content: "ImageFigures" },
      409: { description: "Names refer to it", content: "Error" },
    },
    run: async ({ service, params, query }) =>
      json(await service.deleteImage(params["digest"]!, query.force === "true")),
  },
  {
    id: "getImageBytes",
    method: "get",
    path: "/v1/images/:digest/bytes",
    summary: "Get the bytes of a merged image",
    params: { digest: DigestSchema },
    answers: BYTES_ANSWERS,
    run: async (request) => await bytes(request, request.params["digest"]!, 0),
  },
  {
    id: "getLayerBytes",
    method: "get",
    path: "/v1/images/:digest/layers/:position/bytes",
    summary: "Get the bytes of one layer's image; 0 is the lowest layer",
    params: { digest: DigestSchema, position: Position },
    answers: BYTES_ANSWERS,
    run: async (request) =>
      await bytes(request, request.params["digest"]!, Number(request.params["position"])),
  },
  {
    id: "getImageIndex",
    method: "get",
    path: "/v1/images/:digest/layers/:position/index",
    summary: "Get the index of the chunks of an image or of a layer's image in the store",
    params: { digest: DigestSchema, position: Position },
    answers: { 200: { ...BYTES, description: "A .caibx file" } },
    async run({ service, params }) {
      await service.imageRecord(params["digest"]!);
      const index = await service.context.store.chunkIndex(
        params["digest"]!,
        Number(params["position"]),
      );
      if (index === undefined) {
        throw new RequestError(404, "no_index", "the image is in no chunk store", {
          hint: "start the server with --store",
        });
      }
      return new Response(Uint8Array.from(index), {
        headers: { "Content-Type": "application/octet-stream" },
      });
    },
  },
  {
    id: "getName",
    method: "get",
    path: "/v1/names/:name{.+}",
    summary: "Get the image that a name refers to",
    params: { name: NameSchema },
    answers: { 200: { description: "The name", content: "Name" } },
    run: async ({ service, params }) => json(await service.name(params["name"]!)),
  },
  {
    id: "probe",
    method: "post",
    path: "/v1/probe",
    summary: "Measure what a store of fixed blocks saves over images that are here",
    body: "ProbeRequest",
    answers: {
      200: { description: "What `blessfs probe` reports", content: "ProbeReport" },
      429: { description: "Others probe now", content: "Error" },
    },
    run: async ({ service, body }) => json(await service.probe(body)),
  },
  {
    id: "getHealth",
    method: "get",
    path: "/healthz",
    summary: "Whether the server lives",
    isOpen: true,
    answers: { 200: { description: "It lives", content: "Health" } },
    run: ({ documents: { version } }) => json({ status: "ok", version }),
  },
  {
    id: "getReadiness",
    method: "get",
    path: "/readyz",
    summary: "Whether the server takes work",
    isOpen: true,
    answers: {
      200: { description: "It does", content: "Health" },
      503: { description: "It does not", content: "Health" },
    },
    async run({ service, documents: { version } }) {
      const status = await service.readiness();
      return json({ status, version }, status === "ready" ? 200 : 503);
    },
  },
  {
    id: "getMetrics",
    method: "get",
    path: "/metrics",
    summary: "Get figures for Prometheus",
    answers: { 200: { description: "Figures", content: { type: "text/plain" } } },
    run: async ({ service }) =>
      new Response(await service.metricsText(), {
        headers: { "Content-Type": "text/plain; version=0.0.4; charset=utf-8" },
      }),
  },
  {
    id: "getOpenApi",
    method: "get",
    path: "/openapi.json",
    summary: "Get this description",
    isOpen: true,
    answers: { 200: { description: "OpenAPI 3.1", content: { type: "application/json" } } },
    run: ({ documents }) => json(documents.openapi()),
  },
];

async function bytes(
  { service, header, method }: RouteRequest,
  digest: string,
  position: number,
): Promise<Response> {
  const { files } = await service.image(digest);
  const path = await service.filePath(digest, position);
  return await fileResponse(path, files[position]!.digest, header, method);
}

type JsonSchema = Record<string, unknown>;

/** Request schemas describe what the client sends, before it is transformed. */
const CONFIG: ConversionConfig = { errorMode: "ignore", typeMode: "input" };

function schemaOf(schema: v.GenericSchema<unknown, unknown>): JsonSchema {
  const { $schema: _, ...rest } = toJsonSchema(schema, CONFIG) as JsonSchema;
  return rest;
}

/** A route's path in OpenAPI notation. */
function openApiPath(path: string): string {
  return path.replace(/:([a-z]+)(?:\{[^}]*\})?/g, "{$1}");
}

export function openApiDocument(routes: readonly Route[], version: string): JsonSchema {
  const paths: Record<string, JsonSchema> = {};
  for (const route of routes) {
    const path = paths[openApiPath(route.path)] ??= {};
    path[route.method] = operationOf(route);
  }
  const schemas = Object.fromEntries(
    Object.entries(DOCUMENTS).map(([name, schema]) => [name, schemaOf(schema)]),
  );
  return {
    openapi: "3.1.0",
    info: {
      title: "blessfs serve",
      version,
      description: "Container images as ext4 images, made in the background.",
      license: { name: "MIT" },
    },
    paths,
    components: {
      schemas,
      securitySchemes: { token: { type: "http", scheme: "bearer" } },
    },
    security: [{ token: [] }],
  };
}

function operationOf(route: Route): JsonSchema {
  const parameters = [
    ...Object.entries(route.params ?? {}).map(([name, schema]) => ({
      name,
      in: "path",
      required: true,
      schema: schemaOf(schema),
    })),
    ...Object.entries(route.query?.entries ?? {}).map(([name, schema]) => ({
      name,
      in: "query",
      required: schema.type !== "optional",
      schema: schemaOf(schema as v.GenericSchema<unknown, unknown>),
    })),
  ];
  const responses = Object.fromEntries(
    Object.entries(route.answers).map(([status, answer]) => [status, responseOf(answer)]),
  );
  return {
    operationId: route.id,
    summary: route.summary,
    ...parameters.length === 0 ? {} : { parameters },
    ...route.body === undefined ? {} : {
      requestBody: {
        required: true,
        content: { "application/json": { schema: referenceTo(route.body) } },
      },
    },
    responses: {
      ...responses,
      default: responseOf({ description: "What is wrong", content: "Error" }),
    },
    ...route.isOpen ? { security: [] } : {},
  };
}

function responseOf({ description, content }: RouteAnswer): JsonSchema {
  if (content === undefined) return { description };
  if (typeof content === "string") {
    return {
      description,
      content: { "application/json": { schema: referenceTo(content) } },
    };
  }
  return { description, content: { [content.type]: {} } };
}

function referenceTo(name: string): JsonSchema {
  return { $ref: `#/components/schemas/${name}` };
}
