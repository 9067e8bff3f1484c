// deno-lint-ignore-file no-console -- what it prints is what it is for
/**
 * Makes fixtures/oci-tiny, an OCI image layout of three small layers that has one of everything:
 *
 *     deno run -A tools/make_fixture.ts [DIRECTORY]
 *
 * The tars come out the same on every machine; their gzip streams do for one version of zlib.
 *
 * @module
 */
import { parseArgs } from "@std/cli/parse-args";
import type { SimpleEntry } from "../tests/tar/build.ts";
import { buildTar } from "../tests/tar/build.ts";
import { byteStringFromText } from "../lib/bytes/byte_string.ts";
import { writeOciLayout } from "../tests/source/build_layout.ts";

const DEFAULT_DIRECTORY = new URL("../fixtures/oci-tiny", import.meta.url).pathname;
const CREATED = "2024-02-29T12:00:00Z";
const MTIME_SECONDS = 1_709_208_000;
const KIB = 1024;

/** Linux capability sets: VFS_CAP_REVISION_2 with the effective bit, and cap_net_raw permitted. */
const CAPABILITY_NET_RAW = new Uint8Array([1, 0, 0, 2, 0, 0x20, ...new Array<number>(14).fill(0)]);

/** ACL entries as [tag, permissions, id]; tags as in linux/posix_acl.h. */
type AclEntry = readonly [tag: number, permissions: number, id: number];
const NO_ID = 0xffffffff;

/** An ACL in the format of the system calls. */
function acl(...entries: readonly AclEntry[]): Uint8Array {
  const view = new DataView(new ArrayBuffer(4 + 8 * entries.length));
  view.setUint32(0, 2, true);
  for (const [i, [tag, permissions, id]] of entries.entries()) {
    view.setUint16(4 + 8 * i, tag, true);
    view.setUint16(6 + 8 * i, permissions, true);
    view.setUint32(8 + 8 * i, id, true);
  }
  return new Uint8Array(view.buffer);
}

/** rwx for the owner, r-x for the group and for user 1000, nothing for others. */
const SHARED_ACL = acl(
  [0x01, 7, NO_ID],
  [0x02, 5, 1000],
  [0x04, 5, NO_ID],
  [0x10, 5, NO_ID],
  [0x20, 0, NO_ID],
);

function text(content: string): string {
  return byteStringFromText(content);
}

/** Text that is long and compresses well. */
function lines(count: number): string {
  return Array.from({ length: count }, (_, i) => `line ${i} of a file that compresses well\n`).join(
    "",
  );
}

/** Bytes that do not compress: the generator of Numerical Recipes, its high bytes. */
function noise(length: number, seed: number): Uint8Array {
  const bytes = new Uint8Array(length);
  let state = seed >>> 0;
  for (let i = 0; i < length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    bytes[i] = state >>> 24;
  }
  return bytes;
}

function withDefaults(entries: readonly SimpleEntry[]): SimpleEntry[] {
  return entries.map((entry) => ({ mtime: MTIME_SECONDS, ...entry }));
}

