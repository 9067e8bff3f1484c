#!/usr/bin/env python3
"""Checks `blessfs probe` against the blessed files themselves, with nothing of blessfs in it.

    check_probe.py GRID IMAGE...                cells of a fixed grid
    check_probe.py --fastcdc GRID IMAGE...      canonical FastCDC: GRID/4, GRID, GRID*4
    check_probe.py --files ROOT...              whole files: of each image a directory, such as where it is mounted

Prints one JSON object with each, union and newBytes as the probe defines them. Stored sizes come from zstd(1), so they
may differ by what a frame's header takes; everything else must agree to the byte.
"""
import ctypes
import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile

BLOCK = 4096
ZERO = bytes(BLOCK)


def nonzero_blocks(data):
    return [data[at:at + BLOCK] != ZERO[:len(data[at:at + BLOCK])] for at in range(0, len(data), BLOCK)]


def cells(data, grid):
    for at in range(0, len(data), grid):
        yield at, min(at + grid, len(data))


def units_of(path, grid, fastcdc):
    with open(path, "rb") as file:
        data = file.read()
    blocks = nonzero_blocks(data)
    units = {}
    for start, end in (chunks if fastcdc else cells)(data, grid):
        unit = data[start:end]
        if not unit.strip(b"\0"):
            continue
        raw = 0
        for block in range(start // BLOCK, (end - 1) // BLOCK + 1):
            if blocks[block]:
                raw += min((block + 1) * BLOCK, end) - max(block * BLOCK, start)
        units.setdefault(hashlib.sha256(unit).digest(), (raw, unit))
    return units


def files_of(root):
    units, inodes = {}, set()
    for directory, _, names in os.walk(root):
        for name in names:
            path = os.path.join(directory, name)
            found = os.lstat(path)
            if not stat.S_ISREG(found.st_mode) or found.st_ino in inodes:
                continue
            inodes.add(found.st_ino)
            with open(path, "rb") as file:
                data = file.read()
            raw = sum(min(BLOCK, len(data) - i * BLOCK) for i, used in enumerate(nonzero_blocks(data)) if used)
            if raw > 0:
                units.setdefault(hashlib.sha256(data).digest(), (raw, data))
    return units


def chunks(data, average):
    """FastCDC as Xia et al. (2020) define it, one byte a step; GEAR is MD5 of 64 equal bytes."""
    gear = [int.from_bytes(hashlib.md5(bytes([b]) * 64).digest()[:8], "big") for b in range(256)]
    masks = {17: (0xD90707537000, 0xD90303537000), 16: (0xD90703537000, 0xD90F03530000)}
    hard, easy = masks[average.bit_length() - 1]
    least, most = average // 4, average * 4
    cut = compiled_cut(gear) or python_cut(gear)
    start = 0
    while start < len(data):
        length = cut(data, start, min(len(data) - start, most), least, average, hard, easy)
        yield start, start + length
        start += length


def python_cut(gear):
    wide = (1 << 64) - 1

    def cut(data, start, limit, least, average, hard, easy):
        value = 0
        for i in range(least, limit):
            value = ((value << 1) + gear[data[start + i]]) & wide
            if value & (hard if i < average else easy) == 0:
                return i
        return limit

    return cut


CUT_IN_C = """
#include <stdint.h>
#include <stddef.h>
size_t cut(const uint8_t *data, size_t start, size_t limit, size_t least, size_t average,
           uint64_t hard, uint64_t easy, const uint64_t *gear) {
  uint64_t value = 0;
  for (size_t i = least; i < limit; i++) {
    value = (value << 1) + gear[data[start + i]];
    if ((value & (i < average ? hard : easy)) == 0) return i;
  }
  return limit;
}
"""


def compiled_cut(gear):
    """The same, a hundred times as fast, where there is a C compiler."""
    if shutil.which("cc") is None:
        return None
    with tempfile.TemporaryDirectory() as directory:
        source, library = os.path.join(directory, "cut.c"), os.path.join(directory, "cut.so")
        with open(source, "w") as file:
            file.write(CUT_IN_C)
        subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, source], check=True)
        function = ctypes.CDLL(library).cut
    size, word = ctypes.c_size_t, ctypes.c_uint64
    function.restype = size
    function.argtypes = [ctypes.c_char_p, size, size, size, size, word, word, ctypes.POINTER(word)]
    table = (word * len(gear))(*gear)
    return lambda *arguments: function(*arguments, table)


def stored_sizes(units):
    """zstd -1 of each unit by itself."""
    with tempfile.TemporaryDirectory() as directory:
        names = []
        for number, unit in enumerate(units):
            name = os.path.join(directory, str(number))
            with open(name, "wb") as file:
                file.write(unit)
            names.append(name)
        for at in range(0, len(names), 500):
            subprocess.run(["zstd", "-q", "-1", "--no-check", *names[at:at + 500]], check=True)
        return [os.path.getsize(name + ".zst") for name in names]


def totals(units, known):
    return {
        "raw": sum(known[key][0] for key in units),
        "stored": sum(known[key][1] for key in units),
        "units": len(units),
        "unitBytes": sum(known[key][2] for key in units),
    }


def main(arguments):
    mode = arguments[0] if arguments[0].startswith("--") else None
    paths = arguments if mode is None else arguments[1:]
    grid = None if mode == "--files" else int(paths.pop(0))
    known, images = {}, []
    for path in paths:
        units = files_of(path) if mode == "--files" else units_of(path, grid, mode == "--fastcdc")
        new = [key for key in units if key not in known]
        for key, size in zip(new, stored_sizes([units[key][1] for key in new])):
            known[key] = (units[key][0], size, len(units[key][1]))
        images.append(set(units))
    seen, new_bytes = set(), []
    for image in images:
        new_bytes.append(totals(image - seen, known))
        seen |= image
    each = [totals(image, known) for image in images]
    print(json.dumps({
        "each": {name: sum(one[name] for one in each) for name in each[0]},
        "union": totals(seen, known),
        "newBytes": new_bytes,
    }))


if __name__ == "__main__":
    main(sys.argv[1:])
