import { assertEquals, assertThrows } from "@std/assert";
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { InputError } from "../../lib/errors.ts";
import { parseHotList } from "../../lib/source/hot_list.ts";
import { hasCommand } from "../oracle/command.ts";
import { notRun } from "../oracle/notice.ts";
import { withDirectory } from "./helpers.ts";

function parse(text: string): { format: string; paths: string[] } {
  const { format, entries } = parseHotList(new TextEncoder().encode(text), "list");
  return { format, paths: entries.map(({ path }) => path) };
}

Deno.test("parseHotList reads plain paths, one a line", () => {
  const list = "# what boots\n/usr/bin/app\n\n./etc/app.conf\r\nusr/lib/\n/opt/*\n/a b (c)\n";
  assertEquals(parse(list), {
    format: "paths",
    paths: ["/usr/bin/app", "./etc/app.conf", "usr/lib/", "/opt/", "/a b (c)"],
  });
  assertEquals(parse("\ufeff/ü").paths, ["/\xc3\xbc"]);
});

Deno.test("parseHotList reads a JSON array of paths, as soci takes it", () => {
  assertEquals(parse(`[\n "/usr/bin/app", "/etc/\\u00fc"\n]`), {
    format: "json",
    paths: ["/usr/bin/app", "/etc/\xc3\xbc"],
  });
  for (const wrong of [`["/a", 1]`, `["/a"`, `["/a", ""]`, "[]"]) {
    assertThrows(() => parse(wrong), InputError, "list");
  }
});

Deno.test("parseHotList reads what strace prints, and takes what was opened", () => {
  const trace = [
    `execve("/usr/bin/app", ["app"], 0x7ffe /* 8 vars */) = 0`,
    `[pid    12] openat(AT_FDCWD, "/etc/ld.so.cache", O_RDONLY|O_CLOEXEC) = 3`,
    `12 10:11:12.123456 openat(AT_FDCWD, "/lib/missing", O_RDONLY) = -1 ENOENT (No such file or directory)`,
    `12 openat(AT_FDCWD</srv>, "lib/a.so", O_RDONLY) = 3</srv/lib/a.so>`,
    `12 openat(5</srv/b>, "c", O_RDONLY) = 3`,
    `12 openat(5, "unknown", O_RDONLY) = 3`,
    `12 open("/etc/old", O_RDONLY) = 3`,
    `[pid 13] openat(AT_FDCWD, "/etc/slow", O_RDONLY <unfinished ...>`,
    `[pid 14] openat(AT_FDCWD, "/etc/failed", O_RDONLY <unfinished ...>`,
    `[pid 13] <... openat resumed>)           = 4`,
    `[pid 14] <... openat resumed>)           = -1 ENOENT (No such file or directory)`,
    `openat(AT_FDCWD, "/etc/\\303\\274\\"\\\\\\n", O_RDONLY) = 3`,
    `openat2(AT_FDCWD, "/etc/two", {flags=O_RDONLY, resolve=0}, 24) = 3`,
    `--- SIGCHLD {si_signo=SIGCHLD} ---`,
    `+++ exited with 0 +++`,
  ].join("\n");
  assertEquals(parse(trace), {
    format: "strace",
    paths: [
      "/usr/bin/app",
      "/etc/ld.so.cache",
      "/srv/lib/a.so",
      "/srv/b/c",
      "/etc/old",
      "/etc/slow",
      '/etc/\xc3\xbc"\\\n',
      "/etc/two",
    ],
  });
});

Deno.test("parseHotList reads what fatrace prints, and takes what was read", () => {
  const trace = [
    "systemd(1): RO /usr/lib/systemd/system/a.service",
    "12:34:56.789012 bash(77): O    /etc/profile",
    "cron(5): W /var/log/cron",
    "my prog (x)(6): CO /etc/a b",
    "x(7): D device 8:1 inode 12",
    "y(8): R /etc/gone (deleted)",
  ].join("\n");
  assertEquals(parse(trace), {
    format: "fatrace",
    paths: ["/usr/lib/systemd/system/a.service", "/etc/profile", "/etc/a b", "/etc/gone"],
  });
  const wrong = "a(1): O /x\nwhat is this\n";
  assertThrows(() => parse(wrong), InputError, "list:2: wanted a line of fatrace");
});

Deno.test("parseHotList refuses what is binary, and what names nothing", () => {
  const binary = new Uint8Array([0x4f, 0x42, 0, 1, 2]);
  assertThrows(
    () => parseHotList(binary, "trace"),
    InputError,
    "trace: is binary, with a zero byte at 2: wanted a list of paths",
  );
  for (const empty of ["", "\n\n", "# nothing\n"]) {
    assertThrows(() => parse(empty), InputError, "list: names no file");
  }
});

Deno.test("parseHotList reads what strace itself writes", async () => {
  const part = "a list of strace's own";
  if (!hasCommand("strace")) return notRun(part, "strace is not installed");
  await withDirectory((directory) => {
    const output = join(directory, "trace");
    const words = ["-f", "-e", "trace=execve,openat", "-o", output, "sh", "-c", "cat /etc/passwd"];
    if (spawnSync("strace", words).status !== 0) return notRun(part, "it may not trace here");
    const { format, entries } = parseHotList(Deno.readFileSync(output), "trace");
    assertEquals(format, "strace");
    assertEquals(entries.some(({ path }) => path === "/etc/passwd"), true);
    assertEquals(entries.some(({ path }) => path.includes("libc.so")), true);
  });
});
