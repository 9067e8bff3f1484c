import { assertEquals } from "@std/assert";
import { exportsBehaviour, functionsOf, importsOf, maskSource } from "./source_text.ts";

function codeOf(raw: string): string {
  const { code } = maskSource(raw);
  assertEquals(code.length, raw.length);
  return code;
}

function spansOf(raw: string): Record<string, number> {
  const spans = functionsOf(maskSource(raw));
  return Object.fromEntries(spans.map(({ name, lineCount }) => [name, lineCount]));
}

Deno.test("maskSource blanks out comments, strings, templates and regular expressions", () => {
  assertEquals(codeOf('a("x//y"); // c'), 'a("    ");     ');
  assertEquals(codeOf("/* a\nb */ c"), "    \n     c");
  assertEquals(codeOf("'it\\'s' + b"), "'     ' + b");
  assertEquals(codeOf("`a${b(`c${d}e`)}f` + g"), "` ${b(` ${d} `)} ` + g");
  assertEquals(codeOf("`a${{ x: 1 }.x}b`; c"), "` ${{ x: 1 }.x} `; c");
  assertEquals(codeOf('x.match(/[/"]\\//g); "y"'), 'x.match(/      /g); " "');
  assertEquals(codeOf("a / b / c"), "a / b / c");
  assertEquals(codeOf("return /'/;"), "return / /;");
  assertEquals(codeOf("(a) / 2; '/'"), "(a) / 2; ' '");
});

Deno.test("importsOf finds every kind of import and no other string", () => {
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
    export const g = "no";
    export function from(x: string) { return x; }
    from("./no.ts");
  `;
  const wanted = ["./a.ts", "./b.ts", "./c.ts", "./d.ts", "./e.ts", "./f.ts"];
  assertEquals(importsOf(maskSource(source)), wanted);
});

Deno.test("exportsBehaviour tells functions and classes from types and constants", () => {
  const of = (raw: string) => exportsBehaviour(maskSource(raw));
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

Deno.test("functionsOf measures functions of every shape", () => {
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
  assertEquals(spansOf("const o = {\n  readAt(target, at) {\n    f();\n  },\n};"), { readAt: 3 });
});
