/**
 * Constants of the ext4 disk format. Names follow the kernel's fs/ext4/ext4.h and Documentation/filesystems/ext4.
 *
 * @module
 */

export const SUPERBLOCK_OFFSET_BYTES = 1024;
export const SUPERBLOCK_SIZE_BYTES = 1024;
export const SUPERBLOCK_MAGIC = 0xef53;

/** s_feature_compat: a kernel may mount read-write despite unknown bits. */
export const COMPAT = {
  HAS_JOURNAL: 0x4,
  EXT_ATTR: 0x8,
  RESIZE_INODE: 0x10,
  DIR_INDEX: 0x20,
  SPARSE_SUPER2: 0x200,
  ORPHAN_FILE: 0x1000,
} as const;

/** s_feature_incompat: a kernel must refuse unknown bits. */
export const INCOMPAT = {
  FILETYPE: 0x2,
  RECOVER: 0x4,
  JOURNAL_DEV: 0x8,
  META_BG: 0x10,
  EXTENTS: 0x40,
  BIT64: 0x80,
  MMP: 0x100,
  FLEX_BG: 0x200,
  EA_INODE: 0x400,
  DIRDATA: 0x1000,
  CSUM_SEED: 0x2000,
  LARGEDIR: 0x4000,
  INLINE_DATA: 0x8000,
  ENCRYPT: 0x10000,
  CASEFOLD: 0x20000,
} as const;

/**
 * Set in s_feature_incompat while an image is half switched to or from metadata checksums: an unknown feature, so that
 * no kernel mounts the image and no tool repairs it.
 */
export const HALF_SWITCHED_FEATURE = 0x80000000;

/** s_feature_ro_compat: a kernel may mount read-only despite unknown bits. */
export const RO_COMPAT = {
  SPARSE_SUPER: 0x1,
  LARGE_FILE: 0x2,
  HUGE_FILE: 0x8,
  GDT_CSUM: 0x10,
  DIR_NLINK: 0x20,
  EXTRA_ISIZE: 0x40,
  QUOTA: 0x100,
  BIGALLOC: 0x200,
  METADATA_CSUM: 0x400,
  READONLY: 0x1000,
  PROJECT: 0x2000,
  SHARED_BLOCKS: 0x4000,
  VERITY: 0x8000,
  ORPHAN_PRESENT: 0x10000,
} as const;

/** bg_flags. */
export const GROUP_FLAG = {
  INODE_UNINIT: 0x1,
  BLOCK_UNINIT: 0x2,
  INODE_ZEROED: 0x4,
} as const;

/** i_flags. */
export const INODE_FLAG = {
  IMMUTABLE: 0x10,
  APPEND: 0x20,
  ENCRYPT: 0x800,
  INDEX: 0x1000,
  HUGE_FILE: 0x40000,
  EXTENTS: 0x80000,
  VERITY: 0x100000,
  EA_INODE: 0x200000,
  INLINE_DATA: 0x10000000,
  PROJINHERIT: 0x20000000,
  CASEFOLD: 0x40000000,
} as const;

/** Reserved inode numbers. */
export const INODE_NUMBER = {
  BAD_BLOCKS: 1,
  ROOT: 2,
  USER_QUOTA: 3,
  GROUP_QUOTA: 4,
  RESIZE: 7,
  JOURNAL: 8,
  FIRST_USABLE: 11,
} as const;

/** The type bits of i_mode. */
export const FILE_MODE = {
  FIFO: 0x1000,
  CHARACTER_DEVICE: 0x2000,
  DIRECTORY: 0x4000,
  BLOCK_DEVICE: 0x6000,
  REGULAR: 0x8000,
  SYMLINK: 0xa000,
  SOCKET: 0xc000,
  TYPE_MASK: 0xf000,
} as const;

/** file_type in a directory entry. */
export const DIRENT_TYPE = {
  UNKNOWN: 0,
  REGULAR: 1,
  DIRECTORY: 2,
  CHARACTER_DEVICE: 3,
  BLOCK_DEVICE: 4,
  FIFO: 5,
  SOCKET: 6,
  SYMLINK: 7,
  CHECKSUM_TAIL: 0xde,
} as const;

/** s_flags. */
export const SUPERBLOCK_FLAG = { SIGNED_HASH: 0x1, UNSIGNED_HASH: 0x2 } as const;

/** s_def_hash_version and dx_root.hash_version. */
export const HASH_VERSION = { LEGACY: 0, HALF_MD4: 1, TEA: 2, SIPHASH: 6 } as const;

/** Most blocks in one written extent (one less in an unwritten one). */
export const EXTENT_BLOCKS_MAX = 32768;
/** Most inodes that may share one xattr block (EXT4_XATTR_REFCOUNT_MAX). */
export const XATTR_REFCOUNT_MAX = 1024;
/** Most links to an inode; a directory with more stores 1 (DIR_NLINK). */
export const LINK_COUNT_MAX = 65000;
