#!/bin/sh
# Makes the small ext4 images under fixtures/ext4/ with e2fsprogs, and one with the kernel where it can be mounted.
# usage: tools/make_ext4_fixtures.sh [OUTPUT_DIRECTORY]
# All images but mmp.img.gz (it has the time in it) and kernel.img.gz come out the same byte for byte with the same
# e2fsprogs and gzip; those two need root.
set -eu

# With root, all runs in namespaces of its own: nothing that is mounted or named here is seen outside.
if [ -z "${IN_NAMESPACES:-}" ] && unshare --mount --uts true 2> /dev/null; then
  IN_NAMESPACES=yes exec unshare --mount --uts sh "$0" "$@"
fi

output=${1:-$(dirname "$0")/../fixtures/ext4}
mkdir -p "$output"
output=$(cd "$output" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

export LC_ALL=C TZ=UTC PATH="$PATH:/usr/sbin:/sbin"
export E2FSPROGS_FAKE_TIME=1700000000 E2FSCK_TIME=1700000000 SOURCE_DATE_EPOCH=1700000000
uuid=12345678-1234-1234-1234-123456789abc
hash_seed=aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee

# The features come from the command lines below and from nowhere else.
cat > mke2fs.conf <<'CONF'
[defaults]
	base_features = sparse_super,large_file,filetype,ext_attr,extent,huge_file,flex_bg,dir_nlink,extra_isize,dir_index
	default_mntopts = acl,user_xattr
	enable_periodic_fsck = 0
	blocksize = 4096
	inode_size = 256
	inode_ratio = 16384
[fs_types]
	ext4 = {
		inode_size = 256
	}
	small = {
		inode_size = 256
	}
CONF
export MKE2FS_CONFIG=$work/mke2fs.conf

# make_image NAME SIZE FEATURES [MKE2FS_OPTION...]
make_image() {
  image=$1.img size=$2 features=$3
  shift 3
  rm -f "$image"
  truncate -s "$size" "$image"
  mke2fs -q -F -t ext4 -O "$features" -U "$uuid" -L "fixture" \
    -E "hash_seed=$hash_seed,lazy_itable_init=0,lazy_journal_init=0,nodiscard${extended:+,$extended}" \
    "$@" "$image"
}

# Runs debugfs commands from standard input; its own complaints are errors.
edit_image() {
  cat > commands
  debugfs -w -f commands "$1" > edit.log 2>&1
  if grep -v '^debugfs: ' edit.log | grep -v '^debugfs 1' | grep -v '^Allocated inode' | grep .; then
    echo "debugfs failed on $1" >&2
    exit 1
  fi
}

# Checks an image (with -D: builds directory indexes) and stores it.
finish_image() {
  image=$1.img
  shift
  status=0
  e2fsck -f -y "$@" "$image" > fsck.log 2>&1 || status=$?
  # 1: it changed something, as -D does.
  if [ "$status" -gt 1 ]; then
    cat fsck.log >&2
    exit 1
  fi
  store_image
}

store_image() {
  e2fsck -f -n "$image" > fsck.log 2>&1 || { cat fsck.log >&2; exit 1; }
  gzip -9 -n -c "$image" > "$output/$image.gz"
}

# Bytes written as octal escapes.
bytes() { printf "$@"; }

# --- files that go into the images
printf 'hello\n' > small
: > empty
# Every second block of 1 KiB, 450 of them: with 1 KiB blocks an extent tree of two levels of blocks below the root.
i=0
while [ $i -lt 450 ]; do
  dd if=small of=holes-1k bs=1024 seek=$((i * 2)) conv=notrunc status=none
  i=$((i + 1))
done
i=0
while [ $i -lt 9 ]; do
  dd if=small of=holes-4k bs=4096 seek=$((i * 2)) conv=notrunc status=none
  i=$((i + 1))
done
truncate -s 5G beyond-4g
dd if=small of=beyond-4g bs=1M seek=4500 conv=notrunc status=none
head -c 300 /dev/zero | tr '\0' 'v' > value-300
head -c 100 /dev/zero | tr '\0' 'w' > value-100
head -c 4096 /dev/zero | tr '\0' 'x' > value-4096
# system.posix_acl_access as system calls have it: user::rw-, user:1000:r--, group::r--, mask::r--, other::---.
bytes '\002\000\000\000\001\000\006\000\377\377\377\377\002\000\004\000\350\003\000\000' > acl
bytes '\004\000\004\000\377\377\377\377\020\000\004\000\377\377\377\377\040\000\000\000\377\377\377\377' >> acl
# security.capability, version 2: cap_net_bind_service.
bytes '\001\000\000\002\000\004\000\000\000\000\000\000\000\000\000\000\000\000\000\000' > capability
long_target=$(head -c 70 /dev/zero | tr '\0' 't')

populate_common() {
  cat <<COMMANDS
mkdir directory
write small directory/small
write empty empty
symlink short target
symlink long $long_target
mknod null c 1 3
mknod disk b 259 60000
mknod pipe p
write $1 holes
write beyond-4g beyond-4g
write small times
sif times atime 0x7fffffff
sif times atime_extra 0x3b9ac9f7
sif times mtime 0xffffffff
sif times mtime_extra 0xee6b27ff
sif times crtime 0x80000000
sif times crtime_extra 0x4
sif times uid 70000
sif times gid 4294967294
write small generation
sif generation generation 0x89abcdef
COMMANDS
}

populate_xattrs() {
  cat <<COMMANDS
write small xattrs-inode
ea_set xattrs-inode user.a b
ea_set -f capability xattrs-inode security.capability
write small xattrs-block
ea_set -f value-300 xattrs-block user.large
ea_set -f value-100 xattrs-block user.beside
ea_set xattrs-block trusted.overlay.opaque y
ea_set xattrs-block user.z zz
ea_set xattrs-block security.selinux unconfined_u:object_r:user_home_t:s0
write small xattrs-acl
ea_set -f acl xattrs-acl system.posix_acl_access
COMMANDS
}

# populate_directory NAME COUNT NAME_LENGTH BLOCK_SIZE: hard links to "empty", by many names.
populate_directory() {
  echo "mkdir $1"
  awk -v directory="$1" -v count="$2" -v width="$3" -v block="$4" 'BEGIN {
    # debugfs does not grow a directory by itself; fsck -D gives back what is too much.
    for (free = 0; free < count; free += int((block - 36) / (width + 11))) print "expand_dir " directory
    for (i = 0; i < count; i++) printf "ln empty %s/%0" width "d\n", directory, i * 7919
  }'
  echo "sif empty links_count $(($2 + 1))"
}

