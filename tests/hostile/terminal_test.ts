/**
 * Names and texts of images are shown to people on terminals. Whatever is in them, nothing reaches the terminal but
 * printable characters: not in errors, warnings, reports and tables. In JSON they stand escaped.
 */
import { assert, assertEquals } from "@std/assert";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { byteStringFromText } from "../../lib/bytes/byte_string.ts";
import { COMMANDS } from "../../cli/commands.ts";
import { runFake } from "../cli/fake_io.ts";
import { oldDockerEntries } from "../source/build_archives.ts";
import {
  buildImage,
  type LayoutSpec,
  named,
  writeLayoutFiles,
  writeOciLayout,
} from "../source/build_layout.ts";
import { sampleTar, withDirectory } from "../source/helpers.ts";
import { buildTar, type SimpleEntry } from "../tar/build.ts";
import { paxHeader, rawHeader, rawTar } from "../tar/raw.ts";

/** Clears the screen, sets a title, reports a key, moves up, goes right to left, and the 8-bit forms of these. */
const NASTY = "\x1b[2J\x1b]0;owned\x07\x1bP\x9b31m\r\n\x08\x7f\u202e\u2066\u200f\u2028";
const NASTY_BYTES = byteStringFromText(NASTY);

type Maker = (directory: string) => string;

function tar(...entries: SimpleEntry[]): Maker {
  return raw(buildTar(entries));
}

function raw(bytes: Uint8Array): Maker {
  return (directory) => {
    const path = join(directory, "root.tar");
    writeFileSync(path, bytes);
    return `tar:${path}`;
  };
}

function layout(spec: Partial<LayoutSpec>, ref = ""): Maker {
  return (directory) => {
    writeOciLayout(directory, { layers: [sampleTar()], ...spec });
    return `oci:${directory}${ref}`;
  };
}

const SOURCES: Readonly<Record<string, Maker>> = {
  "a name that is twice": tar({ path: NASTY_BYTES }, { path: NASTY_BYTES }),
  "a name that is no UTF-8": tar({ path: `${NASTY_BYTES}\xff` }, { path: `${NASTY_BYTES}\xff` }),
  "a name that is too long": tar({ path: NASTY_BYTES + "x".repeat(300) }),
  "a path outside": tar({ path: `../${NASTY_BYTES}` }),
  "a hard link's target": tar({ path: "h", kind: "hardlink", link: NASTY_BYTES }),
  "a symlink on the way": tar({ path: NASTY_BYTES, link: NASTY_BYTES }, {
    path: `${NASTY_BYTES}/f`,
  }),
  "an xattr's name": tar({
    path: NASTY_BYTES,
    xattrs: { [NASTY_BYTES.replace(/[\r\n]/g, "")]: "1" },
  }),
  "a type flag": raw(rawTar(rawHeader({ flag: "\x1b", name: NASTY_BYTES }))),
  "a number": raw(rawTar(rawHeader({ name: NASTY_BYTES, size: "\x1b[2J\x07" }))),
  "a PAX key": raw(rawTar(paxHeader([["GNU.sparse.\x1b[2J", "1"]]), rawHeader({}))),
  "a PAX value": raw(rawTar(paxHeader([["mtime", NASTY_BYTES]]), rawHeader({}))),
  "an ACL": raw(rawTar(paxHeader([["SCHILY.acl.access", NASTY_BYTES]]), rawHeader({}))),
  "a media type": layout({
    changeManifest: (manifest) => {
      manifest.layers[0]!.mediaType = NASTY;
      return manifest;
    },
  }),
  "a digest": layout({
    changeManifest: (manifest) => {
      manifest.config.digest = NASTY;
      return manifest;
    },
  }),
  "a platform": layout({
    changeConfig: (config) => ({ ...config, os: NASTY, architecture: NASTY }),
    changeIndex: (index) => {
      index.manifests[0]!.platform = { os: "linux", architecture: NASTY };
      return index;
    },
  }),
  "names of images": (directory) => {
    const blobs = new Map<string, Uint8Array>();
    const manifests = [1, 2].map((i) =>
      named(buildImage(blobs, { layers: [sampleTar(i)] }).manifest, `${NASTY}${i}`)
    );
    writeLayoutFiles(directory, blobs, { schemaVersion: 2, manifests });
    return `oci:${directory}`;
  },
  "a reference": layout({}, `:${NASTY.replace(/\0/g, "")}`),
  "no JSON": (directory) => {
    writeOciLayout(directory, { layers: [] });
    writeFileSync(join(directory, "index.json"), NASTY);
    return `oci:${directory}`;
  },
  "a field's name": layout({
    changeIndex: () => ({ schemaVersion: 2, manifests: { [NASTY]: NASTY } }),
  }),
  "tags of a docker archive": (directory) => {
    const path = join(directory, "saved.tar");
    writeFileSync(path, buildTar(oldDockerEntries([NASTY, `${NASTY}2`])));
    return `docker-archive:${path}:none`;
  },
  "paths of a docker archive": (directory) => {
    const path = join(directory, "saved.tar");
    const manifest = JSON.stringify([{ Config: NASTY, RepoTags: null, Layers: [NASTY] }]);
    writeFileSync(path, buildTar([{ path: "manifest.json", data: byteStringFromText(manifest) }]));
    return `docker-archive:${path}`;
  },
  "a source that is not there": (directory) => `oci:${directory}/${NASTY}`,
  "a kind of source": () => `${NASTY}:x`,
  "the source's own name": (directory) => {
    const inner = join(directory, NASTY.replace(/[\r\n]/g, ""));
    mkdirSync(inner);
    writeFileSync(join(inner, "root.tar"), sampleTar());
    return `tar:${inner}/root.tar`;
  },
};

/** All that a terminal takes for a command, or turns the text around. Lines may end. */
// deno-lint-ignore no-control-regex
const ORDERS = /[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/;

const COMMAND_LINES: readonly (readonly string[])[] = [
  ["bless", "SOURCE", "-o", "OUT/image.ext4"],
  ["bless", "layered", "SOURCE", "-o", "OUT/layers"],
  ["probe", "SOURCE", "SOURCE"],
  ["bless", "SOURCE", "-o", "OUT/json.ext4", "--json"],
];

for (const [what, make] of Object.entries(SOURCES)) {
  Deno.test(`${what}: nothing of it is a command to a terminal`, async () => {
    await withDirectory(async (directory) => {
      const inside = join(directory, "source");
      const out = join(directory, "out");
      for (const path of [inside, out]) mkdirSync(path);
      const source = make(inside);
      for (const line of COMMAND_LINES) {
        const args = line.map((word) => word.replace("SOURCE", source).replace("OUT", out));
        const { code, stdout, stderr } = await runFake(args, COMMANDS, {
          env: { ...process.env } as Record<string, string>,
        });
        assert([0, 2, 3, 4].includes(code), `${line}: exit code ${code}: ${stderr}`);
        for (const text of [stdout, stderr]) {
          assertEquals(ORDERS.exec(text)?.[0], undefined, `${line}: ${JSON.stringify(text)}`);
        }
        // A message is one line, however many the name has.
        const isJson = line.includes("--json");
        const lines = stderr.trimEnd().split("\n").filter((text) => text !== "");
        if (isJson) { for (const text of lines) JSON.parse(text); }
        else for (const text of lines) assert(/^(blessfs|hint): ?/.test(text), text);
        if (isJson && code === 0) JSON.parse(stdout);
      }
    });
  });
}
