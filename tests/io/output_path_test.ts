import { assertEquals, assertThrows } from "@std/assert";
import {
  linkSync,
  mkdirSync,
  mkdtempSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { IoError, UsageError } from "../../lib/errors.ts";
import { checkOutput } from "../../lib/io/paths.ts";

function inDirectory(work: (directory: string) => void): void {
  const directory = realpathSync(mkdtempSync(join(tmpdir(), "blessfs-output-")));
  try {
    work(directory);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

Deno.test("checkOutput refuses what can never be an image", () => {
  inDirectory((directory) => {
    assertThrows(() => checkOutput(""), UsageError, "empty");
    assertThrows(() => checkOutput(directory), UsageError, "is a directory");
    assertThrows(() => checkOutput(join(directory, "new/")), UsageError, "is a directory");
    assertThrows(
      () => checkOutput("/dev/null", { force: true }),
      UsageError,
      "is a character device",
    );
    assertThrows(() => checkOutput(join(directory, "no/image")), IoError, "does not exist");
    writeFileSync(join(directory, "file"), "");
    assertThrows(() => checkOutput(join(directory, "file/image")), IoError, "not a directory");
  });
});

Deno.test("checkOutput refuses the source under another name even with force", () => {
  inDirectory((directory) => {
    const source = join(directory, "root.tar");
    writeFileSync(source, "x");
    linkSync(source, join(directory, "hard"));
    symlinkSync("root.tar", join(directory, "soft"));
    for (const name of ["root.tar", "hard", "soft"]) {
      assertThrows(
        () =>
          checkOutput(join(directory, name), { force: true, sourcePaths: ["/nowhere", source] }),
        UsageError,
        "is the source too",
      );
    }
  });
});

Deno.test("checkOutput gives the real path of a new file and of one that may be replaced", () => {
  inDirectory((directory) => {
    mkdirSync(join(directory, "real"));
    symlinkSync("real", join(directory, "alias"));
    assertEquals(checkOutput(join(directory, "alias/new")), join(directory, "real/new"));
    writeFileSync(join(directory, "real/old"), "");
    symlinkSync("real/old", join(directory, "link"));
    assertEquals(
      checkOutput(join(directory, "link"), { force: true }),
      join(directory, "real/old"),
    );
  });
});

Deno.test("checkOutput takes the parent of a linked directory for what the kernel takes it for", () => {
  inDirectory((directory) => {
    mkdirSync(join(directory, "a/b"), { recursive: true });
    symlinkSync("a/b", join(directory, "link"));
    const wanted = join(directory, "a/image");
    assertEquals(checkOutput(`${directory}/link/../image`), wanted);
    writeFileSync(wanted, "");
    assertEquals(checkOutput(`${directory}/link/../image`, { force: true }), wanted);
    symlinkSync("image", join(directory, "a/other"));
    assertEquals(checkOutput(`${directory}/link/../other`, { force: true }), wanted);
  });
});

Deno.test("checkOutput refuses an existing file without force and says how to replace it", () => {
  inDirectory((directory) => {
    const path = join(directory, "image");
    writeFileSync(path, "");
    const error = assertThrows(() => checkOutput(path), IoError, "already exists");
    assertEquals(error.remedies[0]?.option, "force");
  });
});

Deno.test("checkOutput refuses a link that goes round in circles and a name that is too long", () => {
  inDirectory((directory) => {
    symlinkSync("circle", join(directory, "circle"));
    assertThrows(() => checkOutput(join(directory, "circle")), IoError, "too many symbolic links");
    assertThrows(
      () => checkOutput(join(directory, "x".repeat(300))),
      IoError,
      "the name is too long",
    );
  });
});
