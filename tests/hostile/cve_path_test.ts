/**
 * Known holes of other tools in which an archive reaches a file that is not its own: by `..`, by absolute names, by
 * symlinks and by hard links. Blessing writes no file of the machine by an entry's name, so what is left of them is that
 * the tree comes out as the root of a file system would, and that nothing of the machine gets into it.
 */
import { assertEquals } from "@std/assert";
import type { SimpleEntry } from "../tar/build.ts";
import { rawEntry, rawHeader, rawTar } from "../tar/raw.ts";
import { accepted, assertRefused, withSandbox } from "./sandbox.ts";

const hardlink = (path: string, link: string): SimpleEntry => ({ path, link, kind: "hardlink" });

Deno.test("CVE-2014-6407: a hard link through a symlink to the machine's root finds the image's own files only", async () => {
  await withSandbox(async (sandbox) => {
    const escape = { path: "e", link: "/" };
    assertRefused(
      await sandbox.blessLayers([escape, hardlink("h", `e${sandbox.secretPath}`)]),
      "exists neither in this layer nor below",
    );
    const own = [{ path: "etc/passwd", data: "own" }, escape, hardlink("h", "e/etc/passwd")];
    assertEquals(accepted(await sandbox.blessLayers(own))["/h"]?.data, "own");
  });
});

for (const cve of ["CVE-2014-9356", "CVE-2024-9676", "CVE-2025-59343", "CVE-2018-20835"]) {
  Deno.test(`${cve}: what is written through an absolute symlink stays in the image`, async () => {
    await withSandbox(async (sandbox) => {
      const outside = `${sandbox.directory}/outside`;
      const link = { path: "x", link: outside };
      for (
        const layers of [[[link, { path: "x/secret", data: "1" }]], [[link], [{
          path: "x/secret",
          data: "1",
        }]]]
      ) {
        const tree = accepted(await sandbox.blessLayers(...layers));
        assertEquals(tree[`${outside}/secret`]?.data, "1");
        assertEquals(tree["/x"]?.kind, "symlink");
      }
    });
  });
}

for (const cve of ["CVE-2007-4559", "CVE-2016-6321", "CVE-2024-12905", "CVE-2026-42496"]) {
  Deno.test(`${cve}: names with .. end at the root of the image`, async () => {
    await withSandbox(async (sandbox) => {
      const tree = accepted(
        await sandbox.blessLayers([
          { path: "../../../outside/secret", data: "1" },
          { path: "a/../../b", data: "2" },
          { path: "a/../", mode: 0o711 },
          { path: "../" },
        ]),
      );
      assertEquals(tree["/outside/secret"]?.data, "1");
      assertEquals(tree["/b"]?.data, "2");
    });
  });
}

for (const cve of ["CVE-2021-32804", "CVE-2021-37713", "CVE-2026-42497"]) {
  Deno.test(`${cve}: absolute names, names with many slashes and names with a drive lie in the image`, async () => {
    await withSandbox(async (sandbox) => {
      const tree = accepted(
        await sandbox.blessLayers([
          { path: `////${sandbox.secretPath}`, data: "1" },
          { path: "C:../secret", data: "2" },
          { path: "C:\\secret", data: "3" },
        ]),
      );
      assertEquals(tree[sandbox.secretPath]?.data, "1");
      assertEquals(tree["/C:../secret"]?.data, "2");
      assertEquals(tree["/C:\\secret"]?.data, "3");
    });
  });
}

for (const cve of ["CVE-2021-32803", "CVE-2021-37701", "CVE-2021-37712", "CVE-2026-23950"]) {
  Deno.test(`${cve}: a directory that becomes a symlink is one for what follows, whatever its spelling`, async () => {
    await withSandbox(async (sandbox) => {
      const tree = accepted(
        await sandbox.blessLayers([
          { path: "d/" },
          { path: "d", link: `${sandbox.directory}/outside` },
          { path: "./d//secret", data: "1" },
          // Names that only differ in case or in how letters are composed are different names.
          { path: "D/secret", data: "2" },
          { path: "caf\xc3\xa9/" },
          { path: "cafe\xcc\x81", link: "/" },
          { path: "caf\xc3\xa9/f", data: "3" },
        ]),
      );
      assertEquals(tree["/d"]?.kind, "symlink");
      assertEquals(tree[sandbox.secretPath]?.data, "1");
      assertEquals(tree["/D/secret"]?.data, "2");
      assertEquals(tree["/caf\xc3\xa9/f"]?.data, "3");
      assertEquals(tree["/f"], undefined);
    });
  });
}

