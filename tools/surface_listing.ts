/**
 * The public surface of the library as text: every export of every entry module with its shape, without comments and
 * locations.
 *
 * @module
 */
import config from "../deno.json" with { type: "json" };
import { ROOT, runStep } from "./build_steps.ts";

/** Where the listing is committed. */
export const LISTING = `${ROOT}tests/tools/surface.txt`;

/** A type, as `deno doc --json` gives it. */
interface DocType {
  readonly kind: string;
  readonly repr?: string;
  // deno-lint-ignore no-explicit-any -- its shape depends on its kind
  readonly value: any;
}

interface DocParameter {
  readonly kind: string;
  readonly name?: string;
  readonly optional?: boolean;
  readonly tsType?: DocType;
  readonly left?: DocParameter;
  readonly arg?: DocParameter;
}

interface DocFunction {
  readonly params: readonly DocParameter[];
  readonly returnType?: DocType;
  readonly typeParams?: readonly { readonly name: string }[];
}

interface DocMember {
  readonly name: string;
  readonly kind?: string;
  readonly optional?: boolean;
  readonly readonly?: boolean;
  readonly isStatic?: boolean;
  readonly accessibility?: string;
  readonly tsType?: DocType;
  readonly params?: readonly DocParameter[];
  readonly returnType?: DocType;
  readonly functionDef?: DocFunction;
}

interface DocDefinition extends Partial<DocFunction> {
  readonly tsType?: DocType;
  readonly extends?: readonly DocType[] | string;
  readonly implements?: readonly DocType[];
  readonly constructors?: readonly DocMember[];
  readonly properties?: readonly DocMember[];
  readonly methods?: readonly DocMember[];
}

interface DocSymbol {
  readonly name: string;
  readonly declarations: readonly { readonly kind: string; readonly def?: DocDefinition }[];
}

/** Makes the listing of the sources as they are now. */
export function surfaceListing(): string {
  const shapes = new Map<string, string>();
  const parts = Object.entries(config.exports).map(([name, path]) => {
    const symbols = symbolsOf(path);
    if (name === ".") { for (const symbol of symbols) shapes.set(symbol.name, shapeOf(symbol)); }
    const lines = symbols.map((symbol) => {
      const shape = shapeOf(symbol);
      return name !== "." && shapes.get(symbol.name) === shape ? symbol.name : shape;
    });
    return [`# ${name}`, ...lines.sort(), ""].join("\n");
  });
  return parts.join("\n");
}

function symbolsOf(path: string): readonly DocSymbol[] {
  const { nodes } = JSON.parse(
    runStep(Deno.execPath(), ["doc", "--json", path], { env: { NO_COLOR: "1" } }),
  );
  const modules: readonly { readonly symbols: readonly DocSymbol[] }[] = Object.values(nodes);
  return modules[0]?.symbols ?? [];
}

function shapeOf({ name, declarations }: DocSymbol): string {
  return declarations.map(({ kind, def = {} }) => {
    switch (kind) {
      case "function":
        return `function ${name}${signature(def as DocFunction)}`;
      case "variable":
        return `const ${name}: ${typeText(def.tsType)}`;
      case "typeAlias":
        return `type ${name} = ${typeText(def.tsType)}`;
      default:
        return [`${kind} ${name}${heritage(def)}`, ...members(def)].join("\n");
    }
  }).join("\n");
}

function heritage(def: DocDefinition): string {
  const parents = typeof def.extends === "string"
    ? [def.extends]
    : def.extends?.map(typeText) ?? [];
  const all = [...parents, ...def.implements?.map(typeText) ?? []];
  return all.length === 0 ? "" : ` extends ${all.join(", ")}`;
}

function members({ constructors = [], properties = [], methods = [] }: DocDefinition): string[] {
  const isPublic = ({ accessibility }: DocMember) =>
    accessibility !== "private" && accessibility !== "protected";
  const created = constructors.map((member) => `  new${signature(member as DocFunction)}`);
  const fields = properties.filter(isPublic).map((member) => {
    const { name, isStatic, optional, tsType } = member;
    return `  ${isStatic ? "static " : ""}${name}${optional ? "?" : ""}: ${typeText(tsType)}`;
  });
  const calls = methods.filter(isPublic).map((member) => {
    const { name, kind, isStatic, functionDef } = member;
    const prefix = `  ${isStatic ? "static " : ""}`;
    const shape = functionDef ?? member as DocFunction;
    if (kind === "getter") return `${prefix}get ${name}: ${typeText(shape.returnType)}`;
    return `${prefix}${name}${signature(shape)}`;
  });
  return [...created, ...fields.sort(), ...calls.sort()];
}

function signature({ params, returnType, typeParams = [] }: DocFunction): string {
  const generic = typeParams.length === 0 ? "" : `<${typeParams.map(({ name }) => name)}>`;
  const result = returnType === undefined ? "" : `: ${typeText(returnType)}`;
  return `${generic}(${params.map(parameterText).join(", ")})${result}`;
}

function parameterText(parameter: DocParameter): string {
  if (parameter.kind === "assign") {
    const { name, kind, tsType } = parameter.left!;
    return `${name ?? kind}?: ${typeText(tsType ?? parameter.tsType)}`;
  }
  if (parameter.kind === "rest") {
    return `...${parameter.arg?.name}: ${typeText(parameter.tsType ?? parameter.arg?.tsType)}`;
  }
  const { name = "options", optional, tsType } = parameter;
  return `${name}${optional ? "?" : ""}: ${typeText(tsType)}`;
}

function typeText(type: DocType | undefined): string {
  if (type === undefined) return "unknown";
  const { kind, value, repr = "" } = type;
  switch (kind) {
    case "typeRef": {
      const given = (value.typeParams ?? []) as readonly DocType[];
      return `${value.typeName}${given.length === 0 ? "" : `<${given.map(typeText).join(", ")}>`}`;
    }
    case "union":
    case "intersection":
      return value.map(typeText).join(kind === "union" ? " | " : " & ");
    case "array":
      return `(${typeText(value)})[]`;
    case "tuple":
      return `[${value.map(typeText).join(", ")}]`;
    case "literal":
      return value.kind === "string" ? JSON.stringify(value.string) : String(value[value.kind]);
    case "parenthesized":
    case "optional":
    case "rest":
      return typeText(value);
    case "typeOperator":
      return `${value.operator} ${typeText(value.tsType)}`;
    case "indexedAccess":
      return `${typeText(value.objType)}[${typeText(value.indexType)}]`;
    case "fnOrConstructor":
      return `${signature({ ...value, returnType: undefined })} => ${typeText(value.tsType)}`;
    case "typeLiteral":
      return `{ ${[...members(value)].map((line) => line.trim()).join("; ")} }`;
    case "mapped":
      return `{ [${value.typeParam.name}]: ${typeText(value.tsType)} }`;
    default:
      return repr === "" ? kind : repr;
  }
}
