/**
 * Images as odd tools and old ones leave them, and what comes of each.
 *
 * @module
 */
import {
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { Buffer } from "node:buffer";
import zlib from "node:zlib";
import { digestOf } from "../../lib/bytes/digest.ts";
import { buildTar } from "../tar/build.ts";
import { type ImageSpec, jsonBytes, type LayoutSpec, writeOciLayout } from "./build_layout.ts";

/** One input. */
export interface VariedInput {
  readonly what: string;
  /** Makes it in a directory of its own; gives the source, as it is written. */
  readonly make: (directory: string) => string;
  /** The paths that are there, or what the error says. */
  readonly wanted: readonly string[] | RegExp;
  /** Kinds of warnings. */
  readonly warnings?: readonly string[];
  /** What buildah 1.28 does with it: it reads it by default, and gives the same tree where there is one. */
  readonly buildah?: "refuses" | "has no such source";
}

const TIME = 1_600_000_000;
const LAYER = buildTar([
  { path: "etc/", mtime: TIME },
  { path: "etc/a", data: "hello\n", mtime: TIME },
  { path: "etc/h", kind: "hardlink", link: "etc/a", mtime: TIME },
  { path: "etc/l", link: "a", mtime: TIME },
]);
const PATHS = ["/etc", "/etc/a", "/etc/h", "/etc/l"];

const layout = (directory: string, spec: Partial<LayoutSpec> = {}): string => {
  const path = join(directory, "layout");
  writeOciLayout(path, { layers: [LAYER], ref: "x", ...spec });
  return `oci:${path}:x`;
};

const stored = (changeStored: ImageSpec["changeStored"]): Partial<LayoutSpec> =>
  changeStored === undefined ? {} : { changeStored };

/** A tar whose one header is written by hand. */
function handMade(
  path: string,
  data: string,
  change: (header: Buffer) => void,
): Uint8Array<ArrayBuffer> {
  const tar = buildTar([{ path, data, mode: 0o600, mtime: TIME }]);
  const header = Buffer.from(tar.buffer, 0, 512);
  change(header);
  header.fill(" ", 148, 156);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
  return tar;
}

/** One PAX record. */
function record(key: string, value: string): string {
  const rest = ` ${key}=${value}\n`;
  let length = rest.length + 1;
  while (`${length}`.length + rest.length !== length) length++;
  return `${length}${rest}`;
}

/** An extended header with some records, before a file. */
function withRecords(
  records: readonly string[],
  path: string,
  data: string,
): Uint8Array<ArrayBuffer> {
  const text = records.join("");
  const head = handMade("pax", text, (header) => header.write("x", 156, "latin1"));
  const file = buildTar([{ path, data, mtime: TIME }]);
  return new Uint8Array(Buffer.concat([head.subarray(0, -1024), file]));
}

/** A gzip member with every optional field of RFC 1952. */
function fullMember(data: Uint8Array): Buffer {
  const plain = zlib.gzipSync(data);
  const head = Buffer.concat([
    Buffer.from([0x1f, 0x8b, 8, 0x1e, 0, 0, 0, 0, 2, 3, 4, 0]),
    Buffer.from("abcdlayer.tar\0a comment\0"),
  ]);
  const sum = Buffer.alloc(2);
  sum.writeUInt16LE(zlib.crc32(head) & 0xffff);
  return Buffer.concat([head, sum, plain.subarray(10)]);
}

/** A frame of zstd that says nothing. */
const skippable = (text: string): Buffer =>
  Buffer.concat([Buffer.from([0x50, 0x2a, 0x4d, 0x18, text.length, 0, 0, 0]), Buffer.from(text)]);

/** Old docker save, where a repeated layer is a link to the first. */
function dockerFiles(directory: string): string {
  const path = join(directory, "saved");
  for (const id of ["one", "two"]) mkdirSync(join(path, id), { recursive: true });
  writeFileSync(join(path, "one/layer.tar"), LAYER);
  symlinkSync("../one/layer.tar", join(path, "two/layer.tar"));
  const diffIds = [digestOf(LAYER), digestOf(LAYER)];
  const rootfs = { type: "layers", diff_ids: diffIds };
  writeFileSync(join(path, "c.json"), jsonBytes({ os: "linux", architecture: "amd64", rootfs }));
  const manifest = [{
    Config: "c.json",
    RepoTags: null,
    Layers: ["one/layer.tar", "two/layer.tar"],
  }];
  writeFileSync(join(path, "manifest.json"), jsonBytes(manifest));
  return path;
}

/** A tar of files below a directory, each name with a prefix, links kept. */
function dockerTar(directory: string, prefix: string): Uint8Array<ArrayBuffer> {
  const path = dockerFiles(directory);
  const read = (name: string) => readFileSync(join(path, name));
  return buildTar([
    ...prefix === "" ? [] : [{ path: prefix }],
    ...["manifest.json", "c.json", "one/layer.tar"].map((name) => ({
      path: prefix + name,
      data: new Uint8Array(read(name)),
    })),
    { path: `${prefix}two/layer.tar`, link: "../one/layer.tar" },
  ]);
}

/** The inputs. */
export const VARIED_INPUTS: readonly VariedInput[] = [
  {
    what: "documents with a byte order mark, as Windows editors write them",
    make: (directory) => {
      const source = layout(directory);
      for (const name of ["index.json", "oci-layout"]) {
        const path = join(directory, "layout", name);
        writeFileSync(path, Buffer.concat([Buffer.from([0xef, 0xbb, 0xbf]), readFileSync(path)]));
      }
      return source;
    },
    wanted: PATHS,
    buildah: "refuses",
  },
  {
    what: "an index with CRLF, unknown fields and a number in scientific notation",
    make: (directory) => {
      const source = layout(directory);
      const path = join(directory, "layout/index.json");
      const text = readFileSync(path, "utf8");
      writeFileSync(path, `{\r\n"x": {"y": [1e3]},${text.slice(1)}\r\n`);
      return source;
    },
    wanted: PATHS,
  },
  {
    what: "a layout whose blobs are a link to a directory of another",
    make: (directory) => {
      const source = layout(directory);
      renameSync(join(directory, "layout/blobs"), join(directory, "shared"));
      symlinkSync("../shared", join(directory, "layout/blobs"));
      return source;
    },
    wanted: PATHS,
  },
  {
    what: "a layout whose blobs are links, each to a file of a store (Bazel, Nix)",
    make: (directory) => {
      const source = layout(directory);
      const blobs = join(directory, "layout/blobs/sha256");
      mkdirSync(join(directory, "cas"));
      for (const name of readdirSync(blobs)) {
        renameSync(join(blobs, name), join(directory, "cas", name));
        symlinkSync(join("../../../cas", name), join(blobs, name));
      }
      return source;
    },
    wanted: PATHS,
  },
  {
    what: "a manifest that does not say what it is",
    make: (directory) =>
      layout(directory, {
        changeManifest: ({ mediaType: _, ...manifest }) => manifest,
      }),
    wanted: PATHS,
  },
  {
    what: "a digest in capitals",
    make: (directory) =>
      layout(directory, {
        changeIndex: (index) => {
          const [first] = index.manifests;
          const digest = `sha256:${first!.digest.slice(7).toUpperCase()}`;
          return { ...index, manifests: [{ ...first!, digest }] };
        },
      }),
    wanted: /malformed: wanted 64 lower-case hex digits/,
    buildah: "refuses",
  },
  {
    what: "a layer of several gzip members, with all header fields, empty ones and zeros behind",
    make: (directory) =>
      layout(
        directory,
        stored(() =>
          new Uint8Array(Buffer.concat([
            zlib.gzipSync(""),
            fullMember(LAYER.subarray(0, 700)),
            zlib.gzipSync(""),
            zlib.gzipSync(LAYER.subarray(700)),
            Buffer.alloc(100),
          ]))
        ),
      ),
    wanted: PATHS,
    buildah: "refuses",
  },
  {
    what: "a layer of several zstd frames, skippable ones before, between and behind",
    make: (directory) =>
      layout(directory, {
        compress: "zstd",
        ...stored(() =>
          new Uint8Array(Buffer.concat([
            skippable("hello"),
            zlib.zstdCompressSync(LAYER.subarray(0, 1000)),
            skippable(""),
            zlib.zstdCompressSync(LAYER.subarray(1000)),
            skippable("bye"),
          ]))
        ),
      }),
    wanted: PATHS,
    buildah: "refuses",
  },
  {
    what: "an empty layer between two that are the same",
    make: (directory) => layout(directory, { layers: [LAYER, buildTar([]), LAYER] }),
    wanted: PATHS,
  },
  {
    what: "paths with dots, double slashes and ways out of the root",
    make: (directory) =>
      layout(directory, {
        layers: [buildTar([
          { path: "./", mtime: TIME },
          { path: "/etc//", mtime: TIME },
          { path: "./etc/./a", data: "1", mtime: TIME },
          { path: "usr/../etc/b", data: "2", mtime: TIME },
          { path: "../../etc/c", data: "3", mtime: TIME },
        ])],
      }),
    wanted: ["/etc", "/etc/a", "/etc/b", "/etc/c"],
    warnings: ["clampedPath"],
  },
  {
    what: "hard links to a file and to one another",
    make: (directory) =>
      layout(directory, {
        layers: [
          buildTar([
            { path: "a", data: "x", mtime: TIME },
            { path: "s", link: "a", mtime: TIME },
            { path: "h2", kind: "hardlink", link: "a", mtime: TIME },
            { path: "h3", kind: "hardlink", link: "h2", mtime: TIME },
          ]),
        ],
      }),
    wanted: ["/a", "/h2", "/h3", "/s"],
  },
  {
    what: "a tar of Unix version 7, with no magic number",
    make: (directory) =>
      layout(directory, { layers: [handMade("old", "v7", (header) => header.fill(0, 257, 512))] }),
    wanted: ["/old"],
  },
  {
    what: "numbers with blanks before them, as old tars have",
    make: (directory) =>
      layout(directory, {
        layers: [handMade("blank", "abc", (header) => {
          header.write("    600 \0", 100, "latin1");
          header.write("          3 ", 124, "latin1");
        })],
      }),
    wanted: ["/blank"],
  },
  {
    what: "a path that is not UTF-8, in a PAX header that says so",
    make: (directory) =>
      layout(directory, {
        layers: [
          withRecords([record("hdrcharset", "BINARY"), record("path", "caf\xe9")], "x", "b"),
        ],
      }),
    wanted: ["/caf\xe9"],
  },
  {
    what: "an attestation beside the image, as buildx makes it",
    make: (directory) =>
      layout(directory, {
        changeIndex: (index) => {
          const [image] = index.manifests;
          const attestation = {
            ...image!,
            platform: { os: "unknown", architecture: "unknown" },
            annotations: {
              "vnd.docker.reference.type": "attestation-manifest",
              "vnd.docker.reference.digest": image!.digest,
            },
          };
          return { ...index, manifests: [image, attestation] };
        },
      }),
    wanted: PATHS,
  },
  {
    what: "a layer that may not be distributed",
    make: (directory) =>
      layout(directory, {
        changeManifest: (manifest) => {
          const [layer] = manifest.layers;
          const mediaType = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip";
          return { ...manifest, layers: [{ ...layer!, mediaType }] };
        },
      }),
    wanted: PATHS,
  },
  {
    what: "fewer diff ids than layers",
    make: (directory) =>
      layout(directory, {
        layers: [LAYER, buildTar([{ path: "b", data: "2" }])],
        changeConfig: (config) => {
          config.rootfs.diff_ids.pop();
          return config;
        },
      }),
    wanted: /has 2 layers, but its config has 1 diff ids/,
  },
  {
    what: "an old archive of docker, compressed as a whole",
    make: (directory) => {
      const path = join(directory, "saved.tar.gz");
      writeFileSync(path, zlib.gzipSync(dockerTar(directory, "")));
      return `docker-archive:${path}`;
    },
    wanted: PATHS,
    buildah: "refuses",
  },
  {
    what: "an old archive of docker, packed again by hand with ./ before each name",
    make: (directory) => {
      const path = join(directory, "saved.tar");
      writeFileSync(path, dockerTar(directory, "./"));
      return `docker-archive:${path}`;
    },
    wanted: PATHS,
  },
  {
    what: "names of files with all that has a meaning elsewhere",
    make: (directory) => {
      const path = join(directory, "a b#1@sha256:x?%20.tar");
      writeFileSync(path, LAYER);
      return `tar:${path}`;
    },
    wanted: PATHS,
    buildah: "has no such source",
  },
];
