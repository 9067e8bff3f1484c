/**
 * Serves sources over HTTP as JSR does: what the import map names is named in full.
 *
 * @module
 */
import { join, normalize } from "node:path";

/** A server of a directory that has a deno.json. */
export interface PackageServer {
  readonly url: string;
  /** The paths that were asked for. */
  readonly paths: ReadonlySet<string>;
  close(): Promise<void>;
}

/** Serves a directory on this machine. Modules in `own` are served besides. */
export function servePackage(
  directory: string,
  own: Readonly<Record<string, string>> = {},
): PackageServer {
  const { imports } = JSON.parse(Deno.readTextFileSync(join(directory, "deno.json")));
  const paths = new Set<string>();
  const server = Deno.serve(
    { port: 0, hostname: "127.0.0.1", onListen: () => {} },
    async (request) => {
      const { pathname } = new URL(request.url);
      paths.add(pathname);
      try {
        const text = own[pathname] ??
          await Deno.readTextFile(join(directory, normalize(`/${pathname}`)));
        return new Response(inFull(text, imports), {
          headers: { "content-type": "application/typescript" },
        });
      } catch {
        return new Response("not found", { status: 404 });
      }
    },
  );
  return {
    url: `http://127.0.0.1:${server.addr.port}`,
    paths,
    close: () => server.shutdown(),
  };
}

function inFull(text: string, imports: Readonly<Record<string, string>>): string {
  return Object.entries(imports).reduce(
    (before, [name, target]) =>
      before.replaceAll(`from "${name}"`, `from "${target}"`)
        .replaceAll(`import("${name}")`, `import("${target}")`),
    text,
  );
}

/** A program that blesses a source in threads, and says so each time that it is started. */
export function blessProgram(specifier: string): string {
  return `
    import { blessMerged, createBlesser, createFileSink } from ${JSON.stringify(specifier)};
    import process from "node:process";
    const [source, output] = process.argv.slice(2);
    console.log("started");
    const alone = await blessMerged({ source, sink: createFileSink(output + "/alone") });
    const blesser = createBlesser({ jobs: 2 });
    const pooled = await blesser.blessMerged({ source, sink: createFileSink(output + "/pooled") });
    await blesser.close();
    console.log(alone.files, alone.uuid === pooled.uuid);
  `;
}
