import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { Buffer } from "node:buffer";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { escapeHtml, html } from "../../serve/page/html.ts";
import { formatSize } from "../../lib/bytes/arithmetic.ts";
import { notRun } from "../oracle/notice.ts";
import { noise } from "../source/helpers.ts";
import { writeOciLayout } from "../source/build_layout.ts";
import { buildTar } from "../tar/build.ts";
import { Browser, chromiumPath, endChromium } from "./browser.ts";
import {
  pause,
  type Serving,
  TINY,
  withHeldImage,
  withServing,
  writeSmallImage,
} from "./serving.ts";

const TCP = { kind: "tcp", host: "127.0.0.1", port: 0 } as const;

Deno.test.afterAll(endChromium);

/** Runs a test with a server and a browser; pictures go where SERVE_PICTURES says. */
async function withBrowser(
  more: Parameters<typeof withServing>[0],
  test: (browser: Browser, serving: Serving, url: string) => Promise<void>,
): Promise<void> {
  if (chromiumPath() === undefined) return notRun("the page in a browser", "no Chromium");
  const settings = (directory: string) => ({
    listen: TCP,
    ...typeof more === "function" ? more(directory) : more,
  });
  await withServing(settings, async (serving) => {
    const browser = await Browser.start();
    try {
      await browser.size(1280, 900);
      await test(browser, serving, serving.server.address);
      const urls = browser.urls.filter((url) =>
        !url.startsWith(serving.server.address) && !/^(?:data|about):/.test(url)
      );
      assertEquals(urls, [], "nothing comes from elsewhere");
    } finally {
      await browser.close();
    }
  });
}

async function keepPicture(browser: Browser, name: string): Promise<Uint8Array> {
  const picture = await browser.picture();
  const directory = process.env["SERVE_PICTURES"];
  if (directory !== undefined) writeFileSync(join(directory, `${name}.png`), picture);
  return picture;
}

Deno.test("templates take everything for text that was not made as HTML", () => {
  const evil = `<img src=x onerror="alert('1')">&`;
  assertEquals(
    html`<p title="${evil}">${[evil, html`<b>${1}</b>`, null, false]}</p>`.text.includes("<img"),
    false,
  );
  assertEquals(escapeHtml(evil), "&lt;img src=x onerror=&quot;alert(&#39;1&#39;)&quot;&gt;&amp;");
  assertEquals([0, 1023, 1024, 1.5 * 2 ** 30].map(formatSize), [
    "0 B",
    "1023 B",
    "1.0 KiB",
    "1.5 GiB",
  ]);
});

Deno.test("the page shows jobs as they move, and images when they are there", async () => {
  await withHeldImage(async ({ source, release }) => {
    await withBrowser({ workers: 1 }, async (browser, { client, directory }, url) => {
      const isIdle = "document.querySelector('#running').textContent.includes('Nothing runs')";
      await browser.open(url);
      await browser.until(isIdle);
      const jobs = [await client.bless({ source, name: "held" })];
      for (let number = 0; number < 3; number++) {
        jobs.push(await client.bless({ source: writeSmallImage(directory, number) }));
      }
      await browser.until("document.querySelector('#running progress')");
      await browser.until("document.querySelectorAll('#queue tbody tr').length === 3");
      await keepPicture(browser, "running");
      release();
      for (const { id } of jobs) await client.ended(id);
      await browser.until("document.querySelectorAll('#images tbody tr').length === 4");
      assertEquals(await browser.value("document.querySelectorAll('#images svg g').length"), 4);
      assertStringIncludes(
        await browser.value("document.querySelector('#images svg').ariaLabel"),
        "4 images",
      );
      await browser.until(isIdle);
      assertEquals(browser.faults, []);
    });
  });
});

Deno.test("the page is used with the keyboard alone, and a screen reader finds its way", async () => {
  await withBrowser({}, async (browser, { client }, url) => {
    await browser.open(url);
    await browser.press("Tab");
    assertEquals(await browser.value("document.activeElement.textContent"), "Skip to the content");
    for (let i = 0; i < 10; i++) {
      if (await browser.value("document.activeElement.name === 'source'")) break;
      await browser.press("Tab");
    }
    await browser.type(TINY);
    await browser.press("Tab");
    await browser.type("tiny");
    await browser.press("Enter");
    await browser.until("location.pathname.startsWith('/jobs/')");
    await browser.until("document.querySelector('.state.complete')");
    const { json } = await client.ask("/v1/names/tiny");
    assertEquals(await browser.value("document.querySelector('#job a').textContent"), json.image);

    await browser.open(url);
    const told = await browser.accessible();
    const has = (role: string, name: RegExp) =>
      assert(told.some((node) => node.role === role && name.test(node.name)), `${role} ${name}`);
    has("banner", /^$/);
    has("main", /^$/);
    has("heading", /^Images$/);
    has("textbox", /^Source$/);
    has("combobox", /^Kind$/);
    has("button", /^Bless$/);
    has("status", /^$/);
    has("table", /^$/);
    has("columnheader", /^Shared$/);
    has("link", /^tiny$/);
    assert(
      told.some(({ role, name }) => /^(?:image|img)$/i.test(role) && name.includes("Bar chart")),
    );
    // Whatever can be pressed has a name.
    const nameless = told.filter(({ role, name }) =>
      ["button", "link", "textbox", "combobox", "progressbar"].includes(role) && name === ""
    );
    assertEquals(nameless, []);
    assertEquals(browser.faults, []);
  });
});

