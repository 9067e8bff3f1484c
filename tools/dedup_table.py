#!/usr/bin/env python3
"""Measures one set of images by every means there is, and checks `blessfs probe` on the way.

    dedup_table.py SETS NAME...     SETS has NAME.tar, plain tars of root file systems (tools/dedup_sets.sh)

Prints two tables in Markdown. The first: what a store of all images keeps, for images of mke2fs and of bless, by cells of
128 KiB, by canonical FastCDC and by casync's own chunker. The second: what the probe says of them, and what check_probe.py
says, which has nothing of blessfs in it. Fails where the two do not agree: to the byte in raw, units and unitBytes, within
0.3 % in stored. BLESSFS names the program (default: blessfs). Needs root, python3, zstd, casync and mke2fs, and in TMPDIR four times the room of the images.
"""
import json
import os
import shlex
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True  # nothing is left beside the sources
import check_probe  # noqa: E402

GRID = 131072
BLESSFS = shlex.split(os.environ.get("BLESSFS", "blessfs"))
MIB = 2**20


def run(*words):
    return subprocess.run([*words], check=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE).stdout


def probe(*words):
    report = json.loads(run(*BLESSFS, "probe", *words, "--json"))
    return {row["scheme"]: row for row in report["schemes"]}


def counted(found):
    """What check_probe.py prints, of the units of each image."""
    known, images = {}, []
    for units in found:
        new = [key for key in units if key not in known]
        for key, size in zip(new, check_probe.stored_sizes([units[key][1] for key in new])):
            known[key] = (units[key][0], size, len(units[key][1]))
        images.append(set(units))
    each = [check_probe.totals(image, known) for image in images]
    return {
        "each": {name: sum(one[name] for one in each) for name in each[0]},
        "union": check_probe.totals(set().union(*images), known),
    }


CHECKED = []


def agree(what, found, wanted):
    CHECKED.append((what, found["union"], wanted["union"]))
    for part in ("each", "union"):
        for name in ("raw", "units", "unitBytes"):
            if found[part][name] != wanted[part][name]:
                sys.exit(f"{what}: {part} {name}: probe {found[part][name]}, script {wanted[part][name]}")
        share = abs(found[part]["stored"] / wanted[part]["stored"] - 1)
        if share > 0.003:
            sys.exit(f"{what}: {part} stored differs by {share:.4%}")


def casync(paths, directory):
    """Bytes and chunks of a store of casync's, in which 64 KiB are cut out on average."""
    store = os.path.join(directory, "castr")
    for path in paths:
        run("casync", "make", f"--store={store}", path + ".caibx", path)
    sizes = [
        os.path.getsize(os.path.join(folder, name)) for folder, _, names in os.walk(store) for name in names
    ]
    run("rm", "-r", store)
    return sum(sizes), len(sizes)


def cells_of(paths):
    return (check_probe.units_of(path, GRID, False) for path in paths)


def chunks_of(paths):
    return (check_probe.units_of(path, GRID, True) for path in paths)


def tree_image(tar, path, directory):
    """What `mke2fs -d` makes of a tar: with the size and the count of inodes that the content needs, as near as it goes."""
    root = os.path.join(directory, "root")
    os.mkdir(root)
    run("tar", "-C", root, "--numeric-owner", "-xpf", tar)
    kib = int(run("du", "-sk", "--apparent-size", root).split()[0])
    inodes = int(run("du", "-s", "--inodes", root).split()[0]) + 100
    options = ["-q", "-t", "ext4", "-b", "4096", "-N", str(inodes), "-O", "^has_journal", "-m", "0"]
    uuid = "01234567-89ab-cdef-0123-456789abcdef"
    os.environ["E2FSPROGS_FAKE_TIME"] = "1760000000"
    run("mke2fs", *options, "-U", uuid, "-E", "hash_seed=" + uuid, "-d", root, path, f"{kib * 13 // 10 + 65536}k")
    files = check_probe.files_of(root)
    run("rm", "-r", root)
    return files


def row(label, stored, units, cross=None):
    share = "" if cross is None else f"{cross * 100:.1f} %"
    print(f"| {label} | {stored / MIB:.1f} | {units:,} | {share} |")


def cross_of(found):
    return 1 - found["union"]["stored"] / found["each"]["stored"]


def main(sets, names):
    tars = [os.path.join(sets, name + ".tar") for name in names]
    with tempfile.TemporaryDirectory() as directory:
        blessed = [os.path.join(directory, name + ".ext4") for name in names]
        for tar, path in zip(tars, blessed):
            run(*BLESSFS, "bless", "tar:" + tar, "-o", path, "--quiet")
        rows = probe("--packing", "merge", *("tar:" + tar for tar in tars))
        agree("cells of blessed images", rows["aligned"], counted(cells_of(blessed)))
        as_is = probe("--as-is", *blessed)
        agree("FastCDC of blessed images", as_is["fastcdc"], counted(chunks_of(blessed)))
        made = [os.path.join(directory, name + ".mke2fs") for name in names]
        agree("whole files", rows["file"], counted(
            tree_image(tar, path, directory) for tar, path in zip(tars, made)
        ))
        others = probe("--as-is", *made)
        agree("cells of images of mke2fs", others["as-is"], counted(cells_of(made)))
        print(f"| {', '.join(names)} | stored | units | shared |")
        print("| --- | ---: | ---: | ---: |")
        for label, found in [
            ("whole files", rows["file"]),
            ("`mke2fs -d`, cells of 128K", others["as-is"]),
            ("`mke2fs -d`, FastCDC 128K", others["fastcdc"]),
        ]:
            row(label, found["union"]["stored"], found["union"]["units"], cross_of(found))
        row("`mke2fs -d`, casync's chunker", *casync(made, directory))
        for label, found in [
            ("not aligned, cells of 128K", rows["unaligned"]),
            ("not aligned, FastCDC 128K", rows["fastcdc"]),
            ("**blessed, cells of 128K**", rows["aligned"]),
            ("blessed, FastCDC 128K", as_is["fastcdc"]),
        ]:
            row(label, found["union"]["stored"], found["union"]["units"], cross_of(found))
        row("blessed, casync's chunker", *casync(blessed, directory))
    print("\n| figure | probe | script |\n| --- | ---: | ---: |")
    for what, found, wanted in CHECKED:
        for name in ("raw", "units", "unitBytes", "stored"):
            print(f"| {what}, {name} | {found[name]:,} | {wanted[name]:,} |")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
