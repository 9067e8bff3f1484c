/**
 * The pages' content as HTML.
 *
 * @module
 */
import { formatSize } from "../../lib/bytes/arithmetic.ts";
import type { ImageDocument, ImageFigures, Job, JobProgress } from "../schemas.ts";
import { Html, html, type HtmlPart } from "./html.ts";

const LABEL_CHARACTERS = 14;
/** Bars closer together than this have no room for labels. */
const LABEL_STEP_MIN = 90;

export function pageView(
  title: string,
  body: Html,
  { version, host, hasToken, live }: {
    readonly version: string;
    readonly host: string;
    /** Whether the visitor is logged in and can log out. */
    readonly hasToken: boolean;
    /** The address of the script's live updates. */
    readonly live?: string;
  },
): string {
  return html`
    <!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8">
        <meta name="viewport" content="width=device-width, initial-scale=1">
        <title>${title}</title>
        <link rel="icon" href="data:,">
        <link rel="stylesheet" href="/assets/page.css">
        <script src="/assets/page.js" defer></script>
      </head>
      <body${live === undefined ? null : new Html(` data-live="${html`${live}`.text}"`)}>
        <a class="skip" href="#main">Skip to the content</a>
        <header>
    <a class="brand" href="/">blessfs</a>
    <p>${host}</p>
    ${hasToken &&
      html`<form method="post" action="/logout"><button class="small">Log out</button></form>`}
        </header>
        <main id="main">
    ${body}
        </main>
        <footer>blessfs ${version} · <a href="/openapi.json">API</a> · <a href="/metrics">metrics</a></footer>
        <p id="status" class="unseen" role="status"></p>
        </body>
        </html>
  `.text;
}

