import { assertEquals, assertLessOrEqual, assertMatch, assertStringIncludes } from "@std/assert";
import { createProgress, taskLine } from "../../cli/progress.ts";

/** What a terminal shows after the codes that the renderer uses; anything else it is told is an error. */
class Screen {
  readonly lines: string[] = [""];
  #row = 0;
  #column = 0;
  readonly columns: number;

  constructor(columns: number) {
    this.columns = columns;
  }

  write(text: string): void {
    // deno-lint-ignore no-control-regex
    for (const [part] of text.matchAll(/\x1b\[\d*[A-Z]|[\r\n]|[^\x1b\r\n]+/g)) this.#apply(part);
  }

  #apply(part: string): void {
    const line = this.lines[this.#row] ?? "";
    if (part === "\r") this.#column = 0;
    else if (part === "\n") {
      this.#row++;
      this.#column = 0;
      if (this.#row === this.lines.length) this.lines.push("");
    } else if (part === "\x1b[K") this.lines[this.#row] = line.slice(0, this.#column);
    else if (part === "\x1b[J") {
      this.lines[this.#row] = line.slice(0, this.#column);
      this.lines.length = this.#row + 1;
    } else if (part.startsWith("\x1b")) this.#up(part);
    else {
      this.lines[this.#row] = line.slice(0, this.#column) + part +
        line.slice(this.#column + part.length);
      this.#column += part.length;
      assertLessOrEqual(this.#column, this.columns, "the line wraps");
    }
  }

  #up(part: string): void {
    // deno-lint-ignore no-control-regex
    const rows = Number(/^\x1b\[(\d+)A$/.exec(part)?.[1]);
    this.#row -= rows;
    assertEquals(this.#row >= 0, true, part);
  }
}

function setUp(columns = 80, canRedraw = true) {
  const screen = new Screen(columns);
  const clock = { nowMs: 0, writes: 0 };
  const progress = createProgress({
    stderr: {
      isTerminal: true,
      columns: () => columns,
      write(text) {
        clock.writes++;
        screen.write(text);
      },
    },
    now: () => clock.nowMs,
    canRedraw,
  });
  return { screen, clock, progress };
}

Deno.test("createProgress shows nothing in the first second", () => {
  const { screen, clock, progress } = setUp();
  const task = progress.begin("layer", 100);
  for (clock.nowMs = 0; clock.nowMs < 1000; clock.nowMs += 10) task.advance(1);
  task.end();
  progress.close();
  assertEquals([screen.lines, clock.writes], [[""], 0]);
});

Deno.test("createProgress draws name, share, bytes, rate and time left, and clears them at the end", () => {
  const { screen, clock, progress } = setUp();
  const task = progress.begin("layer 1/2", 100 << 20);
  clock.nowMs = 2000;
  task.advance(50 << 20);
  const shown = screen.lines[0]!.split(/ {2,}/);
  assertEquals(shown, ["layer 1/2", "50%", "50.0 MiB / 100.0 MiB", "25.0 MiB/s", "0:02 left"]);
  task.end();
  progress.close();
  assertEquals(screen.lines, [""]);
});

Deno.test("createProgress draws at most ten frames a second, from a loop that never yields", () => {
  const { clock, progress } = setUp();
  const task = progress.begin("layer", 1e9);
  for (clock.nowMs = 1000; clock.nowMs < 3000; clock.nowMs++) task.advance(1000);
  assertEquals(clock.writes, 20);
  progress.close();
});

Deno.test("createProgress shows overlapping tasks, and all of them together", () => {
  const { screen, clock, progress } = setUp(100);
  const first = progress.begin("layer a", 200);
  const second = progress.begin("layer b", 200);
  clock.nowMs = 1000;
  first.advance(100);
  assertEquals(screen.lines.length, 3);
  assertStringIncludes(screen.lines[2]!, "overall");
  assertStringIncludes(screen.lines[2]!, "25%");
  clock.nowMs = 2000;
  first.end();
  second.advance(0);
  assertEquals(screen.lines.length, 2);
  assertStringIncludes(screen.lines[0]!, "layer b");
  second.end();
  assertEquals(screen.lines, [""]);
  const third = progress.begin("write", 10);
  clock.nowMs = 3000;
  third.advance(5);
  assertEquals(screen.lines.length, 1);
  progress.close();
});

Deno.test("createProgress shows a few of many tasks, and works without totals", () => {
  const { screen, clock, progress } = setUp();
  const tasks = Array.from({ length: 20 }, (_, i) => progress.begin(`layer ${i}`));
  clock.nowMs = 1500;
  tasks[0]!.advance(3000);
  assertEquals(screen.lines.length, 10);
  assertEquals(screen.lines[8], "... and 12 more");
  assertEquals(screen.lines[0]!.split(/ {2,}/), ["layer 0", "2.9 KiB", "2.0 KiB/s"]);
  progress.close();
  assertEquals(screen.lines, [""]);
});

Deno.test("createProgress never wraps and never prints control characters, whatever the width", () => {
  for (const columns of [1, 2, 10, 20, 40, 59, 60, 80, 200]) {
    const { screen, clock, progress } = setUp(columns);
    const task = progress.begin(`\u6f22\u5b57\x1b[2J${"name".repeat(30)}`, 1 << 30);
    progress.begin("other", 7);
    clock.nowMs = 1000;
    task.advance(12345678);
    progress.close();
    assertEquals(screen.lines, [""]);
  }
});

Deno.test("createProgress draws nothing after it was closed", () => {
  const { screen, clock, progress } = setUp();
  const task = progress.begin("layer", 10);
  progress.close();
  clock.nowMs = 5000;
  task.advance(5);
  progress.begin("more").advance(1);
  assertEquals(screen.lines, [""]);
});

Deno.test("createProgress prints a plain line now and then where lines cannot be redrawn", () => {
  const { screen, clock, progress } = setUp(80, false);
  const task = progress.begin("layer", 1000);
  for (clock.nowMs = 0; clock.nowMs < 6000; clock.nowMs += 100) task.advance(10);
  task.end();
  progress.close();
  assertEquals(screen.lines.length, 4);
  assertMatch(screen.lines[0]!, /^blessfs: layer 11% 110 B \/ 1000 B 110 B\/s 0:08 left$/);
  assertEquals(screen.lines[3], "");
});

Deno.test("taskLine never claims more than the whole", () => {
  const line = taskLine({ name: "x", totalBytes: 10, startMs: 0, doneBytes: 25 }, 1000, 80);
  assertStringIncludes(line, "100%");
  assertEquals(line.includes("left"), false);
});
