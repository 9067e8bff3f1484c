/**
 * A virtual machine with a Debian kernel, for what the kernel of this machine may not have: dm-verity. It runs one script
 * in an initial ramdisk of busybox and veritysetup, with a disk that the test made, and is gone.
 *
 * @module
 */
import { basename, dirname, join } from "node:path";
import { hasCommand, mustRun, runCommand } from "../oracle/command.ts";

/** A kernel and its modules. */
export interface GuestKernel {
  readonly image: string;
  readonly release: string;
}

const TOOLS = ["qemu-system-x86_64", "cpio", "gzip", "modprobe", "ldd", "timeout", "veritysetup"];
const MODULES = ["dm-verity", "virtio_pci", "virtio_blk", "ext4"];
/** A guest that has not ended by then hangs. */
const SECONDS_MAX = 240;
const DONE = "guest: done";

/** A kernel that guests can run; a text that says what is missing where there is none. */
export function guestKernel(): GuestKernel | string {
  if (Deno.build.arch !== "x86_64") return "guests are only run on x86-64";
  const missing = TOOLS.filter((tool) => !hasCommand(tool));
  if (missing.length > 0) return `not installed: ${missing.join(", ")}`;
  if (!isFile("/bin/busybox")) return "busybox-static is not installed";
  const names = [...Deno.readDirSync("/boot")].map(({ name }) => name).sort();
  for (const name of names) {
    const release = /^vmlinuz-(.+)$/.exec(name)?.[1];
    if (release === undefined) continue;
    const found = MODULES.every((module) =>
      runCommand("modprobe", ["-S", release, "--show-depends", module]).status === 0
    );
    if (found) return { image: `/boot/${name}`, release };
  }
  return "no Debian kernel with its modules is installed (linux-image-cloud-amd64)";
}

/**
 * Boots a guest and runs a script in it; `/dev/vda` is the disk.
 *
 * @returns what the script printed
 */
export function runGuest(
  kernel: GuestKernel,
  { disk, script, directory, programs = [], isKept = false }: {
    readonly disk: string;
    /** For busybox's sh. */
    readonly script: string;
    /** For the ramdisk. */
    readonly directory: string;
    /** Programs of this machine that the script needs besides. */
    readonly programs?: readonly string[];
    /** Keep what the guest writes to the disk. */
    readonly isKept?: boolean;
  },
): string {
  const ramdisk = makeRamdisk(kernel, { script, directory, programs });
  const { stdout, status } = runCommand("timeout", [
    String(SECONDS_MAX),
    "qemu-system-x86_64",
    ...["-accel", "tcg", "-m", "512", "-nographic", "-no-reboot", "-nodefaults"],
    ...["-serial", "stdio", "-kernel", kernel.image, "-initrd", ramdisk],
    ...["-append", "console=ttyS0 panic=-1 quiet"],
    ...["-drive", `file=${disk},format=raw,if=virtio,snapshot=${isKept ? "off" : "on"}`],
  ]);
  const text = stdout.replaceAll("\r", "");
  if (text.includes(DONE)) return text;
  throw new Error(`the guest did not end its script (status ${status}):\n${text.slice(-4000)}`);
}

function makeRamdisk(
  kernel: GuestKernel,
  { script, directory, programs }: {
    readonly script: string;
    readonly directory: string;
    readonly programs: readonly string[];
  },
): string {
  const root = join(directory, "ramdisk");
  const path = (name: string) => join(root, name);
  for (const name of ["bin", "dev", "proc", "sys", "mnt", "run", "modules"]) {
    Deno.mkdirSync(path(name), { recursive: true });
  }
  Deno.copyFileSync("/bin/busybox", path("bin/busybox"));
  for (const name of ["veritysetup", ...programs]) {
    const program = mustRun("sh", ["-c", `command -v ${name}`]).trim();
    for (const file of [program, ...librariesOf(program)]) {
      const target = file === program ? path(`bin/${name}`) : path(file.slice(1));
      Deno.mkdirSync(dirname(target), { recursive: true });
      Deno.copyFileSync(file, target);
    }
  }
  const modules = modulesOf(kernel.release);
  for (const module of modules) Deno.copyFileSync(module, path(`modules/${basename(module)}`));
  Deno.writeTextFileSync(
    path("init"),
    [
      "#!/bin/busybox sh",
      "/bin/busybox --install -s /bin",
      "export PATH=/bin DM_DISABLE_UDEV=1",
      "mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev",
      ...modules.map((module) => `insmod /modules/${basename(module)}`),
      "while ! [ -b /dev/vda ]; do usleep 10000; done",
      script,
      `echo "${DONE}"`,
      "poweroff -f",
    ].join("\n"),
    { mode: 0o755 },
  );
  const ramdisk = join(directory, "ramdisk.gz");
  mustRun("sh", [
    "-c",
    `cd '${root}' && find . | cpio -o -H newc --quiet | gzip -1 > '${ramdisk}'`,
  ]);
  return ramdisk;
}

function librariesOf(program: string): string[] {
  return [...mustRun("ldd", [program]).matchAll(/(\/\S+)(?= \(0x)/g)].map((match) => match[1]!);
}

/** In the order in which they are loaded, each once. */
function modulesOf(release: string): string[] {
  const lines = MODULES.flatMap((module) =>
    mustRun("modprobe", ["-S", release, "--show-depends", module]).split("\n")
  );
  return [...new Set(lines.flatMap((line) => /^insmod (\S+)/.exec(line)?.[1] ?? []))];
}

function isFile(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch {
    return false;
  }
}
