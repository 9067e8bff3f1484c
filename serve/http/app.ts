/**
 * The HTTP side: access, size limits and error responses.
 *
 * @module
 */
import { type Context, Hono } from "hono";
import * as v from "valibot";
import { isLoopbackHost, tokenOf, type Tokens } from "../access.ts";
import { RequestError } from "../faults.ts";
import { continueTrace, errorFacts, traceIdOf } from "../observe.ts";
import type { ServeService } from "../service.ts";
import { DOCUMENTS, openApiDocument, type Route, type RouteRequest, ROUTES } from "./routes.ts";

const BODY_BYTES_MAX = 256 << 10;
const BODY_MS_MAX = 10_000;
const SECURITY_HEADERS = {
  "Content-Security-Policy":
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' data:; " +
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
  // With no-referrer, a browser would not send the origin of a form.
  "Referrer-Policy": "same-origin",
  "X-Content-Type-Options": "nosniff",
} as const;

interface AppParts {
  readonly service: ServeService;
  readonly tokens: Tokens;
  /** Only answers requests whose Host is this machine, because the server listens on loopback and requires no token. */
  readonly onlyLoopbackHosts: boolean;
  /** Adds the routes outside the API. */
  readonly pages?: (app: App) => void;
}

interface Environment {
  Variables: { traceparent: string; route: string };
}

export type App = Hono<Environment>;
type AppContext = Context<Environment>;

export function createApp(parts: AppParts): App {
  const app: App = new Hono<Environment>();
  const { service } = parts;
  watchRequests(app, service);
  app.use(async (context, next) => {
    checkHost(context, parts.onlyLoopbackHosts);
    await next();
    for (const [name, value] of Object.entries(SECURITY_HEADERS)) {
      context.res.headers.set(name, value);
    }
  });
  let openapi: unknown;
  const { version } = service.context.settings;
  const documents = {
    version,
    openapi: () => openapi ??= openApiDocument(ROUTES, version),
  };
  for (const route of ROUTES) addRoute(app, route, parts, documents);
  parts.pages?.(app);
  for (const path of new Set(ROUTES.map((route) => route.path))) {
    const methods = ROUTES.filter((route) => route.path === path)
      .map((route) => route.method.toUpperCase());
    const headers = { Allow: methods.join(", ") };
    const message = `wanted ${methods.join(" or ")}`;
    app.all(path, () => new RequestError(405, "method_not_allowed", message, { headers }).response);
  }
  const hint = "/openapi.json lists what there is";
  app.notFound(() =>
    new RequestError(404, "not_found", "there is nothing here", { hint }).response
  );
  app.onError((error, context) => answerError(error, context, service));
  return app;
}

/** Throws unless the request has a valid token, if one is required. */
function checkToken(context: Context, tokens: Tokens): void {
  const token = tokenOf(context.req.header("authorization"), context.req.header("cookie"));
  if (tokens.accepts(token)) return;
  throw new RequestError(401, "unauthorized", "a token is needed", {
    hint: "send it as `Authorization: Bearer TOKEN`",
    headers: { "WWW-Authenticate": "Bearer" },
  });
}

function checkHost(context: Context, onlyLoopback: boolean): void {
  if (!onlyLoopback || isLoopbackHost(context.req.header("host"))) return;
  throw new RequestError(421, "wrong_host", "the request names another host than this one");
}

function watchRequests(app: App, service: ServeService): void {
  const { metrics, log } = service.context;
  app.use(async (context, next) => {
    const begunMs = performance.now();
    const traceparent = continueTrace(context.req.header("traceparent"));
    context.set("traceparent", traceparent);
    await next();
    const seconds = (performance.now() - begunMs) / 1000;
    const { method } = context.req;
    const route = context.get("route") ?? "other";
    const { status } = context.res;
    context.res.headers.set("traceparent", traceparent);
    metrics.add("blessfs_http_requests_total", { method, route, status: String(status) });
    if (route !== "watchJob") metrics.observe("blessfs_http_request_seconds", { route }, seconds);
    if (route === "getHealth" || route === "getReadiness" || route === "getMetrics") return;
    log.info("request", {
      method,
      path: context.req.path.slice(0, 300),
      status,
      seconds: Math.round(seconds * 10_000) / 10_000,
      trace: traceIdOf(traceparent),
    });
  });
}

