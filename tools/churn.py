#!/usr/bin/env python3
"""Changes a tree as the next build of it might be: which files, follows from their names alone.

    churn.py ROOT PERCENT

Of the files below 128 KiB with one name, PERCENT of a hundred are changed (a third of them grow by a block, the others
change one byte), 0.3 times as many are removed, and as many are added beside others, with most of their content.
"""
import hashlib
import os
import stat
import sys


def share(text):
    """0 to 100, by the digest of a name."""
    return int(hashlib.md5(text.encode("utf-8", "surrogateescape")).hexdigest()[:8], 16) / 2**32 * 100


def small_files(root):
    for directory, _, names in os.walk(root):
        for name in names:
            path = os.path.join(directory, name)
            found = os.lstat(path)
            if stat.S_ISREG(found.st_mode) and 0 < found.st_size < 131072 and found.st_nlink == 1:
                yield os.path.relpath(path, root)


def change(path, name):
    with open(path, "r+b") as file:
        data = file.read()
        if share(name + "#") < 100 / 3:
            lines = (hashlib.sha256(f"{name}{i}".encode()).hexdigest() for i in range(70))
            file.write("".join(line + "\n" for line in lines).encode())
        else:
            file.seek(len(data) // 2)
            file.write(b"#")


def add_beside(path):
    with open(path, "rb") as file:
        data = file.read()
    directory, name = os.path.split(path)
    with open(os.path.join(directory, "new-" + name), "wb") as file:
        file.write(data[len(data) // 3:] + b"added\n")


def main(root, percent):
    for name in sorted(small_files(root)):
        path, at = os.path.join(root, name), share(name)
        if at < percent:
            change(path, name)
        elif at < percent * 1.3:
            os.unlink(path)
        elif at < percent * 1.6:
            add_beside(path)


main(sys.argv[1], float(sys.argv[2]))
