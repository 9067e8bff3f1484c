/**
 * The connection to one repository of one registry. Distribution specification, "Pulling manifests" and "Pulling blobs".
 *
 * @module
 */
import process from "node:process";
import { InputError, IoError } from "../../errors.ts";
import type { Progress } from "../../progress.ts";
import { displayText } from "../json.ts";
import { formatReference, type ImageReference } from "../reference.ts";
import { Authorizer, type AuthorizerOptions, parseChallenges } from "./authorizer.ts";
import { certificateDirectories, registryCertificates } from "./certificates.ts";
import { credentialFiles, findCredentials, Secrets } from "./credentials.ts";
import { registryAddresses, type RegistryOptions } from "./endpoint.ts";
import {
  type Answer,
  type ConnectionSettings,
  type HttpRequest,
  NetworkFault,
  REAL_TIMING,
  type RegistryTiming,
  sendRequest,
  UNTRUSTED_CERTIFICATE,
} from "./http.ts";
import { Retries, type RetryContext, sendWithRetries, statusFault, unreachable } from "./retry.ts";

/** A host that was never reached is most likely a wrong one. */
const FIRST_CONTACT_ATTEMPTS = 3;
/** How long https is waited for where http is tried next. */
const GUESS_MILLISECONDS = 5000;

/** What connecting needs. */
export interface ConnectOptions {
  readonly registry?: RegistryOptions | undefined;
  readonly progress: Progress;
  readonly signal?: AbortSignal | undefined;
}

/** A request to the repository. */
export interface RepositoryRequest {
  /** What is asked for, for errors. */
  readonly what: string;
  readonly headers?: Readonly<Record<string, string>> | undefined;
  readonly signal: AbortSignal | undefined;
  readonly retries: Retries;
}