export function loginView(wasWrong: boolean): Html {
  return html`<h1>Log in</h1>
<form class="login" method="post" action="/login">
${wasWrong && html`<p class="fault" role="alert">That token is not one of this server's.</p>`}
<label>Token <input name="token" type="password" autocomplete="current-password" required autofocus></label>
<button class="main">Log in</button>
</form>`;
}

export interface OverviewParts {
  readonly figures: readonly (readonly [label: string, value: string | number])[];
  readonly running: readonly Job[];
  readonly queued: readonly Job[];
  readonly queuedCount: number;
  readonly ended: readonly Job[];
  readonly images: readonly ImageFigures[];
  readonly imageCount: number;
}

/** The overview's sections by id, as replaced by the script. */
export function overviewSections(parts: OverviewParts): Record<string, Html> {
  return {
    figures: figuresView(parts.figures),
    running: runningView(parts.running),
    queue: queueView(parts.queued, parts.queuedCount),
    images: imagesView(parts.images, parts.imageCount),
    ended: endedView(parts.ended),
  };
}

export function overviewView(parts: OverviewParts, fault: string | undefined): Html {
  const sections = overviewSections(parts);
  const section = (id: string, title: string) =>
    html`
      <section aria-labelledby="${id}-title">
        <h2 id="${id}-title">${title}</h2>
        <div id="${id}">${sections[id]}</div>
      </section>
    `;
  return html`<h1 class="unseen">Images and jobs</h1>
<div id="figures">${sections["figures"]}</div>
<section aria-labelledby="ask-title"><h2 id="ask-title">Ask for an image</h2>
${fault !== undefined && html`<p class="fault" role="alert">${fault}</p>`}
<form class="ask" method="post" action="/ask">
<label>Source <input name="source" required placeholder="docker://registry.example/team/app:1.2" spellcheck="false" autocapitalize="none"></label>
<label>Name (optional) <input name="name" spellcheck="false" autocapitalize="none"></label>
<label>Kind <select name="mode"><option value="merged">one image</option><option value="layered">one a layer</option></select></label>
<button class="main">Bless</button>
</form></section>
${section("running", "Running")}${section("queue", "Queue")}${section("images", "Images")}${
    section("ended", "Ended lately")
  }`;
}

function figuresView(figures: OverviewParts["figures"]): Html {
  return html`<dl class="figures">${
    figures.map(([label, value]) =>
      html`
        <div>
          <dt>${label}</dt>
          <dd>${value}</dd>
        </div>
      `
    )
  }</dl>`;
}

function runningView(jobs: readonly Job[]): Html {
  if (jobs.length === 0) return html`<p class="empty">Nothing runs now.</p>`;
  return html`<ul class="jobs">${
    jobs.map((job) =>
      html`
        <li>
          <div
            class="head"><a id="job-${job.id}" href="/jobs/${job.id}">${jobTitle(
              job,
            )}</a> ${stateView(job)} ${job.host !== null &&
              html`<span class="empty">on ${job.host}</span>`} ${cancelForm(job)}</div>
        ${tasksView(job.progress)}</li>
      `
    )
  }</ul>`;
}

function stateView({ state }: Job): Html {
  return html`<span class="state ${state}">${state}</span>`;
}

function jobTitle({ names, source }: Job): string {
  return names.length > 0 ? `${names.join(", ")} (${source})` : source;
}

/** Cancels without confirmation, because a job can easily be requested again. */
function cancelForm(job: Job): Html | false {
  if (job.finishedAt !== null) return false;
  return html`
    <form method="post"
      action="/jobs/${job.id}/cancel"><button class="small" id="cancel-${job
        .id}" aria-label="Cancel ${jobTitle(job)}">Cancel</button></form>
  `;
}

function tasksView({ tasks }: JobProgress): Html {
  if (tasks.length === 0) return html`<p class="empty">Preparing</p>`;
  return html`<dl class="tasks">${
    tasks.map(({ task, doneBytes, totalBytes, done }) => {
      const label = task.replace(/^layer (\d+) of (\d+) .*/, "layer $1 of $2")
        .replace(/^write$/, "image");
      const isKnown = totalBytes !== null && totalBytes > 0;
      const amount = isKnown
        ? `${formatSize(doneBytes)} of ${formatSize(totalBytes)}`
        : formatSize(doneBytes);
      const bar = done
        ? html`<progress value="1" max="1" aria-label="${label}"></progress>`
        : isKnown
        ? html`<progress value="${
          Math.min(doneBytes, totalBytes)
        }" max="${totalBytes}" aria-label="${label}"></progress>`
        : html`<progress aria-label="${label}"></progress>`;
      return html`
        <dt>${label}</dt>
        <dd class="bar">${bar}</dd>
        <dd class="amount">${amount}</dd>
      `;
    })
  }</dl>`;
}

/** A column: its title, and the class of its cells. */
type Column = readonly [title: HtmlPart, kind?: "wide" | "number" | "mono wide"];

function tableView(
  columns: readonly Column[],
  rows: readonly (readonly HtmlPart[])[],
  moreCount = 0,
): Html {
  const classOf = (kind: string | undefined) => kind !== undefined && new Html(` class="${kind}"`);
  const head = columns.map(([title, kind]) =>
    html`
      <th scope="col" ${kind === "number" && classOf(kind)}>${title}</th>
    `
  );
  const body = rows.map((row) =>
    html`<tr>${row.map((cell, i) => html`<td${classOf(columns[i]![1])}>${cell}</td>`)}</tr>`
  );
  return html`
    <div class="scroll">
      <table>
        <thead>
          <tr>${head}</tr>
        </thead>
        <tbody>${body}</tbody>
      </table>
    </div>
    ${moreCount > 0 && html`<p class="empty">and ${moreCount} more</p>`}
  `;
}

/** Facts by name; empty ones are left out. */
function factsView(facts: readonly (readonly [name: string, value: HtmlPart, kind?: "mono"])[]) {
  const shown = facts.filter(([, value]) => value !== null && value !== "");
  return html`<dl class="facts">${
    shown.map(([name, value, kind]) =>
      html`
        <dt>${name}</dt>
        <dd${kind && new Html(' class="mono"')}>${value}</dd>
      `
    )
  }</dl>`;
}

function queueView(jobs: readonly Job[], count: number): Html {
  if (count === 0) return html`<p class="empty">Nothing waits.</p>`;
  return tableView(
    [["Job", "wide"], ["Priority", "number"], ["Asked for"], [
      html`<span class="unseen">Cancel</span>`,
    ]],
    jobs.map((job) => [
      [
        html`<a href="/jobs/${job.id}">${jobTitle(job)}</a>`,
        job.attempts > 0 && html`<span class="hint">tried ${job.attempts} times</span>`,
      ],
      job.priority,
      timeView(job.createdAt),
      cancelForm(job),
    ]),
    count - jobs.length,
  );
}

function timeView(time: string | null): Html {
  if (time === null) return html``;
  return html`<time datetime="${time}">${time.slice(0, 19).replace("T", " ")} UTC</time>`;
}

function endedView(jobs: readonly Job[]): Html {
  if (jobs.length === 0) return html`<p class="empty">No job has ended yet.</p>`;
  return tableView(
    [["Job", "wide"], ["State"], ["Ended"]],
    jobs.map((job) => [
      [html`<a href="/jobs/${job.id}">${jobTitle(job)}</a>`, faultView(job)],
      stateView(job),
      timeView(job.finishedAt),
    ]),
  );
}

function faultView({ error }: Job): HtmlPart {
  if (error === null) return null;
  return html`<p class="fault">${error.message}</p>${
    error.hint !== null && html`<p class="hint">${error.hint}</p>`
  }`;
}

function imagesView(images: readonly ImageFigures[], count: number): Html {
  if (images.length === 0) return html`<p class="empty">No image is here yet.</p>`;
  const number = (title: string): Column => [title, "number"];
  const table = tableView(
    [["Image", "wide"], ...["Size", "Stored", "New", "Shared"].map(number), ["Made"]],
    images.map((image) => [
      [
        html`<a href="/images/${image.digest}">${imageTitle(image)}</a>`,
        image.names.length > 0 && html`<span class="hint">${image.source}</span>`,
      ],
      ...[image.sizeBytes, image.cellBytes, image.newBytes, image.sharedBytes].map(formatSize),
      timeView(image.createdAt),
    ]),
    count - images.length,
  );
  return html`${chartView(images)}${table}`;
}

function imageTitle({ names, source }: ImageFigures): string {
  return names.length > 0 ? names.join(", ") : source;
}

const CHART = { width: 900, height: 220, left: 76, right: 8, top: 12, bottom: 30 };

/** What each image added to the previous ones, oldest first. The table below shows the same figures. */
function chartView(newestFirst: readonly ImageFigures[]): Html {
  const images = [...newestFirst].reverse();
  const most = Math.max(1, ...images.map((image) => image.newBytes + image.sharedBytes));
  const top = niceCeiling(most);
  const { width, left, right } = CHART;
  const step = (width - left - right) / images.length;
  const hasLabels = step >= LABEL_STEP_MIN;
  const height = hasLabels ? CHART.height : CHART.height - CHART.bottom + 8;
  const bottom = hasLabels ? CHART.bottom : 8;
  const plot = { width: width - left - right, height: height - CHART.top - bottom };
  const y = (bytes: number) => CHART.top + plot.height * (1 - bytes / top);
  const barWidth = Math.min(48, step * 0.7);
  const ticks = [0, top / 2, top].map((bytes) =>
    html`
      <line class="axis" x1="${left}" x2="${width - right}" y1="${y(bytes)}" y2="${y(
        bytes,
      )}"></line>
      <text x="${left - 8}" y="${y(bytes) + 4}" text-anchor="end">${formatSize(bytes)}</text>
    `
  );
  const bars = images.map((image, i) => {
    const x = (left + step * i + (step - barWidth) / 2).toFixed(1);
    const rect = (kind: string, from: number, bytes: number) =>
      bytes > 0 &&
      html`
        <rect class="${kind}" x="${x}" width="${barWidth.toFixed(1)}" y="${y(from + bytes).toFixed(
          1,
        )}"
          height="${(y(from) - y(from + bytes)).toFixed(1)}"></rect>
      `;
    const title = imageTitle(image);
    const label = title.length > LABEL_CHARACTERS ? `…${title.slice(1 - LABEL_CHARACTERS)}` : title;
    return html`<g><title>${title}: ${formatSize(image.newBytes)} new, ${
      formatSize(image.sharedBytes)
    } shared</title>${rect("new", 0, image.newBytes)}${
      rect("shared", image.newBytes, image.sharedBytes)
    }${
      hasLabels &&
      html`<text x="${(left + step * (i + 0.5)).toFixed(1)}" y="${
        height - 10
      }" text-anchor="middle">${label}</text>`
    }</g>`;
  });
  return html`<figure><figcaption>What each image added to those before it, oldest first</figcaption>
