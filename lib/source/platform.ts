/**
 * Platforms: how they are written, which names are equivalent, and which entry of an index matches a request. OCI image
 * specification, image-index.md; the aliases and the variant order are the same as containerd's.
 *
 * @module
 */
import { arch } from "node:process";
import { optionError } from "../errors.ts";
import { displayText } from "./json.ts";

/** The platform that an image runs on. No variant means the architecture's base. */
export interface Platform {
  /** For example `linux`. */
  readonly os: string;
  /** In Go's terms, for example `amd64`. */
  readonly architecture: string;
  /** For example `v8`. */
  readonly variant?: string | undefined;
  /** For example `10.0.17763.1817`: a Windows image runs only on the version it was built for. */
  readonly osVersion?: string | undefined;
}

const ALIASES: ReadonlyMap<string, readonly [architecture: string, variant?: string]> = new Map([
  ["x86_64", ["amd64"]],
  ["x86-64", ["amd64"]],
  ["x64", ["amd64"]],
  ["aarch64", ["arm64"]],
  ["i386", ["386"]],
  ["i486", ["386"]],
  ["i586", ["386"]],
  ["i686", ["386"]],
  ["ia32", ["386"]],
  ["armhf", ["arm", "v7"]],
  ["armel", ["arm", "v6"]],
  ["mipsel", ["mipsle"]],
  ["ppc64el", ["ppc64le"]],
]);

/** Variants from oldest to newest; a machine runs its own variant and older ones. */
const VARIANT_ORDER: ReadonlyMap<string, readonly string[]> = new Map([
  ["amd64", ["v1", "v2", "v3", "v4"]],
  ["arm", ["v5", "v6", "v7", "v8"]],
  ["arm64", ["v8", "v9"]],
]);

/** What a missing variant means, if that is certain; ASSUMED_VARIANTS adds a likely one. */
const BASE_VARIANTS: ReadonlyMap<string, string> = new Map([["amd64", "v1"], ["arm64", "v8"]]);
const ASSUMED_VARIANTS: ReadonlyMap<string, string> = new Map([...BASE_VARIANTS, ["arm", "v7"]]);

const NAME = /^[A-Za-z0-9_.-]{1,64}$/;

/** Parses `os/arch[/variant]`. @throws {UsageError} */
export function parsePlatform(text: string): Platform {
  const parts = text.split("/");
  if (parts.length < 2 || parts.length > 3 || !parts.every((part) => NAME.test(part))) {
    throw optionError(
      "platform",
      `"${displayText(text.slice(0, 200))}" is not written as OS/ARCH or OS/ARCH/VARIANT`,
      { hint: "an example is linux/arm64" },
    );
  }
  const [os, architecture, variant] = parts as [string, string, string?];
  return normalizePlatform({ os, architecture, variant });
}

/** A requested platform; `any` accepts every platform. */
export type WantedPlatform = Platform | "any";

/**
 * The platform in the options; undefined means this machine's. @throws {UsageError} if it is neither a platform nor `any`
 */
export function wantedPlatform(
  { platform }: { readonly platform?: string | undefined },
): WantedPlatform | undefined {
  return platform === undefined || platform === "any" ? platform : parsePlatform(platform);
}

/** The same platform with the names that OCI images use, without the base variant. */
export function normalizePlatform(platform: Platform): Platform {
  const os = platform.os.toLowerCase();
  const written = platform.architecture.toLowerCase();
  const [architecture, impliedVariant] = ALIASES.get(written) ?? [written];
  let variant = platform.variant?.toLowerCase() || impliedVariant;
  if (variant !== undefined && /^[0-9]+$/.test(variant)) variant = `v${variant}`;
  if (variant === BASE_VARIANTS.get(architecture)) variant = undefined;
  return {
    os: os === "macos" ? "darwin" : os,
    architecture,
    ...variant ? { variant } : {},
    ...platform.osVersion ? { osVersion: platform.osVersion } : {},
  };
}

/** Linux on this machine's architecture. */
export function hostPlatform(): Platform {
  return normalizePlatform({ os: "linux", architecture: arch });
}

/** Formats a platform as `os/arch[/variant]`; safe to print. */
export function formatPlatform(platform: Platform): string {
  const { os, architecture, variant, osVersion } = platform;
  const version = osVersion ? ` version ${osVersion}` : "";
  return displayText(`${os}/${architecture}${variant ? `/${variant}` : ""}${version}`);
}

/**
 * How well a candidate matches a request, both normalised: undefined if it does not, otherwise a rank, 0 for the same
 * platform. Lower variants that the requested one can run come next; a candidate without a variant comes last.
 */
export function platformRank(wanted: Platform, candidate: Platform): number | undefined {
  if (wanted.os !== candidate.os || wanted.architecture !== candidate.architecture) {
    return undefined;
  }
  if (wanted.variant === candidate.variant) return 0;
  const order = VARIANT_ORDER.get(wanted.architecture);
  if (!order) {
    return candidate.variant === undefined || wanted.variant === undefined ? 1 : undefined;
  }
  const wantedLevel = order.indexOf(wanted.variant ?? ASSUMED_VARIANTS.get(wanted.architecture)!);
  if (candidate.variant === undefined) return order.length;
  const candidateLevel = order.indexOf(candidate.variant);
  if (wantedLevel < 0 || candidateLevel < 0 || candidateLevel > wantedLevel) return undefined;
  return wantedLevel - candidateLevel;
}

/** All candidates with the best rank. Their platforms are normalised. */
export function bestPlatforms<T extends { readonly platform: Platform }>(
  wanted: Platform,
  candidates: readonly T[],
): T[] {
  const rankOf = ({ platform }: T) => platformRank(wanted, platform) ?? Infinity;
  const best = Math.min(...candidates.map(rankOf));
  return candidates.filter((candidate) => rankOf(candidate) === best && best < Infinity);
}
