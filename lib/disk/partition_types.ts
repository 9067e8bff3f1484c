/**
 * Partition types of the Discoverable Partitions Specification (uapi-group.org), as GUIDs.
 *
 * @module
 */
import { optionError } from "../errors.ts";

/** What a partition is for. */
export type PartitionRole = "esp" | "root" | "root-verity" | "root-verity-sig" | "layer";

interface RootTypes {
  readonly root: string;
  readonly "root-verity": string;
  readonly "root-verity-sig": string;
}

/** By the name of the architecture in OCI platforms. */
const ROOT_TYPES: Readonly<Record<string, RootTypes>> = {
  amd64: {
    "root": "4f68bce3-e8cd-4db1-96e7-fbcaf984b709",
    "root-verity": "2c7357ed-ebd2-46d9-aec1-23d437ec2bf5",
    "root-verity-sig": "41092b05-9fc8-4523-994f-2def0408b176",
  },
  arm64: {
    "root": "b921b045-1df0-41c3-af44-4c6f280d3fae",
    "root-verity": "df3300ce-d69f-4c92-978c-9bfb0f38d820",
    "root-verity-sig": "6db69de6-29f4-4758-a7a5-962190f00ce3",
  },
};

const EFI_SYSTEM = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b";
/** Linux file system data, which no tool mounts by itself. */
const LINUX_DATA = "0fc63daf-8483-4772-8e79-3d69d8477de4";

/**
 * The type of a partition.
 *
 * @param architecture as OCI names it, such as `amd64`
 * @throws {UsageError} for a root of an architecture that is not supported
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { partitionType } from "./partition_types.ts";
 * assertEquals(partitionType("root", "amd64"), "4f68bce3-e8cd-4db1-96e7-fbcaf984b709");
 * ```
 */
export function partitionType(role: PartitionRole, architecture: string): string {
  if (role === "esp") return EFI_SYSTEM;
  if (role === "layer") return LINUX_DATA;
  const types = Object.hasOwn(ROOT_TYPES, architecture) ? ROOT_TYPES[architecture] : undefined;
  if (types === undefined) {
    throw optionError(
      "disk",
      `no root partition type for the architecture \`${architecture}\`: wanted ` +
        Object.keys(ROOT_TYPES).join(" or "),
    );
  }
  return types[role];
}

/** Which role a root type has, whatever its architecture; undefined for other types. */
export function rootRoleOf(typeGuid: string): keyof RootTypes | undefined {
  for (const types of Object.values(ROOT_TYPES)) {
    for (const [role, guid] of Object.entries(types)) {
      if (guid === typeGuid) return role as keyof RootTypes;
    }
  }
  return undefined;
}