<div class="scroll chart"><svg viewBox="0 0 ${width} ${height}" role="img" aria-label="Bar chart: new and shared bytes of ${images.length} images; the table below has the figures">${ticks}${bars}</svg></div>
${legendView([["new", "new cells"], ["shared", "shared with images before"]])}</figure>`;
}

/** The next of 1, 2, 4, 6, 8, 10, 20, ... in the unit in which the value is shown. */
function niceCeiling(bytes: number): number {
  const unit = 1024 ** Math.floor(Math.log(Math.max(bytes, 1)) / Math.log(1024));
  const steps = [1, 2, 4, 6, 8, 10, 20, 40, 60, 80, 100, 200, 400, 600, 800, 1024];
  return unit * (steps.find((step) => step * unit >= bytes) ?? 1024);
}

function legendView(entries: readonly (readonly [kind: string, text: string])[]): Html {
  return html`<ul class="legend">${
    entries.map(([kind, text]) =>
      html`<li><svg viewBox="0 0 10 10" aria-hidden="true"><rect class="${kind}" width="10" height="10"></rect></svg>${text}</li>`
    )
  }</ul>`;
}

export function jobView(job: Job): Html {
  return html`
    <h1>${jobTitle(job)}</h1>
    <div id="job">${jobSection(job)}</div>
  `;
}

/** The part of a job's page that changes. */
export function jobSection(job: Job): Html {
  const seconds = Object.entries(job.secondsByState)
    .map(([state, value]) => `${state} ${value.toFixed(1)} s`).join(", ");
  const options = Object.entries(job.options).map(([name, value]) => `--${name} ${value}`);
  const facts = factsView([
    ["Job", job.id, "mono"],
    ["Source", job.source, "mono"],
    ["Kind", job.mode],
    ["Options", options.join(" ") || "none", "mono"],
    ["Asked for", timeView(job.createdAt)],
    ["Ended", job.finishedAt && timeView(job.finishedAt)],
    ["Took", seconds],
    ["Network", job.attempts > 0 ? `failed ${job.attempts} times` : null],
    ["Image", job.image && html`<a class="mono" href="/images/${job.image}">${job.image}</a>`],
  ]);
  return html`<div>${stateView(job)} ${cancelForm(job)}</div>${faultView(job)}
