/**
 * Building blocks of pages: templates, in which everything inserted is text unless it is HTML made here; the style
 * sheet; and a script, without which everything but live updates works.
 *
 * @module
 */

export class Html {
  readonly text: string;

  constructor(text: string) {
    this.text = text;
  }
}

export type HtmlPart = string | number | Html | null | undefined | false | readonly HtmlPart[];

/** A template: text is escaped, lists are joined, and null and false are omitted. */
export function html(strings: TemplateStringsArray, ...parts: readonly HtmlPart[]): Html {
  let text = strings[0]!;
  for (const [i, part] of parts.entries()) text += textOf(part) + strings[i + 1]!;
  return new Html(text);
}

function textOf(part: HtmlPart): string {
  if (part === null || part === undefined || part === false) return "";
  if (part instanceof Html) return part.text;
  if (typeof part === "object") return part.map(textOf).join("");
  return escapeHtml(String(part));
}

/** Escapes text for HTML, including attributes. */
export function escapeHtml(text: string): string {
  const names: Readonly<Record<string, string>> = {
    "&": "&amp;",
    "<": "&lt;",
    ">": "&gt;",
    '"': "&quot;",
    "'": "&#39;",
  };
  return text.replace(/[&<>"']/g, (character) => names[character]!);
}

export const STYLE = `
:root {
  color-scheme: light dark;
  --ground: #fbfaf8; --panel: #ffffff; --ink: #1d2329; --quiet: #5a646e; --line: #d9d6cf;
  --accent: #0b6e6e; --accent-ink: #ffffff; --shared: #9a6a00; --track: #e7e4dd;
  --bad: #a8261c; --good: #1f6b3a; --focus: #1a5fd0;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #14181c; --panel: #1b2026; --ink: #e7eaed; --quiet: #a3adb7; --line: #333b44;
    --accent: #4fc3bd; --accent-ink: #08201f; --shared: #e0b24a; --track: #2b323a;
    --bad: #ff8d80; --good: #7ed09a; --focus: #8ab4ff;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--ground); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif;
}
a { color: var(--accent); text-underline-offset: 0.15em; }
:focus-visible { outline: 3px solid var(--focus); outline-offset: 2px; border-radius: 2px; }
.skip { position: absolute; left: -99rem; }
.skip:focus { left: 1rem; top: 1rem; background: var(--panel); padding: 0.5rem 1rem; z-index: 1; }
.unseen {
  position: absolute; width: 1px; height: 1px; margin: -1px; overflow: hidden;
  clip-path: inset(50%); white-space: nowrap;
}
header, main, footer { max-width: 74rem; margin: 0 auto; padding: 0 1.25rem; }
header { display: flex; flex-wrap: wrap; align-items: baseline; gap: 0.25rem 1.5rem; padding-top: 1.5rem; }
header .brand { font-weight: 700; font-size: 1.15rem; color: var(--ink); text-decoration: none; }
header p, footer { color: var(--quiet); font-size: 0.9rem; }
header p { margin: 0; }
header form { margin-left: auto; }
footer { padding-top: 2rem; padding-bottom: 2rem; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 1.25rem 0 0.5rem; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin: 2.25rem 0 0.5rem; padding-top: 0.75rem; border-top: 1px solid var(--line); }
.figures { display: flex; flex-wrap: wrap; gap: 0.5rem 2.5rem; margin: 1.25rem 0 0; padding: 0; }
.figures div { display: flex; flex-direction: column-reverse; }
.figures dt { color: var(--quiet); font-size: 0.9rem; }
.figures dd { margin: 0; font-size: 1.6rem; font-weight: 600; font-variant-numeric: tabular-nums; line-height: 1.2; }
.facts { display: grid; grid-template-columns: max-content 1fr; gap: 0.2rem 1.5rem; margin: 0.75rem 0; }
.facts dt { color: var(--quiet); }
.facts dd { margin: 0; overflow-wrap: anywhere; }
table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 0.45rem 1rem 0.45rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { font-weight: 600; color: var(--quiet); font-size: 0.85rem; white-space: nowrap; }
td.number, th.number { text-align: right; white-space: nowrap; }
td.wide { overflow-wrap: anywhere; min-width: 12rem; }
td time, .facts time { white-space: nowrap; }
td.number + td:not(.number), th.number + th:not(.number) { padding-left: 1rem; }
.scroll { overflow-x: auto; }
code, pre, .mono { font-family: ui-monospace, "SF Mono", Menlo, Consolas, monospace; font-size: 0.88em; }
pre { background: var(--panel); border: 1px solid var(--line); padding: 1rem; overflow-x: auto; border-radius: 4px; }
.jobs { list-style: none; margin: 0; padding: 0; display: grid; gap: 0.75rem; }
.jobs > li { background: var(--panel); border: 1px solid var(--line); border-radius: 6px; padding: 0.85rem 1rem; }
.jobs .head { display: flex; flex-wrap: wrap; gap: 0.25rem 1rem; align-items: baseline; margin: 0 0 0.4rem; }
.jobs .head a { font-weight: 600; overflow-wrap: anywhere; }
.jobs form, .inline { display: inline; margin-left: auto; }
.tasks { display: grid; grid-template-columns: minmax(7rem, max-content) minmax(6rem, 1fr) minmax(9rem, max-content); gap: 0.15rem 0.75rem; align-items: center; font-size: 0.88rem; margin: 0; }
.tasks dt { color: var(--quiet); }
.tasks dd { margin: 0; }
.tasks .amount { text-align: right; font-variant-numeric: tabular-nums; color: var(--quiet); }
progress { appearance: none; width: 100%; height: 0.55rem; border: 0; border-radius: 3px; background: var(--track); overflow: hidden; display: block; }
progress::-webkit-progress-bar { background: var(--track); }
progress::-webkit-progress-value { background: var(--accent); }
progress::-moz-progress-bar { background: var(--accent); }
.state { font-size: 0.85rem; font-weight: 600; white-space: nowrap; }
.state.failed { color: var(--bad); } .state.complete { color: var(--good); }
.state.queued, .state.cancelled { color: var(--quiet); }
.fault { color: var(--bad); margin: 0.25rem 0 0; overflow-wrap: anywhere; }
.hint { color: var(--quiet); margin: 0.1rem 0 0; }
.empty { color: var(--quiet); }
figure { margin: 0.75rem 0 0; }
figcaption { color: var(--quiet); font-size: 0.9rem; margin-bottom: 0.5rem; }
svg { display: block; max-width: 100%; }
.chart svg { min-width: 36rem; }
svg text { fill: var(--quiet); font: 12px system-ui, sans-serif; }
.new { fill: var(--accent); } .shared { fill: var(--shared); } .zeros { fill: var(--track); }
.axis { stroke: var(--line); }
.map { width: 100%; height: 2rem; border-radius: 3px; }
.legend { display: flex; flex-wrap: wrap; gap: 0.25rem 1.25rem; margin: 0.4rem 0 0; padding: 0; list-style: none; font-size: 0.88rem; color: var(--quiet); }
.legend svg { display: inline-block; width: 0.8rem; height: 0.8rem; vertical-align: -0.08rem; margin-right: 0.4rem; }
form.ask { display: grid; grid-template-columns: minmax(14rem, 3fr) minmax(8rem, 1fr) max-content max-content; gap: 0.75rem; align-items: end; margin-top: 0.75rem; }
form.ask label, form.login label { display: grid; gap: 0.2rem; font-size: 0.9rem; color: var(--quiet); }
input, select, button { font: inherit; color: inherit; background: var(--panel); border: 1px solid var(--quiet); border-radius: 4px; padding: 0.4rem 0.6rem; min-height: 2.5rem; }
button { cursor: pointer; }
button.main { background: var(--accent); color: var(--accent-ink); border-color: var(--accent); font-weight: 600; }
button.small { min-height: 1.75rem; padding: 0.1rem 0.6rem; font-size: 0.85rem; }
form.login { display: grid; gap: 0.75rem; max-width: 26rem; margin-top: 1rem; }
@media (max-width: 46rem) {
  form.ask { grid-template-columns: 1fr; }
  .facts { grid-template-columns: 1fr; gap: 0; } .facts dd { margin-bottom: 0.5rem; }
  .tasks { grid-template-columns: 1fr max-content; } .tasks .bar { grid-column: 1 / -1; order: 1; }
}
@media (prefers-reduced-motion: no-preference) { progress::-webkit-progress-value { transition: inline-size 0.2s linear; } }
@media print { form, .skip { display: none; } }
`.trimStart();

export const SCRIPT = `
"use strict";
(() => {
  const live = document.querySelector("[data-live]");
  const status = document.getElementById("status");
  if (!live) return;
  let announced = 0;
  const show = (parts) => {
    for (const [id, text] of Object.entries(parts.sections)) {
      const section = document.getElementById(id);
      if (!section || section.dataset.shown === text) continue;
      // Keep the focus on a button that the user is about to press.
      const focused = section.contains(document.activeElement) ? document.activeElement.id : "";
      section.innerHTML = text;
      section.dataset.shown = text;
      if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
    }
    // Screen readers announce the status, so it must not change too often.
    if (status && status.textContent !== parts.status && Date.now() - announced > 5000) {
      status.textContent = parts.status;
      announced = Date.now();
    }
  };
  const source = new EventSource(live.dataset.live);
  source.addEventListener("page", (event) => show(JSON.parse(event.data)));
  source.addEventListener("over", () => source.close());
  addEventListener("pagehide", () => source.close());
})();
`.trimStart();
