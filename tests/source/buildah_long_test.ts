import { assertEquals } from "@std/assert";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { withTree } from "../../lib/bless/plan_image.ts";
import type { ByteString } from "../../lib/bytes/byte_string.ts";
import { hasCommand, mustRun, runCommand } from "../oracle/command.ts";
import { describeDifference, firstDifference } from "../oracle/compare.ts";
import { viewDirectory } from "../oracle/directory_view.ts";
import { isRoot } from "../oracle/libc_user.ts";
import { notRun } from "../oracle/notice.ts";
import { viewTree } from "../oracle/tree_view.ts";
import { testOptions, withDirectory } from "./helpers.ts";
import { VARIED_INPUTS, type VariedInput } from "./varied_inputs.ts";

/** buildah with a store of its own, which needs neither a daemon nor overlayfs. */
class Buildah {
  readonly #words: readonly string[];
  readonly #policy: string;

  constructor(directory: string) {
    const [root, run] = ["root", "run"].map((name) => join(directory, name)) as [string, string];
    for (const path of [root, run]) mkdirSync(path, { recursive: true });
    this.#words = ["--storage-driver", "vfs", "--root", root, "--runroot", run];
    this.#policy = join(directory, "policy.json");
    writeFileSync(this.#policy, '{"default":[{"type":"insecureAcceptAnything"}]}');
  }

  /** Works on the mounted tree of a source; gives what buildah says when it refuses it. */
  async look(
    source: string,
    work: (mountPoint: string) => Promise<void>,
  ): Promise<string | undefined> {
    const policy = ["--signature-policy", this.#policy];
    const pulled = runCommand("buildah", [...this.#words, "pull", "-q", ...policy, source]);
    if (pulled.status !== 0) return pulled.stderr;
    const id = pulled.stdout.trim().split("\n").at(-1)!;
    const from = [...this.#words, "from", "--pull-never", ...policy, id];
    const container = mustRun("buildah", from).trim();
    try {
      await work(mustRun("buildah", [...this.#words, "mount", container]).trim());
    } finally {
      mustRun("buildah", [...this.#words, "rm", container]);
      mustRun("buildah", [...this.#words, "rmi", "-f", id]);
    }
    return undefined;
  }
}

/** What buildah sets itself: times of directories that no entry describes or that a later layer changes, and the root. */
function isOwn(path: ByteString, field: string): boolean {
  return path === "" || (field === "mtime" && path === "/caf\xe9/");
}

async function compare(buildah: Buildah, input: VariedInput, directory: string): Promise<void> {
  const source = input.make(directory);
  const refusal = await buildah.look(source, async (mountPoint) => {
    if (input.wanted instanceof RegExp) return;
    await withTree(source, testOptions({ platform: "linux/amd64" }), ({ tree }) => {
      const found = viewDirectory(mountPoint, { directoryLinks: "counted" });
      const difference = firstDifference(viewTree(tree), found, { ignore: isOwn });
      if (difference) throw new Error(`${input.what}: ${describeDifference(difference)}`);
      return Promise.resolve();
    });
  });
  assertEquals(refusal !== undefined, input.buildah === "refuses", `${input.what}: ${refusal}`);
}

Deno.test("buildah reads odd images as blessfs does, wherever it reads them", async () => {
  if (!isRoot()) return notRun("comparing odd images with buildah", "mounting needs root");
  if (!hasCommand("buildah")) {
    return notRun("comparing odd images with buildah", "buildah is not installed");
  }
  await withDirectory(async (store) => {
    const buildah = new Buildah(store);
    for (const input of VARIED_INPUTS) {
      if (input.buildah === "has no such source") continue;
      // It makes a name of the path, and names are in small letters.
      const directory = join(tmpdir(), `blessfs-test-${crypto.randomUUID()}`);
      mkdirSync(directory);
      try {
        await compare(buildah, input, directory);
      } finally {
        rmSync(directory, { recursive: true });
      }
    }
  });
});
