/**
 * What the tidy tests ask of a source, answered by Deno's own parser: the one that its linter hands to plugins.
 *
 * @module
 */

/** A source file, parsed. */
export interface Syntax {
  readonly raw: string;
  /** The specifiers that it imports or re-exports, type-only ones and dynamic ones included; in order. */
  readonly imports: readonly string[];
  /** It exports a function or a class: something that does and not only says. */
  readonly exportsBehaviour: boolean;
  /** Every function, method, accessor and arrow function with a body in braces. */
  readonly functions: readonly FunctionSpan[];
  /** The names in expressions, and with each the names behind dots: `a.b.c` gives `a`, `a.b` and `a.b.c`. */
  readonly uses: readonly Use[];
}

/** Where a function starts, and how long it is. */
export interface FunctionSpan {
  readonly name: string;
  /** From 1. */
  readonly startLine: number;
  /** Lines with code on them: those of comments and inside long texts do not count. */
  readonly lineCount: number;
}

/** A name, or a chain of names, and where it is. */
export interface Use {
  readonly name: string;
  /** From 1. */
  readonly line: number;
}

type Range = readonly [start: number, end: number];

/** A node as the parser gives it, as far as it is looked at. */
interface SyntaxNode {
  readonly type: string;
  readonly range: Range;
  readonly parent: SyntaxNode;
  readonly [field: string]: unknown;
}

/** Parses a source. Throws when it is not valid TypeScript. */
export function parse(raw: string): Syntax {
  const collector = new Collector(raw);
  const plugin: Deno.lint.Plugin = {
    name: "tidy",
    rules: {
      collect: {
        create(context) {
          for (const { range } of context.sourceCode.getAllComments()) collector.addBlank(range);
          return {
            "*"(node: unknown) {
              collector.add(node as SyntaxNode);
            },
          } as Deno.lint.LintVisitor;
        },
      },
    },
  };
  Deno.lint.runPlugin(plugin, "source.ts", raw);
  return collector.finish();
}

class Collector {
  readonly #raw: string;
  readonly #blanks: Range[] = [];
  readonly #imports: { readonly at: number; readonly specifier: string }[] = [];
  readonly #functions: { readonly name: string; readonly range: Range }[] = [];
  readonly #uses: { readonly name: string; readonly at: number }[] = [];
  #exportsBehaviour = false;

  constructor(raw: string) {
    this.#raw = raw;
  }

  /** What is no code. */
  addBlank(range: Range): void {
    this.#blanks.push(range);
  }

  add(node: SyntaxNode): void {
    switch (node.type) {
      case "TemplateElement":
        return this.addBlank(node.range);
      case "ImportDeclaration":
      case "ExportAllDeclaration":
      case "ImportExpression":
        return this.#addImport(node["source"], node);
      case "TSImportType":
        return this.#addImport(node["argument"], node);
      case "ExportNamedDeclaration":
        this.#addImport(node["source"], node);
        return this.#addExport(node["declaration"] as SyntaxNode | null);
      case "ExportDefaultDeclaration":
        return this.#addExport(node["declaration"] as SyntaxNode);
      case "FunctionDeclaration":
      case "FunctionExpression":
      case "ArrowFunctionExpression":
        return this.#addFunction(node);
      case "Identifier":
      case "MemberExpression":
      case "NewExpression":
        return this.#addUse(node);
    }
  }

  finish(): Syntax {
    const characters = this.#raw.split("");
    for (const [start, end] of this.#blanks) {
      for (let at = start; at < end; at++) if (characters[at] !== "\n") characters[at] = " ";
    }
    const code = characters.join("");
    const lineStarts = [0, ...Array.from(code.matchAll(/\n/g), ({ index }) => index + 1)];
    return {
      raw: this.#raw,
      imports: this.#imports.sort((a, b) => a.at - b.at).map(({ specifier }) => specifier),
      exportsBehaviour: this.#exportsBehaviour,
      functions: this.#functions.map(({ name, range: [start, end] }) => ({
        name,
        startLine: lineAt(lineStarts, start),
        lineCount: code.slice(start, end).split("\n").filter((line) => line.trim() !== "").length,
      })),
      uses: this.#uses.map(({ name, at }) => ({ name, line: lineAt(lineStarts, at) })),
    };
  }

  #addImport(source: unknown, { range: [at] }: SyntaxNode): void {
    const { value, literal } = (source ?? {}) as { value?: unknown; literal?: { value: unknown } };
    const specifier = value ?? literal?.value;
    if (typeof specifier === "string") this.#imports.push({ at, specifier });
  }

  #addExport(declaration: SyntaxNode | null): void {
    if (declaration === null) return;
    const { type } = declaration;
    const values = (declaration["declarations"] ?? []) as readonly { init?: SyntaxNode | null }[];
    const isFunction = values.some(({ init }) =>
      init?.type === "ArrowFunctionExpression" || init?.type === "FunctionExpression"
    );
    if (type === "FunctionDeclaration" || type === "ClassDeclaration" || isFunction) {
      this.#exportsBehaviour = true;
    }
  }

  #addFunction(node: SyntaxNode): void {
    const body = node["body"] as SyntaxNode | null;
    if (body?.type !== "BlockStatement") return;
    const { parent } = node;
    const isMember = parent.type === "MethodDefinition" ||
      (parent.type === "Property" && parent["value"] === node && parent["method"] === true);
    const owner = isMember ? parent : node;
    const name = (isMember ? parent["key"] : node["id"]) as SyntaxNode | null | undefined;
    const shown = name ? this.#raw.slice(...name.range) : "(arrow)";
    this.#functions.push({ name: shown, range: owner.range });
  }

  #addUse(node: SyntaxNode): void {
    if (node.type === "NewExpression") {
      const callee = node["callee"] as SyntaxNode;
      const isBare = (node["arguments"] as readonly unknown[]).length === 0;
      if (callee.type !== "Identifier" || !isBare) return;
      this.#uses.push({ name: `new ${callee["name"]}()`, at: node.range[0] });
      return;
    }
    const name = node.type === "Identifier" && isOnlyAName(node) ? undefined : chainOf(node);
    if (name !== undefined) this.#uses.push({ name, at: node.range[0] });
  }
}

/** `a.b.c`; undefined where the chain begins with something else than a name. */
function chainOf(node: SyntaxNode): string | undefined {
  if (node.type === "Identifier") return node["name"] as string;
  if (node.type !== "MemberExpression" || node["computed"] === true) return undefined;
  const start = chainOf(node["object"] as SyntaxNode);
  return start && `${start}.${(node["property"] as SyntaxNode)["name"]}`;
}

/** Whether an identifier names a member, and so says nothing of what is in scope. */
function isOnlyAName(node: SyntaxNode): boolean {
  const { parent } = node;
  if (parent["computed"] === true) return false;
  return (parent.type === "MemberExpression" && parent["property"] === node) ||
    parent["key"] === node;
}

function lineAt(lineStarts: readonly number[], position: number): number {
  let low = 0;
  let high = lineStarts.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (lineStarts[middle]! <= position) low = middle + 1;
    else high = middle;
  }
  return low;
}
