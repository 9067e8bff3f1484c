/** Additions against ADD of a Containerfile, which buildah runs. */
import { assert, assertEquals } from "@std/assert";
import { execFileSync, spawnSync } from "node:child_process";
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { COMMANDS } from "../../../cli/commands.ts";
import { hasCommand } from "../../oracle/command.ts";
import { kernelOrNotice, unmount } from "../../oracle/kernel.ts";
import { notRun } from "../../oracle/notice.ts";
import { hasGnuTar } from "../../source/helpers.ts";
import { runFake } from "../fake_io.ts";
import { inDirectory } from "../program.ts";

const LAYOUT = fileURLToPath(new URL("../../../fixtures/oci-tiny", import.meta.url));

const CONTAINERFILE = `FROM oci:${LAYOUT}
ADD tree /opt/agent
ADD --chown=7:8 --chmod=0750 init /sbin/init
ADD init /opt/
`;

async function run(...words: string[]): Promise<void> {
  const { code, stderr } = await runFake(words, COMMANDS);
  assertEquals(code, 0, stderr);
}

/** What GNU tar says of the entries below the paths. */
function listed(tar: string, paths: readonly string[]): string[] {
  const text = execFileSync("tar", ["-tvf", tar, "--full-time", "--numeric-owner"], {
    encoding: "utf8",
    env: { ...process.env, TZ: "UTC", LC_ALL: "C" },
  });
  return text.split("\n").map((line) => line.replace(/ +/g, " "))
    .filter((line) => paths.some((path) => line.includes(` ${path}`)))
    // buildah gives directories that it makes itself the time of the build.
    .map((line) => line.startsWith("d") ? line.replace(/ \d{4}-\S+ \S+ /, " ") : line);
}

Deno.test("additions give what ADD gives", async () => {
  const what = "comparing additions with ADD of a Containerfile";
  if (!hasCommand("buildah")) return notRun(what, "buildah is not installed");
  if (process.getuid?.() !== 0) return notRun(what, "buildah is run as root here");
  if (!hasGnuTar(what)) return;
  await inDirectory(async (directory) => {
    const at = (name: string) => join(directory, name);
    mkdirSync(at("tree/bin"), { recursive: true });
    for (const path of ["tree", "tree/bin"]) chmodSync(at(path), 0o755);
    writeFileSync(at("tree/bin/agent"), "agent".repeat(40_000));
    chmodSync(at("tree/bin/agent"), 0o711);
    writeFileSync(at("tree/conf"), "conf", { mode: 0o600 });
    execFileSync("ln", ["-s", "bin/agent", at("tree/link")]);
    execFileSync("ln", [at("tree/conf"), at("tree/same")]);
    writeFileSync(at("init"), "#!", { mode: 0o755 });
    execFileSync("find", [directory, "-exec", "touch", "-h", "-d", "@0", "{}", "+"]);
    writeFileSync(at("Containerfile"), CONTAINERFILE);
    const store = ["--storage-driver", "vfs", "--root", at("store"), "--runroot", at("run")];
    const buildah = (...words: string[]) =>
      spawnSync("buildah", [...store, ...words], { encoding: "utf8", cwd: directory });
    const file = at("Containerfile");
    const built = buildah(
      "bud",
      "--squash",
      "--isolation=chroot",
      "-f",
      file,
      "-t",
      "t",
      directory,
    );
    if (built.status !== 0) return notRun(what, built.stderr.trim().split("\n").at(-1)!);
    const pushed = buildah("push", "t", `oci:${at("oci")}:t`);
    assertEquals(pushed.status, 0, pushed.stderr);
    await run("export", `oci:${at("oci")}:t`, "-o", at("theirs.tar"));
    await run(
      ...["export", `oci:${LAYOUT}`, "-o", at("ours.tar"), "--add", `${at("tree")}:/opt/agent`],
      ...[
        "--add",
        `${at("init")}:/sbin/init:mode=0750,uid=7,gid=8`,
        "--add",
        `${at("init")}:/opt/`,
      ],
    );
    const paths = ["opt/agent", "sbin/init", "opt/init"];
    const ours = listed(at("ours.tar"), paths);
    assert(ours.length >= 8, ours.join("\n"));
    assertEquals(ours, listed(at("theirs.tar"), paths));
  });
});

Deno.test("the kernel's overlay of layers with additions is the merged image", async () => {
  const what = "comparing an overlay with additions";
  if (!kernelOrNotice(what)) return;
  if (!hasGnuTar(what)) return;
  await inDirectory(async (directory) => {
    const at = (name: string) => join(directory, name);
    mkdirSync(at("tree"));
    writeFileSync(at("tree/conf"), "conf");
    const options = [
      ...["--exclude", "usr/share", "--exclude", "!usr/share/lines.txt"],
      ...[
        "--add",
        `${at("tree")}:/opt/agent:mode=0711,uid=5`,
        "--add",
        `${at("tree")}/conf:/usr/bin/hello`,
      ],
      ...["0:7000:65536", "100000:900000:1", "4000000000:4000000000:1"]
        .flatMap((range) => ["--uid-map", range]),
    ];
    await run("bless", `oci:${LAYOUT}`, "-o", at("merged.ext4"), ...options);
    await run("bless", "layered", `oci:${LAYOUT}`, "-o", at("layers"), ...options);
    const { layers, overlay } = JSON.parse(readFileSync(at("layers/image.json"), "utf8"));
    const mounted: string[] = [];
    const mount = (target: string, ...words: string[]) => {
      mkdirSync(at(target));
      execFileSync("mount", [...words, at(target)], { cwd: directory });
      mounted.unshift(at(target));
    };
    try {
      for (const { mountPoint, file } of layers) {
        if (mountPoint !== null) mount(mountPoint, "-o", "loop,ro", at(`layers/${file}`));
      }
      for (const name of overlay.emptyDirectories) mkdirSync(at(name));
      mount("root", "-t", "overlay", "overlay", "-o", overlay.options);
      await run("diff", `rootfs:${at("root")}`, `ext4:${at("merged.ext4")}`, "--exit-code");
    } finally {
      for (const target of mounted) unmount(target);
    }
  });
});