${job.state === "queued" || job.finishedAt !== null ? null : tasksView(job.progress)}
${facts}`;
}

interface ReportLayer {
  readonly digest?: string;
  readonly diffId?: string;
  readonly sizeBytes?: number;
  readonly entries?: number;
}

export function imageView(image: ImageDocument): Html {
  const layers = (image.report["layers"] ?? []) as readonly ReportLayer[];
  const text = (value: unknown) => value === null || value === undefined ? null : String(value);
  const { sizeBytes, cellBytes, newBytes, sharedBytes, report } = image;
  const facts = factsView([
    ["Digest", image.digest, "mono"],
    ["Source", image.source],
    ["Manifest", text(image.manifestDigest), "mono"],
    ["Names", image.names.join(", ")],
    ["Size", `${formatSize(sizeBytes)}, ${formatSize(cellBytes)} in cells that hold something`],
    ["Added", `${formatSize(newBytes)} new, ${formatSize(sharedBytes)} shared`],
    ["UUID", text(report["uuid"]), "mono"],
    ["Root hash", text(image.rootHash)],
    ["Platform", text(report["platform"])],
  ]);
  return html`<h1>${imageTitle(image)}</h1>
${facts}
${
    image.mode === "merged" &&
    html`<p><a href="/v1/images/${image.digest}/bytes" download="${
      image.digest.slice(7, 19)
    }.ext4">Download the image</a></p>`
  }
