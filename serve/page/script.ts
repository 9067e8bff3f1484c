/**
 * The page's script. It brings the parts that change; everything else works without it.
 *
 * @module
 */

/** Sent as /assets/page.js. */
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
      // Whoever is in the middle of pressing a button there shall not lose it.
      const focused = section.contains(document.activeElement) ? document.activeElement.id : "";
      section.innerHTML = text;
      section.dataset.shown = text;
      if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
    }
    // A screen reader is told what it comes to, and not more often than can be listened to.
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
