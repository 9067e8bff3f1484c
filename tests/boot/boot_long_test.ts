/** Roots that blessfs made start, are what was planned, grow, and outlive a power cut. */
import { assertEquals, assertMatch, assertNotMatch } from "@std/assert";
import { copyFileSync, mkdirSync, symlinkSync, truncateSync } from "node:fs";
import { join } from "node:path";
import { ROOT } from "../../tools/build_steps.ts";
import { inDirectory } from "../cli/program.ts";
import { hasCommand, mustRun } from "../oracle/command.ts";
import { assertE2fsckClean } from "../oracle/e2fsck.ts";
import { notRun } from "../oracle/notice.ts";
import { blessfs, writeTree } from "./boot_steps.ts";
import { type HostKernel, hostKernel, Machine, machineWords, PROMPT } from "./machine.ts";
import { makeRoot, SYSTEMD_ROOT } from "./roots.ts";

const GROWN_BYTES = 2 * 1024 ** 3;
/** Prints what ext4 complains of, and then that it has looked. */
const COMPLAINTS = "dmesg | grep -E 'EXT4-fs (error|warning)|JBD2.*error'; echo 'complaints: none'";
/**
 * Compares the root with a tar on the second disk. What is mounted over the root is left out, and so is what the test
 * added in place of something else.
 */
const COMPARE =
  "/usr/bin/tar --compare --warning=no-unknown-keyword --file=/dev/vdb --directory=/ --numeric-owner --exclude=./dev --exclude=dev " +
  "--exclude=./proc --exclude=proc --exclude=./sys --exclude=sys --exclude=./run --exclude=run " +
  '--exclude=./etc/fstab; echo "compare: $?"';
/** A file that is on the disk when `written` is printed, and one that may not be. */
const WRITE =
  "dd if=/dev/urandom of=/kept bs=65536 count=64 2> /dev/null; sha256sum /kept > /kept.sha256; sync; " +
  "dd if=/dev/urandom of=/lost bs=65536 count=64 2> /dev/null; mkdir /some; echo 'writ'ten";
const READ = "sha256sum -c /kept.sha256";
/** Both the kernel and e2fsck in the ramdisk may be the one that replays the journal. */
const REPLAYED = /recovery complete|recovering journal/;

function digestOf(path: string): string {
  return mustRun("sha256sum", [path]).split(" ", 1)[0]!;
}

function kernelOrNotice(what: string): HostKernel | undefined {
  const kernel = hostKernel();
  if (typeof kernel !== "string") return kernel;
  notRun(what, kernel);
  return undefined;
}

/** Boots the read-only root with its own script as init; its bytes must stay what they are. */
async function bootReadOnly(
  kernel: HostKernel,
  image: string,
  { planned, init }: { readonly planned: string; readonly init: string },
): Promise<void> {
  const before = digestOf(image);
  // The disk can be written to: it is the file system that must not.
  const append = `root=/dev/vda ro init=${init} step=look`;
  const machine = new Machine(machineWords({ kernel, disks: [image, planned], append }));
  await machine.until(/look: done/);
  machine.cut();
  await machine.ended;
  const { output } = machine;
  const [, seen] = /look: begin\n([^]*)look: done/.exec(output) ?? [];
  assertEquals(seen, "/dev/vda / ext4 ro\ncompare: 0\ncomplaints: none\n", output);
  assertEquals(digestOf(image), before);
}

/** What the init of a read-only boot does. */
const LOOK = [
  "echo 'look: begin'",
  "awk '$2 == \"/\" { print $1, $2, $3, substr($4, 1, 2) }' /proc/mounts",
  COMPARE,
  COMPLAINTS,
  "echo 'look: done'",
  "sleep 1000",
].join("\n");