Deno.test("an image's page has its layers, config and map; a failed job's says why", async () => {
  await withBrowser({}, async (browser, { client, directory }, url) => {
    const path = join(directory, "configured");
    writeOciLayout(path, {
      layers: [buildTar([{ path: "data", data: noise(300_000) }])],
      config: { config: { Entrypoint: ["/bin/<app>", "--x"], Env: ["A=1"], User: "65534" } },
    });
    for (const mode of ["merged", "layered"]) {
      const job = await client.ended((await client.bless({ source: `oci:${path}`, mode })).id);
      await browser.open(`${url}/images/${job.image}`);
      const text = await browser.value("document.body.innerText");
      for (const part of [job.image, '"/bin/<app>" "--x"', "A=1", "65534", "1 layer".slice(2)]) {
        assertStringIncludes(text.toLowerCase(), String(part).toLowerCase());
      }
      assert(await browser.value("document.querySelectorAll('svg.map rect.new').length") > 0);
      await keepPicture(browser, `image-${mode}`);
    }
    const failed = await client.ended((await client.bless({ source: "oci:/nowhere" })).id);
    await browser.open(`${url}/jobs/${failed.id}`);
    assertStringIncludes(
      await browser.value("document.querySelector('.fault').textContent"),
      "nowhere",
    );
    // A source that is refused is told above the form, and is no markup.
    await browser.open(url);
    await browser.value(
      `document.querySelector('[name=source]').value = "docker://<img src=x>"; document.querySelector('form.ask').requestSubmit()`,
    );
    await browser.until("document.querySelector('[role=alert]')");
    assertEquals(await browser.value("document.querySelectorAll('main img').length"), 0);
    assertEquals(browser.faults.filter((fault) => !fault.includes("400 (Bad Request)")), []);
  });
});

/** How light a picture's corner is. */
async function groundOf(browser: Browser): Promise<string> {
  return await browser.value("getComputedStyle(document.body).backgroundColor");
}

Deno.test("the page is light or dark as the system is, and readable on a telephone", async () => {
  await withBrowser({}, async (browser, { client }, url) => {
    await client.ended((await client.bless({ source: TINY })).id);
    const grounds = [];
    for (const scheme of ["light", "dark"] as const) {
      await browser.prefer(scheme);
      await browser.open(url);
      await browser.until("document.querySelector('#images table')");
      grounds.push(await groundOf(browser));
      await keepPicture(browser, scheme);
      const worst = await browser.value(CONTRAST);
      assert(worst.ratio >= 4.5, `${scheme}: ${JSON.stringify(worst)}`);
    }
    assertEquals(grounds, ["rgb(251, 250, 248)", "rgb(20, 24, 28)"]);
    await browser.size(390, 844);
    await browser.open(url);
    const wide = await browser.value("document.documentElement.scrollWidth - innerWidth");
    assert(wide <= 0, `it is ${wide} pixels too wide`);
    await keepPicture(browser, "narrow");
  });
});

/** The text of the page with the least contrast. WCAG 2.2, section 1.4.3. */
const CONTRAST = `(() => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => {
    const part = (v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
  };
  const groundOf = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const colour = parse(getComputedStyle(e).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  let worst = { ratio: 99, text: "" };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement;
    if (!node.textContent.trim() || element.closest("svg, .unseen, .skip")) continue;
    const [a, b] = [light(parse(getComputedStyle(element).color)), light(groundOf(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < worst.ratio) worst = { ratio, text: node.textContent.trim() };
  }
  return worst;
})()`;

Deno.test("with a token, the page asks for it once and keeps it from scripts", async () => {
  const tokens = ["correct-horse-battery-staple"];
  await withBrowser({ tokens }, async (browser, _serving, url) => {
    await browser.open(url);
    await browser.until("location.pathname === '/login'");
    const enter = async (token: string) => {
      await browser.value(
        `document.querySelector('[name=token]').value = ${JSON.stringify(token)}`,
      );
      await browser.value("document.querySelector('form.login').requestSubmit()");
    };
    await enter("wrong");
    await browser.until("document.querySelector('[role=alert]')");
    await enter(tokens[0]!);
    await browser.until("document.querySelector('form.ask')");
    assertEquals(await browser.value("document.cookie"), "");
    assertEquals(await browser.value("fetch('/v1/jobs').then((answer) => answer.status)"), 200);
    await browser.value("document.querySelector('header button').click()");
    await browser.until("location.pathname === '/login'");
    assertEquals(await browser.value("fetch('/v1/jobs').then((answer) => answer.status)"), 401);
  });
});

Deno.test("forms of other sites are refused, and all pages say what may run in them", async () => {
  await withServing({ listen: TCP }, async ({ client }) => {
    const body = `source=${encodeURIComponent(TINY)}`;
    const headers = {
      "content-type": "application/x-www-form-urlencoded",
      "content-length": String(Buffer.byteLength(body)),
    };
    for (
      const from of [{ origin: "http://evil.example" }, { origin: "null" }, {
        "sec-fetch-site": "cross-site",
      }]
    ) {
      const refused = await client.ask("/ask", { body, headers: { ...headers, ...from } });
      assertEquals([refused.status, refused.json.error.code], [403, "wrong_origin"]);
    }
    assertEquals((await client.ask("/v1/jobs")).json.jobs, []);
    const page = await client.ask("/");
    assertMatch(
      String(page.headers["content-security-policy"]),
      /default-src 'none'; style-src 'self'; script-src 'self'/,
    );
    assertEquals(/<script(?! src)|\sstyle=|\son\w+=/.test(page.text), false);
    const asked = await client.ask("/ask", { body, headers });
    assertEquals(asked.status, 303);
    const { pathname } = new URL(asked.headers.location!, "http://x");
    while ((await client.ask(`/v1${pathname}`)).json.finishedAt === null) await pause();
  });
});
