/**
 * /openapi.json: the routes and the schemas, as others read them. OpenAPI 3.1.
 *
 * @module
 */
import { type ConversionConfig, toJsonSchema } from "@valibot/to-json-schema";
import type * as v from "valibot";
import { DOCUMENTS, type Route, type RouteAnswer } from "./routes.ts";

type JsonSchema = Record<string, unknown>;

/** What a client sends is described as it is before it is transformed. */
const CONFIG: ConversionConfig = { errorMode: "ignore", typeMode: "input" };

function schemaOf(schema: v.GenericSchema<unknown, unknown>): JsonSchema {
  const { $schema: _, ...rest } = toJsonSchema(schema, CONFIG) as JsonSchema;
  return rest;
}

/** A route's path as OpenAPI writes it. */
export function openApiPath(path: string): string {
  return path.replace(/:([a-z]+)(?:\{[^}]*\})?/g, "{$1}");
}

/** The description of the API. */
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
