"""What a disk holds: its partitions and what each begins with. Pure; the bytes are hostile.

Sources: UEFI specification 2.10 chapter 5 (GPT), the kernel's ext4 documentation (super block),
``linux/swap.h`` and ``kernel/power/swap.c`` (signatures).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

Read = Callable[[int, int], bytes]
"""Bytes at an offset; fewer at the end of the disk."""

_SECTORS_BYTES = (512, 4096)
_MOST_PARTITIONS = 128
_MBR_ENTRY = struct.Struct("<B3xB3xII")
_EXTENDED = (0x05, 0x0F, 0x85)
_PROTECTIVE = 0xEE
_HEAD_BYTES = 0x11000
"""Enough for every signature below, btrfs's at 64 KiB the farthest."""

_SIGNATURES = (
    (0, b"LUKS\xba\xbe", "luks"),
    (0, b"XFSB", "xfs"),
    (3, b"NTFS    ", "ntfs"),
    (3, b"-FVE-FS-", "ntfs"),
    (0x10040, b"_BHRfS_M", "btrfs"),
    (0x1000, b"\xfc\x4e\x2b\xa9", "raid"),
    (0, b"\xfc\x4e\x2b\xa9", "raid"),
    (54, b"FAT", "fat"),
    (82, b"FAT", "fat"),
)
_SWAP = (b"SWAPSPACE2", b"SWAP-SPACE")
_SUSPENDED = (b"S1SUSPEND", b"S2SUSPEND", b"ULSUSPEND", b"LINHIB0001")
_PAGE_BYTES = (4096, 8192, 16384, 65536)

_EXT_MAGIC = 0xEF53
_VALID, _ERRORS = 0x1, 0x2
_NEEDS_RECOVERY = 0x4
_ORPHANS_PRESENT = 0x10000
_SAFE_COMPAT = 0x1 | 0x4 | 0x8 | 0x10 | 0x20 | 0x200 | 0x1000
_SAFE_INCOMPAT = 0x2 | _NEEDS_RECOVERY | 0x10 | 0x40 | 0x80 | 0x200 | 0x2000 | 0x4000
_SAFE_RO = 0x1 | 0x2 | 0x4 | 0x8 | 0x10 | 0x20 | 0x40 | 0x400 | _ORPHANS_PRESENT


UNCLEAN = "its journal was not written back, or an error was noted in it"


