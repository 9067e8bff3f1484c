import { assertEquals } from "@std/assert";
import { parse } from "./syntax.ts";

function spansOf(raw: string): Record<string, number> {
  const spans = parse(raw).functions;
  return Object.fromEntries(spans.map(({ name, lineCount }) => [name, lineCount]));
}

Deno.test("parse finds every kind of import and no other string", () => {
  const source = `
    import a from "./a.ts";
    import type { B,
      C } from './b.ts';
    import "./c.ts";
    export * from "./d.ts";
    export { e } from "./e.ts";
    const f = await import("./f.ts");
    // import "./no.ts";
    const text = 'import x from "./no.ts"';
    let lazily: import("./g.ts").G;
    export const g = "no";
    export function from(x: string) { return x; }
    from("./no.ts");
  `;
  const wanted = ["./a.ts", "./b.ts", "./c.ts", "./d.ts", "./e.ts", "./f.ts", "./g.ts"];
  assertEquals(parse(source).imports, wanted);
});

Deno.test("parse tells exported functions and classes from types and constants", () => {
  const of = (raw: string) => parse(raw).exportsBehaviour;
  for (
    const raw of [
      "export function a() {}",
      "export async function a() {}",
      "export function* a() {}",
      "export abstract class A {}",
      "export const a = (x: number) => x;",
      "export const a = async (x: number): Promise<number> => x;",
    ]
  ) assertEquals(of(raw), true, raw);
  for (
    const raw of [
      "export interface A {}",
      "export type F = (x: number) => void;",
      "export const A = { b: 1 } as const;",
      "function a() {}",
      "// export function a() {}",
    ]
  ) assertEquals(of(raw), false, raw);
});

Deno.test("parse measures functions of every shape", () => {
  const source = `function plain(a: number) {
  // Neither this line nor the text counts.
  if (a > 1) {
    return "}" + \`
      text
      text
    \`;
  }
}
function typed<T extends { x: () => void }>(
  a: Map<string, T[]>,
): { b: number } {
  return { b: a.size };
}
function* generator(): Generator<[A, B]> {
  yield* other();
}
function guard(a: unknown): a is string | { b: 1 } {
  return true;
}
class A {
  #private(): Promise<void> {
    for (const x of y()) {
      z(x);
    }
  }
  get size(): number {
    return 1;
  }
}
const picked = a ? call(b) : { c: 1 };
switch (kindOf(a)) {
  case one(): {
    break;
  }
}
`;
  assertEquals(spansOf(source), {
    plain: 6,
    typed: 5,
    generator: 3,
    guard: 3,
    "#private": 5,
    size: 3,
  });
  assertEquals(spansOf("a.map((b) => {\n  c();\n});"), { "(arrow)": 3 });
  const afterText =
    "const a = '\u{1f600}\u00e9\u4e2d';\nfunction named() {\n  // \u{1f600}\n  b();\n}";
  assertEquals(spansOf(afterText), { named: 3 });
  assertEquals(spansOf("const o = {\n  readAt(target, at) {\n    f();\n  },\n};"), { readAt: 3 });
});

Deno.test("parse finds names and chains of them in code, and nowhere else", () => {
  const namesOf = (raw: string) => parse(raw).uses.map(({ name, line }) => `${line} ${name}`);
  assertEquals(namesOf("Deno.exit(1);"), ["1 Deno.exit", "1 Deno"]);
  assertEquals(namesOf("// Deno\nf('Deno', `${Bun} Deno`, /Deno/, a.Deno, { Deno: 1 });"), [
    "2 f",
    "2 Bun",
    "2 a.Deno",
    "2 a",
  ]);
  assertEquals(namesOf("// \u{1f600} \u00e9\nf();\ng();"), ["2 f", "3 g"]);
  assertEquals(namesOf("new Date(); new Date(1);"), ["1 new Date()", "1 Date", "1 Date"]);
  assertEquals(namesOf("const { env } = globalThis.process;"), [
    "1 env",
    "1 globalThis.process",
    "1 globalThis",
  ]);
});
