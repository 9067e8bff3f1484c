/**
 * The connection to one repository of one registry. Distribution specification, "Pulling manifests" and "Pulling blobs".
 *
 * @module
 */
import process from "node:process";
import type { Progress } from "../../progress.ts";
import { displayText } from "../json.ts";
import { formatReference, type ImageReference } from "../reference.ts";
import { Authorizer } from "./authorizer.ts";
import { credentialPlaces, findCredentials, Secrets } from "./credentials.ts";
import { registryAddresses, type RegistryOptions } from "./endpoint.ts";
import {
  type Answer,
  type HttpRequest,
  NetworkFault,
  REAL_TIMING,
  type RegistryTiming,
  sendRequest,
  UNTRUSTED_CERTIFICATE,
} from "./http.ts";
import { type Patience, Retries, sendPatiently, unreachable } from "./retry.ts";

/** A host that was never reached is most likely a wrong one. */
const FIRST_CONTACT_ATTEMPTS = 3;
/** How long https is waited for where http is tried next. */
const GUESS_MILLISECONDS = 5000;

/** What connecting needs. */
export interface ConnectOptions {
  readonly registry?: RegistryOptions;
  readonly progress: Progress;
  readonly signal?: AbortSignal;
}

/** A request to the repository. */
export interface RepositoryRequest {
  /** What is asked for, for errors. */
  readonly what: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly signal: AbortSignal | undefined;
  readonly retries: Retries;
}

/** Finds out how the registry is reached and what it wants to see. */
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
  const ping = (address: URL): HttpRequest => ({ what, url: new URL("/v2/", address), signal });
  let certificateFault: NetworkFault | undefined;
  for (const address of addresses) {
    try {
      const guess = { ...ping(address), stallMilliseconds: GUESS_MILLISECONDS };
      const answer = await sendRequest(guess, timing);
      return await RegistryClient.from(reference, options, address, answer, secrets);
    } catch (error) {
      if (!(error instanceof NetworkFault)) throw error;
      if (error.message === UNTRUSTED_CERTIFICATE) certificateFault = error;
    }
  }
  // It does speak https there, so that http is no choice.
  if (certificateFault) throw unreachable(what, reference.registry, certificateFault);
  const retries = new Retries(timing, progress, FIRST_CONTACT_ATTEMPTS);
  const answer = await sendPatiently(ping(last), { timing, retries, secrets });
  return await RegistryClient.from(reference, options, last, answer, secrets);
}

/** Asks for things of one repository. */
export class RegistryClient {
  readonly reference: ImageReference;
  /** The reference in full; safe to print. */
  readonly name: string;
  readonly secrets: Secrets;
  readonly #address: URL;
  readonly #timing: RegistryTiming;
  readonly #progress: Progress;
  readonly #authorizer: Authorizer;

  private constructor(
    reference: ImageReference,
    options: ConnectOptions,
    address: URL,
    secrets: Secrets,
  ) {
    const { timing = REAL_TIMING, authFile, environment = process.env } = options.registry ?? {};
    this.reference = reference;
    this.name = formatReference(reference);
    this.secrets = secrets;
    this.#address = address;
    this.#timing = timing;
    this.#progress = options.progress;
    this.#authorizer = new Authorizer({
      registry: reference.registry,
      address,
      scope: `repository:${reference.repository}:pull`,
      findCredentials: () =>
        findCredentials(
          reference,
          credentialPlaces(authFile, environment),
          { environment, timing, signal: options.signal },
          options.registry,
        ),
      patience: () => this.#patience(this.retries()),
    });
  }

  /** @param answer what the registry said to the first request */
  static async from(
    reference: ImageReference,
    options: ConnectOptions,
    address: URL,
    answer: Answer,
    secrets: Secrets,
  ): Promise<RegistryClient> {
    const client = new RegistryClient(reference, options, address, secrets);
    await answer.drain();
    if (client.#isRefusal(answer)) client.#learn(answer, undefined);
    return client;
  }

  /** Attempts at something new. */
  retries(): Retries {
    return new Retries(this.#timing, this.#progress);
  }

  /**
   * Asks for a path, with whatever authorization it takes.
   *
   * @returns an answer of any status that is not worth a retry
   * @throws {IoError} when all attempts fail, or the registry wants credentials that are not there
   */
  async get(path: string, request: RepositoryRequest): Promise<Answer> {
    const { what, headers = {}, signal, retries } = request;
    for (let isSecond = false;; isSecond = true) {
      const authorization = await this.#authorizer.authorization(signal);
      const answer = await sendPatiently(
        { what, url: this.url(path), headers, authorization, signal },
        this.#patience(retries),
      );
      // Tokens expire, also in the middle of an image; but a new one must do.
      if (isSecond || !this.#isRefusal(answer) || !this.#learn(answer, authorization)) {
        return answer;
      }
      await answer.drain();
    }
  }

  /** The address of a path. */
  url(path: string): URL {
    return new URL(path, this.#address);
  }

  /** Whether the registry itself, and not somebody it sent us to, wants authorization. */
  #isRefusal(answer: Answer): boolean {
    return answer.status === 401 && answer.url.origin === this.#address.origin;
  }

  #learn(answer: Answer, used: string | undefined): boolean {
    return this.#authorizer.refused(answer.header("www-authenticate"), used);
  }

  #patience(retries: Retries): Patience {
    return { timing: this.#timing, retries, secrets: this.secrets };
  }
}
