#!/usr/bin/env python3
"""Writes the tar of a root file system as a later build of it would be.

    rebuild_tar.py IN.tar OUT.tar SHARE SEED [ONLY.tar]    a share of the small files changed
    rebuild_tar.py IN.tar OUT.tar PACKAGE,... SEED         these packages of dpkg replaced by another version

Of the files under 64 KiB (of those that ONLY.tar has too, if it is given), SHARE (such as 0.01) get other content, a third
of that share is removed, and as many are new. Every third changed file also has another length of up to some blocks. Of a
package, all files get other content, large ones in some places. The same seed gives the same tar.
"""
import io
import random
import sys
import tarfile

SMALL = 64 * 1024


def changed(data, chance):
    for _ in range(1 + len(data) // (256 * 1024)):
        at = chance.randrange(len(data) + 1)
        line = b"changed %08x\n" % chance.getrandbits(32)
        if chance.random() < 1 / 3:
            line *= chance.randrange(1, 600)
        data = data[:at] + line + data[at + (len(line) if chance.random() < 0.5 else 0):]
    return data


def files_of(old, packages):
    """The files of packages, as the tar has their names."""
    names = {member.name for member in old}
    found = set()
    for member in old:
        package = member.name.rpartition("/")[2].partition(".list")[0].partition(":")[0]
        if "dpkg/info/" in member.name and member.name.endswith(".list") and package in packages:
            for line in old.extractfile(member).read().decode().splitlines():
                found.update({line[1:], "." + line} & names)
    return found


def main(source, target, share, seed, only=None):
    chance = random.Random(seed)
    chosen = None
    if only is not None:
        with tarfile.open(only) as tar:
            chosen = {member.name.removeprefix("./") for member in tar}
    with tarfile.open(source) as old, tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as new:
        packaged = None
        if not share.replace(".", "").isdigit():
            packaged = files_of(old, share.split(","))
            share = 0
        share = float(share)
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
            if chosen is not None and member.name.removeprefix("./") not in chosen:
                fate = 1
            if packaged is not None:
                fate = share if member.name in packaged and len(data) > 0 else 1
            if fate < share / 3:
                continue
            if fate < share * 4 / 3 or (packaged is not None and fate < 1):
                data = changed(data, chance)
                member.mtime = int(member.mtime) + 86400
            member.size = len(data)
            new.addfile(member, io.BytesIO(data))
            if share * 4 / 3 <= fate < share * 5 / 3:
                data = changed(data[::-1], chance)
                member.name += ".%04x" % chance.getrandbits(16)
                member.size = len(data)
                new.addfile(member, io.BytesIO(data))


main(*sys.argv[1:4], int(sys.argv[4]), *sys.argv[5:6])
