import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { gzipSync } from "node:zlib";
import { InputError } from "../../lib/errors.ts";
import { openExt4Image } from "../../lib/ext4/read/image.ts";
import { readTree } from "../../lib/ext4/read/tree.ts";
import { NO_PROGRESS } from "../../lib/progress.ts";
import { openNamedImage } from "../../lib/source/image_file.ts";
import { openImage } from "../../lib/source/source.ts";
import { Warnings } from "../../lib/warnings.ts";
import { hasCommand, mustRun, withTemporaryDirectory } from "../oracle/command.ts";
import { notRun } from "../oracle/notice.ts";

const MIB = 1024 * 1024;
const START_BYTES = 2 * MIB;

function options() {
  return { progress: NO_PROGRESS, warnings: new Warnings() };
}

/** Makes `image`, `disk` with the image as partition 2, and other forms of them; gives their directory to the work. */
async function withContainers(work: (directory: string) => Promise<void>): Promise<void> {
  await withTemporaryDirectory(async (directory) => {
    Deno.mkdirSync(`${directory}/tree`);
    Deno.writeTextFileSync(`${directory}/tree/hello`, "hello");
    const image = `${directory}/image`;
    mustRun("mke2fs", ["-q", "-F", "-t", "ext4", "-d", `${directory}/tree`, image, "8M"]);
    const bytes = Deno.readFileSync(image);
    const disk = new Uint8Array(16 * MIB);
    const view = new DataView(disk.buffer);
    for (const [i, [start, length]] of [[2048, 2048], [4096, 16384]].entries()) {
      disk[446 + 16 * i + 4] = 0x83;
      view.setUint32(446 + 16 * i + 8, start!, true);
      view.setUint32(446 + 16 * i + 12, length!, true);
    }
    view.setUint16(510, 0xaa55, true);
    disk.set(bytes, START_BYTES);
    Deno.writeFileSync(`${directory}/disk`, disk);
    Deno.writeFileSync(`${directory}/image.gz`, gzipSync(bytes));
    Deno.writeFileSync(`${directory}/disk.gz`, gzipSync(disk));
    await work(directory);
  });
}

async function namesIn(image: string): Promise<string[]> {
  const { reader, replay } = await openNamedImage(image, options());
  try {
    assertEquals(replay, undefined);
    const warnings = new Warnings();
    const { root } = await readTree(openExt4Image(reader, { warnings }), { warnings });
    return [...root.children.keys()].sort();
  } finally {
    reader.close();
  }
}

Deno.test("an image is found in whatever is around it", async () => {
  await withContainers(async (directory) => {
    const names = ["image", "image.gz", "disk#2", "disk.gz#2"];
    if (hasCommand("img2simg")) {
      for (const name of ["image", "disk"]) {
        mustRun("img2simg", [`${directory}/${name}`, `${directory}/${name}.simg`]);
      }
      names.push("image.simg", "disk.simg#2");
    } else notRun("Android sparse images", "img2simg is missing");
    for (const name of names) {
      for (const prefix of ["", "ext4:"]) {
        assertEquals(await namesIn(`${prefix}${directory}/${name}`), ["hello"], name);
      }
      // As a source, too: both written as an image and as a path that is recognised.
      const sources = [`ext4:${directory}/${name}`, `${directory}/${name}`];
      for (const source of sources) {
        const image = await openImage(source, options());
        assertEquals(image.kind, "ext4", source);
        image.close();
      }
    }
  });
});

Deno.test("a disk is refused with a list of its partitions", async () => {
  await withContainers(async (directory) => {
    for (const name of [`${directory}/disk`, `ext4:${directory}/disk`, `${directory}/disk.gz`]) {
      for (const open of [openNamedImage, openImage]) {
        const error = await assertRejects(() => open(name, options()), InputError);
        assertStringIncludes(error.message, "is a disk with 2 partitions (MBR)");
        assertStringIncludes(error.hint!, "#1 (1048576 bytes), #2 (8388608 bytes, ext4)");
      }
    }
    const missing = `${directory}/disk#3`;
    await assertRejects(() => openNamedImage(missing, options()), InputError, "has no partition 3");
    const plain = `${directory}/image#1`;
    await assertRejects(() => openNamedImage(plain, options()), InputError, "no partition table");
  });
});

Deno.test("a file whose name ends like a partition is that file", async () => {
  await withContainers(async (directory) => {
    Deno.renameSync(`${directory}/image`, `${directory}/image#2`);
    assertEquals(await namesIn(`${directory}/image#2`), ["hello"]);
    assertEquals(await namesIn(`ext4:${directory}/image#2`), ["hello"]);
  });
});

Deno.test("formats of virtual machines are refused with the command that converts them", async () => {
  if (!hasCommand("qemu-img")) return notRun("images of virtual machines", "qemu-img is missing");
  await withContainers(async (directory) => {
    for (const format of ["qcow2", "vmdk", "vpc", "vhdx", "vdi"]) {
      const path = `${directory}/image.${format}`;
      mustRun("qemu-img", ["convert", "-O", format, `${directory}/image`, path]);
      const error = await assertRejects(() => openNamedImage(path, options()), InputError);
      assertStringIncludes(error.hint!, `qemu-img convert -f ${format} -O raw`);
    }
    // A VHD of fixed size is the disk itself, with a footer.
    const fixed = `${directory}/fixed.vhd`;
    const source = `${directory}/image`;
    mustRun("qemu-img", ["convert", "-O", "vpc", "-o", "subformat=fixed", source, fixed]);
    assertEquals(await namesIn(fixed), ["hello"]);
  });
});
