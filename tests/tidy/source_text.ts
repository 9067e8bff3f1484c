/**
 * Just enough of TypeScript's lexical grammar to look at sources without being fooled by comments, strings, templates
 * and regular expressions.
 *
 * @module
 */

/** A source with everything blanked out that is not code; every character keeps its place. */
export interface SourceText {
  readonly raw: string;
  /** Comments, and the insides of strings, templates and regular expressions, are spaces; line breaks stay. */
  readonly code: string;
}

/** Where a function starts and ends, in lines counted from 1. */
export interface FunctionSpan {
  readonly name: string;
  readonly startLine: number;
  /** Lines with code on them: those of comments and of long texts do not count. */
  readonly lineCount: number;
}

/** What may stand before a slash that starts a regular expression. */
const REGEXP_MAY_FOLLOW =
  /(?:^|[(,=:[!&|?{};+\-*%^~<>]|\b(?:return|typeof|case|in|of|delete|void|throw|new|await|yield))\s*$/;
const NOT_FUNCTIONS = new Set(["if", "for", "while", "switch", "catch", "with", "return", "await"]);

/** Blanks out what is not code. */
export function maskSource(raw: string): SourceText {
  const out = raw.split("");
  const blank = (from: number, to: number) => {
    for (let i = from; i < to; i++) if (out[i] !== "\n") out[i] = " ";
  };
  /** Depths of braces at which a template goes on. */
  const templates: number[] = [];
  let depth = 0;
  let at = 0;
  while (at < raw.length) {
    const two = raw.slice(at, at + 2);
    const char = raw[at]!;
    if (two === "//" || two === "/*") {
      const end = two === "//" ? endOrLength(raw, "\n", at) : endOrLength(raw, "*/", at + 2) + 2;
      blank(at, end);
      at = end;
    } else if (char === '"' || char === "'") {
      const end = endOfQuoted(raw, at, char);
      blank(at + 1, end - 1);
      at = end;
    } else if (char === "`" || (char === "}" && templates.at(-1) === depth)) {
      if (char === "}") templates.pop();
      const end = endOfTemplatePart(raw, at + 1);
      blank(at + 1, end.continues ? end.at - 2 : end.at - 1);
      if (end.continues) templates.push(depth);
      at = end.at;
    } else if (
      char === "/" && REGEXP_MAY_FOLLOW.test(out.slice(Math.max(0, at - 40), at).join(""))
    ) {
      const end = endOfRegExp(raw, at);
      blank(at + 1, end - 1);
      at = end;
    } else {
      if (char === "{") depth++;
      if (char === "}") depth--;
      at++;
    }
  }
  return { raw, code: out.join("") };
}

function endOrLength(raw: string, what: string, from: number): number {
  const at = raw.indexOf(what, from);
  return at < 0 ? raw.length : at;
}

function endOfQuoted(raw: string, start: number, quote: string): number {
  let at = start + 1;
  while (at < raw.length && raw[at] !== quote) at += raw[at] === "\\" ? 2 : 1;
  return at + 1;
}

/** Up to behind the closing backtick, or behind the `${` of a substitution. */
function endOfTemplatePart(raw: string, start: number): { at: number; continues: boolean } {
  for (let at = start; at < raw.length; at++) {
    if (raw[at] === "\\") at++;
    else if (raw[at] === "`") return { at: at + 1, continues: false };
    else if (raw[at] === "$" && raw[at + 1] === "{") return { at: at + 2, continues: true };
  }
  return { at: raw.length, continues: false };
}

function endOfRegExp(raw: string, start: number): number {
  let inClass = false;
  for (let at = start + 1; at < raw.length; at++) {
    const char = raw[at];
    if (char === "\\") at++;
    else if (char === "[") inClass = true;
    else if (char === "]") inClass = false;
    else if (char === "\n") return start + 1;
    else if (char === "/" && !inClass) return at + 1;
  }
  return raw.length;
}

/** The specifiers that a source imports or re-exports, type-only ones included. */
export function importsOf({ raw, code }: SourceText): string[] {
  const found: string[] = [];
  const pattern = /\b(?:import|export)\b[^;"'()]*?\bfrom\s*(["'])|\bimport\s*\(?\s*(["'])/g;
  for (const match of code.matchAll(pattern)) {
    const start = match.index + match[0].length;
    found.push(raw.slice(start, endOfQuoted(raw, start - 1, raw[start - 1]!) - 1));
  }
  return found;
}

/** Whether a source exports a function or a class: something that does and not only says. */
export function exportsBehaviour({ code }: SourceText): boolean {
  return /^export (?:default )?(?:abstract )?(?:async )?(?:function|class)\b/m.test(code) ||
    /^export const [^=]*= (?:async )?(?:\([^)]*\)|\w+)(?:: [^=]*)? =>/m.test(code);
}

