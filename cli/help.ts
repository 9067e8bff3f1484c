/**
 * `--help`: 80 columns, examples first, generated from the tables.
 *
 * @module
 */
import type { Command, Completion, OptionSpec, PositionalSpec } from "./command.ts";
import { COMMON_OPTIONS, spelling } from "./command.ts";
import { EXIT_MEANINGS } from "./errors.ts";
import { definitions, paragraph, wrap } from "./text.ts";
import { VERSION } from "./version.ts";

const COLUMNS = 80;

interface SourceForm {
  /** The leading text, including the colon. */
  readonly prefix: string;
  readonly rest: string;
  readonly meaning: string;
  readonly completion: Completion;
}

export const SOURCE_FORMS: readonly SourceForm[] = ([
  ["oci:", "DIR[:REF]", "an OCI image layout"],
  ["oci-archive:", "FILE[:REF]", "an OCI image layout in a tar"],
  ["docker-archive:", "FILE[:REF]", "what `docker save` wrote"],
  ["dir:", "DIR", "what `skopeo copy ... dir:` wrote"],
  ["docker://", "REGISTRY/REPO[:TAG][@DIGEST]", "an image in a registry"],
  ["docker-daemon:", "NAME[:TAG]", "an image of a running Docker or podman, over its socket"],
  [
    "containers-storage:",
    "NAME[:TAG]",
    "an image of podman's and buildah's storage, through skopeo or podman",
  ],
  ["tar:", "FILE", "one tar of a root file system: plain, gzip, zstd or xz"],
  ["rootfs:", "DIR", "a directory tree"],
  ["ext4:", "FILE", "an ext4 image, in a file or on a block device"],
] as const).map(([prefix, rest, meaning]) => ({
  prefix,
  rest,
  meaning,
  completion: rest.startsWith("DIR") ? "directory" : rest.startsWith("FILE") ? "file" : "none",
}));

export const PURPOSE =
  "turns container images into ext4 images that fixed-block stores deduplicate well";

export const ENVIRONMENT: readonly (readonly [name: string, meaning: string])[] = [
  ["BLESSFS_DEBUG", "set to 1 to show the stack and the causes of an error"],
  ["DEDUP_ALIGN_THRESHOLD", "the default of `probe --align-threshold`"],
  [
    "DOCKER_CONFIG",
    "the directory of docker's config.json, with credentials for registries; default: ~/.docker",
  ],
  [
    "DOCKER_HOST",
    "where `docker-daemon:` finds the daemon: unix:///PATH or tcp://HOST:PORT, the latter with DOCKER_TLS_VERIFY and " +
    "DOCKER_CERT_PATH as docker has them; default: the first socket of Docker or podman that is there",
  ],
  ["FORCE_COLOR", "colour the output even if it is not a terminal"],
  ["NO_COLOR", "set to anything but an empty text for no colours"],
  ["REGISTRY_AUTH_FILE", "the default of --authfile; it may be missing"],
  [
    "SOURCE_DATE_EPOCH",
    "the time, in seconds since 1970, of everything that has no time of its own; default: 0",
  ],
  ["TERM", "`dumb`: no colours and no progress"],
];

/** Topics of `blessfs help`, in addition to the commands. */
export const TOPICS: readonly string[] = ["environment", "exit-codes", "sizes", "sources"];

const SIZES_TEXT =
  "Sizes are bytes, or a number with K, M, G, T or P (also KiB, MiB, ...), in powers of 1024: " +
  "131072, 128K, 128KiB, 4M, 1.5G. A bare number is bytes, where mke2fs takes KiB.";

/** What `blessfs` prints without arguments. */
export function usageLines(commands: readonly Command[]): string {
  return [
    "usage: blessfs COMMAND [OPTION]... [OPERAND]...",
    ...wrap(`commands: ${commands.map((command) => command.name).join(", ")}`, COLUMNS),
    "hint: `blessfs --help` shows more",
    "",
  ].join("\n");
}

export function mainHelp(commands: readonly Command[]): string {
  const examples = commands.flatMap((command) => command.examples.slice(0, 1)).slice(0, 4);
  return page([
    paragraph(`blessfs ${VERSION} ${PURPOSE}.`, COLUMNS),
    ["Examples:", ...exampleLines(examples)],
    ["Usage:", "  blessfs COMMAND [OPTION]... [OPERAND]..."],
    [
      "Commands:",
      ...definitions(commands.map((command) => [command.name, command.summary]), COLUMNS),
    ],
    ["Options of every command:", ...optionLines(COMMON_OPTIONS)],
    ["Sources:", ...sourceLines()],
    ["Exit codes:", ...exitLines()],
    ["Environment:", ...definitions(ENVIRONMENT, COLUMNS)],
    ["`blessfs COMMAND --help` shows examples and options of a command."],
  ]);
}

