/**
 * The page at `/` and those it links to.
 *
 * @module
 */
import type { Context } from "hono";
import { formatSize } from "../../lib/bytes/arithmetic.ts";
import { tokenOf, type Tokens } from "../access.ts";
import { RequestError } from "../faults.ts";
import type { App } from "../http/app.ts";
import { EventStream, streamResponse } from "../http/responses.ts";
import { continueTrace } from "../observe.ts";
import { FINAL_STATES, type Job } from "../schemas.ts";
import type { ServeService } from "../service.ts";
import { type Html, SCRIPT, STYLE } from "./html.ts";
import {
  imageView,
  jobSection,
  jobView,
  loginView,
  type OverviewParts,
  overviewSections,
  overviewView,
  pageView,
} from "./views.ts";

const RUNNING_MAX = 50;
const QUEUE_MAX = 20;
const ENDED_MAX = 10;
const IMAGES_MAX = 40;
/** The shortest interval between live updates. */
const LIVE_MS = 500;
const FORM_BYTES_MAX = 16 << 10;

export function addPages(app: App, service: ServeService, tokens: Tokens): void {
  const pages = new Pages(service, tokens);
  const asset = (path: string, text: string, type: string) =>
    app.get(path, (context) =>
      context.body(text, 200, {
        "Content-Type": `${type}; charset=utf-8`,
        "Cache-Control": "no-cache",
      }));
  asset("/assets/page.css", STYLE, "text/css");
  asset("/assets/page.js", SCRIPT, "text/javascript");
  app.get("/login", (context) => pages.login(context, false));
  app.post("/login", (context) => pages.enter(context));
  app.post("/logout", (context) => pages.leave(context));
  app.get("/", (context) => pages.guarded(context, () => pages.overview(context, undefined)));
  app.get("/live", (context) => pages.guarded(context, () => pages.live(context)));
  app.post("/ask", (context) => pages.guarded(context, () => pages.ask(context)));
  app.get("/jobs/:id", (context) => pages.guarded(context, () => pages.job(context)));
  app.post("/jobs/:id/cancel", (context) => pages.guarded(context, () => pages.cancel(context)));
  app.get("/images/:digest", (context) => pages.guarded(context, () => pages.image(context)));
}

class Pages {
  readonly #service: ServeService;
  readonly #tokens: Tokens;

  constructor(service: ServeService, tokens: Tokens) {
    this.#service = service;
    this.#tokens = tokens;
  }

  /** Shows a page to clients with a token, and redirects the others to the login form. */
  async guarded(context: Context, show: () => Promise<Response>): Promise<Response> {
    const { req } = context;
    if (!this.#tokens.accepts(tokenOf(req.header("authorization"), req.header("cookie")))) {
      return context.redirect("/login", 303);
    }
    if (req.method === "POST") checkOrigin(context);
    return await show();
  }

