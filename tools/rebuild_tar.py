#!/usr/bin/env python3
"""Writes the tar of a root file system as a later build of it would be: a share of its small files changed.

    rebuild_tar.py IN.tar OUT.tar SHARE SEED

Of the files under 64 KiB, SHARE (such as 0.01) get other content, a third of that share is removed, and as many are new.
Every third changed file also has another length of up to some blocks. The same seed gives the same tar.
"""
import io
import random
import sys
import tarfile

SMALL = 64 * 1024


def changed(data, chance):
    at = chance.randrange(len(data) + 1)
    line = b"changed %08x\n" % chance.getrandbits(32)
    if chance.random() < 1 / 3:
        line *= chance.randrange(1, 600)
    return data[:at] + line + data[at + (len(line) if chance.random() < 0.5 else 0):]


def main(source, target, share, seed):
    chance = random.Random(seed)
    with tarfile.open(source) as old, tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as new:
        linked = {member.linkname for member in old if member.islnk()}
        for member in old:
            if not member.isreg():
                new.addfile(member)
                continue
            data = old.extractfile(member).read()
            # Sparse files are written whole.
            member.type, member.sparse = tarfile.REGTYPE, None
            member.pax_headers = {key: value for key, value in member.pax_headers.items()
                                  if key not in ("path", "size") and not key.startswith("GNU.sparse")}
            fate = chance.random()
            if len(data) == 0 or len(data) >= SMALL or member.name in linked:
                fate = 1
            if fate < share / 3:
                continue
            if fate < share * 4 / 3:
                data = changed(data, chance)
                member.mtime = int(member.mtime) + 86400
            member.size = len(data)
            new.addfile(member, io.BytesIO(data))
            if share * 4 / 3 <= fate < share * 5 / 3:
                data = changed(data[::-1], chance)
                member.name += ".%04x" % chance.getrandbits(16)
                member.size = len(data)
                new.addfile(member, io.BytesIO(data))


main(sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4]))