for (const cve of ["CVE-2025-45582", "CVE-2025-4517", "CVE-2025-48387"]) {
  Deno.test(`${cve}: symlinks that lead out in several steps lead to the image's root`, async () => {
    await withSandbox(async (sandbox) => {
      const steps = [
        { path: "a/b/c/" },
        { path: "up", link: "a/b/c/../../../.." },
        { path: "upper", link: "up/../.." },
      ];
      const tree = accepted(
        await sandbox.blessLayers(steps, [{ path: "upper/../etc/cron", data: "1" }]),
      );
      assertEquals(tree["/etc/cron"]?.data, "1");
      const long = "d".repeat(200);
      const deep = Array.from({ length: 40 }, (_, i) => ({
        path: `${"l/".repeat(i)}l`,
        link: `${long}/`.repeat(2) + "../..",
      }));
      // A chain that outgrows any path limit of the machine is walked in the image, or refused.
      const outcome = await sandbox.blessLayers([...deep, {
        path: `${"l/".repeat(40)}f`,
        data: "2",
      }]);
      if ("error" in outcome) assertRefused(outcome, "");
    });
  });
}

for (const cve of ["CVE-2026-24842", "CVE-2026-26960", "CVE-2026-23745"]) {
  Deno.test(`${cve}: hard links to names outside of the image have no target`, async () => {
    await withSandbox(async (sandbox) => {
      const { secretPath } = sandbox;
      const escape = [{ path: "s", link: ".." }, { path: "t", link: "s/.." }];
      for (
        const link of [
          secretPath,
          `../../..${secretPath}`,
          `s/s/s${secretPath}`,
          `t/..${secretPath}`,
        ]
      ) {
        assertRefused(
          await sandbox.blessLayers([...escape, hardlink("h", link)]),
          "exists neither in this layer nor below",
        );
      }
    });
  });
}

Deno.test("CVE-2016-5418: data behind a hard link goes nowhere", async () => {
  await withSandbox(async (sandbox) => {
    const tar = rawTar(
      rawEntry({ name: "a" }, "own"),
      rawHeader({ name: "h", flag: "1", link: "a", size: 0 }),
      rawEntry({ name: "b" }, "next"),
    );
    const tree = accepted(await sandbox.blessTar(tar));
    assertEquals([tree["/a"]?.data, tree["/h"]?.data, tree["/b"]?.data], ["own", "own", "next"]);
    // With a size, the data would be taken for headers, as Go does it: that is an error, not another entry.
    const payload = rawTar(
      rawEntry({ name: "a" }, "own"),
      rawEntry({ name: "h", flag: "1", link: "a" }, "overwritten"),
    );
    const outcome = await sandbox.blessTar(payload);
    if ("error" in outcome) assertRefused(outcome, "checksum");
    else assertEquals(accepted(outcome)["/a"]?.data, "own");
  });
});

Deno.test("CVE-2021-29136: a root that is a symlink is refused", async () => {
  await withSandbox(async (sandbox) => {
    for (const path of [".", "./", "/", "a/.."]) {
      assertRefused(
        await sandbox.blessLayers([{
          path,
          kind: "symlink",
          link: `${sandbox.directory}/outside`,
        }]),
        "not a directory",
      );
    }
  });
});

for (const cve of ["CVE-2021-32760", "CVE-2026-33056", "RUSTSEC-2026-0113", "CVE-2021-41089"]) {
  Deno.test(`${cve}: modes and owners of an entry are set on the entry, never on what a symlink names`, async () => {
    await withSandbox(async (sandbox) => {
      const tree = accepted(
        await sandbox.blessLayers(
          [{ path: "target", data: "1", mode: 0o600 }, { path: "d/", mode: 0o700 }],
          [{ path: "target2", link: "target" }, { path: "s", link: "d" }],
          [{ path: "target2", link: sandbox.secretPath, mode: 0o777 }, { path: "s/", mode: 0o777 }],
        ),
      );
      assertEquals(tree["/target"]?.mode, 0o600);
      assertEquals(tree["/d"]?.mode, 0o700);
      assertEquals([tree["/s"]?.kind, tree["/s"]?.mode], ["directory", 0o777]);
    });
  });
}

Deno.test("CVE-2024-28863: directories that are too deep are refused, and what is allowed takes no stack", async () => {
  await withSandbox(async (sandbox) => {
    const deep = accepted(await sandbox.blessLayers([{ path: `${"d/".repeat(1000)}f` }]));
    assertEquals(Object.keys(deep).length, 1002);
    assertRefused(
      await sandbox.blessLayers([{ path: `${"d/".repeat(20_000)}f` }]),
      "more than the limit of 1024",
    );
  });
});

Deno.test("CVE-2024-40635: numbers of owners never wrap around to root", async () => {
  await withSandbox(async (sandbox) => {
    const owner = (uid: number | string) => rawTar(rawHeader({ name: "f", uid }));
    const base256 = (hex: string) =>
      "\x80\0\0" + String.fromCharCode(...hex.match(/../g)!.map((x) => parseInt(x, 16)));
    for (const uid of [2 ** 31, 2 ** 31 + 5, 2 ** 32 - 2]) {
      const hex = uid.toString(16).padStart(10, "0");
      assertEquals(accepted(await sandbox.blessTar(owner(base256(hex))))["/f"]?.uid, uid);
    }
    for (const hex of ["0100000000", "01000003e8", "ffffffffff"]) {
      assertRefused(await sandbox.blessTar(owner(base256(hex))), "uid");
    }
  });
});
