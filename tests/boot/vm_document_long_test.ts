/** Every command of docs/VM.md that QEMU can follow, typed as it stands there. */
import { assertEquals, assertMatch, assertNotMatch } from "@std/assert";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { ROOT } from "../../tools/build_steps.ts";
import { inDirectory, programWords } from "../cli/program.ts";
import { hasCommand, mustRun } from "../oracle/command.ts";
import { notRun } from "../oracle/notice.ts";
import { furnish, runScript, type ShellBlock, shellBlocks } from "../tools/documents.ts";
import { hostKernel } from "./machine.ts";
import { makeRoot, SYSTEMD_ROOT } from "./roots.ts";

const PATH = "docs/VM.md";
/** What is typed at a prompt, ended by what the document tells people to type. */
const TYPED = [
  "df -k --output=source,size,target /",
  "ip -4 -o addr",
  "systemctl is-system-running --wait",
  "dmesg | grep -E 'EXT4-fs (error|warning)|JBD2.*error' || echo 'ext4: no errors'",
  "systemctl poweroff",
].join("; ");

/** A program before the real one in the path, which sits at the machine's console. */
function putConsole(directory: string): void {
  const console = programWords(`${ROOT}tests/boot/console.ts`).map((word) => `'${word}'`).join(" ");
  const real = mustRun("sh", ["-c", "command -v qemu-system-x86_64"]).trim();
  const lines = [
    "#!/bin/sh",
    `export PATH=${real.slice(0, real.lastIndexOf("/"))}:$PATH`,
    `exec ${console} "${TYPED.replaceAll("$", "\\$")}" "$@"`,
  ];
  writeFileSync(join(directory, "bin/qemu-system-x86_64"), `${lines.join("\n")}\n`, {
    mode: 0o755,
  });
}

/** What a machine's console must show, by what its command names. */
function checkConsole(command: string, output: string): void {
  if (!command.includes("-nographic")) return;
  assertNotMatch(output, /EXT4-fs (?:error|warning)|Kernel panic/, output);
  if (command.includes("file=app.ext4")) {
    assertMatch(output, /machine: started/, output);
    assertMatch(output, /python/, output);
    return;
  }
  assertMatch(output, /\n(?:running|degraded)\r?\n/, output);
  assertMatch(output, /inet 10\.0\.2\.15/, output);
  assertMatch(output, /ext4: no errors/, output);
  if (command.includes("file=disk.img")) {
    const sizeKib = Number(/\/dev\/vda\s+(\d+) \//.exec(output)?.[1]);
    assertEquals(sizeKib > 3.8 * 1024 * 1024, true, output);
  } else assertMatch(output, /overlay\s+\d+ \//, output);
}

function runBlock(directory: string, block: ShellBlock): void {
  const place = `${PATH}:${block.line}`;
  const { code, stdout, stderr } = runScript(directory, block.text, false);
  assertEquals(code, 0, `${place}: ${stderr}\n${stdout}`);
  checkConsole(block.text, stdout);
}

Deno.test("docs/VM.md boots what it says", async () => {
  const kernel = hostKernel();
  if (typeof kernel === "string") return notRun(`the commands of ${PATH}`, kernel);
  if (!hasCommand("busybox")) return notRun(`the commands of ${PATH}`, "busybox is not installed");
  await inDirectory((directory) => {
    const why = makeRoot(join(directory, "root.tar"), SYSTEMD_ROOT);
    if (why !== undefined) return notRun(`the commands of ${PATH}`, why);
    furnish(directory, ROOT);
    putConsole(directory);
    const blocks = shellBlocks(Deno.readTextFileSync(ROOT + PATH));
    for (const block of blocks) {
      const isRun = block.notRun === undefined && !block.needs.includes("mmdebstrap");
      if (isRun) runBlock(directory, block);
    }
  });
});
