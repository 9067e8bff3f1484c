/**
 * The server, and the command it starts.
 *
 * @module
 */
import { command, examples, JSON_OPTION, operand, option } from "../command.ts";
import { SOURCE_OPTIONS } from "./options.ts";

export const SERVE = command({
  name: "serve",
  summary: "bless in the background, over an HTTP API",
  examples: examples(`
    # Serve on a socket of this machine
    blessfs serve --listen unix:/run/blessfs.sock --images /srv/images
    # Serve a network, to those who have a token
    blessfs serve --listen :8080 --images /srv/images --token-file /etc/tokens
    # Share the work with other hosts
    blessfs serve --images /srv/fs --state postgres://db/bless --store /net/st
  `),
  description: [
    "Jobs and images outlive the server, however it ends. SIGTERM drains: no more work is taken, and jobs that run are waited " +
    "for. docs/SERVE.md has the API with examples, and docs/FLEET.md has several hosts.",
    "The server reads the files of --allow-source only. A client on the socket may name any file where that is not given, a " +
    "client over TCP none.",
  ],
  positionals: [],
  handlesSignals: true,
  options: () => [
    option(
      "--listen unix:PATH|HOST:PORT",
      "where to listen; TCP wants --token-file, or --insecure on loopback",
      { defaultText: "unix:DIR/serve.sock, in the directory of images" },
    ),
    option("--images DIR", "the directory of images; made when it is missing", { required: true }),
    option("--store STORE", "put images into this chunk store, too, as `bless --store` does", {
      completion: "directory",
    }),
    option(
      "--state FILE|postgres://...",
      "where jobs are kept: a file of SQLite, or a PostgreSQL database that hosts share",
      { defaultText: "DIR/.serve/state.db, in the directory of images" },
    ),
    option("--tmpdir DIR", "where inflated layers are kept while they are needed", {
      defaultText: "the system's",
    }),
    option("--host-name NAME", "what this host is called in jobs", { defaultText: "this host's" }),
    option(
      "--workers N",
      "jobs that run at the same time; 0 takes requests and leaves the work to other hosts",
      { defaultText: "the number of processors" },
    ),
    option("--queue N", "jobs that may wait", { default: "1000" }),
    option("--job-memory SIZE", "resident memory that a job may have; beyond it, the job fails", {
      default: "2G",
    }),
    option("--deadline SECONDS", "how long a job may take; beyond it, it fails", {
      default: "3600",
    }),
    option("--layer-cache SIZE", "how much of layers that came from registries is kept", {
      default: "10G",
    }),
    option(
      "--retry-after SECONDS,...",
      "when a job that met a failure of the network is tried again",
      { default: "5,30,120" },
    ),
    option("--lease SECONDS", "how long a host may be silent before another one takes its jobs", {
      default: "15",
    }),
    option(
      "--drain SECONDS",
      "how long SIGTERM waits for jobs; those that take longer are run again later",
      { default: "60" },
    ),
    option("--keep-jobs DAYS", "how long jobs that have ended are remembered; their images stay", {
      default: "30",
    }),
    option(
      "--token-file FILE",
      "the tokens that let clients in, one a line, of at least 16 characters",
    ),
    option("--insecure", "listen on loopback without a token: every user of this machine may ask"),
    option("--allow-source DIR,...", "clients may bless files below this directory"),
    option("--allow-registry HOST,...", "clients may bless images of this registry", {
      defaultText: "all",
    }),
    option("--authfile FILE", "where the credentials for registries are", {
      defaultText: "those of podman and docker",
    }),
    option(
      "--plain-http",
      "speak http with registries; without it, only one on loopback may have no TLS",
    ),
  ],
  load: async () => (await import("../commands/serve.ts")).run,
});

/**
 * `blessfs serve-task TASK`: what a server runs in a separate process, in addition to `bless`. It is missing from the
 * help and the table of commands because users do not need it.
 */
export const SERVE_TASK = command({
  name: "serve-task",
  summary: "do one part of a server's job",
  examples: [],
  positionals: [
    operand("TASK", "what to do", { choices: ["resolve", "measure", "forget"] }),
    operand("WHAT...", "a source, or files"),
  ],
  options: () => [
    ...SOURCE_OPTIONS,
    option("--grid-bytes BYTES", "the cells of the files"),
    option("--cells FILE", "the database of the cells that are known"),
    JSON_OPTION,
  ],
  load: async () => (await import("../commands/serve.ts")).runTask,
});