function addRoute(
  app: App,
  route: Route,
  { service, tokens }: AppParts,
  documents: RouteRequest["documents"],
): void {
  app.on(route.method.toUpperCase(), route.path, async (context, next) => {
    context.set("route", route.id);
    if (route.isOpen !== true) checkToken(context, tokens);
    await next();
  });
  app.on(route.method.toUpperCase(), route.path, async (context) => {
    const params = checkParams(route, context);
    const query = route.query === undefined ? {} : check(route.query, context.req.query(), "query");
    const body = route.body === undefined ? undefined : await readBody(context, route.body);
    return await route.run({
      service,
      params,
      query,
      body,
      header: (name) => context.req.header(name),
      method: context.req.method,
      traceparent: context.get("traceparent"),
      signal: context.req.raw.signal,
      documents,
    });
  });
}

function checkParams(route: Route, context: AppContext): Record<string, string> {
  return Object.fromEntries(
    Object.entries(route.params ?? {}).map(([name, schema]) => [
      name,
      check(schema, context.req.param(name), name) as string,
    ]),
  );
}

async function readBody(context: AppContext, name: "BlessRequest" | "ProbeRequest") {
  const type = context.req.header("content-type")?.split(";")[0]?.trim().toLowerCase();
  // A cross-site page cannot send this type without a preflight request.
  if (type !== "application/json") {
    throw new RequestError(415, "wrong_type", "wanted a body of type application/json");
  }
  const text = await readText(context.req.raw);
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch {
    throw new RequestError(400, "invalid_json", "the body is not JSON");
  }
  return check(DOCUMENTS[name], document, "body");
}

/** The whole body, if it is short and arrives in time; large bodies and slow clients are refused. */
async function readText(request: Request): Promise<string> {
  const tooLarge = () =>
    new RequestError(413, "too_large", `the body has more than ${BODY_BYTES_MAX} bytes`, {
      // The rest of the body is not read.
      headers: { Connection: "close" },
    });
  if (Number(request.headers.get("content-length") ?? 0) > BODY_BYTES_MAX) throw tooLarge();
  const reader = request.body?.getReader();
  if (reader === undefined) return "";
  let isLate = false;
  const timer = setTimeout(() => {
    isLate = true;
    void reader.cancel().catch(() => {});
  }, BODY_MS_MAX);
  try {
    const decoder = new TextDecoder();
    let text = "";
    let bytes = 0;
    for (;;) {
      const { done, value } = await reader.read();
      if (isLate) {
        throw new RequestError(408, "too_slow", "the body did not come in time", {
          headers: { Connection: "close" },
        });
      }
      if (done) return text + decoder.decode();
      bytes += value.length;
      if (bytes > BODY_BYTES_MAX) throw tooLarge();
      text += decoder.decode(value, { stream: true });
    }
  } finally {
    clearTimeout(timer);
    void reader.cancel().catch(() => {});
  }
}

/** Checks a value. The message names the field and what is wanted, and never repeats the client's input. */
function check(schema: v.GenericSchema<unknown, unknown>, value: unknown, what: string): unknown {
  const result = v.safeParse(schema, value, { abortEarly: true });
  if (result.success) return result.output;
  const [issue] = result.issues;
  const path = (issue.path ?? []).map((item) => String(item.key).slice(0, 40)).join(".");
  const where = path === "" ? what : what === "body" ? path : `${what}.${path}`;
  const isUnknown = issue.type === "strict_object" && issue.expected === "never";
  // Custom messages begin with `wanted`; valibot's own would show what was received.
  const wanted = issue.message.startsWith("wanted")
    ? issue.message
    : `wanted ${issue.expected ?? "another value"}`;
  throw new RequestError(
    400,
    isUnknown ? "unknown_field" : "invalid_request",
    `${where}: ${isUnknown ? "there is no such field" : wanted}`,
  );
}

function answerError(error: Error, context: AppContext, service: ServeService): Response {
  const { log, store } = service.context;
  if (error instanceof RequestError) return error.response;
  const trace = traceIdOf(context.get("traceparent") ?? continueTrace(undefined));
  if (store.isOutage(error)) {
    log.warn("the state cannot be reached", { trace, ...errorFacts(error) });
    return new RequestError(503, "no_state", "the server cannot reach its state now", {
      hint: "ask again later",
      headers: { "Retry-After": "5" },
    }).response;
  }
  log.error("request failed", { trace, ...errorFacts(error), stack: error.stack });
  const message = `a fault of the server; its log has the trace ${trace}`;
  return new RequestError(500, "internal", message).response;
}
