#!/bin/bash
# Blesses an image and holds the result against what umoci unpacks of it: e2fsck without a word, and the kernel's view of
# the image equal to umoci's directory in every attribute and byte, also as a user without rights.
#
# usage: tools/compare_with_umoci.sh OCI_DIRECTORY REF [BLESS_OPTION...]
#
# Needs root (for the mount and for umoci), umoci, e2fsprogs and tar. DENO names the deno to use, BLESSFS another program
# to bless with (the default is this repository's cli/main.ts). More fields to leave out can be given in IGNORE, separated
# by spaces, as tools/compare_image.ts takes them. Exits 0 when all is equal.
#
# Where umoci is known to do otherwise, the field is left out of the comparison and that is printed:
#   - directories that no layer has an entry for get the time of the unpacking, and so do the directories that they are
#     made in; in an image the former have a fixed time, and the latter keep theirs.
set -euo pipefail
export LC_ALL=C

if [ $# -lt 2 ]; then
  sed -n 's/^# usage: /usage: /p' "$0" >&2
  exit 2
fi
source=$(realpath "$1")
ref=$2
shift 2
root=$(cd "$(dirname "$0")/.." && pwd)
deno=${DENO:-deno}
read -ra blessfs <<<"${BLESSFS:-$deno run -A $root/cli/main.ts}"

for program in umoci e2fsck tar "$deno"; do
  command -v "$program" >/dev/null || { echo "compare_with_umoci: $program is not installed" >&2; exit 2; }
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Directories that are named only as parents of entries, and the ones that they are in; one a line, the root is empty.
implicit_directories() {
  local digest blob
  umoci stat --image "$source:$ref" --json | grep -o '"sha256:[0-9a-f]*"' | tr -d '"' | sort -u |
    while read -r digest; do
      blob="$source/blobs/${digest/://}"
      # Diff ids come up here too, but there is no blob of that name.
      [ -f "$blob" ] && tar --quoting-style=literal -tf "$blob" 2>/dev/null || true
    done |
    awk '
      { path = $0; sub(/^\.?\/+/, "", path); sub(/\/+$/, "", path); entries[path] = 1
        if (path ~ /(^|\/)\.wh\.[^\/]*$/) next
        while (sub(/\/[^\/]*$/, "", path)) parents[path] = 1 }
      END {
        for (path in parents) if (!(path in entries)) {
          print path
          if (!sub(/\/[^\/]*$/, "", path)) path = ""
          print path
        }
      }' | sort -u
}

echo "umoci unpack $source:$ref"
umoci unpack --image "$source:$ref" "$work/bundle" >"$work/umoci.log" 2>&1 || { cat "$work/umoci.log" >&2; exit 3; }

echo "bless oci:$source:$ref $*"
"${blessfs[@]}" bless merged "oci:$source:$ref" -o "$work/image.ext4" --quiet "$@"

ignored=()
while IFS= read -r path; do
  ignored+=(--ignore "mtime:/$path")
done < <(implicit_directories)
for field in ${IGNORE:-}; do
  ignored+=(--ignore "$field")
done
echo "compare with $(find "$work/bundle/rootfs" | wc -l) names; fields that may be left out: $((${#ignored[@]} / 2))"
"$deno" run -A "$root/tools/compare_image.ts" "$work/image.ext4" "$work/bundle/rootfs" --e2fsck --unprivileged "${ignored[@]}"
