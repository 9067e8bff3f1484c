/**
 * Authentication by name and password, and by tokens from a token server. Distribution project, "Token Authentication
 * Specification" and "OAuth2 Token Authentication". No clock is read: a token is used until the registry rejects it.
 *
 * @module
 */
import { InputError, InterruptedError, IoError } from "../../errors.ts";
import { displayText, fields } from "../json.ts";
import {
  basicAuthorization,
  type Credentials,
  isToken,
  readSecrets,
  SECRET_TEXT,
} from "./credentials.ts";
import type { HttpRequest } from "./http.ts";
import {
  loginDetails,
  Retries,
  sendWithRetries,
  type Session,
  statusFault,
  withRetries,
} from "./retry.ts";

const TOKEN_ANSWER_BYTES = 1 << 20;
const MAX_SCOPE_CHARACTERS = 1024;
/** This program's name for token servers. */
const CLIENT_ID = "blessfs";
const TOKEN_ANSWER = fields({ token: SECRET_TEXT, access_token: SECRET_TEXT });

export interface AuthorizerOptions {
  /** The registry's name, for errors. */
  readonly registry: string;
  readonly address: URL;
  /** What a token must allow. */
  readonly scope: string;
  /** Looks for credentials; called at most once, and only if the registry asks for them. */
  readonly findCredentials: () => Promise<Credentials | undefined>;
  readonly session: Session;
}

export class Authorizer {
  readonly #options: AuthorizerOptions;
  readonly #tokens = new Map<string, string>();
  readonly #pendingTokens = new Map<string, Promise<string>>();
  #challenge: Challenge | undefined;
  #scope: string;
  #credentials: Promise<Credentials | undefined> | undefined;

  constructor(options: AuthorizerOptions) {
    this.#options = options;
    this.#scope = options.scope;
  }

  /** The Authorization header for the next request; undefined if the registry has not asked for one. */
  async authorization(signal: AbortSignal | undefined): Promise<string | undefined> {
    const challenge = this.#challenge;
    if (!challenge) return undefined;
    const credentials = await this.#findCredentials();
    if (credentials?.kind === "registryToken") return `Bearer ${credentials.token}`;
    if (challenge.scheme === "bearer") return `Bearer ${await this.#token(signal)}`;
    if (credentials?.kind === "password") return this.#basic(credentials);
    const { registry, session } = this.#options;
    const why = "asks for a user name and a password: found none";
    const details = { ...loginDetails(session), code: "refused", data: { status: 401 } } as const;
    throw new IoError(displayText(registry), why, details);
  }

  /** Handles a rejected request. @param used the rejected Authorization @returns whether to try again */
  refused(header: string | undefined, used: string | undefined): boolean {
    const offered = header === undefined ? [] : parseChallenges(header);
    const challenge = offered.find(({ scheme }) => scheme === "bearer") ??
      offered.find(({ scheme }) => scheme === "basic") ?? this.#challenge;
    if (!challenge) return false;
    this.#challenge = challenge;
    if (challenge.scheme === "basic") return !used?.startsWith("Basic ");
    // The scope of a first challenge may be an example, as with ghcr.io; that for a rejected token counts.
    const scope = used === undefined ? undefined : challenge.parameters.get("scope");
    if (scope && scope.length <= MAX_SCOPE_CHARACTERS) this.#scope = scope;
    // Another request may have obtained a new one meanwhile.
    if (used === `Bearer ${this.#tokens.get(this.#scope)}`) this.#tokens.delete(this.#scope);
    return true;
  }

  /** Continues without authorization, as before any rejection. */
  forget(): void {
    this.#challenge = undefined;
  }

