import { assertEquals, assertGreater, assertMatch } from "@std/assert";
import { BLOCK_SIZE_BYTES, type TreeNode } from "../../lib/model/node.ts";
import { mustRun, withTemporaryDirectory } from "../oracle/command.ts";
import { kernelOrNotice, mountReadOnly } from "../oracle/kernel.ts";
import { viewImage } from "../oracle/kernel_tree.ts";
import { Random } from "../oracle/noise.ts";
import { dir, file, special, symlink, treeOf } from "../oracle/tree_builder.ts";
import { assertMounts, assertSound, KIB, LAYOUTS, makeImage, MIB } from "./made_image.ts";

const ACL_USER_OBJ = 0x01;
const ACL_USER = 0x02;
const ACL_GROUP_OBJ = 0x04;
const ACL_MASK = 0x10;
const ACL_OTHER = 0x20;
const NO_ID = 0xffffffff;

/** An ACL as tars and system calls have it: version 2, then tag, permissions and id of each entry. */
function acl(...entries: readonly (readonly [tag: number, permissions: number, id?: number])[]) {
  const bytes = new Uint8Array(4 + 8 * entries.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, 2, true);
  entries.forEach(([tag, permissions, id = NO_ID], i) => {
    view.setUint16(4 + 8 * i, tag, true);
    view.setUint16(6 + 8 * i, permissions, true);
    view.setUint32(8 + 8 * i, id, true);
  });
  return bytes;
}

/** An ACL for so many users beside the owner, which agrees with mode 0640. */
function aclOfUsers(userCount: number): Uint8Array {
  const users = Array.from({ length: userCount }, (_, i) => [ACL_USER, 4, 1000 + i] as const);
  return acl([ACL_USER_OBJ, 6], ...users, [ACL_GROUP_OBJ, 4], [ACL_MASK, 4], [ACL_OTHER, 0]);
}

function value(lengthBytes: number, seed = lengthBytes): Uint8Array {
  return new Random(seed).bytes(lengthBytes);
}

async function checkChildren(children: readonly [string, TreeNode][]): Promise<void> {
  const hasKernel = kernelOrNotice("reading extended attributes");
  await withTemporaryDirectory(async (scratch) => {
    for (const metadataChecksums of [true, false]) {
      const made = await makeImage(`${scratch}/image`, treeOf(children), { metadataChecksums });
      assertEquals(made.warnings, []);
      assertSound(made);
      if (hasKernel) assertMounts(made);
    }
  });
}

Deno.test("values of every length around the room in an inode are kept", async () => {
  const children: [string, TreeNode][] = [];
  for (let length = 0; length <= 110; length++) {
    children.push([`one-${length}`, file("x", { xattrs: { "user.v": value(length) } })]);
    const xattrs = { "user.a": value(length), "security.b": value(20), "trusted.c": "" };
    children.push([`three-${length}`, file("", { xattrs })]);
  }
  await checkChildren(children);
});

Deno.test("values of every length around the room in a block go into an inode of their own", async () => {
  const children: [string, TreeNode][] = [];
  for (let length = 4000; length <= 4100; length += 3) {
    children.push([`one-${length}`, file("x", { xattrs: { "user.v": value(length) } })]);
    const xattrs = { "user.a": value(length - 100), "user.b": value(90), "user.c": value(60, 1) };
    children.push([`three-${length}`, file("", { xattrs })]);
  }
  for (const length of [4096, 4097, 8192, 65_535, 65_536]) {
    const xattrs = { "user.large": value(length), "user.small": "s" };
    children.push([`large-${length}`, file("", { xattrs })]);
    children.push([`dir-${length}`, dir({}, { xattrs })]);
  }
  await checkChildren(children);
});

Deno.test("every kind of node has attributes under every prefix that it may have", async () => {
  const small = { "trusted.t": "1", "security.s": value(10) };
  const large = {
    "trusted.t": value(300),
    "security.ima": value(20),
    "security.s": value(700),
  };
  const children: [string, TreeNode][] = [small, large].flatMap((xattrs, i) => [
    [`file-${i}`, file("f", { xattrs: { ...xattrs, "user.u": value(200) } })],
    [`dir-${i}`, dir({ "in": file("") }, { xattrs: { ...xattrs, "user.d": "d" } })],
    [`link-${i}`, symlink("short", { xattrs })],
    [`longlink-${i}`, symlink("l".repeat(100), { xattrs })],
    [`fifo-${i}`, special("fifo", [0, 0], { xattrs })],
    [`device-${i}`, special("blockDevice", [8, 1], { xattrs })],
  ]);
  await checkChildren(children);
});

Deno.test("access ACLs of every size let users in as they say", async () => {
  const children: [string, TreeNode][] = [];
  for (const userCount of [1, 2, 8, 9, 10, 11, 12, 100, 400]) {
    const access = aclOfUsers(userCount);
    const xattrs = { "system.posix_acl_access": access };
    children.push([`file-${userCount}`, file("secret", { mode: 0o640, xattrs })]);
    const both = { ...xattrs, "system.posix_acl_default": access, "user.more": value(50) };
    children.push([`dir-${userCount}`, dir({ "f": file("x") }, { mode: 0o640, xattrs: both })]);
  }
  await checkChildren(children);
});