# --- the images
extended=
make_image csum-4k 16M metadata_csum,64bit,has_journal,resize_inode -b 4096 -J size=4
{ populate_common holes-4k; populate_xattrs; populate_directory many 400 100 4096; } |
  edit_image csum-4k.img
finish_image csum-4k -D

make_image csum-1k 26M metadata_csum,^64bit,has_journal,resize_inode -b 1024 -N 512
{ populate_common holes-1k; populate_xattrs; populate_directory many 900 250 1024; } |
  edit_image csum-1k.img
finish_image csum-1k -D

make_image plain-4k 4M ^metadata_csum,64bit,^resize_inode -b 4096 -N 64
{ populate_common holes-4k; populate_xattrs; populate_directory many 400 100 4096; } |
  edit_image plain-4k.img
finish_image plain-4k -D

make_image gdt-csum-1k 17M ^metadata_csum,^64bit,uninit_bg,has_journal -b 1024 -I 128 -N 192
{ populate_common holes-1k; populate_xattrs; populate_directory many 900 250 1024; } |
  edit_image gdt-csum-1k.img
finish_image gdt-csum-1k -D

# Everything that is rare. The UUID is changed at the end, which makes tune2fs hash the xattr block anew.
quotas=quotatype=usrquota:grpquota:prjquota
extended=$quotas
make_image rare-4k 16M \
  metadata_csum,64bit,ea_inode,inline_data,orphan_file,quota,project,has_journal,^resize_inode \
  -b 4096 -N 64 -J size=4 -U 87654321-4321-4321-4321-cba987654321
extended=
{
  populate_common holes-4k
  populate_xattrs
  echo "ea_set -f value-4096 xattrs-block user.in_an_inode"
  echo "ea_set -f value-4096 xattrs-inode user.in_an_inode"
  echo "mkdir inline"
  echo "write small inline/a"
  echo "write value-100 inline-with-xattr"
} | edit_image rare-4k.img
image=rare-4k.img
e2fsck -f -y -D "$image" > fsck.log 2>&1 || [ $? -eq 1 ] || { cat fsck.log >&2; exit 1; }
tune2fs -U "$uuid" "$image" > tune.log 2>&1 || { cat tune.log >&2; exit 1; }
finish_image rare-4k

make_image bigalloc-4k 64M metadata_csum,64bit,metadata_csum_seed,bigalloc,sparse_super2,^sparse_super \
  -b 4096 -C 16384 -g 2048 -N 64
{ populate_common holes-4k; } | edit_image bigalloc-4k.img
finish_image bigalloc-4k

make_image plain-64k 8M ^metadata_csum,^64bit -b 65536 -N 32
{ populate_common holes-4k; } | edit_image plain-64k.img
finish_image plain-64k

