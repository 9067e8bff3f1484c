import { assert, assertEquals, assertThrows } from "@std/assert";
import { mustRun, withTemporaryDirectory } from "./command.ts";
import { kernelOrNotice, mountReadOnly, mountReadWrite } from "./kernel.ts";
import { assertWritable } from "./kernel_tree.ts";

function withImage(work: (image: string) => void): void {
  withTemporaryDirectory((scratch) => {
    const image = `${scratch}/a.ext4`;
    mustRun("mke2fs", ["-q", "-t", "ext4", image, "4M"]);
    work(image);
  });
}

function isMounted(mountPoint: string): boolean {
  return Deno.readTextFileSync("/proc/self/mounts").includes(` ${mountPoint} `);
}

Deno.test("mountReadOnly unmounts also when the work fails", () => {
  if (!kernelOrNotice("mounting and unmounting")) return;
  withImage((image) => {
    let seen = "";
    assertThrows(
      () =>
        mountReadOnly(image, (mountPoint) => {
          seen = mountPoint;
          assert(isMounted(mountPoint));
          throw new Error("the work failed");
        }),
      Error,
      "the work failed",
    );
    assert(seen !== "" && !isMounted(seen));
    assertThrows(() => Deno.statSync(seen), Deno.errors.NotFound);
  });
});

Deno.test("mountReadWrite keeps what was written", () => {
  if (!kernelOrNotice("writing to a mounted image")) return;
  withImage((image) => {
    mountReadWrite(image, (mountPoint) => Deno.writeTextFileSync(`${mountPoint}/new`, "kept"));
    const text = mountReadOnly(image, (mountPoint) => Deno.readTextFileSync(`${mountPoint}/new`));
    assertEquals(text, "kept");
  });
});

Deno.test("assertWritable accepts an image of mke2fs and leaves it as it was", () => {
  if (!kernelOrNotice("writing to a copy of an image")) return;
  withImage((image) => {
    const before = Deno.readFileSync(image);
    assertWritable(image);
    assertEquals(Deno.readFileSync(image), before);
  });
});

Deno.test("mountReadOnly fails on what is no file system", () => {
  if (!kernelOrNotice("mounting what is no image")) return;
  withTemporaryDirectory((scratch) => {
    Deno.writeFileSync(`${scratch}/zeros`, new Uint8Array(1 << 20));
    assertThrows(() => mountReadOnly(`${scratch}/zeros`, () => undefined), Error, "mount");
  });
});