/** Directories, programs, links, devices, and names that are not ASCII. */
function baseLayer(): SimpleEntry[] {
  return withDefaults([
    { path: "./" },
    { path: "bin", link: "usr/bin" },
    { path: "dev/" },
    { path: "dev/null", kind: "characterDevice", major: 1, minor: 3, mode: 0o666 },
    { path: "dev/many", kind: "blockDevice", major: 300, minor: 70_000, mode: 0o660, gid: 6 },
    { path: "etc/" },
    { path: "etc/motd", data: "Welcome.\n" },
    { path: "etc/obsolete", data: "A higher layer removes this file.\n" },
    { path: "etc/conf.d/" },
    { path: "etc/conf.d/a.conf", data: "a = 1\n" },
    { path: "etc/conf.d/b.conf", data: "b = 1\n" },
    { path: "etc/becomes-directory", data: "A file here, a directory later.\n" },
    { path: "run/" },
    { path: "run/pipe", kind: "fifo", mode: 0o600 },
    { path: "srv/" },
    { path: "srv/gone", data: "A higher layer removes this directory.\n" },
    { path: "tmp/", mode: 0o1777 },
    { path: "usr/" },
    { path: "usr/bin/" },
    { path: "usr/bin/hello", data: "#!/bin/sh\necho hello\n", mode: 0o755 },
    { path: "usr/bin/become", data: "#!/bin/sh\nexit 0\n", mode: 0o4755 },
    {
      path: "usr/bin/ping",
      data: "#!/bin/sh\nexit 0\n",
      mode: 0o755,
      xattrs: { "security.capability": CAPABILITY_NET_RAW },
    },
    { path: "usr/bin/pong", kind: "hardlink", link: "usr/bin/ping" },
    { path: "usr/share/" },
    { path: "usr/share/lines.txt", data: lines(5000), mtime: [MTIME_SECONDS, 123_456_789] },
    { path: text("usr/share/Grüße.txt"), data: text("Grüße aus Köln\n") },
    { path: text("usr/share/日本語"), link: text("Grüße.txt") },
    {
      path: "usr/share/latin1-\xe9",
      data: "A name that is not UTF-8.\n",
      mtime: [-1, 500_000_000],
    },
    { path: "usr/share/link-59", link: "x".repeat(59) },
    { path: "usr/share/link-60", link: "x".repeat(60) },
    { path: `usr/share/${"long-name-".repeat(12)}`, data: "A name of 120 bytes.\n" },
    { path: "var/" },
    { path: "var/empty/", mode: 0o711 },
    { path: "var/empty-file" },
    {
      path: "var/shared/",
      mode: 0o750,
      xattrs: {
        "system.posix_acl_access": SHARED_ACL,
        "system.posix_acl_default": SHARED_ACL,
      },
    },
    { path: "var/owned", data: "By a user with a big number.\n", uid: 4_000_000_000, gid: 100_000 },
    {
      path: "var/sparse.img",
      data: {
        sizeBytes: 1024 * KIB,
        parts: [[0, noise(4 * KIB, 1)], [300 * KIB, noise(100, 2)], [
          1020 * KIB,
          noise(4 * KIB, 3),
        ]],
      },
    },
  ]);
}

/** What an update does: files change, go, come; a directory starts afresh. */
function updateLayer(): SimpleEntry[] {
  return withDefaults([
    { path: "etc/" },
    { path: "etc/.wh.obsolete" },
    { path: "etc/motd", data: "Welcome again.\n", mode: 0o600 },
    { path: "etc/conf.d/" },
    { path: "etc/conf.d/.wh..wh..opq" },
    { path: "etc/conf.d/c.conf", data: "c = 1\n" },
    { path: "etc/becomes-directory/" },
    { path: "etc/becomes-directory/inside", data: "Now there is something inside.\n" },
    { path: "usr/bin/pung", kind: "hardlink", link: "usr/bin/ping" },
    { path: "usr/lib/", mode: 0o755 },
    {
      path: "usr/lib/with-xattrs",
      data: "Attributes in the inode and in a block.\n",
      xattrs: { "user.short": "value", "user.long": "v".repeat(600), "trusted.note": "\x00\xff" },
    },
    {
      path: "usr/lib/with-acl",
      data: "User 1000 may read this.\n",
      mode: 0o750,
      xattrs: { "system.posix_acl_access": SHARED_ACL },
    },
    { path: "usr/lib/noise.bin", data: noise(5000, 4) },
    // A path through the symbolic link of the layer below, and a parent that no layer has an entry for.
    { path: "bin/late", data: "#!/bin/sh\nexit 0\n", mode: 0o755 },
    { path: "opt/implicit/file", data: "Its directories have no entries.\n" },
  ]);
}

/** Removes a directory and brings a removed file back. */
function finalLayer(): SimpleEntry[] {
  return withDefaults([
    { path: ".wh.srv" },
    { path: "etc/obsolete", data: "Back again.\n" },
    { path: "usr/share/lines-again.txt", data: lines(4000) },
  ]);
}

function main(): void {
  const [directory = DEFAULT_DIRECTORY] = parseArgs(Deno.args, { string: ["_"] })._;
  const layers = [baseLayer(), updateLayer(), finalLayer()].map((entries) => buildTar(entries));
  const image = writeOciLayout(directory, {
    layers,
    config: {
      created: CREATED,
      config: {
        Env: ["PATH=/usr/bin", "LANG=C.UTF-8"],
        Entrypoint: ["/bin/hello"],
        WorkingDir: "/",
      },
      history: ["the base", "an update", "a removal"].map((by) => ({
        created: CREATED,
        created_by: by,
      })),
    },
  });
  console.log(`${directory}: ${image.manifest.digest}`);
  for (const diffId of image.diffIds) console.log(`layer ${diffId}`);
}

main();
