/**
 * Which image of a previous build each new image of a layer is laid out like.
 *
 * @module
 */
import * as v from "valibot";
import { InputError } from "../errors.ts";
import { displayPath } from "../io/system_error.ts";
import { checkJson, fields, listOf, parseJsonObject, TEXT } from "../source/json.ts";
import { DESCRIPTION_FILE, DESCRIPTION_KIND } from "./layered_records.ts";
import { pathIn, readFileWhole } from "./layered_store.ts";

/** A layer of a previous build. */
interface PreviousLayer {
  readonly file: string;
  readonly diffId: string;
}

const DESCRIPTION = fields({
  kind: v.literal(DESCRIPTION_KIND),
  layers: listOf(fields({ file: TEXT, diffId: TEXT })),
});

/** The layers of a previous build. */
export class PreviousLayers {
  readonly #directory: string;
  readonly #layers: readonly PreviousLayer[];

  /**
   * Reads the description of a directory that layers were blessed into.
   *
   * @throws {InputError} when it is not such a directory, or its description is damaged
   */
  constructor(directory: string) {
    const path = pathIn(directory, DESCRIPTION_FILE);
    const what = displayPath(path);
    try {
      const document = parseJsonObject(readFileWhole(path), what);
      this.#layers = checkJson(DESCRIPTION, document, { what, field: "" }).layers;
    } catch (cause) {
      throw new InputError(
        displayPath(directory),
        "is not a directory of layers that can be continued",
        {
          code: "wrongKind",
          hint: "name a directory that `bless layered` made",
          cause,
        },
      );
    }
    this.#directory = directory;
    for (const { file } of this.#layers) {
      if (/^[0-9a-f]+(-[0-9a-f]+)?\.ext4$/.test(file)) continue;
      throw new InputError(
        what,
        `has a layer in "${displayPath(file)}", which is not a file beside it`,
      );
    }
  }

  /**
   * The previous image of each layer, undefined where there is none: of the layers that only one of the builds has, the
   * lowest continues the lowest, the next the next, and so on.
   */
  pathsFor(diffIds: readonly (string | undefined)[]): (string | undefined)[] {
    const before = new Set(this.#layers.map(({ diffId }) => diffId));
    const now = new Set(diffIds);
    const gone = this.#layers.filter(({ diffId }) => !now.has(diffId));
    return diffIds.map((diffId) => {
      if (diffId !== undefined && before.has(diffId)) return undefined;
      const next = gone.shift();
      return next && pathIn(this.#directory, next.file);
    });
  }
}
