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
    # Listen on a Unix socket
    blessfs serve --listen unix:/run/blessfs.sock --images /srv/images
    # Listen on the network, for clients with a token
    blessfs serve --listen :8080 --images /srv/images --token-file /etc/tokens
    # Share the work with other hosts
    blessfs serve --images /srv/fs --state postgres://db/bless --store /net/st
  `),
  description: [
    "Jobs and images survive the server, however it ends. On SIGTERM the server drains: it takes no more jobs, and waits for " +
    "those that are running. docs/SERVE.md describes the API with examples, docs/FLEET.md a fleet of several hosts.",
    "Clients may only name files below --allow-source. Without that option, clients on the socket may name any file, and " +
    "clients over TCP none.",
  ],
  positionals: [],
  handlesSignals: true,
  options: () => [
    option(
      "--listen unix:PATH|HOST:PORT",
      "address to listen on; TCP needs --token-file, or --insecure on loopback",
      { defaultText: "unix:DIR/serve.sock, in the image directory" },
    ),
    option("--images DIR", "the image directory; created if it is missing", { required: true }),
    option("--store STORE", "also put images into this chunk store, as `bless --store` does", {
      completion: "directory",
    }),
    option(
      "--state FILE|postgres://...",
      "where jobs are kept: an SQLite file, or a PostgreSQL database that several hosts share",
      { defaultText: "DIR/.serve/state.db, in the image directory" },
    ),
    option("--tmpdir DIR", "directory for decompressed layers, which are removed at the end", {
      defaultText: "the system's",
    }),
    option("--host-name NAME", "the name of this host in jobs", { defaultText: "this host's" }),
    option(
      "--workers N",
      "jobs to run at the same time; 0 accepts requests and leaves the work to other hosts",
      { defaultText: "the number of processors" },
    ),
    option("--queue N", "largest number of waiting jobs", { default: "1000" }),
    option("--job-memory SIZE", "resident memory of a job; a job that exceeds it fails", {
      default: "2G",
    }),
    option("--deadline SECONDS", "time limit of a job; a job that exceeds it fails", {
      default: "3600",
    }),
    option("--layer-cache SIZE", "size of the cache of layers from registries", {
      default: "10G",
    }),
    option(
      "--retry-after SECONDS,...",
      "when to retry a job that failed because of the network",
      { default: "5,30,120" },
    ),
    option("--lease SECONDS", "how long a host may be silent before others take over its jobs", {
      default: "15",
    }),
    option(
      "--drain SECONDS",
      "how long to wait for jobs on SIGTERM; jobs that take longer are run again later",
      { default: "60" },
    ),
    option("--keep-jobs DAYS", "how long to keep finished jobs; their images stay", {
      default: "30",
    }),
    option(
      "--token-file FILE",
      "the access tokens, one per line, of at least 16 characters each",
    ),
    option(
      "--insecure",
      "listen on loopback without a token: every user of this machine has access",
    ),
    option("--allow-source DIR,...", "let clients bless files below this directory"),
    option("--allow-registry HOST,...", "let clients bless images from this registry", {
      defaultText: "all",
    }),
    option("--authfile FILE", "credentials for registries", {
      defaultText: "those of podman and docker",
    }),
    option(
      "--plain-http",
      "use HTTP instead of HTTPS for registries; not needed for loopback",
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
  summary: "run one part of a server's job",
  examples: [],
  positionals: [
    operand("TASK", "what to do", { choices: ["resolve", "measure", "forget"] }),
    operand("WHAT...", "a source, or files"),
  ],
  options: () => [
    ...SOURCE_OPTIONS,
    option("--grid-bytes BYTES", "cell size"),
    option("--cells FILE", "the database of known cells"),
    JSON_OPTION,
  ],
  load: async () => (await import("../commands/serve.ts")).runTask,
});