/** Finds out how the registry is reached. */
export async function connectRegistry(
  reference: ImageReference,
  options: ConnectOptions,
): Promise<RegistryClient> {
  const { plainHttp = false, timing = REAL_TIMING } = options.registry ?? {};
  const what = displayText(reference.registry);
  const addresses = registryAddresses(reference.registry, plainHttp);
  const last = addresses.pop()!;
  const secrets = new Secrets();
  const { progress, signal } = options;
  const connectionTo = connectionSettings(reference, options.registry ?? {});
  const ping = (address: URL): HttpRequest => ({
    what,
    url: new URL("/v2/", address),
    connection: connectionTo(address),
    signal,
  });
  const client = async (address: URL, answer: Answer) => {
    await answer.drain();
    return new RegistryClient(reference, options, { ...ping(address), address, answer, secrets });
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
  // It does speak https there, so http is not an option.
  if (certificateFault) throw unreachable(what, reference.registry, certificateFault);
  const retries = new Retries(timing, progress, FIRST_CONTACT_ATTEMPTS);
  return await client(last, await sendWithRetries(ping(last), { timing, retries, secrets }));
}

/** How a registry, at whichever address, is reached: its certificates are read once. */
function connectionSettings(
  { registry }: ImageReference,
  options: RegistryOptions,
): (address: URL) => ConnectionSettings {
  const { environment = process.env } = options;
  const directories = options.certificateDirectories ?? certificateDirectories(environment);
  const certificates = registryCertificates(registry, options, directories);
  return ({ origin }) => ({ environment, certificates, origin });
}

/** What is known once a registry was reached. */
interface FirstContact {
  readonly address: URL;
  readonly connection?: ConnectionSettings | undefined;
  /** What the registry said to the first request. */
  readonly answer: Answer;
  readonly secrets: Secrets;
}

/** Asks for things of one repository. */
export class RegistryClient {
  readonly reference: ImageReference;
  /** The reference in full; safe to print. */
  readonly name: string;
  readonly #secrets: Secrets;
  readonly #contact: FirstContact;
  readonly #timing: RegistryTiming;
  readonly #progress: Progress;
  readonly #authorizer: Authorizer;
  /** What other registries want to see that this one sends us to, by their origins. */
  readonly #others = new Map<string, Authorizer>();
  readonly #credentialFaults: string[] = [];

  constructor(reference: ImageReference, options: ConnectOptions, contact: FirstContact) {
    const { timing = REAL_TIMING, authFile, environment = process.env } = options.registry ?? {};
    this.reference = reference;
    this.name = formatReference(reference);
    this.#secrets = contact.secrets;
    this.#contact = contact;
    this.#timing = timing;
    this.#progress = options.progress;
    this.#authorizer = this.#newAuthorizer(
      reference.registry,
      contact.address,
      () =>
        findCredentials(
          reference,
          credentialFiles(authFile, environment),
          {
            environment,
            timing,
            signal: options.signal,
            onFault: (fault) => this.#credentialFaults.push(fault),
          },
          options.registry,
        ),
    );
  }

  #newAuthorizer(
    registry: string,
    address: URL,
    findCredentials: AuthorizerOptions["findCredentials"],
  ): Authorizer {
    const { connection } = this.#contact;
    return new Authorizer({
      registry,
      address,
      scope: `repository:${this.reference.repository}:pull`,
      findCredentials,
      credentialFaults: () => this.#credentialFaults,
      ...connection === undefined ? {} : { connection },
      retryContext: () => this.#retryContext(this.retries()),
    });
  }

  /** Attempts at something new. */
  retries(): Retries {
    return new Retries(this.#timing, this.#progress);
  }

  /**
   * Asks for a path: without a login, as long as that does. A registry may want one of who asks what it can do, and none for
   * a repository that is public.
   *
   * @returns an answer of any status that is not worth a retry
   * @throws {IoError} when all attempts fail, or the registry wants credentials that are not there
   */
  async get(path: string, request: RepositoryRequest): Promise<Answer> {
    const { what, headers = {}, signal, retries } = request;
    const { connection } = this.#contact;
    const asked = new Set<string>();
    for (;;) {
      const authorization = await this.#authorizer.authorization(signal);
      const others = await this.#otherAuthorizations(signal);
      const answer = await sendWithRetries({
        what,
        url: this.url(path),
        headers,
        authorization,
        otherAuthorizations: others,
        ...connection === undefined ? {} : { connection },
        signal,
      }, this.#retryContext(retries));
      // Tokens expire, also in the middle of an image; but a new one must do.
      const { origin } = answer.url;
      const isSecond = asked.has(origin);
      asked.add(origin);
      if (isSecond || !await this.#learn(answer, authorization, others, signal)) return answer;
      await answer.drain();
    }
  }

  /** The address of a path. */
  url(path: string): URL {
    return new URL(path, this.#contact.address);
  }

  /** The error for an answer whose status is not the wanted one. */
  fault(answer: Answer, what: string): Promise<InputError | IoError> {
    return statusFault(answer, what, this.#secrets, this.#credentialFaults);
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
        // Without one, that registry refuses, and says so.
        if (!(error instanceof IoError || error instanceof InputError)) throw error;
      }
    }
    return authorizations;
  }

  /** Learns from a refusal. @returns whether another attempt makes sense */
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
      // Nobody's credentials are for it. A token that everybody gets may be.
      const known = this.#others.get(url.origin) ??
        this.#newAuthorizer(url.host, url, () => Promise.resolve(undefined));
      if (!parseChallenges(header).some(({ scheme }) => scheme === "bearer")) return false;
      this.#others.set(url.origin, known);
      return known.refused(header, others.get(url.origin) ?? "");
    }
    if (status === 401) return this.#authorizer.refused(header ?? this.#firstChallenge, used);
    // Some hide what is not public from those who are not logged in.
    const isHidden = (status === 403 || status === 404) && used === undefined;
    if (!isHidden || this.#firstChallenge === undefined) return false;
    if (!this.#authorizer.refused(this.#firstChallenge, undefined)) return false;
    try {
      return await this.#authorizer.authorization(signal) !== undefined;
    } catch (error) {
      if (!(error instanceof IoError)) throw error;
      this.#authorizer.forget();
      return false;
    }
  }

  /** What the registry wanted to see when it was only asked whether it is one. */
  get #firstChallenge(): string | undefined {
    const { answer, address } = this.#contact;
    if (answer.status !== 401 || answer.url.origin !== address.origin) return undefined;
    return answer.header("www-authenticate");
  }

  #retryContext(retries: Retries): RetryContext {
    return { timing: this.#timing, retries, secrets: this.#secrets };
  }
}
