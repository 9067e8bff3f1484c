#!/bin/bash
# Makes the sets of images that the tables of docs/DEDUP.md measure, as plain tars of root file systems.
# Usage: tools/dedup_sets.sh IMAGES DIR
#   IMAGES has OCI layouts base, python and node: a minimal Debian 12, and the same with python3 and with nodejs.
# Needs root, umoci, mmdebstrap, apt-get with the repositories of Debian 12 and its security updates, npm and python3. About
# 6 GB and 10 minutes. tools/dedup_table.py measures a set, and `blessfs probe` any of them.
set -euo pipefail
tools=$(cd "$(dirname "$0")" && pwd)
images=${1:?directory of OCI layouts}; out=${2:?directory for the sets}
mkdir -p "$out"; out=$(cd "$out" && pwd); work=$(mktemp -d "$out/work.XXXX"); trap 'rm -rf "$work"' EXIT
tarOf() { # FOLDER NAME
  tar --sort=name --mtime=@1760000000 --numeric-owner --format=posix \
    --pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime -C "$1" -cf "$out/$2.tar" .
}
rootOf() { # IMAGE: its root file system in $work/IMAGE
  [ -d "$work/$1" ] || { umoci unpack --image "$images/$1:latest" "$work/$1.bundle" >/dev/null; mv "$work/$1.bundle/rootfs" "$work/$1"; rm -rf "$work/$1.bundle"; }
}
fresh() { rm -rf "$work/root"; cp -a "$work/$1" "$work/root"; }
rootOf base; rootOf python; rootOf node
for image in base python node; do tarOf "$work/$image" "$image"; done

# Two releases of a package, each unpacked over an image.
releases() { # IMAGE PACKAGE NAME
  local i=0 version
  for version in $(apt-cache madison "$2" | awk -F'|' '{gsub(/ /,"",$2); print $2}' | tac | tail -2); do
    i=$((i+1)); (cd "$work" && rm -f ./*.deb && apt-get download -qq "$2=$version" >/dev/null)
    fresh "$1"; dpkg -x "$work"/*.deb "$work/root"; tarOf "$work/root" "$3-$i"
    echo "$3-$i: $2 $version"
  done
}
releases python python3-django django
releases base openjdk-17-jre-headless jdk

# An app of npm, and the same with newer packages.
i=0
for packages in "express@4.18.2 lodash@4.17.20 axios@1.6.0 date-fns@2.30.0 react@18.2.0 react-dom@18.2.0 webpack@5.88.0" \
                "express@4.19.2 lodash@4.17.21 axios@1.6.8 date-fns@2.30.0 react@18.3.1 react-dom@18.3.1 webpack@5.91.0"; do
  i=$((i+1)); fresh node; mkdir -p "$work/root/app"
  (cd "$work/root/app" && echo '{"private":true}' >package.json && npm install --silent --no-audit --no-fund $packages >/dev/null)
  tarOf "$work/root" "npm-$i"
done

# Rebuilds: every n-th small file gets a line more.
rebuild() { # IMAGE EVERY NAME
  fresh "$1"
  (cd "$work/root" && find . -xdev -type f -size -64k | LC_ALL=C sort | awk -v n="$2" 'NR%n==3' | while read -r f; do echo next >>"$f"; done)
  tarOf "$work/root" "$3"
}
rebuild python 100 python-1pc; rebuild python 20 python-5pc
rebuild node 100 node-1pc; rebuild node 20 node-5pc

# Rebuilds in which files also grow, go and come (churn.py).
churn() { # TAR PERCENT
  rm -rf "$work/root"; mkdir "$work/root"; tar -C "$work/root" -xpf "$out/$1.tar"
  "$tools/churn.py" "$work/root" "$2"; tarOf "$work/root" "$1-churn$2"
}
churn python 1; churn python 5; churn node 1; churn npm-1 1

# The newest app without what nobody runs.
rm -rf "$work/root"; mkdir "$work/root"; tar -C "$work/root" -xpf "$out/npm-2.tar"
(
  cd "$work/root/app/node_modules"
  find . -type f \( -iname '*.md' -o -name '*.map' -o -name '*.ts' -o -name '*.flow' -o -iname 'license*' -o -iname 'changelog*' \) -delete
  find . -depth -type d \( -name test -o -name tests -o -name docs -o -name example -o -name examples -o -name .github \) -exec rm -rf {} +
)
rm -rf "$work/root"/usr/share/{doc,man,locale}; tarOf "$work/root" cleaned

# Python on other suites of Debian, and a point release without and with what came after it.
debian() { # NAME SUITE SOURCES...
  local name=$1 suite=$2; shift 2
  SOURCE_DATE_EPOCH=1760000000 mmdebstrap --quiet --variant=minbase --include=ca-certificates,python3 \
    --aptopt='Acquire::Check-Valid-Until "false"' "$suite" "$work/$name" "$@" >/dev/null 2>&1
  rm -rf "$work/$name"/var/lib/apt/lists/* "$work/$name"/usr/share/{doc,man}/* "$work/$name"/var/cache/*
  tarOf "$work/$name" "$name"; rm -rf "${work:?}/$name"
}
debian=http://deb.debian.org/debian
debian bullseye bullseye "$debian"; debian trixie trixie "$debian"
debian update-1 bookworm "deb $debian bookworm main"
debian update-2 bookworm "deb $debian bookworm main" "deb $debian bookworm-updates main" "deb $debian-security bookworm-security main"

# Packages removed: some of what dpkg installed.
fresh node
for package in perl-base tzdata libssl3 nodejs-doc; do
  [ -f "$work/root/var/lib/dpkg/info/$package.list" ] || package=$package:amd64
  [ -f "$work/root/var/lib/dpkg/info/$package.list" ] || continue
  while read -r f; do [ -f "$work/root$f" ] && rm -f "$work/root$f"; done <"$work/root/var/lib/dpkg/info/$package.list"
done
tarOf "$work/root" node-removed

# A list of packages, and the same with some entries more: one large file with bytes inserted.
fresh base; list=$work/root/var/lib/apt/lists/Packages; mkdir -p "${list%/*}"
apt-cache dumpavail >"$list"; tarOf "$work/root" lists-1
awk '{print} /^$/ {n++; if (n%400==7) print "Package: inserted-" n "\nVersion: 1\nDescription: new\n"}' "$list" >"$work/next"
mv "$work/next" "$list"; tarOf "$work/root" lists-2
ls -l "$out"/*.tar