export function commandHelp(command: Command, commands: readonly Command[]): string {
  const takesSource = command.positionals.some((spec) => spec.completion === "source");
  return page([
    paragraph(`blessfs ${command.name}: ${command.summary}`, COLUMNS),
    ["Examples:", ...exampleLines(command.examples)],
    ["Usage:", ...usageOf(command).map((line) => `  ${line}`)],
    ...(command.description ?? []).map((text) => paragraph(text, COLUMNS)),
    section("Operands:", positionalLines(command.positionals)),
    section("Options:", optionLines(command.options)),
    ["Options of every command:", ...optionLines(COMMON_OPTIONS)],
    takesSource ? ["Sources:", ...sourceLines()] : [],
    command.options.some((option) => option.value?.includes("SIZE"))
      ? paragraph(SIZES_TEXT, COLUMNS)
      : [],
    relatedLines(command, commands),
  ]);
}

/** `blessfs help TOPIC`; undefined for an unknown topic. */
export function topicHelp(topic: string): string | undefined {
  switch (topic) {
    case "environment":
      return page([["Environment:", ...definitions(ENVIRONMENT, COLUMNS)]]);
    case "exit-codes":
      return page([["Exit codes:", ...exitLines()]]);
    case "sizes":
      return page([paragraph(SIZES_TEXT, COLUMNS)]);
    case "sources":
      return page([
        ["Sources:", ...sourceLines()],
        paragraph("A bare path is recognised by its content.", COLUMNS),
        paragraph(
          "If a source has several refs and none is named, the command fails and lists them. `--platform` " +
            "picks from an image for several platforms; the default is linux on the architecture of this machine.",
          COLUMNS,
        ),
      ]);
    default:
      return undefined;
  }
}

/** A command's usage lines: one for its name and one for each other way to call it. */
export function usageOf(command: Command): string[] {
  const required = command.options.filter((option) => option.required);
  const tail = [
    ...command.positionals.map(shownPositional),
    ...required.map((option) =>
      `${option.short ? `-${option.short}` : `--${option.name}`} ${option.value}`
    ),
    ...(command.options.length > required.length ? ["[OPTION]..."] : []),
  ];
  return [command.name, ...command.aliases ?? []].map((name) =>
    ["blessfs", name, ...tail].join(" ")
  );
}

/** How an option appears in a list: `-o, --output IMAGE`. */
export function optionTerm(option: OptionSpec): string {
  const short = option.short === undefined ? "    " : `-${option.short}, `;
  const value = option.value === undefined
    ? ""
    : ` ${option.value}${option.list ? (option.whole ? "..." : ",...") : ""}`;
  return `${short}${spelling(option)}${value}`;
}

export function optionMeaning(option: OptionSpec): string {
  const notes = [];
  const choices = option.choices?.join("|");
  if (choices !== undefined && !option.open && !option.value?.includes("|")) notes.push(choices);
  const text = option.defaultText ?? option.default;
  if (text !== undefined) notes.push(`default: ${text}`);
  return notes.length === 0 ? option.summary : `${option.summary} [${notes.join("; ")}]`;
}

export function positionalMeaning(spec: PositionalSpec): string {
  return spec.choices === undefined ? spec.summary : `${spec.summary} [${spec.choices.join("|")}]`;
}

function shownPositional(spec: PositionalSpec): string {
  const least = spec.least ?? 1;
  const words = Array.from({ length: Math.max(least, 1) }, () => spec.name).join(" ");
  const shown = spec.repeated ? `${words}...` : words;
  return least === 0 ? `[${shown}]` : shown;
}

function positionalLines(specs: readonly PositionalSpec[]): string[] {
  if (specs.length === 0) return [];
  return definitions(specs.map((spec) => [spec.name, positionalMeaning(spec)]), COLUMNS);
}

function optionLines(options: readonly OptionSpec[]): string[] {
  if (options.length === 0) return [];
  return definitions(options.map((option) => [optionTerm(option), optionMeaning(option)]), COLUMNS);
}

function exampleLines(examples: Command["examples"]): string[] {
  return examples.flatMap(([purpose, line]) => [
    ...paragraph(`${purpose}:`, COLUMNS, 2),
    `    ${line}`,
  ]);
}

function sourceLines(): string[] {
  return definitions(
    SOURCE_FORMS.map(({ prefix, rest, meaning }) => [prefix + rest, meaning]),
    COLUMNS,
  );
}

function exitLines(): string[] {
  return definitions(Object.entries(EXIT_MEANINGS), COLUMNS);
}

function relatedLines(command: Command, commands: readonly Command[]): string[] {
  const group = `${command.name.split(" ")[0]} `;
  const related = commands.filter((other) => other !== command && other.name.startsWith(group));
  if (related.length === 0) return [];
  return [
    "See also:",
    ...definitions(related.map((other) => [`blessfs ${other.name}`, other.summary]), COLUMNS),
  ];
}

function section(title: string, lines: readonly string[]): string[] {
  return lines.length === 0 ? [] : [title, ...lines];
}

function page(sections: readonly (readonly string[])[]): string {
  return sections.filter((lines) => lines.length > 0).map((lines) => `${lines.join("\n")}\n`).join(
    "\n",
  );
}
