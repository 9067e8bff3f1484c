import { assertEquals, assertRejects } from "@std/assert";
import { Buffer } from "node:buffer";
import { ClosedPipeError } from "../../cli/errors.ts";
import { resultStream } from "../../cli/process.ts";
import { IoError } from "../../lib/errors.ts";

function systemError(code: string): Error {
  return Object.assign(new Error(code), { code });
}

Deno.test("resultStream goes on after short writes and tries again when the pipe is full", async () => {
  const got: Uint8Array[] = [];
  let calls = 0;
  const stream = resultStream((bytes) => {
    if (++calls % 3 === 0) return Promise.reject(systemError("EAGAIN"));
    const part = bytes.slice(0, 7);
    got.push(part);
    return Promise.resolve(part.length);
  }, false);
  await stream.write("hello, wide world; ");
  await stream.writeThrough(new TextEncoder().encode("image bytes"));
  await stream.write("end");
  await stream.flush();
  assertEquals(Buffer.concat(got).toString(), "hello, wide world; image bytesend");
});

Deno.test("resultStream holds text back until it is worth a write, and keeps copies of bytes", async () => {
  const got: string[] = [];
  const stream = resultStream((bytes) => {
    got.push(Buffer.from(bytes).toString());
    return Promise.resolve(bytes.length);
  }, false);
  const bytes = new TextEncoder().encode("abc");
  assertEquals(stream.write(bytes), undefined);
  bytes.fill(0);
  assertEquals(got, []);
  await stream.write("x".repeat(70_000));
  assertEquals([got[0], got[1]?.length], ["abc", 70_000]);
});

Deno.test("resultStream tells a closed pipe from a failure", async () => {
  for (const code of ["EPIPE", "ECONNRESET"]) {
    const closed = resultStream(() => Promise.reject(systemError(code)), false);
    await assertRejects(async () => await closed.writeThrough(Uint8Array.of(1)), ClosedPipeError);
  }
  const full = resultStream(() => Promise.reject(systemError("ENOSPC")), false);
  await assertRejects(
    async () => await full.writeThrough(Uint8Array.of(1)),
    IoError,
    "no space left",
  );
});

Deno.test("resultStream gives up a write that waits for its reader when its signal is aborted", async () => {
  const controller = new AbortController();
  const stream = resultStream(() => new Promise(() => {}), false, controller.signal);
  const write = stream.writeThrough(Uint8Array.of(1));
  controller.abort(new Error("stop"));
  await assertRejects(async () => await write, Error, "stop");
  await assertRejects(async () => await stream.writeThrough(Uint8Array.of(1)), Error, "stop");
});
