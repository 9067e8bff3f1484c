import { assertEquals } from "@std/assert";
import { createJsonProgress } from "../../cli/progress.ts";

Deno.test("--progress json tells the beginning and the end of each task, and what is between now and then", () => {
  const lines: string[] = [];
  let nowMs = 0;
  const stderr = {
    isTerminal: false,
    columns: () => undefined,
    write: (text: string) => void lines.push(text),
  };
  const progress = createJsonProgress({ stderr, now: () => nowMs });
  const layer = progress.begin("layer", 10);
  const other = progress.begin("layer");
  layer.advance(1);
  nowMs = 1000;
  layer.advance(2);
  layer.advance(3);
  layer.end();
  other.end();
  const told = lines.map((line) => {
    assertEquals(line.indexOf("\n"), line.length - 1);
    const { id, task, event, doneBytes, totalBytes } = JSON.parse(line).progress;
    return [id, task, event, doneBytes, totalBytes];
  });
  assertEquals(told, [
    [1, "layer", "begin", 0, 10],
    [2, "layer", "begin", 0, null],
    [1, "layer", "advance", 3, 10],
    [1, "layer", "end", 6, 10],
    [2, "layer", "end", 0, null],
  ]);
});
