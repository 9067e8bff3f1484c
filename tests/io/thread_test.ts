import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { UsageError } from "../../lib/errors.ts";
import { Thread } from "../../lib/io/thread.ts";
import { HashThread } from "../../lib/verity/hash_tree.ts";

const WORKER = new URL("../../worker.ts", import.meta.url);

async function hashOne(workerUrl?: string | URL): Promise<string> {
  const thread = new HashThread(new Uint8Array(), { workerUrl });
  try {
    const { digests } = await thread.hash(new Uint8Array(4096).fill(1).buffer, 4096);
    return Buffer.from(digests).toString("hex");
  } finally {
    await thread.close();
  }
}

const WANTED = createHash("sha256").update(new Uint8Array(4096).fill(1)).digest("hex");

Deno.test("a thread finds its code beside the sources, or where workerUrl says", async () => {
  assertEquals(await hashOne(), WANTED);
  assertEquals(await hashOne(WORKER), WANTED);
  const text = `import ${JSON.stringify(WORKER.href)};`;
  assertEquals(await hashOne(`data:text/javascript,${encodeURIComponent(text)}`), WANTED);
});

Deno.test("a thread whose URL is none, or leads nowhere, is an error", async () => {
  const error = assertThrows(() => new HashThread(new Uint8Array(), { workerUrl: "worker.js" }));
  assertEquals(error instanceof UsageError && error.option, "workerUrl");
  await assertRejects(() => hashOne(new URL("./missing.ts", import.meta.url)));
  await assertRejects(
    () => hashOne("data:text/javascript,process.exit(3)"),
    Error,
    "The thread that hashes blocks ended early before it was ready, with exit code",
  );
});

Deno.test("a thread is sent what was posted before it listened, in order", async () => {
  const code = `
    import { parentPort, workerData } from "node:worker_threads";
    await new Promise((resolve) => setTimeout(resolve, 1));
    parentPort.on("message", (message) => parentPort.postMessage([workerData.role, message]));
    parentPort.postMessage("blessfs-ready");
  `;
  const answers: unknown[] = [];
  await new Promise<void>((resolve, reject) => {
    const thread = new Thread<number, unknown>({
      role: "echo",
      setup: undefined,
      purpose: "answers",
      workerUrl: `data:text/javascript,${encodeURIComponent(code)}`,
      receive: (answer) => {
        answers.push(answer);
        if (answers.length === 3) thread.terminate().then(resolve, reject);
      },
      die: () => {},
    });
    for (const message of [1, 2, 3]) thread.post(message);
  });
  assertEquals(answers, [["echo", 1], ["echo", 2], ["echo", 3]]);
});
