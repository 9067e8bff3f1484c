import { assertEquals, assertNotEquals, assertThrows } from "@std/assert";
import { MERGED_DEFAULTS } from "../../lib/bless/options.ts";
import { deriveUuid, planImage } from "../../lib/bless/plan_image.ts";
import { InputError, UsageError } from "../../lib/errors.ts";
import { formatUuid } from "../../lib/bytes/uuid.ts";
import { Warnings } from "../../lib/warnings.ts";
import { file, symlink, treeOf } from "../oracle/tree_builder.ts";

const BASE = {
  layout: MERGED_DEFAULTS,
  contentDigest: "sha256:00",
  timestamp: 1,
};

Deno.test("deriveUuid gives equal content equal UUIDs of version 8", () => {
  const uuid = formatUuid(deriveUuid({ contentDigest: "sha256:00" }));
  assertEquals(
    /^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/.test(uuid),
    true,
  );
  assertEquals(formatUuid(deriveUuid({ contentDigest: "sha256:00" })), uuid);
  assertNotEquals(formatUuid(deriveUuid({ contentDigest: "sha256:01" })), uuid);
});

Deno.test("planImage derives the UUID from the content unless one is given", () => {
  const tree = treeOf({ "f": file("x") });
  const uuidOf = (uuid: string | undefined) =>
    formatUuid(
      planImage(tree, { ...BASE, layout: { ...MERGED_DEFAULTS, uuid }, warnings: new Warnings() })
        .summary.uuid,
    );
  assertEquals(uuidOf(undefined), formatUuid(deriveUuid({ contentDigest: "sha256:00" })));
  const given = "01234567-89ab-4def-8123-456789abcdef";
  assertEquals(uuidOf(given), given);
});

Deno.test("planImage counts what it changes and refuses what it cannot hold", () => {
  const warnings = new Warnings();
  planImage(treeOf({ "f": file("x", { mtime: 1e12 }) }), { ...BASE, warnings });
  assertEquals(warnings.list().map(({ kind }) => kind), ["clampedTime"]);
  const long = treeOf({ "l": symlink("t".repeat(5000)) });
  assertThrows(() => planImage(long, { ...BASE, warnings }), InputError, "/l: ");
  const layout = { ...MERGED_DEFAULTS, gridBytes: 5 };
  assertThrows(() => planImage(treeOf({}), { ...BASE, layout, warnings }), UsageError, "gridBytes");
});
