/**
 * `blessfs map`: a picture of how images lie on a grid.
 *
 * @module
 */
import { checkChunkSize } from "../../lib/chunk/chunk.ts";
import { createFileSink } from "../../lib/io/file_sink.ts";
import { writeWhole } from "../../lib/io/sink.ts";
import { type ImageMap, mapImage, mapPicture } from "../../probe/map.ts";
import type { CommandIo, ParsedArguments } from "../command.ts";
import { parseSize } from "../values.ts";
import { parseImageAccess, withImageReader } from "./image.ts";
import { refusePixels } from "./probe.ts";
import { parseThreshold } from "./sources.ts";

/** `blessfs map IMAGE... --plot FILE.svg`. */
export async function run(args: ParsedArguments, io: CommandIo): Promise<void> {
  const images = args.positionals("IMAGE");
  const plot = args.text("plot");
  refusePixels(plot);
  const gridBytes = args.read("grid", parseSize);
  checkChunkSize(gridBytes, "--grid");
  const alignThresholdBytes = args.read("align-threshold", parseThreshold);
  const { signal } = io;
  const access = parseImageAccess(args, io);
  const sink = createFileSink(plot, { force: args.flag("force"), signal, sourcePaths: images });
  const maps: ImageMap[] = [];
  for (const [i, image] of images.entries()) {
    const task = io.progress.begin(`image ${i + 1} of ${images.length}`);
    const look = { gridBytes, alignThresholdBytes, signal };
    maps.push(await withImageReader(image, access, (reader) => mapImage(reader, image, look)));
    task.end();
  }
  await writeWhole(sink, new TextEncoder().encode(mapPicture(maps)));
}