Deno.test("a root with systemd boots, grows, loses power, and boots again", async () => {
  const what = "booting a root with systemd";
  const kernel = kernelOrNotice(what);
  if (kernel === undefined) return;
  await inDirectory(async (directory) => {
    const planned = join(directory, "root.tar");
    const why = makeRoot(planned, SYSTEMD_ROOT);
    if (why !== undefined) return notRun(what, why);
    const machineFiles = join(directory, "machine");
    const getty = "etc/systemd/system/serial-getty@ttyS0.service.d/autologin.conf";
    writeTree(machineFiles, {
      "etc/fstab": "/dev/vda / ext4 x-systemd.growfs 0 1\n",
      [getty]: "[Service]\nExecStart=\nExecStart=-/sbin/agetty --autologin root 115200 - $TERM\n",
      "usr/local/sbin/look": `#!/bin/sh\nmount -t proc proc /proc 2> /dev/null\n${LOOK}\n`,
    });
    const image = join(directory, "root.ext4");
    blessfs("bless", `tar:${planned}`, "--add", `${machineFiles}:/`, "--size", "+64M", "-o", image);
    await bootReadOnly(kernel, image, { planned, init: "/usr/local/sbin/look" });

    truncateSync(image, GROWN_BYTES);
    const words = machineWords({ kernel, disks: [image], append: "root=/dev/vda rw quiet" });
    const first = new Machine(words);
    await first.until(PROMPT);
    first.type(
      `systemctl is-system-running --wait; df -k /; ${COMPLAINTS}; dmesg | grep resized; ${WRITE}`,
    );
    await first.until(/\nwritten/);
    first.cut();
    await first.ended;
    assertMatch(first.output, /running\n/, first.output);
    assertMatch(first.output, /EXT4-fs \(vda\): resized filesystem to 524288/, first.output);
    assertNotMatch(first.output, /EXT4-fs (?:error|warning)/, first.output);

    const second = new Machine(
      machineWords({ kernel, disks: [image], append: "root=/dev/vda rw" }),
    );
    await second.until(PROMPT);
    second.type(`${READ}; ${COMPLAINTS}; rm -f /lost; systemctl poweroff`);
    await second.ended;
    assertMatch(second.output, REPLAYED, second.output);
    assertMatch(second.output, /\/kept: OK/, second.output);
    assertNotMatch(second.output, /EXT4-fs (?:error|warning)/, second.output);
    assertE2fsckClean(image);
    blessfs("verify", "--quiet", image);
  });
});

/** Programs of this machine with the libraries that they need, as options that add them. */
function programAdditions(programs: readonly string[]): string[] {
  const files = new Set(programs.flatMap((program) => {
    const path = mustRun("sh", ["-c", `realpath $(command -v ${program})`]).trim();
    const libraries = mustRun("ldd", [path]).matchAll(/(\/\S+)(?= \(0x)/g);
    return [path, ...[...libraries].map((match) => match[1]!)];
  }));
  return [...files].flatMap((file) => ["--add", `${file}:${file}:mode=0755`]);
}

Deno.test("a root whose init was added boots, grows, loses power, and boots again", async () => {
  const what = "booting a root whose init was added";
  const kernel = kernelOrNotice(what);
  if (kernel === undefined) return;
  const missing = ["busybox", "resize2fs", "tar", "ldd"].filter((program) => !hasCommand(program));
  if (missing.length > 0) return notRun(what, `not installed: ${missing.join(", ")}`);
  await inDirectory(async (directory) => {
    const planned = join(directory, "planned.tar");
    const source = `oci:${ROOT}fixtures/oci-tiny`;
    blessfs("export", source, "-o", planned, "--quiet");
    const added = join(directory, "added");
    for (const point of ["dev", "proc", "sys", "run", "root"]) {
      mkdirSync(join(added, point), { recursive: true });
    }
    writeTree(added, {
      "opt/init": [
        "#!/opt/busybox sh",
        "export PATH=/sbin:/usr/sbin:/bin:/usr/bin:/opt",
        "mount -t proc proc /proc 2> /dev/null",
        'case "$step" in',
        `look) ${LOOK.replaceAll("\n", "; ")} ;;`,
        `write) resize2fs /dev/vda; df -k /; ${COMPLAINTS}; dmesg | grep resized; ${WRITE}; sleep 1000 ;;`,
        `read) ${READ}; ${COMPLAINTS}; rm /lost; umount /proc; mount -o remount,ro /; poweroff -f ;;`,
        "esac",
      ].join("\n"),
    });
    copyFileSync("/bin/busybox", join(added, "opt/busybox"));
    const applets =
      "awk cat dd df dmesg grep mkdir mount poweroff rm sh sha256sum sleep sync umount";
    for (const applet of applets.split(" ")) symlinkSync("busybox", join(added, "opt", applet));
    const image = join(directory, "root.ext4");
    const additions = ["--add", `${added}:/`, ...programAdditions(["tar", "resize2fs"])];
    blessfs("bless", source, ...additions, "--size", "+64M", "-o", image);
    await bootReadOnly(kernel, image, { planned, init: "/opt/init" });

    truncateSync(image, GROWN_BYTES);
    const boot = (step: string) => {
      const append = `root=/dev/vda rw init=/opt/init step=${step}`;
      return new Machine(machineWords({ kernel, disks: [image], append }));
    };
    const first = boot("write");
    await first.until(/\nwritten/);
    first.cut();
    await first.ended;
    assertMatch(first.output, /EXT4-fs \(vda\): resized filesystem to 524288/, first.output);
    assertMatch(first.output, /complaints: none/, first.output);
    assertNotMatch(first.output, /EXT4-fs (?:error|warning)/, first.output);
    const second = boot("read");
    await second.ended;
    assertMatch(second.output, REPLAYED, second.output);
    assertMatch(second.output, /\/kept: OK/, second.output);
    assertNotMatch(second.output, /EXT4-fs (?:error|warning)/, second.output);
    assertE2fsckClean(image);
    blessfs("verify", "--quiet", image);
  });
});
