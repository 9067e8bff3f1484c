import { assertEquals, assertRejects } from "@std/assert";
import { type ImageSink, nullSink, teeSink } from "../../lib/io/sink.ts";

function recorder(name: string, log: string[], failing = ""): ImageSink {
  function step(call: string): void {
    log.push(`${name} ${call}`);
    if (call.startsWith(failing) && failing !== "") throw new Error(`${name} fails`);
  }
  return {
    write: (bytes, offset) => step(`write ${bytes.length}@${offset}`),
    finish: (sizeBytes) => step(`finish ${sizeBytes}`),
    abort: () => step("abort"),
  };
}

Deno.test("teeSink gives every sink the same image in the order given", async () => {
  const log: string[] = [];
  const sink = teeSink(recorder("a", log), nullSink, recorder("b", log));
  await sink.write(new Uint8Array(3), 4);
  await sink.finish(9);
  assertEquals(log, ["a write 3@4", "b write 3@4", "a finish 9", "b finish 9"]);
});

Deno.test("teeSink does not finish the later sinks when an earlier one fails", async () => {
  const log: string[] = [];
  const sink = teeSink(recorder("a", log, "finish"), recorder("b", log));
  await assertRejects(async () => await sink.finish(1), Error, "a fails");
  assertEquals(log, ["a finish 1"]);
});

Deno.test("teeSink aborts every sink even when one of them fails to", async () => {
  const log: string[] = [];
  const sink = teeSink(recorder("a", log, "abort"), recorder("b", log));
  await assertRejects(async () => await sink.abort(), Error, "a fails");
  assertEquals(log, ["a abort", "b abort"]);
});
