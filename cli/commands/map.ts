/**
 * `blessfs map`: a picture of how images lie on a grid.
 *
 * @module
 */
import { MERGED_DEFAULTS } from "../../lib/bless/options.ts";
import { checkChunkSize } from "../../lib/chunk/chunk.ts";
import { createFileSink } from "../../lib/io/file_sink.ts";
import { type ImageMap, mapImage, mapPicture } from "../../probe/map.ts";
import type { CommandIo, ParsedArguments } from "../command.ts";
import { parseSize } from "../values.ts";
import { parseImageAccess, withImageReader } from "./image.ts";
import { refusePixels } from "./probe.ts";
import { parseThreshold } from "./sources.ts";

/** `blessfs map IMAGE... --plot FILE.svg`. */
export async function run(args: ParsedArguments, io: CommandIo): Promise<void> {
  const images = args.positionals("IMAGE");
  const plot = args.value("plot")!;
  refusePixels(plot);
  const gridBytes = args.parsed("grid", parseSize) ?? MERGED_DEFAULTS.gridBytes;
  checkChunkSize(gridBytes, "--grid");
  const alignThresholdBytes = args.parsed("align-threshold", parseThreshold) ??
    MERGED_DEFAULTS.alignThresholdBytes;
  const { signal } = io;
  const options = { force: args.flag("force"), signal, sourcePaths: images };
  const sink = createFileSink(plot, options);
  try {
    const maps: ImageMap[] = [];
    for (const [i, image] of images.entries()) {
      const task = io.progress.begin(`image ${i + 1} of ${images.length}`);
      const look = { gridBytes, alignThresholdBytes, signal };
      const map = (reader: Parameters<typeof mapImage>[0]) => mapImage(reader, image, look);
      maps.push(await withImageReader(image, parseImageAccess(args, io), map));
      task.end();
    }
    const bytes = new TextEncoder().encode(mapPicture(maps));
    await sink.write(bytes, 0);
    await sink.finish(bytes.length);
  } catch (error) {
    await sink.abort();
    throw error;
  }
}
