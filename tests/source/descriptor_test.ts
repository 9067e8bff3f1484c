import { entry, manifest, refuses } from "./build_wrong.ts";

Deno.test("readIndex refuses a descriptor with anything wrong in it", async () => {
  await refuses(entry((e) => e["size"] = -1), "manifests[0].size is -1: wanted a whole number");
  await refuses(entry((e) => e["size"] = "5"), "manifests[0].size");
  await refuses(entry((e) => e["size"] = 1.5), "manifests[0].size");
  await refuses(entry((e) => delete e["size"]), "manifests[0].size is missing");
  await refuses(entry((e) => delete e["mediaType"]), "manifests[0].mediaType is missing");
  await refuses(entry((e) => e["digest"] = "sha256:../../x"), "is not a digest");
  await refuses(entry((e) => e["digest"] = `md5:${"0".repeat(32)}`), "of an unknown kind");
  await refuses(entry((e) => e["annotations"] = { a: 1 }), "annotations.a is 1");
  await refuses(entry((e) => e["platform"] = { os: "linux" }), "platform.architecture is missing");
  await refuses(entry((e) => e["data"] = "?"), "manifests[0].data");
});

Deno.test("openImage compares data that a descriptor carries with its digest and size", async () => {
  const data = btoa("{}");
  await refuses(manifest((m) => m.config["data"] = data), "its size is 2 bytes: wanted");
  const wrong = manifest((m) => Object.assign(m.config, { data, size: 2 }));
  await refuses(wrong, "its digest is sha256:");
});
