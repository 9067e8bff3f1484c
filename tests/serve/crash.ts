/** What the tests that kill servers share. */
import { assertEquals } from "@std/assert";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { createHash } from "node:crypto";
import { join } from "node:path";
import { type Client, processesOf, ServerProcess } from "./serving.ts";

/** The same numbers again for the same seed. */
export function randomNumbers(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

/** Files below a directory, without the state's own. */
export function filesBelow(directory: string): string[] {
  if (!existsSync(directory)) return [];
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => !entry.isDirectory())
    .map((entry) => join(entry.parentPath, entry.name));
}

/** Throws unless each image is whole and has its record, and nothing else is there. */
export function assertWholeImages(images: string): void {
  const names = readdirSync(images).filter((name) => /\.(?:ext4|json)$/.test(name));
  for (const name of names.filter((name) => name.endsWith(".ext4"))) {
    const hex = createHash("sha256").update(readFileSync(join(images, name))).digest("hex");
    assertEquals(`${hex}.ext4`, name);
    assertEquals(names.includes(`${hex}.json`), true, `${name} has its record`);
  }
  const other = readdirSync(images).filter((name) =>
    !/^(?:[0-9a-f]{64}\.(?:ext4|json)|layers|\.serve|serve\.sock)$/.test(name)
  );
  assertEquals(other, []);
}

/** Throws unless nothing temporary is left by a server that has nothing to do, or was just started. */
export function assertNothingTemporary(images: string): void {
  assertEquals(filesBelow(join(images, ".serve", "work")), []);
  assertEquals(filesBelow(images).filter((path) => path.includes(".part-")), []);
}

/** What one round of killing is about. */
export interface KillRounds {
  readonly words: readonly string[];
  readonly client: Client;
  readonly images: string;
  readonly rounds: number;
  /** How long each server lives, at most. */
  readonly lifeMs: number;
  readonly random: () => number;
  /** Asks for more work. */
  readonly ask: (client: Client) => Promise<void>;
}

/** Starts a server, kills it some time later, and looks at what is left, again and again; returns the last server. */
export async function killAgainAndAgain(
  { words, client, images, rounds, lifeMs, random, ask }: KillRounds,
): Promise<ServerProcess> {
  for (let round = 0; round < rounds; round++) {
    const server = await ServerProcess.start(words);
    const asked = ask(client).catch(() => {});
    await new Promise((resolve) => setTimeout(resolve, random() * lifeMs));
    await server.kill("SIGKILL");
    await asked;
    assertWholeImages(images);
  }
  const last = await ServerProcess.start(words);
  return last;
}

/** The processes of jobs that a server which was killed has left behind. */
export function leftProcesses(images: string): number[] {
  return processesOf(join(images, ".serve", "work"));
}