  login(context: Context, wasWrong: boolean): Response {
    if (this.#tokens.isOpen) return context.redirect("/", 303);
    const text = pageView("Log in · blessfs", loginView(wasWrong), this.#frame(false));
    return context.html(text, wasWrong ? 403 : 200);
  }

  async enter(context: Context): Promise<Response> {
    checkOrigin(context);
    const token = (await formOf(context)).get("token") ?? "";
    if (!this.#tokens.accepts(token)) return this.login(context, true);
    // The proxy in front knows whether the client connected over TLS.
    const isSecure = context.req.header("x-forwarded-proto") === "https";
    context.header(
      "Set-Cookie",
      `blessfs_token=${encodeURIComponent(token)}; Path=/; HttpOnly; SameSite=Strict${
        isSecure ? "; Secure" : ""
      }`,
    );
    return context.redirect("/", 303);
  }

  leave(context: Context): Response {
    checkOrigin(context);
    context.header("Set-Cookie", "blessfs_token=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0");
    return context.redirect("/login", 303);
  }

  async overview(context: Context, fault: string | undefined): Promise<Response> {
    const body = overviewView(await this.#overviewParts(), fault);
    const frame = this.#frame(true, "/live");
    return context.html(pageView("blessfs", body, frame), fault === undefined ? 200 : 400);
  }

  async job(context: Context): Promise<Response> {
    const job = await this.#service.job(context.req.param("id")!);
    const frame = this.#frame(true, `/live?job=${job.id}`);
    return context.html(pageView(`${job.state} · blessfs`, jobView(job), frame));
  }

  async image(context: Context): Promise<Response> {
    const image = await this.#service.image(context.req.param("digest")!);
    const title = `${image.names[0] ?? image.source} · blessfs`;
    return context.html(pageView(title, imageView(image), this.#frame(true)));
  }

  /** Handles the form of the overview. If the request is refused, the error is shown above the form. */
  async ask(context: Context): Promise<Response> {
    const form = await formOf(context);
    const source = form.get("source") ?? "";
    const name = form.get("name") ?? "";
    const mode = form.get("mode") === "layered" ? "layered" : "merged";
    try {
      const request = { source, mode, options: {}, priority: 0 } as const;
      if (name !== "" && !/^[A-Za-z0-9][A-Za-z0-9._:@/-]{0,254}$/.test(name)) {
        throw new RequestError(
          400,
          "invalid_request",
          "the name has characters that none may have",
        );
      }
      const job = await this.#service.post(
        name === "" ? request : { ...request, name },
        continueTrace(context.req.header("traceparent")),
      );
      return context.redirect(`/jobs/${job.id}`, 303);
    } catch (error) {
      if (!(error instanceof RequestError)) throw error;
      const { message, hint } = error;
      return await this.overview(context, hint === undefined ? message : `${message}: ${hint}`);
    }
  }

  async cancel(context: Context): Promise<Response> {
    const id = context.req.param("id")!;
    try {
      await this.#service.cancel(id);
    } catch (error) {
      // The job has ended in the meantime; the page shows how.
      if (!(error instanceof RequestError) || error.code !== "job_ended") throw error;
    }
    return context.redirect(`/jobs/${id}`, 303);
  }

  /** Streams the changing sections as HTML. */
  live(context: Context): Promise<Response> {
    const jobId = context.req.query("job");
    const { events } = this.#service.context;
    const stops: (() => void)[] = [];
    const stream = new EventStream(context.req.raw.signal, () => {
      clearInterval(timer);
      for (const stop of stops) stop();
    });
    let isChanged = true;
    let isBusy = false;
    const sendChanges = async () => {
      if (!isChanged || isBusy) return;
      isChanged = false;
      isBusy = true;
      try {
        const { sections, status, isOver } = jobId === undefined
          ? await this.#liveOverview()
          : await this.#liveJob(jobId);
        const texts = Object.fromEntries(
          Object.entries(sections).map(([id, section]) => [id, section.text]),
        );
        stream.send("page", { sections: texts, status });
        if (isOver) stream.send("over", {});
      } catch {
        stream.close();
      } finally {
        isBusy = false;
      }
    };
    const mark = () => void (isChanged = true);
    // Running jobs change all the time; the script skips sections that have not changed.
    const isLocal = this.#service.context.store.dialectName === "sqlite";
    if (jobId === undefined) stops.push(events.listenToAll(mark));
    else stops.push(events.listen(jobId, mark));
    let ticks = 0;
    const timer = setInterval(() => {
      const hasWork = this.#service.runningCount > 0;
      if (hasWork || !isLocal && ++ticks % 4 === 0) isChanged = true;
      void sendChanges();
    }, LIVE_MS);
    void sendChanges();
    return Promise.resolve(streamResponse(stream));
  }

  async #liveOverview(): Promise<LivePage> {
    const parts = await this.#overviewParts();
    const status = `${parts.running.length} jobs run, ${parts.queuedCount} wait, ` +
      `${parts.imageCount} images`;
    return { sections: overviewSections(parts), status, isOver: false };
  }

  async #liveJob(id: string): Promise<LivePage> {
    const job = await this.#service.job(id);
    return {
      sections: { job: jobSection(job) },
      status: `The job is ${job.state}`,
      isOver: FINAL_STATES.includes(job.state),
    };
  }

  async #overviewParts(): Promise<OverviewParts> {
    const { store, settings } = this.#service.context;
    const counts = await store.counts();
    const count = (...states: readonly string[]) =>
      states.reduce((sum, state) => sum + (counts.get(state) ?? 0), 0);
    const unfinished = (await store.unfinished(RUNNING_MAX + QUEUE_MAX))
      .map((record) => this.#service.viewOf(record));
    const ended: Job[] = [];
    for (const state of FINAL_STATES) {
      ended.push(...(await this.#service.jobs({ state, limit: ENDED_MAX })).jobs);
    }
    ended.sort((a, b) => b.finishedAt!.localeCompare(a.finishedAt!));
    const { images } = await this.#service.images({ limit: IMAGES_MAX });
    const totals = await store.imageTotals();
    const running = unfinished.filter(({ state }) => state !== "queued");
    return {
      figures: [
        ["running", `${running.length} of ${settings.workers}`],
        ["waiting", count("queued")],
        ["failed", count("failed")],
        ["images", totals.count],
        ["size of all images", formatSize(totals.sizeBytes)],
        ["added to the store", formatSize(totals.newBytes)],
      ],
      running,
      queued: unfinished.filter(({ state }) => state === "queued").slice(0, QUEUE_MAX),
      queuedCount: count("queued"),
      ended: ended.slice(0, ENDED_MAX),
      images,
      imageCount: totals.count,
    };
  }

  #frame(isInside: boolean, live?: string) {
    const { version, host } = this.#service.context.settings;
    const hasToken = isInside && !this.#tokens.isOpen;
    return { version, host, hasToken, ...live === undefined ? {} : { live } };
  }
}

interface LivePage {
  readonly sections: Readonly<Record<string, Html>>;
  readonly status: string;
  readonly isOver: boolean;
}

/** Accepts forms only from pages of this server, judging by the origin that browsers send. */
function checkOrigin(context: Context): void {
  const origin = context.req.header("origin");
  const site = context.req.header("sec-fetch-site");
  const isSame = origin !== undefined && URL.canParse(origin) &&
    new URL(origin).host === context.req.header("host");
  if (isSame || origin === undefined && (site === undefined || site === "same-origin")) return;
  throw new RequestError(403, "wrong_origin", "the form comes from another site");
}

async function formOf(context: Context): Promise<URLSearchParams> {
  const length = Number(context.req.header("content-length") ?? NaN);
  if (!(length <= FORM_BYTES_MAX)) {
    throw new RequestError(413, "too_large", "the form is too large");
  }
  return new URLSearchParams(await context.req.text());
}
