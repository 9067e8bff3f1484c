import { assertEquals } from "@std/assert";
import { describeEntry, shortenPath } from "../../lib/tree/layer.ts";
import { layerOf } from "./layers.ts";

Deno.test("describeEntry names path, layer and offset", () => {
  const { entries } = layerOf([{ path: "a" }, { path: "b/\xff\n" }]);
  assertEquals(describeEntry(entries[1]!, "sha256:00"), "b/\\xff\\x0a in sha256:00 at offset 512");
});

Deno.test("shortenPath leaves 240 bytes as they are and cuts longer paths in the middle", () => {
  const path = Array.from({ length: 300 }, (_, i) => String.fromCharCode(65 + i % 50)).join("");
  assertEquals(shortenPath(path.slice(0, 240)), path.slice(0, 240));
  const short = shortenPath(path);
  assertEquals(short.length, 240);
  assertEquals(short, `${path.slice(0, 120)}...${path.slice(-117)}`);
});
