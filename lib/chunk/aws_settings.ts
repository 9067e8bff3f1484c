/**
 * Keys and region for S3, from where the AWS tools keep them: first the environment, then the profile in
 * `~/.aws/credentials` and `~/.aws/config`.
 *
 * @module
 */
import { readFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { UsageError } from "../errors.ts";
import { displayPath, ioErrorFrom, systemErrorFacts } from "../io/system_error.ts";

/** Who asks, and of which region. */
export interface AwsSettings {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken: string | undefined;
  readonly region: string;
}

/** Variables of a process. */
export type Environment = Readonly<Record<string, string | undefined>>;

type Section = ReadonlyMap<string, string>;

/** What S3 servers that know no regions call themselves, and where buckets of no region are. */
const DEFAULT_REGION = "us-east-1";

/** Kinds of credentials that a profile can have and that are not read here, by the key that tells. */
const OTHER_KINDS: readonly [key: string, kind: string][] = [
  ["sso_session", "single sign-on"],
  ["sso_start_url", "single sign-on"],
  ["role_arn", "a role"],
  ["credential_process", "a program that gives the keys"],
  ["login_session", "a login"],
];

/**
 * Finds the keys and the region.
 *
 * @throws {UsageError} when there are no keys, or only half of them
 * @throws {IoError} when a file that is there cannot be read
 */
export function readAwsSettings(env: Environment): AwsSettings {
  const profile = given(env, "AWS_PROFILE") ?? given(env, "AWS_DEFAULT_PROFILE") ?? "default";
  const home = given(env, "HOME") ?? homedir();
  const files = {
    credentials: given(env, "AWS_SHARED_CREDENTIALS_FILE") ?? join(home, ".aws", "credentials"),
    config: given(env, "AWS_CONFIG_FILE") ?? join(home, ".aws", "config"),
  };
  const configName = profile === "default"
    ? ["default", "profile default"]
    : [`profile ${profile}`];
  const config = readSection(files.config, configName);
  const region = checkRegion(
    given(env, "AWS_REGION") ?? given(env, "AWS_DEFAULT_REGION") ?? config?.get("region") ??
      DEFAULT_REGION,
  );
  const fromEnvironment = keysOf(
    (name) => given(env, name.toUpperCase()),
    "the environment",
  );
  if (fromEnvironment !== undefined) return { ...fromEnvironment, region };
  const credentials = readSection(files.credentials, [profile]);
  for (
    const [section, path] of [[credentials, files.credentials], [config, files.config]] as const
  ) {
    const keys = section && keysOf(
      (name) => section.get(name),
      `profile ${JSON.stringify(profile)} in ${displayPath(path)}`,
    );
    if (keys !== undefined) return { ...keys, region };
  }
  throw noKeys(profile, credentials !== undefined || config !== undefined, [credentials, config]);
}

function keysOf(
  get: (name: string) => string | undefined,
  where: string,
): Omit<AwsSettings, "region"> | undefined {
  const accessKeyId = get("aws_access_key_id");
  const secretAccessKey = get("aws_secret_access_key");
  if (accessKeyId === undefined && secretAccessKey === undefined) return undefined;
  if (accessKeyId === undefined || secretAccessKey === undefined) {
    const missing = accessKeyId === undefined ? "access key id" : "secret access key";
    throw new UsageError("AWS credentials", `${where} has one key but no ${missing}`);
  }
  const sessionToken = get("aws_session_token");
  // What cannot stand in a header would come back in the runtime's complaint of it.
  for (
    const [name, key] of [["key", accessKeyId], ["key", secretAccessKey], [
      "session token",
      sessionToken,
    ]] as const
  ) {
    if (key !== undefined && !/^[\x21-\x7e]+$/.test(key)) {
      const why = `the ${name} of ${where} has a character that no ${name} has`;
      throw new UsageError("AWS credentials", why);
    }
  }
  return { accessKeyId, secretAccessKey, sessionToken };
}

function checkRegion(region: string): string {
  if (/^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$/.test(region)) return region;
  throw new UsageError("AWS region", `${displayPath(region)} is no name of one`, {
    hint: "set AWS_REGION",
  });
}

function noKeys(
  profile: string,
  isThere: boolean,
  sections: readonly (Section | undefined)[],
): UsageError {
  const exported = 'run `eval "$(aws configure export-credentials --format env)"` before';
  const other = OTHER_KINDS.find(([key]) => sections.some((section) => section?.has(key)));
  const shown = JSON.stringify(profile);
  if (other !== undefined) {
    return new UsageError(
      "AWS credentials",
      `profile ${shown} has no keys but ${other[1]}, which is not read here`,
      { hint: exported },
    );
  }
  const why = isThere ? `profile ${shown} has no keys` : `there are none, nor a profile ${shown}`;
  return new UsageError("AWS credentials", why, {
    hint: "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
  });
}

/** A section of a file; undefined where there is no such file or section. A section that comes twice is one. */
function readSection(path: string, names: readonly string[]): Section | undefined {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (cause) {
    if (systemErrorFacts(cause)?.code === "ENOENT") return undefined;
    throw ioErrorFrom(path, "cannot be read", cause);
  }
  let section: Map<string, string> | undefined;
  let isInside = false;
  for (const line of text.split(/\r?\n/)) {
    const header = /^\s*\[\s*([^\]]*?)\s*\]/.exec(line);
    if (header !== null) {
      isInside = names.includes(header[1]!.replace(/\s+/g, " "));
      if (isInside) section ??= new Map();
      continue;
    }
    // A line that is set in belongs to the value above it, as in the settings of one service.
    const pair = /^([^#;\s=][^=]*?)\s*=\s*(.*?)\s*$/.exec(line);
    if (isInside && pair !== null && pair[2] !== "") section!.set(pair[1]!.toLowerCase(), pair[2]!);
  }
  return section;
}

function given(env: Environment, name: string): string | undefined {
  const value = env[name];
  return value === "" ? undefined : value;
}
