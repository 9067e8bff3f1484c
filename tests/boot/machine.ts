/**
 * A virtual machine on a serial console: what it prints is waited for, lines are typed into it, and its power is cut.
 *
 * @module
 */
import { type ChildProcess, spawn } from "node:child_process";
import { hasCommand, runCommand } from "../oracle/command.ts";

/** A kernel of Debian's, with the initial ramdisk that was made for it. */
export interface HostKernel {
  readonly image: string;
  readonly ramdisk: string;
  readonly release: string;
}

/** A machine that has not said what is waited for by then hangs. */
const SECONDS_MAX = 280;
const SHOWN_CHARACTERS = 6000;

/** The newest cloud kernel of this machine; a text that says what is missing where there is none. */
export function hostKernel(): HostKernel | string {
  if (Deno.build.arch !== "x86_64") return "machines are only booted on x86-64";
  if (!hasCommand("qemu-system-x86_64")) return "qemu-system-x86 is not installed";
  const releases = runCommand("sh", ["-c", "ls /lib/modules | grep cloud | sort -V"]).stdout;
  const release = releases.trim().split("\n").at(-1) ?? "";
  const [image, ramdisk] = [`/boot/vmlinuz-${release}`, `/boot/initrd.img-${release}`];
  const isThere = release !== "" &&
    [image, ramdisk].every((path) => runCommand("test", ["-r", path]).status === 0);
  return isThere ? { image, ramdisk, release } : "linux-image-cloud-amd64 is not installed";
}

/** What a machine is made of. */
export interface MachineSpec {
  readonly kernel: HostKernel;
  /** Files of disks; the first is /dev/vda. */
  readonly disks: readonly string[];
  /** Behind the console on the kernel's command line. */
  readonly append: string;
}

/** An emulated machine on a busy host may be too slow for the kernel's test of its timer, which it then takes for broken. */
export const EMULATED = "no_timer_check";

/** The words of QEMU's command line. KVM is not used: it is there and broken in some containers. */
export function machineWords({ kernel, disks, append }: MachineSpec): string[] {
  return [
    ...["-accel", "tcg,thread=multi", "-cpu", "max", "-m", "512", "-nographic", "-no-reboot"],
    ...["-kernel", kernel.image, "-initrd", kernel.ramdisk],
    ...["-append", `${EMULATED} console=ttyS0 panic=-1 ${append}`],
    ...disks.flatMap((disk) => ["-drive", `file=${disk},format=raw,if=virtio`]),
    ...["-nic", "user,model=virtio-net-pci"],
  ];
}

/** A machine that runs. */
export class Machine {
  /** Resolves when it is off. */
  readonly ended: Promise<void>;
  readonly #process: ChildProcess;
  readonly #listeners = new Set<() => void>();
  #output = "";
  #position = 0;
  #isOff = false;

  /**
   * Switches it on.
   *
   * @param words of QEMU's command line
   * @param onOutput hears what it prints
   */
  constructor(words: readonly string[], onOutput: (text: string) => void = () => {}) {
    this.#process = spawn("qemu-system-x86_64", [...words], { stdio: ["pipe", "pipe", "pipe"] });
    for (const stream of [this.#process.stdout!, this.#process.stderr!]) {
      stream.setEncoding("utf8");
      stream.on("data", (text: string) => {
        onOutput(text);
        this.#output += text.replaceAll("\r", "");
        this.#tell();
      });
    }
    this.ended = new Promise((resolve) => {
      this.#process.on("close", () => {
        this.#isOff = true;
        this.#tell();
        resolve();
      });
    });
  }

  #tell(): void {
    for (const listener of [...this.#listeners]) listener();
  }

  /** All that it has printed. */
  get output(): string {
    return this.#output;
  }

  /** Waits until it has printed something behind what was waited for before; throws when it is off or hangs. */
  async until(pattern: RegExp): Promise<RegExpExecArray> {
    return await new Promise((resolve, reject) => {
      const finish = (action: () => void) => {
        clearTimeout(timer);
        this.#listeners.delete(look);
        action();
      };
      const fail = (why: string) =>
        finish(() => {
          this.cut();
          const shown = this.#output.slice(-SHOWN_CHARACTERS);
          reject(new Error(`the machine ${why}; wanted ${pattern}:\n${shown}`));
        });
      const timer = setTimeout(() => fail(`hangs for ${SECONDS_MAX} s`), SECONDS_MAX * 1000);
      const look = () => {
        const match = pattern.exec(this.#output.slice(this.#position));
        if (match !== null) {
          this.#position += match.index + match[0].length;
          return finish(() => resolve(match));
        }
        if (this.#isOff) fail("is off");
      };
      this.#listeners.add(look);
      look();
    });
  }

  /** Types a line. */
  type(line: string): void {
    this.#process.stdin!.write(`${line}\n`);
  }

  /** Cuts its power. */
  cut(): void {
    this.#process.kill("SIGKILL");
  }
}

/** The prompt of root on the console. */
export const PROMPT = /root@[^\n]*# /;
