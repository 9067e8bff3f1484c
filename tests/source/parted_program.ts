/** A process that reads the image in an OCI layout through spools of very many parts, and says what its layers hold. */
import process from "node:process";
import { closeLayers, loadLayers, openImage } from "../../lib/source/source.ts";
import { ALWAYS_WORKER, testOptions } from "./helpers.ts";

const options = testOptions({ ...ALWAYS_WORKER, spoolPartBytes: 1000 });
const image = await openImage(`oci:${process.argv[2]}`, options);
const layers = await loadLayers(image, options);
process.stdout.write(layers.map(({ diffId }) => `${diffId}\n`).join(""));
closeLayers(layers);
image.close();
