/**
 * Keys and region for S3, found like the AWS tools do: in the environment first, then through the provider chain of the
 * AWS SDK (profiles with keys, roles, single sign-on or a program; web identities; containers; instances). The SDK is
 * loaded only if the environment has no keys.
 *
 * @module
 */
import { homedir } from "node:os";
import { join } from "node:path";
import { UsageError } from "../errors.ts";
import { displayPath } from "../io/system_error.ts";

/** The keys that sign a request. */
export interface AwsKeys {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken: string | undefined;
}

/** The region and the keys. */
export interface AwsSettings {
  readonly region: string;
  /** Returns keys that are currently valid. Session keys are renewed before they expire, where possible. */
  keys(): Promise<AwsKeys>;
}

/** The environment variables of a process. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** The region name of S3 servers without regions, and of buckets without one. */
const DEFAULT_REGION = "us-east-1";
const DEFAULT_PROFILE = "default";
const WHAT = "AWS credentials";

interface ProfileFiles {
  /** Undefined for the default profile. */
  readonly profile: string | undefined;
  readonly filepath: string;
  readonly configFilepath: string;
}

/** Finds the keys and the region. @throws {UsageError} when there are no keys, or only one of the two */
export async function readAwsSettings(env: Environment): Promise<AwsSettings> {
  const keys = environmentKeys(env);
  const region = given(env, "AWS_REGION") ?? given(env, "AWS_DEFAULT_REGION");
  const files = profileFiles(env);
  const settings = {
    region: checkRegion(region ?? await profileRegion(files) ?? DEFAULT_REGION),
    keys: keys === undefined ? await chainKeys(files, region) : () => Promise.resolve(keys),
  };
  await settings.keys();
  return settings;
}

function environmentKeys(env: Environment): AwsKeys | undefined {
  const accessKeyId = given(env, "AWS_ACCESS_KEY_ID");
  const secretAccessKey = given(env, "AWS_SECRET_ACCESS_KEY");
  if (accessKeyId === undefined && secretAccessKey === undefined) return undefined;
  if (accessKeyId === undefined || secretAccessKey === undefined) {
    const missing = accessKeyId === undefined ? "access key id" : "secret access key";
    throw new UsageError(WHAT, `the environment has one key but no ${missing}`);
  }
  return checkKeys({
    accessKeyId,
    secretAccessKey,
    sessionToken: given(env, "AWS_SESSION_TOKEN"),
  });
}

/** An invalid header character would make the runtime throw an error message that contains the key. */
function checkKeys(keys: AwsKeys): AwsKeys {
  const names = {
    accessKeyId: "access key id",
    secretAccessKey: "secret access key",
    sessionToken: "session token",
  };
  for (const [field, name] of Object.entries(names)) {
    const value = keys[field as keyof AwsKeys];
    if (value === undefined || /^[\x21-\x7e]+$/.test(value)) continue;
    throw new UsageError(WHAT, `the ${name} has a character that is not allowed in one`);
  }
  return keys;
}

function profileFiles(env: Environment): ProfileFiles {
  const directory = join(given(env, "HOME") ?? homedir(), ".aws");
  return {
    profile: given(env, "AWS_PROFILE") ?? given(env, "AWS_DEFAULT_PROFILE"),
    filepath: given(env, "AWS_SHARED_CREDENTIALS_FILE") ?? join(directory, "credentials"),
    configFilepath: given(env, "AWS_CONFIG_FILE") ?? join(directory, "config"),
  };
}

/** Missing and unreadable files count as empty, as in the AWS tools. */
async function profileRegion(
  { profile = DEFAULT_PROFILE, ...files }: ProfileFiles,
): Promise<string | undefined> {
  const { loadSharedConfigFiles } = named(await import("@smithy/core/config"));
  const { configFile, credentialsFile } = await loadSharedConfigFiles({
    ...files,
    ignoreCache: true,
  });
  return configFile[profile]?.["region"] ?? credentialsFile[profile]?.["region"];
}

async function chainKeys(
  { profile, ...files }: ProfileFiles,
  region: string | undefined,
): Promise<() => Promise<AwsKeys>> {
  const { fromNodeProviderChain } = named(await import("@aws-sdk/credential-providers"));
  const provider = fromNodeProviderChain({
    ...files,
    ignoreCache: true,
    ...profile === undefined ? {} : { profile },
    ...region === undefined ? {} : { clientConfig: { region } },
  });
  return async () => {
    try {
      const { accessKeyId, secretAccessKey, sessionToken } = await provider();
      return checkKeys({ accessKeyId, secretAccessKey, sessionToken });
    } catch (cause) {
      throw cause instanceof UsageError ? cause : noKeys(profile ?? DEFAULT_PROFILE, cause);
    }
  };
}

/** The packages are CommonJS; some bundlers expose their exports only as the default export. */
function named<T extends object>(module: T & { readonly default?: T }): T {
  return module.default ?? module;
}

function noKeys(profile: string, cause: unknown): UsageError {
  const said = cause instanceof Error ? displayPath(cause.message).slice(0, 300) : "";
  const why = `none found, in profile ${JSON.stringify(profile)} or elsewhere`;
  return new UsageError(WHAT, said === "" ? why : `${why} (${said})`, {
    hint: "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE; " +
      "after single sign-on, log in again with `aws sso login`",
    cause,
  });
}

function checkRegion(region: string): string {
  if (/^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$/.test(region)) return region;
  throw new UsageError("AWS region", `${displayPath(region)} is not a valid region name`, {
    hint: "set AWS_REGION",
  });
}

function given(env: Environment, name: string): string | undefined {
  const value = env[name];
  return value === "" ? undefined : value;
}