/** Every function, method and arrow function with a body in braces. */
export function functionsOf({ code }: SourceText): FunctionSpan[] {
  const spans: FunctionSpan[] = [];
  const add = (name: string, start: number, bodyStart: number) => {
    const end = matching(code, bodyStart);
    const lines = code.slice(start, end + 1).split("\n").filter((line) => line.trim() !== "");
    spans.push({ name, startLine: lineOf(code, start), lineCount: lines.length });
  };
  for (const match of code.matchAll(/=>\s*\{/g)) {
    add("(arrow)", match.index, match.index + match[0].length - 1);
  }
  for (const match of code.matchAll(/([#\w$]*)\s*(?=[(<])/g)) {
    const name = match[1]!;
    if (name === "" || NOT_FUNCTIONS.has(name)) continue;
    const body = bodyAfterHead(code, match.index + match[0].length);
    if (body !== undefined) add(name, match.index, body);
  }
  return spans;
}

/** Where the body starts when a list of parameters, and maybe a result type, is followed by one. */
function bodyAfterHead(code: string, start: number): number | undefined {
  let at = start;
  if (code[at] === "<") {
    const end = matchingAngle(code, at);
    if (end === undefined || code[end + 1] !== "(") return undefined;
    at = end + 1;
  }
  at = skipSpaces(code, matching(code, at) + 1);
  if (code[at] === "{") return at;
  if (code[at] !== ":") return undefined;
  return bodyAfterType(code, at + 1);
}

/** A brace in a type comes after a sign that asks for a type; the first one that does not is the body. */
function bodyAfterType(code: string, start: number): number | undefined {
  for (let at = start; at < code.length; at++) {
    const char = code[at]!;
    if (char === ";" || char === ")" || char === "}" || char === ",") return undefined;
    if (char === "{" && !/[:|&<,([>=]$|\bis$/.test(code.slice(start - 1, at).trimEnd())) return at;
    if (char === "{" && /[^=]>$/.test(code.slice(start - 1, at).trimEnd())) return at;
    if (char === "{" || char === "(" || char === "[") at = matching(code, at);
    if (char === "<") {
      const end = matchingAngle(code, at);
      if (end === undefined) return undefined;
      at = end;
    }
  }
  return undefined;
}

function skipSpaces(code: string, start: number): number {
  let at = start;
  while (at < code.length && /\s/.test(code[at]!)) at++;
  return at;
}

/** The bracket that closes the one at `start`; the end of the source when none does. */
function matching(code: string, start: number): number {
  let depth = 0;
  for (let at = start; at < code.length; at++) {
    if ("([{".includes(code[at]!)) depth++;
    if (")]}".includes(code[at]!) && --depth === 0) return at;
  }
  return code.length - 1;
}

/** The same for angle brackets, which may turn out to be comparisons. */
function matchingAngle(code: string, start: number): number | undefined {
  let depth = 0;
  for (let at = start; at < code.length; at++) {
    const char = code[at]!;
    if (char === "<") depth++;
    else if (char === ">" && code[at - 1] !== "=" && --depth === 0) return at;
    else if (char === ";" || ((char === ")" || char === "}") && depth > 0)) return undefined;
    else if (char === "(" || char === "{" || char === "[") at = matching(code, at);
  }
  return undefined;
}

function lineOf(code: string, position: number): number {
  let line = 1;
  for (let at = code.indexOf("\n"); at >= 0 && at < position; at = code.indexOf("\n", at + 1)) {
    line++;
  }
  return line;
}
