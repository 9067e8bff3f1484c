/** Headless Chromium over its DevTools protocol, as far as tests need it. */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Buffer } from "node:buffer";

const PATHS = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];

/** Where it is; undefined when it is not installed. */
export function chromiumPath(): string | undefined {
  return PATHS.find((path) => existsSync(path));
}

type Answer = Record<string, unknown>;

/** The process that all pages of a test file share: to start it takes a second. */
interface Chromium {
  readonly child: ChildProcess;
  readonly directory: string;
  readonly address: string;
}

let chromium: Promise<Chromium> | undefined;

function startChromium(): Promise<Chromium> {
  const directory = mkdtempSync(join(tmpdir(), "blessfs-browser-"));
  const child = spawn(chromiumPath()!, [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--remote-debugging-port=0",
    `--user-data-dir=${directory}`,
    "about:blank",
  ], { stdio: ["ignore", "ignore", "pipe"] });
  return new Promise((resolve, reject) => {
    let text = "";
    child.stderr!.on("data", (piece: Uint8Array) => {
      text += new TextDecoder().decode(piece);
      const address = /DevTools listening on (ws:\S+)/.exec(text)?.[1];
      if (address !== undefined) resolve({ child, directory, address });
    });
    child.on("close", () => reject(new Error(`Chromium ended: ${text.slice(0, 2000)}`)));
  });
}

/** Ends the browser that the tests of this file had, if any. */
export async function endChromium(): Promise<void> {
  if (chromium === undefined) return;
  const { child, directory } = await chromium;
  const ended = new Promise((resolve) => child.on("close", resolve));
  child.kill("SIGKILL");
  await ended;
  rmSync(directory, { recursive: true, force: true, maxRetries: 5 });
}

/** One page, with cookies of its own. */
export class Browser {
  readonly #socket: WebSocket;
  readonly #waiting = new Map<number, (answer: Answer) => void>();
  #session: string | undefined;
  #count = 0;
  /** What the page wrote to its console, and what it failed to load. */
  readonly faults: string[] = [];

  private constructor(socket: WebSocket) {
    this.#socket = socket;
    socket.addEventListener("message", (event) => this.#take(JSON.parse(String(event.data))));
  }

  static async start(): Promise<Browser> {
    const { address } = await (chromium ??= startChromium());
    const socket = new WebSocket(address);
    await new Promise((resolve, reject) => {
      socket.addEventListener("open", resolve);
      socket.addEventListener("error", reject);
    });
    const browser = new Browser(socket);
    // It goes when the socket is closed.
    const { browserContextId } = await browser.ask("Target.createBrowserContext", {
      disposeOnDetach: true,
    });
    const page = { url: "about:blank", browserContextId };
    const { targetId } = await browser.ask("Target.createTarget", page);
    const attached = await browser.ask("Target.attachToTarget", { targetId, flatten: true });
    browser.#session = attached["sessionId"] as string;
    for (const domain of ["Page", "Runtime", "Log", "Network", "Accessibility"]) {
      await browser.ask(`${domain}.enable`);
    }
    return browser;
  }

  /** Sends one command. */
  async ask(method: string, params: Answer = {}): Promise<Answer> {
    const id = ++this.#count;
    const answer = new Promise<Answer>((resolve) => this.#waiting.set(id, resolve));
    const session = this.#session === undefined ? {} : { sessionId: this.#session };
    this.#socket.send(JSON.stringify({ id, method, params, ...session }));
    const { result, error } = await answer;
    if (error !== undefined) throw new Error(`${method}: ${JSON.stringify(error)}`);
    return result as Answer;
  }

  /** Opens a page, and waits until it is there. */
  async open(url: string): Promise<void> {
    // What is there before is told from what comes by this mark.
    await this.value("window.isBefore = true");
    await this.ask("Page.navigate", { url });
    await this.until("!window.isBefore && document.readyState === 'complete'");
  }

  /** What an expression of JavaScript comes to in the page. */
  // deno-lint-ignore no-explicit-any
  async value(expression: string): Promise<any> {
    const { result, exceptionDetails } = await this.ask("Runtime.evaluate", {
      expression,
      returnByValue: true,
      awaitPromise: true,
    });
    if (exceptionDetails !== undefined) throw new Error(JSON.stringify(exceptionDetails));
    return (result as Answer)["value"];
  }

  /** Waits until an expression is true. */
  async until(expression: string, milliseconds = 120_000): Promise<void> {
    const untilMs = performance.now() + milliseconds;
    while (!await this.value(`Boolean(${expression})`).catch(() => false)) {
      if (performance.now() > untilMs) throw new Error(`never true: ${expression}`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  /** Presses a key, such as `Tab` or `Enter`. */
  async press(key: string): Promise<void> {
    const codes: Record<string, number> = { Tab: 9, Enter: 13, " ": 32 };
    const text = key === "Enter" ? "\r" : key === "Tab" ? "" : key;
    const event = { key, code: key, windowsVirtualKeyCode: codes[key], text };
    await this.ask("Input.dispatchKeyEvent", { type: "keyDown", ...event });
    await this.ask("Input.dispatchKeyEvent", { type: "keyUp", ...event });
  }

  async type(text: string): Promise<void> {
    await this.ask("Input.insertText", { text });
  }

  /** Light or dark, as a user's system says. */
  async prefer(scheme: "light" | "dark"): Promise<void> {
    const features = [{ name: "prefers-color-scheme", value: scheme }];
    await this.ask("Emulation.setEmulatedMedia", { features });
  }

  async size(width: number, height: number): Promise<void> {
    const metrics = { width, height, deviceScaleFactor: 1, mobile: false };
    await this.ask("Emulation.setDeviceMetricsOverride", metrics);
  }

  /** A picture of the whole page, as PNG. */
  async picture(): Promise<Uint8Array> {
    const { data } = await this.ask("Page.captureScreenshot", { captureBeyondViewport: true });
    return Buffer.from(data as string, "base64");
  }

  /** What a screen reader is told: role and name of each thing that has one. */
  async accessible(): Promise<{ readonly role: string; readonly name: string }[]> {
    const { nodes } = await this.ask("Accessibility.getFullAXTree");
    return (nodes as { ignored: boolean; role?: { value: string }; name?: { value: string } }[])
      .filter((node) => !node.ignored)
      .map((node) => ({ role: node.role?.value ?? "", name: node.name?.value ?? "" }));
  }

  async close(): Promise<void> {
    const closed = new Promise((resolve) => this.#socket.addEventListener("close", resolve));
    this.#socket.close();
    await closed;
  }

  #take(message: Answer): void {
    const id = message["id"] as number | undefined;
    if (id !== undefined) {
      this.#waiting.get(id)?.(message);
      this.#waiting.delete(id);
      return;
    }
    const { method, params } = message as { method: string; params: Record<string, unknown> };
    if (method === "Log.entryAdded" || method === "Runtime.exceptionThrown") {
      this.faults.push(JSON.stringify(params));
    }
    const url = (params["request"] as { url?: string } | undefined)?.url;
    if (method === "Network.requestWillBeSent" && url !== undefined) this.urls.push(url);
  }

  /** What was asked for. */
  readonly urls: string[] = [];
}
