/**
 * Runs programs that read chunk stores beside servers that this process is: nothing may block meanwhile.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { spawn } from "node:child_process";
import { createReadStream, statSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join, normalize } from "node:path";
import process from "node:process";
import { hasCommand } from "../oracle/command.ts";
import { notRun } from "../oracle/notice.ts";

/** What a program left behind. */
export interface Ended {
  readonly status: number | null;
  readonly output: string;
}

/** Runs a program to its end. */
export function run(
  command: string,
  args: readonly string[],
  env: Record<string, string> = {},
): Promise<Ended> {
  const child = spawn(command, [...args], {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, LC_ALL: "C", ...env },
  });
  const pieces: Buffer[] = [];
  child.stdout.on("data", (piece: Buffer) => pieces.push(piece));
  child.stderr.on("data", (piece: Buffer) => pieces.push(piece));
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (status) => resolve({ status, output: Buffer.concat(pieces).toString() }));
  });
}

/** Runs a program that must succeed; what it said, without blanks around. */
export async function mustRunBeside(
  command: string,
  args: readonly string[],
  env: Record<string, string> = {},
): Promise<string> {
  const { status, output } = await run(command, args, env);
  if (status === 0) return output.trim();
  throw new Error(`${command} ${args.join(" ")}: exit status ${status}\n${output}`);
}

/** Whether a program is there; prints the one line that says what is left out when it is not. */
export function programOrNotice(program: "casync" | "desync", what: string): boolean {
  if (hasCommand(program)) return true;
  const where = program === "casync" ? "apt-get install casync" : "a package of Debian unstable";
  notRun(what, `${program} is not installed (${where})`);
  return false;
}

/** Serves a directory as plain files over HTTP. */
export async function withFileServer<T>(
  directory: string,
  work: (url: string) => Promise<T>,
): Promise<T> {
  const server = createServer((request, response) => {
    const path = join(directory, normalize(decodeURIComponent(request.url!.split("?")[0]!)));
    try {
      response.writeHead(200, { "content-length": String(statSync(path).size) });
    } catch {
      response.writeHead(404).end();
      return;
    }
    if (request.method === "HEAD") response.end();
    else createReadStream(path).pipe(response);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  try {
    return await work(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  } finally {
    server.closeAllConnections();
    await new Promise<void>((resolve) => server.close(() => resolve()));
  }
}
