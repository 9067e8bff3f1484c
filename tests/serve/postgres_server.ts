/** A PostgreSQL server for tests: in a directory of its own, on a socket, under a user who is not root. */
import { spawnSync } from "node:child_process";
import { chmodSync, chownSync, existsSync, mkdirSync, readdirSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";

/** Where Debian has it, newest first. */
function programDirectory(): string | undefined {
  const root = "/usr/lib/postgresql";
  if (!existsSync(root)) return undefined;
  const versions = readdirSync(root).sort((a, b) => Number(b) - Number(a));
  return versions.map((version) => join(root, version, "bin"))
    .find((path) => existsSync(join(path, "initdb")));
}

/** Why there can be none here; undefined when there can. */
export function postgresMissing(): string | undefined {
  if (programDirectory() === undefined) return "PostgreSQL is not installed";
  if (process.getuid?.() !== 0) return undefined;
  return spawnSync("id", ["-u", "postgres"]).status === 0 ? undefined : "there is no user postgres";
}

/** A server. */
export class PostgresServer {
  readonly #directory: string;
  readonly #programs: string;

  private constructor(directory: string, programs: string) {
    this.#directory = directory;
    this.#programs = programs;
  }

  /** Makes a database and starts its server. */
  static start(directory: string): PostgresServer {
    const server = new PostgresServer(join(directory, "pg"), programDirectory()!);
    mkdirSync(server.#directory);
    chmodSync(directory, 0o755);
    if (process.getuid?.() === 0) {
      const id = (option: string) =>
        Number(spawnSync("id", [option, "postgres"], { encoding: "utf8" }).stdout);
      chownSync(server.#directory, id("-u"), id("-g"));
    }
    const data = join(server.#directory, "data");
    server.#run("initdb", ["-D", data, "-U", "blessfs", "--auth=trust", "--no-instructions"]);
    server.begin();
    return server;
  }

  get address(): string {
    return `postgres://blessfs@localhost/postgres?host=${this.#directory}`;
  }

  begin(): void {
    const options = `-c listen_addresses= -c unix_socket_directories=${this.#directory}`;
    this.#control(["start", "-o", options, "-l", join(this.#directory, "log")]);
  }

  /** Stops it as an operator does who does not wait for anybody. */
  end(): void {
    this.#control(["stop", "-m", "immediate"]);
  }

  #control(words: readonly string[]): void {
    this.#run("pg_ctl", ["-D", join(this.#directory, "data"), "-w", ...words]);
  }

  #run(program: string, words: readonly string[]): void {
    const path = join(this.#programs, program);
    const isRoot = process.getuid?.() === 0;
    const [command, ...args] = isRoot
      ? ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", path, ...words]
      : [path, ...words];
    const run = spawnSync(command!, args, {
      encoding: "utf8",
      stdio: ["ignore", "ignore", "pipe"],
    });
    if (run.status !== 0) throw new Error(`${program}: ${run.stderr}`);
  }
}