<section aria-labelledby="map-title"><h2 id="map-title">Map</h2>${image.files.map(mapView)}
${legendView([["new", "new when it was made"], ["shared", "shared"], ["zeros", "empty"]])}</section>
<section aria-labelledby="layers-title"><h2 id="layers-title">Layers</h2>${
    layersView(image, layers)
  }</section>
<section aria-labelledby="config-title"><h2 id="config-title">Config</h2>${
    configView(image.config)
  }</section>`;
}

function layersView(image: ImageDocument, layers: readonly ReportLayer[]): Html {
  const columns: Column[] = [
    ["No.", "number"],
    ["Diff id", "mono wide"],
    ["Size in the source", "number"],
    ["Entries", "number"],
  ];
  if (image.mode === "layered") columns.push(["Image", "number"]);
  const link = (i: number) =>
    html`
      <a href="/v1/images/${image.digest}/layers/${i}/bytes"
        aria-label="Download the image of layer ${i + 1}">${formatSize(
          image.files[i]?.sizeBytes ?? 0,
        )}</a>
    `;
  return tableView(
    columns,
    layers.map(({ diffId, sizeBytes, entries }, i) => [
      i + 1,
      diffId,
      sizeBytes !== undefined && formatSize(sizeBytes),
      entries,
      ...image.mode === "layered" ? [link(i)] : [],
    ]),
  );
}

/** A map of the file, from beginning to end. */
function mapView(file: ImageDocument["files"][number], _index: number): Html {
  const kinds: Readonly<Record<string, string>> = { n: "new", s: "shared", ".": "zeros" };
  const runs = [...file.map.matchAll(/n+|s+|\.+/g)].map((run) =>
    html`<rect class="${kinds[run[0][0]!]}" x="${run.index}" width="${
      run[0].length
    }" height="1"></rect>`
  );
  const cells = Math.ceil(file.sizeBytes / file.gridBytes);
  const empty = cells - file.newCells - file.sharedCells;
  const words = `${cells} cells of ${
    formatSize(file.gridBytes)
  }: ${file.newCells} new, ${file.sharedCells} shared, ${empty} empty or the same as another`;
  const name = file.diffId === null ? "" : `Layer ${file.position + 1}: `;
  return html`
    <figure>
      <figcaption>${name}${words}</figcaption>
      <svg class="map" viewBox="0 0 ${file.map.length} 1" preserveAspectRatio="none" role="img"
        aria-label="Map: ${words}">${runs}</svg>
    </figure>
  `;
}

function configView(config: unknown): Html {
  if (typeof config !== "object" || config === null) {
    return html`<p class="empty">The source has none.</p>`;
  }
  const inner = ((config as { config?: unknown }).config ?? {}) as Record<string, unknown>;
  const shown = (value: unknown): string =>
    Array.isArray(value)
      ? value.map((item) => JSON.stringify(item)).join(" ")
      : typeof value === "object" && value !== null
      ? Object.keys(value).join(" ")
      : String(value);
  const names = [
    "Entrypoint",
    "Cmd",
    "User",
    "WorkingDir",
    "ExposedPorts",
    "Volumes",
    "StopSignal",
  ];
  const env: readonly unknown[] = Array.isArray(inner["Env"]) ? inner["Env"] : [];
  const facts = factsView([
    ...names.filter((name) => inner[name] !== undefined && inner[name] !== null)
      .map((name) => [name, shown(inner[name]), "mono"] as const),
    ...env.map((line) => ["Env", String(line), "mono"] as const),
  ]);
  return html`
    ${facts}
        <details>
      <summary>The whole config</summary>
      <pre tabindex="0">${JSON.stringify(config, null, 2)}</pre>
    </details>
  `;
}
