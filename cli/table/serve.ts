/**
 * The server, and what it starts.
 *
 * @module
 */
import { type Command, JSON_OPTION, type OptionSpec } from "../command.ts";
import { SOURCE_OPTIONS } from "./options.ts";

/** `blessfs serve`. */
export const SERVE: Command = {
  name: "serve",
  summary: "bless in the background, over an HTTP API",
  examples: [
    [
      "Serve on a socket of this machine",
      "blessfs serve --listen unix:/run/blessfs.sock --images /srv/images",
    ],
    [
      "Serve a network, to those who have a token",
      "blessfs serve --listen :8080 --images /srv/images --token-file /etc/tokens",
    ],
    [
      "Share the work with other hosts",
      "blessfs serve --images /srv/fs --state postgres://db/bless --store /net/st",
    ],
  ],
  description: [
    "Jobs and images outlive the server, however it ends. SIGTERM drains: no more work is taken, and jobs that run are waited " +
    "for. docs/SERVE.md has the API with examples, and docs/FLEET.md has several hosts.",
    "The server reads the files of --allow-source only. A client on the socket may name any file where that is not given, a " +
    "client over TCP none.",
  ],
  positionals: [],
  handlesSignals: true,
  options: [
    ...placeSpecs(),
    ...workSpecs(),
    ...accessSpecs(),
  ],
  load: async () => (await import("../commands/serve.ts")).run,
};

/**
 * `blessfs serve-task TASK`: what a server runs in a process of its own, beside `bless`. It is in no help, and not in the
 * table of commands: nobody else needs it.
 */
export const SERVE_TASK: Command = {
  name: "serve-task",
  summary: "do one part of a server's job",
  examples: [],
  positionals: [
    { name: "TASK", summary: "what to do", choices: ["resolve", "measure", "forget"] },
    { name: "WHAT", summary: "a source, or files", repeated: true, least: 1 },
  ],
  options: [
    ...SOURCE_OPTIONS,
    { name: "grid-bytes", value: "BYTES", summary: "the cells of the files" },
    { name: "cells", value: "FILE", summary: "the database of the cells that are known" },
    JSON_OPTION,
  ],
  load: async () => (await import("../commands/serve.ts")).runTask,
};

/** Where everything is. */
function placeSpecs(): readonly OptionSpec[] {
  return [
    {
      name: "listen",
      value: "unix:PATH|HOST:PORT",
      defaultText: "unix:DIR/serve.sock, in the directory of images",
      summary: "where to listen; TCP wants --token-file, or --insecure on loopback",
    },
    {
      name: "images",
      value: "DIR",
      required: true,
      completion: "directory",
      summary: "the directory of images; made when it is missing",
    },
    {
      name: "store",
      value: "STORE",
      completion: "directory",
      summary: "put images into this chunk store, too, as `bless --store` does",
    },
    {
      name: "state",
      value: "FILE|postgres://...",
      defaultText: "DIR/.serve/state.db, in the directory of images",
      summary: "where jobs are kept: a file of SQLite, or a PostgreSQL database that hosts share",
    },
    {
      name: "tmpdir",
      value: "DIR",
      completion: "directory",
      defaultText: "the system's",
      summary: "where inflated layers are kept while they are needed",
    },
    {
      name: "host-name",
      value: "NAME",
      defaultText: "this host's",
      summary: "what this host is called in jobs",
    },
  ];
}

/** How much is done. */
function workSpecs(): readonly OptionSpec[] {
  return [
    {
      name: "workers",
      value: "N",
      defaultText: "the number of processors",
      summary:
        "jobs that run at the same time; 0 takes requests and leaves the work to other hosts",
    },
    { name: "queue", value: "N", defaultText: "1000", summary: "jobs that may wait" },
    {
      name: "job-memory",
      value: "SIZE",
      defaultText: "2G",
      summary: "resident memory that a job may have; beyond it, the job fails",
    },
    {
      name: "deadline",
      value: "SECONDS",
      defaultText: "3600",
      summary: "how long a job may take; beyond it, it fails",
    },
    {
      name: "layer-cache",
      value: "SIZE",
      defaultText: "10G",
      summary: "how much of layers that came from registries is kept",
    },
    {
      name: "retry-after",
      value: "SECONDS",
      list: true,
      defaultText: "5,30,120",
      summary: "when a job that met a failure of the network is tried again",
    },
    {
      name: "lease",
      value: "SECONDS",
      defaultText: "15",
      summary: "how long a host may be silent before another one takes its jobs",
    },
    {
      name: "drain",
      value: "SECONDS",
      defaultText: "60",
      summary: "how long SIGTERM waits for jobs; those that take longer are run again later",
    },
    {
      name: "keep-jobs",
      value: "DAYS",
      defaultText: "30",
      summary: "how long jobs that have ended are remembered; their images stay",
    },
  ];
}

/** Who may ask for what. */
function accessSpecs(): readonly OptionSpec[] {
  return [
    {
      name: "token-file",
      value: "FILE",
      completion: "file",
      summary: "the tokens that let clients in, one a line, of at least 16 characters",
    },
    {
      name: "insecure",
      summary: "listen on loopback without a token: every user of this machine may ask",
    },
    {
      name: "allow-source",
      value: "DIR",
      list: true,
      completion: "directory",
      summary: "clients may bless files below this directory",
    },
    {
      name: "allow-registry",
      value: "HOST",
      list: true,
      defaultText: "all",
      summary: "clients may bless images of this registry",
    },
    {
      name: "authfile",
      value: "FILE",
      completion: "file",
      defaultText: "those of podman and docker",
      summary: "where the credentials for registries are",
    },
    {
      name: "plain-http",
      summary: "speak http with registries; without it, only one on loopback may have no TLS",
    },
  ];
}
