import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { execFileSync } from "node:child_process";
import {
  appendFileSync,
  chmodSync,
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { env } from "node:process";
import { gzipSync } from "node:zlib";
import { type BlessfsError, InputError, IoError, UsageError } from "../../lib/errors.ts";
import { type FileTree, readPayload, type TreeNode, walkTree } from "../../lib/model/node.ts";
import type { Addition, SourceOptions } from "../../lib/source/types.ts";
import { buildTree } from "../../lib/tree/build.ts";
import { Warnings } from "../../lib/warnings.ts";
import { buildTar } from "../tar/build.ts";
import {
  hasGnuTar,
  noise,
  openAndLoad,
  openFilesBelow,
  testOptions,
  withDirectory,
  withLoaded,
} from "./helpers.ts";

/** A root whose /sbin is a link, as in Debian. */
const ROOT = buildTar([
  { path: "etc/", mode: 0o750, mtime: 7 },
  { path: "etc/hosts", data: "old\n" },
  { path: "usr/sbin/", mtime: 7 },
  { path: "sbin", link: "usr/sbin" },
  { path: "tmp/", mode: 0o1777, mtime: 7 },
  { path: "out", link: "../../../usr" },
]);

interface Result {
  readonly names: readonly string[];
  readonly report: { readonly digest: string; readonly entries: number };
  readonly warnings: readonly string[];
}

/** `PATH MODE UID:GID TIME CONTENT` of everything in the tree. */
async function added(
  directory: string,
  additions: readonly Addition[],
  more: Partial<SourceOptions> = {},
): Promise<Result> {
  writeFileSync(join(directory, "root.tar"), ROOT);
  const options = testOptions({ additions, timestamp: 99, tmpdir: directory, ...more });
  return await withLoaded(`tar:${directory}/root.tar`, options, (layers, image) => {
    const { warnings } = options;
    const tree = buildTree(layers, { warnings, defaultTime: { seconds: 99, nanoseconds: 0 } });
    assert(image.additions !== undefined);
    assertEquals(layers.at(-1)!.diffId, image.additions.digest);
    return {
      names: namesOf(tree),
      report: image.additions,
      warnings: warnings.list().map(({ kind }) => kind),
    };
  });
}

function namesOf(tree: FileTree): string[] {
  return [...walkTree(tree)].map(({ path, node }) => {
    const { mode, uid, gid, mtimeSeconds } = node.attributes;
    const text = `${path} ${mode.toString(8)} ${uid}:${gid} ${mtimeSeconds} ${contentOf(node)}`;
    return text.trimEnd();
  });
}

function contentOf(node: TreeNode): string {
  if (node.kind === "symlink") return `-> ${node.target}`;
  if (node.kind !== "file") return "";
  const bytes = new Uint8Array(node.payload.sizeBytes);
  readPayload(node.payload, bytes, 0);
  return new TextDecoder().decode(bytes).trimEnd();
}

async function fault(
  directory: string,
  addition: Addition,
  // deno-lint-ignore no-explicit-any
  ErrorClass: new (...args: any[]) => BlessfsError = InputError,
): Promise<string> {
  const error = await assertRejects(() => added(directory, [addition]), ErrorClass);
  return `${error.message}; ${error.hint}`;
}

Deno.test("a file that is added follows links in its path, and gets owner, mode and time", async () => {
  if (!hasGnuTar("adding files")) return;
  await withDirectory(async (directory) => {
    writeFileSync(join(directory, "init"), "#!", { mode: 0o640 });
    symlinkSync("init", join(directory, "link"));
    const host = join(directory, "init");
    const { names, report } = await added(directory, [
      { kind: "path", host, guest: "/sbin/init", mode: 0o755 },
      { kind: "path", host: join(directory, "link"), guest: "/out/", uid: 5, gid: 6 },
      { kind: "path", host, guest: "new/deep/init" },
      { kind: "path", host, guest: "/etc/hosts", mode: 0o4755 },
    ]);
    for (
      const wanted of [
        "/usr/sbin/init 755 0:0 99 #!",
        "/usr/link 640 5:6 99 #!",
        "/new 755 0:0 99",
        "/new/deep/init 640 0:0 99 #!",
        "/etc/hosts 4755 0:0 99 #!",
        "/etc 750 0:0 7",
        "/sbin 777 0:0 0 -> usr/sbin",
      ]
    ) assert(names.includes(wanted), `${wanted} in\n${names.join("\n")}`);
    assertEquals(report.entries, 4);
    assertEquals(openFilesBelow(directory), []);
  });
});

Deno.test("a tree that is added keeps directories of the image, and links to directories", async () => {
  if (!hasGnuTar("adding trees")) return;
  await withDirectory(async (directory) => {
    const host = join(directory, "tree");
    mkdirSync(join(host, "sbin"), { recursive: true });
    mkdirSync(join(host, "etc"), { mode: 0o700 });
    chmodSync(host, 0o711);
    writeFileSync(join(host, "sbin/agent"), "agent", { mode: 0o755 });
    linkSync(join(host, "sbin/agent"), join(host, "etc/same"));
    symlinkSync("/nowhere", join(host, "etc/dangling"));
    const { names } = await added(directory, [
      { kind: "path", host, guest: "/" },
      { kind: "path", host, guest: "/srv/app", uid: 7 },
      { kind: "path", host, guest: "/tmp" },
    ]);
    assertEquals(names.filter((name) => !name.includes("/srv") && !name.includes("/tmp/")), [
      " 755 0:0 99",
      "/etc 700 0:0 99",
      "/etc/dangling 777 0:0 99 -> /nowhere",
      "/etc/hosts 644 0:0 0 old",
      "/etc/same 755 0:0 99 agent",
      "/out 777 0:0 0 -> ../../../usr",
      "/sbin 777 0:0 0 -> usr/sbin",
      "/tmp 1777 0:0 7",
      "/usr 755 0:0 99",
      "/usr/sbin 755 0:0 99",
      "/usr/sbin/agent 755 0:0 99 agent",
    ]);
    assert(names.includes("/srv/app 711 7:0 99"), names.join("\n"));
    assert(names.includes("/srv/app/sbin/agent 755 7:0 99 agent"));
  });
});

Deno.test("an empty directory can be added, and a missing one gets the mode of the host", async () => {
  if (!hasGnuTar("adding directories")) return;
  await withDirectory(async (directory) => {
    mkdirSync(join(directory, "empty"));
    chmodSync(join(directory, "empty"), 0o701);
    const host = join(directory, "empty");
    const { names } = await added(directory, [
      { kind: "path", host, guest: "/mnt/data" },
      { kind: "path", host, guest: "/etc", mode: 0o755 },
    ]);
    assert(names.includes("/mnt/data 701 0:0 99"));
    assert(names.includes("/etc 755 0:0 99"));
  });
});

Deno.test("a tar that is added is a layer: it has times and whiteouts of its own", async () => {
  await withDirectory(async (directory) => {
    const tar = buildTar([
      { path: "etc/.wh.hosts" },
      { path: "sbin/tool", data: "tool", mtime: 5, uid: 9 },
    ]);
    writeFileSync(join(directory, "add.tar.gz"), gzipSync(tar));
    const { names, report } = await added(directory, [
      { kind: "tar", path: join(directory, "add.tar.gz") },
    ]);
    assert(names.includes("/usr/sbin/tool 644 9:0 5 tool"), names.join("\n"));
    assert(!names.some((name) => name.startsWith("/etc/hosts")));
    assertEquals(report.entries, 2);
    assertEquals(openFilesBelow(directory), []);
  });
});

Deno.test("later additions take the place of earlier ones, with a warning", async () => {
  await withDirectory(async (directory) => {
    for (const name of ["one", "two"]) {
      writeFileSync(join(directory, `${name}.tar`), buildTar([{ path: "x", data: name }]));
    }
    const paths = ["one", "two"].map((name) => join(directory, `${name}.tar`));
    const tars = paths.map((path) => ({ kind: "tar", path } as const));
    const { names, warnings } = await added(directory, tars);
    assert(names.includes("/x 644 0:0 0 two"));
    assertEquals(warnings, ["duplicatePath"]);
    const reversed = await added(directory, tars.toReversed());
    assert(reversed.names.includes("/x 644 0:0 0 one"));
  });
});

Deno.test("what a pipe says becomes a file, and so does standard input", async () => {
  await withDirectory(async (directory) => {
    async function* stdin() {
      yield new TextEncoder().encode("nameserver ");
      yield new TextEncoder().encode("10.0.0.1\n");
    }
    const additions = [{ kind: "path", host: "-", guest: "/etc/resolv.conf" } as const];
    const { names } = await added(directory, additions, { stdin: stdin() });
    assert(names.includes("/etc/resolv.conf 644 0:0 99 nameserver 10.0.0.1"));
    assertStringIncludes(
      await fault(directory, { kind: "path", host: "-", guest: "/etc/" }),
      "has no name",
    );
  });
});

Deno.test("the digest of additions does not depend on the image, the machine or the time", async () => {
  if (!hasGnuTar("adding files twice")) return;
  await withDirectory(async (directory) => {
    const host = join(directory, "init");
    writeFileSync(host, "#!", { mode: 0o640 });
    const addition = { kind: "path", host, guest: "/sbin/init" } as const;
    const digests = new Set<string>();
    for (const name of ["a", "b"]) {
      writeFileSync(join(directory, `${name}.tar`), buildTar([{ path: name, data: "x" }]));
      const options = testOptions({ additions: [addition], timestamp: 1 });
      await withLoaded(`tar:${directory}/${name}.tar`, options, (_layers, image) => {
        digests.add(image.additions!.digest);
      });
    }
    assertEquals(digests.size, 1);
  });
});

Deno.test("bad additions are errors that name them, and leave nothing open", async () => {
  if (!hasGnuTar("bad additions")) return;
  await withDirectory(async (directory) => {
    const host = join(directory, "init");
    writeFileSync(host, "#!");
    const path = (guest: string): Addition => ({ kind: "path", host, guest });
    for (const guest of ["/../etc/x", "a/../../x", "..", "/etc/.."]) {
      assertStringIncludes(await fault(directory, path(guest), UsageError), "`..`");
    }
    assertStringIncludes(await fault(directory, path("/sbin")), "take the place of a directory");
    assertStringIncludes(await fault(directory, path("/etc")), "end the path in the image");
    assertStringIncludes(await fault(directory, path("/etc/.wh.x")), ".wh.");
    assertStringIncludes(
      await fault(directory, { kind: "path", host: join(directory, "no"), guest: "/x" }),
      "does not exist",
    );
    assertStringIncludes(
      await fault(directory, { kind: "path", host: "/dev/null", guest: "/x" }),
      "is a device",
    );
    assertStringIncludes(await fault(directory, { kind: "tar", path: host }), "wanted a tar");
    assertEquals(openFilesBelow(directory), []);
    assertEquals(readdirSync(directory).sort(), ["init", "root.tar"]);
  });
});

Deno.test("a host file that changes while it is read is an error", async () => {
  if (!hasGnuTar("a host file that changes")) return;
  await withDirectory(async (directory) => {
    const host = join(directory, "log");
    writeFileSync(host, "x".repeat(1 << 20));
    const append = `--checkpoint=1 --checkpoint-action=exec="echo more >> ${host}"`;
    const tar = execFileSync("sh", ["-c", "command -v tar"], { encoding: "utf8" }).trim();
    mkdirSync(join(directory, "bin"));
    writeFileSync(join(directory, "bin/tar"), `#!/bin/sh\nexec ${tar} ${append} "$@"\n`, {
      mode: 0o755,
    });
    const path = env["PATH"];
    env["PATH"] = `${directory}/bin:${path}`;
    try {
      const message = await fault(directory, { kind: "path", host, guest: "/x" }, IoError);
      assertStringIncludes(message, "log: file changed as we read it");
      assertStringIncludes(message, "try again when nothing writes");
    } finally {
      env["PATH"] = path;
    }
    assertEquals(openFilesBelow(directory), []);
  });
});

Deno.test("a tar that changes while it is read is an error", async () => {
  await withDirectory(async (directory) => {
    const path = join(directory, "add.tar");
    writeFileSync(path, buildTar([{ path: "big", data: noise(3 << 20) }]));
    // The layer is written when all entries are known.
    const progress = {
      begin: (task: string) => ({
        advance: () => {
          if (task === "tar") appendFileSync(path, "more");
        },
        end: () => {},
      }),
    };
    const error = await assertRejects(
      () => added(directory, [{ kind: "tar", path }], { progress }),
      InputError,
      "add.tar: changed while it was read",
    );
    assertEquals(error.code, "changed");
    assertEquals(openFilesBelow(directory), []);
  });
});

Deno.test("files that the kernel makes up are read to their end", async () => {
  const hosts = ["/proc/version", "/sys/kernel/mm/transparent_hugepage/enabled"];
  await withDirectory(async (directory) => {
    for (const host of hosts.filter((path) => existsSync(path))) {
      const { names } = await added(directory, [{ kind: "path", host, guest: "/x" }]);
      const text = readFileSync(host, "utf8").trimEnd();
      assert(names.includes(`/x 644 0:0 99 ${text}`), names.join("\n"));
    }
  });
});

Deno.test("sockets in an added tree are left out and counted", async () => {
  if (!hasGnuTar("adding sockets")) return;
  await withDirectory(async (directory) => {
    const host = join(directory, "tree");
    mkdirSync(host);
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(join(host, "socket"), resolve));
    try {
      const { warnings } = await added(directory, [{ kind: "path", host, guest: "/srv" }]);
      assertEquals(warnings, ["skippedSocket"]);
    } finally {
      await new Promise((resolve) => server.close(resolve));
    }
  });
});

Deno.test("without additions an image is what it was", async () => {
  await withDirectory(async (directory) => {
    writeFileSync(join(directory, "root.tar"), ROOT);
    const options = testOptions({ additions: [], warnings: new Warnings() });
    await withLoaded(`tar:${directory}/root.tar`, options, (layers, image) => {
      assertEquals([layers.length, image.additions], [1, undefined]);
    });
    await openAndLoad(`tar:${directory}/root.tar`, testOptions());
  });
});
