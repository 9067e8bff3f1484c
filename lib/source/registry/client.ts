/**
 * The connection to one repository in a registry. Distribution specification, "Pulling manifests" and "Pulling blobs".
 *
 * @module
 */
import { readdirSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { InputError, IoError, UsageError } from "../../errors.ts";
import {
  type CertificateFiles,
  type Certificates,
  isLoopback,
  readCertificates,
  readPem,
} from "../../io/http_fetch.ts";
import { ioErrorFrom } from "../../io/system_error.ts";
import { displayText } from "../json.ts";
import { formatReference, type ImageReference } from "../source_name.ts";
import type { RegistryOptions, ResolvedOptions } from "../types.ts";
import { Authorizer, type AuthorizerOptions, parseChallenges } from "./authorizer.ts";
import { DOCKER_HUB_HOSTS, findCredentials, Secrets } from "./credentials.ts";
import {
  type Answer,
  type HttpRequest,
  NetworkFault,
  REAL_TIMING,
  sendRequest,
  UNTRUSTED_CERTIFICATE,
} from "./http.ts";
import { Retries, sendWithRetries, type Session, unreachable } from "./retry.ts";

/** A host that has never been reached is most likely wrong. */
const FIRST_CONTACT_ATTEMPTS = 3;
/** How long to wait for https if http is tried next. */
const GUESS_MILLISECONDS = 5000;

type ConnectOptions = Pick<ResolvedOptions, "registry" | "progress" | "signal">;

export async function connectRegistry(
  reference: ImageReference,
  options: ConnectOptions,
): Promise<RegistryClient> {
  const { registry: settings = {}, progress, signal } = options;
  const { plainHttp = false, timing = REAL_TIMING, environment = process.env } = settings;
  const what = displayText(reference.registry);
  const addresses = registryAddresses(reference.registry, plainHttp);
  const last = addresses.pop()!;
  const directories = settings.certificateDirectories ?? certificateDirectories(environment);
  const certificates = registryCertificates(reference.registry, settings, directories);
  const connectionTo = ({ origin }: URL) => ({ environment, certificates, origin });
  const ping = (address: URL) => {
    return { what, url: new URL("/v2/", address), connection: connectionTo(address), signal };
  };
  const shared = { timing, progress, secrets: new Secrets(), credentialFaults: [] };
  const client = async (address: URL, answer: Answer) => {
    await answer.drain();
    const session = { ...shared, connection: connectionTo(address) };
    return new RegistryClient(reference, options, session, { address, answer });
  };
  let certificateFault: NetworkFault | undefined;
  for (const address of addresses) {
    try {
      const guess = { ...ping(address), stallMilliseconds: GUESS_MILLISECONDS };
      return await client(address, await sendRequest(guess, timing));
    } catch (error) {
      if (!(error instanceof NetworkFault)) throw error;
      if (error.message.startsWith(UNTRUSTED_CERTIFICATE)) certificateFault = error;
    }
  }
  // The server speaks https, so http is not an option.
  if (certificateFault) throw unreachable(what, reference.registry, certificateFault);
  const retries = new Retries(shared, FIRST_CONTACT_ATTEMPTS);
  return await client(last, await sendWithRetries(ping(last), shared, retries));
}

/** The addresses to try. Plain http is used only on request, and then alone, or on loopback, after https. */
export function registryAddresses(registry: string, plainHttp: boolean): URL[] {
  const [docker, , dockerHost] = DOCKER_HUB_HOSTS;
  const host = registry === docker ? dockerHost : registry;
  const schemes = plainHttp ? ["http"] : isLoopback(host) ? ["https", "http"] : ["https"];
  return schemes.map((scheme) => {
    const address = `${scheme}://${host}/`;
    if (URL.canParse(address)) return new URL(address);
    throw new UsageError(`registry "${displayText(registry)}"`, "is not a host");
  });
}

/** Where docker, podman and skopeo look for certificates, in directories named after registries (containers-certs.d(5)). */
function certificateDirectories(
  environment: NonNullable<RegistryOptions["environment"]>,
): string[] {
  const home = environment["HOME"] || homedir();
  return [
    join(home, ".config", "containers", "certs.d"),
    "/etc/containers/certs.d",
    "/etc/docker/certs.d",
  ];
}

/**
 * All certificates for a registry: the authorities in every directory; the client certificate in the given files, or in the
 * first directory that has one.
 */
function registryCertificates(
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

/** Undefined if the directory does not exist or this user cannot read it. */
function namesIn(directory: string): string[] | undefined {
  try {
    return readdirSync(directory).sort();
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (["ENOENT", "ENOTDIR", "EACCES", "EPERM"].includes(code ?? "")) return undefined;
    throw ioErrorFrom(directory, "cannot be read", cause);
  }
}

/** Where a registry was reached, and its response to the first request. */
interface FirstContact {
  readonly address: URL;
  readonly answer: Answer;
}

export class RegistryClient {
  readonly reference: ImageReference;
  /** The full reference; safe to print. */
  readonly name: string;
  readonly session: Session;
  readonly #contact: FirstContact;
  readonly #authorizer: Authorizer;
  /** For other registries that this one redirects to, by origin. */
  readonly #others = new Map<string, Authorizer>();

  constructor(
    reference: ImageReference,
    { registry = {}, signal }: ConnectOptions,
    session: Session,
    contact: FirstContact,
  ) {
    const { authFile, environment = process.env } = registry;
    this.reference = reference;
    this.name = formatReference(reference);
    this.session = session;
    this.#contact = contact;
    const onFault = (fault: string) => session.credentialFaults.push(fault);
    const context = { environment, timing: session.timing, signal, onFault };
    const find = () => findCredentials(reference, authFile, context, registry);
    this.#authorizer = this.#newAuthorizer(reference.registry, contact.address, find);
  }

  #newAuthorizer(
    registry: string,
    address: URL,
    findCredentials: AuthorizerOptions["findCredentials"],
  ): Authorizer {
    const scope = `repository:${this.reference.repository}:pull`;
    return new Authorizer({ registry, address, scope, findCredentials, session: this.session });
  }

  /**
   * Requests a path, without a login as long as that works. Some registries require one for `/v2/` but not for a public
   * repository. The response may have any status that is not worth retrying.
   */
  async get(
    path: string,
    request: Pick<HttpRequest, "what" | "headers" | "signal">,
    retries: Retries,
  ): Promise<Answer> {
    const { signal } = request;
    const url = this.url(path);
    const asked = new Set<string>();
    for (;;) {
      const authorization = await this.#authorizer.authorization(signal);
      const otherAuthorizations = await this.#otherAuthorizations(signal);
      const authorized = { ...request, url, authorization, otherAuthorizations };
      const answer = await sendWithRetries(authorized, this.session, retries);
      // Tokens expire, even in the middle of an image; but a new one must work.
      const { origin } = answer.url;
      const isSecond = asked.has(origin);
      asked.add(origin);
      if (isSecond || !await this.#learn(answer, authorization, otherAuthorizations, signal)) {
        return answer;
      }
      await answer.drain();
    }
  }

  url(path: string): URL {
    return new URL(path, this.#contact.address);
  }

  async #otherAuthorizations(
    signal: AbortSignal | undefined,
  ): Promise<ReadonlyMap<string, string>> {
    const authorizations = new Map<string, string>();
    for (const [origin, authorizer] of this.#others) {
      try {
        const authorization = await authorizer.authorization(signal);
        if (authorization !== undefined) authorizations.set(origin, authorization);
      } catch (error) {
        // Without credentials, that registry rejects the request with its own message.
        if (!(error instanceof IoError || error instanceof InputError)) throw error;
      }
    }
    return authorizations;
  }

  /** Handles a rejected request. @returns whether to try again */
  async #learn(
    answer: Answer,
    used: string | undefined,
    others: ReadonlyMap<string, string>,
    signal: AbortSignal | undefined,
  ): Promise<boolean> {
    const { status, url } = answer;
    const header = answer.header("www-authenticate");
    if (url.origin !== this.#contact.address.origin) {
      if (status !== 401 || header === undefined) return false;
      if (!parseChallenges(header).some(({ scheme }) => scheme === "bearer")) return false;
      // There are no credentials for it, but an anonymous token may do.
      const known = this.#others.get(url.origin) ??
        this.#newAuthorizer(url.host, url, () => Promise.resolve(undefined));
      this.#others.set(url.origin, known);
      return known.refused(header, others.get(url.origin) ?? "");
    }
    const firstChallenge = this.#firstChallenge;
    if (status === 401) return this.#authorizer.refused(header ?? firstChallenge, used);
    // Some registries hide private repositories from clients that are not logged in.
    const isHidden = (status === 403 || status === 404) && used === undefined;
    if (!isHidden || firstChallenge === undefined) return false;
    if (!this.#authorizer.refused(firstChallenge, undefined)) return false;
    try {
      return await this.#authorizer.authorization(signal) !== undefined;
    } catch (error) {
      if (!(error instanceof IoError)) throw error;
      this.#authorizer.forget();
      return false;
    }
  }

  /** The challenge in the registry's first response. */
  get #firstChallenge(): string | undefined {
    const { answer, address } = this.#contact;
    if (answer.status !== 401 || answer.url.origin !== address.origin) return undefined;
    return answer.header("www-authenticate");
  }
}
