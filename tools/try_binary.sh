#!/bin/sh
# Tries a binary on a machine that cannot run the test suite, such as Alpine:  tools/try_binary.sh BINARY
# Needs the directory fixtures/ of this repository below the current directory. Prints what fails, and exits with 1 then.
set -u
binary=$1
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
failures=0

check() { # NAME WANTED FOUND
  if [ "$2" = "$3" ]; then echo "ok: $1"; return; fi
  echo "FAILED: $1: wanted $2, found $3"
  failures=$((failures + 1))
}

"$binary" --version --json
check "it starts with an empty environment" 0 "$(env -i "$binary" --version >/dev/null; echo $?)"

mkdir "$scratch/tree"
dd if=/dev/urandom of="$scratch/tree/data" bs=1024 count=4096 2>/dev/null
tar -C "$scratch" -czf "$scratch/layer.tar.gz" tree
sum=$(sha256sum <"$scratch/tree/data")
"$binary" bless "tar:$scratch/layer.tar.gz" -o "$scratch/image" --quiet
check "it blesses a layer that a worker inflates" 0 $?
check "the file comes back" "$sum" "$("$binary" cat "$scratch/image" /tree/data | sha256sum)"
"$binary" verify "$scratch/image" --quiet
check "the image is clean" 0 $?

"$binary" bless oci:fixtures/oci-tiny -o "$scratch/tiny" --quiet
check "it blesses an OCI layout" 0 $?
check "it streams the same bytes" "$(sha256sum <"$scratch/tiny")" \
  "$("$binary" bless oci:fixtures/oci-tiny -o - --quiet | sha256sum)"
"$binary" bless layered oci:fixtures/oci-tiny -o "$scratch/layers" --quiet
check "it blesses layers" 0 $?
"$binary" probe oci:fixtures/oci-tiny --json >/dev/null
check "it probes" 0 $?
("$binary" bless oci:fixtures/oci-tiny -o - 2>/dev/null; echo $? >"$scratch/code") | head -c 10 >/dev/null
check "a reader that leaves early is a failure" 4 "$(cat "$scratch/code")"
check "damage is found" 1 "$(
  printf 'x' | dd of="$scratch/tiny" bs=1 seek=1144 conv=notrunc 2>/dev/null
  "$binary" verify "$scratch/tiny" >/dev/null
  echo $?
)"
case $(uname) in
Linux)
  echo 'console.log("trapped"); process.exit(0)' >"$scratch/trap.js"
  check "BUN_OPTIONS runs nothing" 3 \
    "$(BUN_OPTIONS="--preload=$scratch/trap.js" "$binary" bless missing -o "$scratch/x" 2>/dev/null; echo $?)"
  check "BUN_BE_BUN makes it nothing else" 3 \
    "$(BUN_BE_BUN=1 "$binary" bless missing -o "$scratch/x" 2>/dev/null; echo $?)"
  ;;
esac
[ "$failures" -eq 0 ]