  #findCredentials(): Promise<Credentials | undefined> {
    const { findCredentials, session: { secrets } } = this.#options;
    return this.#credentials ??= findCredentials().then((found) => {
      if (found) secrets.add(found.kind === "password" ? found.password : found.token);
      return found;
    });
  }

  #basic({ username, password }: Credentials & { readonly kind: "password" }): string {
    const header = basicAuthorization(username, password);
    this.#options.session.secrets.add(header.slice("Basic ".length));
    return header;
  }

  async #token(signal: AbortSignal | undefined): Promise<string> {
    const scope = this.#scope;
    for (;;) {
      const known = this.#tokens.get(scope);
      if (known !== undefined) return known;
      try {
        return await (this.#pendingTokens.get(scope) ?? this.#begin(scope, signal));
      } catch (error) {
        // The request that started it was interrupted; that must not stop the others.
        if (!(error instanceof InterruptedError) || signal?.aborted) throw error;
      }
    }
  }

  #begin(scope: string, signal: AbortSignal | undefined): Promise<string> {
    const pending = this.#fetchToken(scope, signal).then((token) => {
      this.#tokens.set(scope, token);
      return token;
    }).finally(() => this.#pendingTokens.delete(scope));
    this.#pendingTokens.set(scope, pending);
    return pending;
  }

  async #fetchToken(scope: string, signal: AbortSignal | undefined): Promise<string> {
    const credentials = await this.#findCredentials();
    const { session } = this.#options;
    const retries = new Retries(session);
    const request = this.#tokenRequest(scope, credentials, signal);
    const bytes = await withRetries(request, retries, async () => {
      const answer = await sendWithRetries(request, session, retries);
      if (answer.status !== 200) throw await statusFault(answer, request.what, session);
      const body = await answer.bytes(TOKEN_ANSWER_BYTES);
      if (body) return body;
      throw new InputError(request.what, `answers with more than ${TOKEN_ANSWER_BYTES} bytes`, {
        code: "limitExceeded",
      });
    });
    const what = `${request.what}: its answer`;
    const { access_token, token = access_token } = readSecrets(TOKEN_ANSWER, bytes, what);
    if (!isToken(token)) throw new InputError(what, "has no token in it");
    session.secrets.add(token);
    return token;
  }

  #tokenRequest(
    scope: string,
    credentials: Credentials | undefined,
    signal: AbortSignal | undefined,
  ): HttpRequest {
    const url = this.#realm();
    const what = `${displayText(this.#options.registry)}: its token server`;
    const request = { what, url, signal };
    const service = this.#challenge?.parameters.get("service");
    const asked = { ...service ? { service } : {}, scope };
    if (credentials?.kind === "identityToken") {
      const form = new URLSearchParams({
        grant_type: "refresh_token",
        client_id: CLIENT_ID,
        refresh_token: credentials.token,
        ...asked,
      });
      return { ...request, form };
    }
    for (const [name, value] of Object.entries(asked)) url.searchParams.append(name, value);
    if (credentials?.kind !== "password") return request;
    url.searchParams.append("account", credentials.username);
    return { ...request, authorization: this.#basic(credentials) };
  }

  /** The token server's address. Plain http is allowed only if the registry itself uses it (CVE-2019-10214). */
  #realm(): URL {
    const { registry, address } = this.#options;
    const realm = this.#challenge?.parameters.get("realm") ?? "";
    const what = displayText(registry);
    if (!URL.canParse(realm)) throw new InputError(what, "names no address of its token server");
    const url = new URL(realm);
    if (url.protocol === "http:" && address.protocol === "https:") {
      const host = displayText(url.host);
      throw new InputError(what, `sends to a token server over plain http, at ${host}`);
    }
    if (url.protocol !== "https:" && url.protocol !== "http:") {
      throw new InputError(what, "names a token server that is not reached over HTTP");
    }
    url.username = "";
    url.password = "";
    return url;
  }
}

/** One authentication method that a server offers. */
export interface Challenge {
  /** In lower case. */
  readonly scheme: string;
  /** With names in lower case. */
  readonly parameters: ReadonlyMap<string, string>;
}

/** Longer headers are truncated. */
const MAX_HEADER_CHARACTERS = 8192;
const TOKEN = "[!#$%&'*+.^_`|~0-9A-Za-z-]+";
const PARAMETER = new RegExp(
  `[\\s,]*(${TOKEN})[ \\t]*=[ \\t]*(?:"((?:[^"\\\\]|\\\\.)*)"|([^\\s,"]+))`,
  "y",
);
const SCHEME = new RegExp(`[\\s,]*(${TOKEN})`, "y");
/** A challenge may have one opaque value instead of parameters. */
const TOKEN68 = /[ \t]+[A-Za-z0-9._~+\/-]+=*[ \t]*(?=,|$)/y;

/** The challenges in a header; several headers are joined with commas. Anything that cannot be parsed ends the list. */
export function parseChallenges(header: string): Challenge[] {
  const text = header.slice(0, MAX_HEADER_CHARACTERS);
  const challenges: Challenge[] = [];
  let at = 0;
  const match = (pattern: RegExp): RegExpExecArray | undefined => {
    pattern.lastIndex = at;
    const found = pattern.exec(text) ?? undefined;
    if (found) at = pattern.lastIndex;
    return found;
  };
  for (let scheme = match(SCHEME); scheme; scheme = match(SCHEME)) {
    const parameters = new Map<string, string>();
    match(TOKEN68);
    for (let found = match(PARAMETER); found; found = match(PARAMETER)) {
      const [, name, quoted, plain] = found;
      const value = quoted === undefined ? plain! : quoted.replace(/\\(.)/gs, "$1");
      parameters.set(name!.toLowerCase(), value);
    }
    challenges.push({ scheme: scheme[1]!.toLowerCase(), parameters });
  }
  return challenges;
}