# Every field that debugfs can name, set to a value of its own. The image is no good as a file system afterwards.
set_fields() {
  echo "write small file"
  value=17
  for field in mode uid gid size links_count dtime blocks flags version translator generation file_acl \
    ctime_extra mtime_extra atime_extra crtime_extra projid; do
    case $field in
      mode | links_count) width=65535 ;;
      size | blocks | version | file_acl) width=281474976710655 ;;
      *) width=4294967295 ;;
    esac
    if [ $field = dtime ]; then echo "sif file dtime @$((1000000007 * value % 2147483647))"
    elif [ $field != translator ]; then echo "sif file $field $((2654435761 * value % width))"; fi
    value=$((value + 1))
  done
  for field in atime ctime mtime crtime; do
    echo "sif file ${field}_lo $((1000000007 * value % 2147483647))"
    value=$((value + 1))
  done
  for field in block_bitmap inode_bitmap inode_table free_blocks_count free_inodes_count used_dirs_count flags \
    itable_unused; do
    case $field in
      *_bitmap | *_table) width=281474976710655 ;;
      *) width=65535 ;;
    esac
    echo "set_bg 3 $field $((2654435761 * value % width))"
    value=$((value + 1))
  done
  for field in free_inodes_count mnt_count errors minor_rev_level checkinterval creator_os def_resuid def_resgid \
    first_ino algorithm_usage_bitmap prealloc_blocks prealloc_dir_blocks reserved_gdt_blocks journal_inum \
    journal_dev last_orphan default_mount_opts first_meta_bg "jnl_blocks[0]" "jnl_blocks[16]" min_extra_isize \
    want_extra_isize flags raid_stride mmp_interval mmp_block raid_stripe_width log_groups_per_flex kbytes_written \
    snapshot_inum snapshot_id snapshot_r_blocks_count snapshot_list usr_quota_inum grp_quota_inum prj_quota_inum \
    overhead_clusters "backup_bgs[0]" "backup_bgs[1]" encryption_level error_count first_error_ino \
    first_error_block first_error_line last_error_ino last_error_block last_error_line "encrypt_algos[3]" lpf_ino \
    checksum_seed orphan_file_inum free_blocks_count r_blocks_count; do
    case $field in
      prealloc* | log_groups* | encryption_level | encrypt_algos*) width=255 ;;
      mnt_count | errors | minor_rev_level | def_res* | reserved_gdt* | *extra_isize | raid_stride | mmp_interval)
        width=65535
        ;;
      mmp_block | kbytes* | snapshot_r* | *error_block | free_blocks* | r_blocks*) width=281474976710655 ;;
      *) width=4294967295 ;;
    esac
    echo "ssv $field $((2654435761 * value % width))"
    value=$((value + 1))
  done
  for field in mtime wtime lastcheck mkfs_time first_error_time last_error_time; do
    echo "ssv $field @$((1000000007 * value % 2147483647))"
    value=$((value + 1))
  done
  for field in volume_name last_mounted first_error_func last_error_func mount_opts; do
    echo "ssv $field text-$value"
    value=$((value + 1))
  done
  for field in journal_uuid hash_seed encrypt_pw_salt; do
    echo "ssv $field 00010$value-0405-0607-0809-0a0b0c0d0e0f"
    value=$((value + 1))
  done
  echo "ssv max_mnt_count -5"
  echo "ssv def_hash_version tea"
  echo "ssv jnl_backup_type 3"
  echo "ssv state 6"
}

make_image fields 1M metadata_csum,64bit -b 1024 -g 256 -N 64
set_fields > commands.txt
cp commands.txt "$output/fields.txt"
edit_image fields.img < commands.txt
gzip -9 -n -c fields.img > "$output/fields.img.gz"

# --- one with the name of a machine in it, which is "fixture" whatever machine this is
make_mmp() {
  hostname fixture
  extended=
  make_image mmp 1M metadata_csum,64bit,mmp -b 4096 -N 16
  store_image
}

# --- one written by the kernel, which stores where it was mounted: always /mnt
make_kernel() {
  extended=
  make_image kernel 16M metadata_csum,64bit,metadata_csum_seed,has_journal -b 4096 -N 512 -J size=4
  mount -o loop kernel.img /mnt
  (
    cd /mnt
    mkdir many
    : > empty
    i=0
    while [ $i -lt 400 ]; do
      ln empty "$(printf 'many/%0100d' $((i * 7919)))"
      i=$((i + 1))
    done
    for name in one two; do
      : > "shared-$name"
      setfattr -n user.large -v "$(cat "$work/value-300")" "shared-$name"
      setfattr -n trusted.overlay.origin -v same "shared-$name"
    done
    : > inode
    setfattr -n user.empty inode
    setfattr -n user.a -v b inode
    setfattr -n security.capability -v 0x0100000200040000000000000000000000000000 inode
    cp --sparse=always "$work/holes-4k" holes
    ln -s "$long_target" long
    mkdir names
    # Names with bytes over 0x7f, and one deleted in the middle.
    for name in "$(printf '\303\251t\303\251')" "$(printf '\377\376\200')" x y z; do : > "names/$name"; done
    rm names/y
  )
  umount /mnt
  image=kernel.img
  store_image
}

if [ -n "${IN_NAMESPACES:-}" ]; then
  make_mmp
  make_kernel
else
  echo "mmp.img.gz and kernel.img.gz are left as they were: they need root" >&2
fi

ls -l "$output"
