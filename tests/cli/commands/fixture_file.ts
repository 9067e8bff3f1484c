/**
 * Fixture images as files, for commands that look into images.
 *
 * @module
 */
import { unpackFixture } from "../../ext4/format/fixture_image.ts";
import { withTemporaryDirectory } from "../../oracle/command.ts";

/** Works on a fixture image that is a file of its own, and removes it. */
export async function withFixture<T>(
  name: string,
  work: (path: string) => Promise<T>,
): Promise<T> {
  return await withTemporaryDirectory(async (directory) => {
    const path = `${directory}/image.ext4`;
    Deno.writeFileSync(path, unpackFixture(name));
    return await work(path);
  });
}