Deno.test("an ACL that says what the mode says becomes the mode", async () => {
  const access = acl([ACL_USER_OBJ, 7], [ACL_GROUP_OBJ, 5], [ACL_OTHER, 1]);
  const xattrs = { "system.posix_acl_access": access };
  await withTemporaryDirectory(async (scratch) => {
    const tree = treeOf({ "f": file("", { mode: 0o4600, xattrs }) });
    const made = await makeImage(`${scratch}/image`, tree);
    assertSound(made);
    const stat = mustRun("debugfs", ["-R", "stat /f", made.path]);
    assertMatch(stat, /Mode: +04751/);
    assertEquals(/posix_acl/.test(stat), false);
  });
});

Deno.test("equal sets of attributes share a block, 1,024 inodes at most", async () => {
  const hasKernel = kernelOrNotice("reading shared attributes");
  const xattrs = { "user.shared": value(500), "security.label": value(300) };
  const children = Array.from({ length: 2_500 }, (_, i): [string, TreeNode] => {
    return [`f${i}`, file(`${i}`, { xattrs })];
  });
  await withTemporaryDirectory(async (scratch) => {
    const made = await makeImage(`${scratch}/image`, treeOf(children));
    assertSound(made);
    const blocks = new Set<string>();
    for (const i of [0, 1023, 1024, 2047, 2048, 2499]) {
      const stat = mustRun("debugfs", ["-R", `stat <${11 + i}>`, made.path]);
      blocks.add(/File ACL: (\d+)/.exec(stat)![1]!);
    }
    assertEquals(blocks.size, 3);
    if (hasKernel) assertMounts(made);
  });
});

Deno.test("equal large values share an inode however many attributes have them", async () => {
  const hasKernel = kernelOrNotice("reading shared values");
  const large = value(20_000);
  const children = Array.from({ length: 300 }, (_, i): [string, TreeNode] => {
    return [
      `f${i}`,
      file("", { xattrs: { "user.large": large, [`user.own${i}`]: value(300, i) } }),
    ];
  });
  await withTemporaryDirectory(async (scratch) => {
    const made = await makeImage(`${scratch}/image`, treeOf(children));
    const { usedInodes } = assertSound(made);
    // Ten reserved ones, the files and the value; the root is one of the ten.
    assertEquals(usedInodes, 10 + 300 + 1);
    if (hasKernel) assertMounts(made);
  });
});

Deno.test("attribute blocks, extent blocks and values lie right up to a backup and behind it", async () => {
  const hasKernel = kernelOrNotice("reading attributes beside a backup");
  const noise = Array.from({ length: 700 }, (_, i) => [i * 8192, 4096] as const);
  const children: [string, TreeNode][] = [];
  for (let i = 0; i < 500; i++) {
    children.push([`f${i}`, file("x", { xattrs: { "user.v": value(900, i) } })]);
  }
  for (let i = 0; i < 30; i++) {
    children.push([`e${i}`, file({ sizeBytes: 700 * 8192, noise, seed: i })]);
    children.push([`v${i}`, file("", { xattrs: { "user.v": value(9000, i) } })]);
    children.push([`l${i}`, symlink(`${i}`.padStart(300, "l"))]);
  }
  const tree = treeOf(children);
  await withTemporaryDirectory(async (scratch) => {
    // The journal comes first and pushes what follows to the end of the group, a little further each time.
    for (
      const journalBytes of [125 * MIB, 126 * MIB, 127 * MIB - 300 * KIB, 127 * MIB + 100 * KIB]
    ) {
      const rules = LAYOUTS["resync"]!;
      const choices = { ...rules, journalBytes, gridBytes: 4 * KIB };
      const made = await makeImage(`${scratch}/image`, tree, choices);
      assertSound(made);
      const metadataEnd = made.plan.payload[0]!.startBlock;
      assertGreater(metadataEnd, 32_768, `journal of ${journalBytes}`);
      if (hasKernel && journalBytes === 126 * MIB) assertMounts(made);
    }
  });
});

Deno.test("attributes that ext4 cannot hold are counted and left out, the others stay", async () => {
  const tree = treeOf({
    "f": file("", {
      xattrs: {
        "com.example.mac": "x",
        "system.data": "x",
        "system.other": "x",
        "user.kept": "kept",
        ["user." + "n".repeat(256)]: "x",
        "user.too-large": new Uint8Array(65_537),
        "system.posix_acl_default": aclOfUsers(1),
      },
    }),
    "l": symlink("f", { xattrs: { "system.posix_acl_access": aclOfUsers(1) } }),
  });
  await withTemporaryDirectory(async (scratch) => {
    const made = await makeImage(`${scratch}/image`, tree);
    assertSound(made);
    assertEquals(made.warnings.map(({ kind, count }) => [kind, count]), [["unsupportedXattr", 7]]);
    if (!kernelOrNotice("reading the attributes that are left")) return;
    mountReadOnly(made.path, (mountPoint) => {
      const names = [...viewImage(mountPoint, false)].flatMap(({ path, xattrs }) =>
        xattrs.map(({ name }) => `${path} ${name}`)
      );
      assertEquals(names, ["/f user.kept"]);
    });
  });
});

Deno.test("names of attributes may be as long as ext4 allows", async () => {
  const children: [string, TreeNode][] = [];
  for (const length of [1, 2, 3, 4, 5, 100, 249, 250]) {
    const name = `user.${"n".repeat(length)}`;
    children.push([`f${length}`, file("", { xattrs: { [name]: value(BLOCK_SIZE_BYTES) } })]);
    children.push([`s${length}`, file("", { xattrs: { [name]: "v" } })]);
  }
  await checkChildren(children);
});