class Content(StrEnum):
    """What a partition or a whole disk begins with."""

    EXT = "ext"
    XFS = "xfs"
    BTRFS = "btrfs"
    LVM = "lvm"
    LUKS = "luks"
    RAID = "raid"
    NTFS = "ntfs"
    FAT = "fat"
    SWAP = "swap"
    SUSPENDED = "suspended"
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtState:
    """What an ext2/3/4 super block says.

    ``dirty``: it was not unmounted, or its journal was not yet written back. ``damaged``: the
    kernel noted an error. ``unsafe``: features that fuse2fs does not keep up when it writes
    (quotas, encryption, inline data, bigalloc and the like).
    """

    dirty: bool
    damaged: bool
    unsafe: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A piece of a disk; ``number`` 0 is a whole disk without partitions."""

    number: int
    offset_bytes: int
    length_bytes: int
    content: Content
    ext: ExtState | None = None

    @property
    def unclean(self) -> bool:
        """Whether it is an ext filesystem that should be recovered or checked first."""
        return self.ext is not None and (self.ext.dirty or self.ext.damaged)


def read_layout(read: Read, length_bytes: int) -> tuple[Part, ...]:
    """The parts of a disk; one that has no partitions is one part."""
    partitions = _gpt(read, length_bytes)
    if partitions is None:
        whole = _part(read, 0, 0, length_bytes)
        if whole.content not in (Content.OTHER, Content.FAT):
            return (whole,)
        partitions = _mbr(read, length_bytes)
        if not partitions:
            return (whole,)
    return tuple(_part(read, number, at, length) for number, at, length in partitions)


def _part(read: Read, number: int, at: int, length: int) -> Part:
    head = read(at, min(_HEAD_BYTES, length))
    content = _content(head)
    return Part(
        number=number,
        offset_bytes=at,
        length_bytes=length,
        content=content,
        ext=_ext(head) if content is Content.EXT else None,
    )


def _content(head: bytes) -> Content:
    if head[0x438:0x43A] == struct.pack("<H", _EXT_MAGIC):
        return Content.EXT
    if any(head[at : at + 8] == b"LABELONE" for at in range(0, 2048, 512)):
        return Content.LVM
    for at, magic, name in _SIGNATURES:
        if head[at : at + len(magic)] == magic:
            return Content(name)
    return swap_content(head)


def swap_content(head: bytes) -> Content:
    """Whether swap space begins like this, and whether a suspended system lies in it."""
    for page in _PAGE_BYTES:
        signature = head[page - 10 : page]
        if signature in _SWAP:
            return Content.SWAP
        if signature.startswith(_SUSPENDED):
            return Content.SUSPENDED
    return Content.OTHER


def _ext(head: bytes) -> ExtState:
    block = head[0x400:0x800].ljust(0x400, b"\0")
    (state,) = struct.unpack_from("<H", block, 0x3A)
    compat, incompat, ro_compat = struct.unpack_from("<III", block, 0x5C)
    (last_orphan,) = struct.unpack_from("<I", block, 0xE8)
    dirty = (
        not state & _VALID
        or bool(incompat & _NEEDS_RECOVERY)
        or bool(ro_compat & _ORPHANS_PRESENT)
        or last_orphan != 0
    )
    unsafe = compat & ~_SAFE_COMPAT or incompat & ~_SAFE_INCOMPAT or ro_compat & ~_SAFE_RO
    return ExtState(dirty=dirty, damaged=bool(state & _ERRORS), unsafe=bool(unsafe))


def _gpt(read: Read, length_bytes: int) -> list[tuple[int, int, int]] | None:
    for sector in _SECTORS_BYTES:
        header = read(sector, 92)
        if len(header) < 92 or header[:8] != b"EFI PART":
            continue
        table, count, size = struct.unpack_from("<QII", header, 72)
        if not 128 <= size <= 4096:
            return []
        found = []
        for number in range(min(count, _MOST_PARTITIONS)):
            entry = read(table * sector + number * size, 48)
            if len(entry) < 48 or entry[:16] == bytes(16):
                continue
            first, last = struct.unpack_from("<QQ", entry, 32)
            at, length = first * sector, (last - first + 1) * sector
            if 0 < at < at + length <= length_bytes:
                found.append((number + 1, at, length))
        return found
    return None


def _mbr(read: Read, length_bytes: int) -> list[tuple[int, int, int]]:
    found = []
    for number, kind, first, count in _mbr_entries(read, 0):
        at, length = first * 512, count * 512
        if kind in _EXTENDED:
            found += _logical(read, first, length_bytes)
        elif kind != _PROTECTIVE and 0 < at < at + length <= length_bytes:
            found.append((number, at, length))
    return found


def _logical(read: Read, start: int, length_bytes: int) -> list[tuple[int, int, int]]:
    """The chain of an extended partition: each link one partition and the next link."""
    found = []
    link, number = start, 5
    while number < _MOST_PARTITIONS:
        entries = list(_mbr_entries(read, link))
        following = 0
        for _, kind, first, count in entries:
            if kind in _EXTENDED:
                following = start + first
                continue
            at, length = (link + first) * 512, count * 512
            if 0 < at < at + length <= length_bytes:
                found.append((number, at, length))
                number += 1
        if following <= link:
            break
        link = following
    return found


def _mbr_entries(read: Read, sector: int) -> Iterator[tuple[int, int, int, int]]:
    block = read(sector * 512, 512)
    if len(block) < 512 or block[510:] != b"\x55\xaa":
        return
    for number in range(4):
        status, kind, first, count = _MBR_ENTRY.unpack_from(block, 446 + 16 * number)
        if kind and count and status in (0, 0x80):
            yield number + 1, kind, first, count
