/**
 * The certificates that a registry is reached with: those that the user names, and those that lie where docker, podman and
 * skopeo look for them (containers-certs.d(5)).
 *
 * @module
 */
import { readdirSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { InputError } from "../../errors.ts";
import {
  type CertificateFiles,
  type Certificates,
  readCertificates,
  readPem,
} from "../../io/http_fetch.ts";
import { ioErrorFrom } from "../../io/system_error.ts";

/** Where directories of certificates lie, each named after its registry. */
export function certificateDirectories(
  environment: Readonly<Record<string, string | undefined>>,
): string[] {
  const home = environment["HOME"] || homedir();
  return [
    join(home, ".config", "containers", "certs.d"),
    "/etc/containers/certs.d",
    "/etc/docker/certs.d",
  ];
}

/**
 * All certificates for a registry: authorities of every directory; the client certificate of the named files, or else of the
 * first directory that has one.
 *
 * @param host of the registry, with its port where that is written
 * @throws {InputError} when a file is not what it should be
 * @throws {IoError} when one cannot be read
 */
export function registryCertificates(
  host: string,
  files: CertificateFiles,
  directories: readonly string[],
): Certificates | undefined {
  const named = readCertificates(files);
  const found = directories.map((directory) => readDirectory(join(directory, host)));
  const authorities = [named, ...found].flatMap((certificates) => certificates?.authorities ?? []);
  const client = named?.client ?? found.find((certificates) => certificates?.client)?.client;
  return authorities.length === 0 && client === undefined ? undefined : { authorities, client };
}

function readDirectory(directory: string): Certificates | undefined {
  const names = namesIn(directory);
  if (names === undefined) return undefined;
  const authorities = names.filter((name) => name.endsWith(".crt"))
    .map((name) => readPem(join(directory, name), "CERTIFICATE"));
  const clients = names.filter((name) => name.endsWith(".cert"));
  const [first, second] = clients;
  if (second !== undefined) {
    throw new InputError(directory, `holds ${clients.length} client certificates: wanted one`, {
      code: "ambiguous",
    });
  }
  if (first === undefined) return { authorities, client: undefined };
  const certFile = join(directory, first);
  const keyName = `${first.slice(0, -".cert".length)}.key`;
  if (!names.includes(keyName)) {
    throw new InputError(certFile, `its key is missing: wanted ${keyName} beside it`, {
      code: "missingPart",
    });
  }
  const client = readCertificates({ certFile, keyFile: join(directory, keyName) })?.client;
  return { authorities, client };
}

/** Undefined where there is no such directory, or none that this user may look into. */
function namesIn(directory: string): string[] | undefined {
  try {
    return readdirSync(directory).sort();
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (["ENOENT", "ENOTDIR", "EACCES", "EPERM"].includes(code ?? "")) return undefined;
    throw ioErrorFrom(directory, "cannot be read", cause);
  }
}
