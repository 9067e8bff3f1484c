import { assert, assertEquals } from "@std/assert";
import { writeFileSync } from "node:fs";
import { blessMerged } from "../../lib/bless/merged.ts";
import { createFileSink } from "../../lib/io/file_sink.ts";
import { ROOT } from "../../tools/build_steps.ts";
import { bigLayer } from "./package_samples.ts";
import { blessProgram, servePackage } from "./package_server.ts";

Deno.test("the library blesses in threads when it is loaded over HTTP", async () => {
  const scratch = Deno.makeTempDirSync();
  const server = servePackage(ROOT, { "/app.ts": blessProgram("./mod.ts") });
  try {
    const source = `tar:${scratch}/layer.tar.gz`;
    writeFileSync(`${scratch}/layer.tar.gz`, bigLayer());
    const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "--no-check", "--no-config", "--no-lock", `${server.url}/app.ts`]
        .concat(source, scratch),
      env: { NO_COLOR: "1" },
    }).output();
    const text = new TextDecoder();
    assertEquals([code, text.decode(stdout)], [0, "started\n1 true\n"], text.decode(stderr));
    assert(server.paths.has("/worker.ts"));
    await blessMerged({ source, sink: createFileSink(`${scratch}/here`) });
    for (const name of ["alone", "pooled"]) {
      assertEquals(Deno.readFileSync(`${scratch}/${name}`), Deno.readFileSync(`${scratch}/here`));
    }
  } finally {
    await server.close();
    Deno.removeSync(scratch, { recursive: true });
  }
});
