/**
 * The ways to write a source, for the help, the completions and the manual.
 *
 * @module
 */
import type { Completion } from "./command.ts";

/** One way to write a source. */
export interface SourceForm {
  /** What it begins with, the colon included. */
  readonly prefix: string;
  /** What follows. */
  readonly rest: string;
  readonly meaning: string;
  readonly completion: Completion;
}

/** The ways to write a source, in the order of the help. */
export const SOURCE_FORMS: readonly SourceForm[] = [
  { prefix: "oci:", rest: "DIR[:REF]", meaning: "an OCI image layout", completion: "directory" },
  {
    prefix: "oci-archive:",
    rest: "FILE[:REF]",
    meaning: "an OCI image layout in a tar",
    completion: "file",
  },
  {
    prefix: "docker-archive:",
    rest: "FILE[:REF]",
    meaning: "what `docker save` wrote",
    completion: "file",
  },
  {
    prefix: "dir:",
    rest: "DIR",
    meaning: "what `skopeo copy ... dir:` wrote",
    completion: "directory",
  },
  {
    prefix: "docker://",
    rest: "REGISTRY/REPO[:TAG][@DIGEST]",
    meaning: "an image in a registry",
    completion: "none",
  },
  {
    prefix: "tar:",
    rest: "FILE",
    meaning: "one tar of a root file system: plain, gzip, zstd or xz",
    completion: "file",
  },
  { prefix: "rootfs:", rest: "DIR", meaning: "a directory tree", completion: "directory" },
  {
    prefix: "ext4:",
    rest: "FILE",
    meaning: "an ext4 image, in a file or on a block device",
    completion: "file",
  },
];
