"""What the first bytes of a disk image say. Hostile input: nothing here trusts a length.

Source: QEMU's docs/interop/qcow2.txt (header, feature bits, header extensions).
"""

from __future__ import annotations

import struct

from twinship.model.vm import ImageHeader

HEADER_BYTES = 65536
"""How much of a file :func:`read_header` wants to see: one default cluster, which holds the
fixed header, every header extension and the backing file's name."""

_MAGIC = b"QFI\xfb"
_FIXED = struct.Struct(">4sIQIIQIIQQIIQ")
_V3 = struct.Struct(">QQQII")
_EXT_BACKING_FORMAT = 0xE2792ACA
_EXT_BITMAPS = 0x23852875
_EXT_END = 0
_INCOMPATIBLE = ((0, "dirty"), (1, "corrupt"), (2, "data_file"), (3, "compression"), (4, "ext_l2"))
_OTHER_FORMATS = (
    (b"VMDK", "vmdk"),
    (b"KDMV", "vmdk"),
    (b"COWD", "vmdk"),
    (b"conectix", "vpc"),
    (b"vhdxfile", "vhdx"),
    (b"QED\0", "qed"),
    (b"LUKS\xba\xbe", "luks"),
    (b"<<< Oracle VM", "vdi"),
    (b"<<< QEMU VM", "vdi"),
)


class BadImage(ValueError):
    """The header is cut off or contradicts itself; the text says how."""


def read_header(head: bytes, length_bytes: int) -> ImageHeader:
    """The header of an image whose first bytes are ``head`` and whose file is ``length_bytes``.

    A file with no known magic is raw. Raises :class:`BadImage` for a qcow2 header that is cut
    off, of an unknown version, or names something outside the bytes at hand.
    """
    if head[:4] != _MAGIC:
        return ImageHeader(format=_other_format(head), virtual_bytes=length_bytes)
    if len(head) < _FIXED.size:
        raise BadImage("the qcow2 header is cut off")
    (_, version, backing_at, backing_len, cluster_bits, size, crypt, *_rest) = _FIXED.unpack_from(
        head
    )
    snapshots = int(_rest[4])
    if version not in (2, 3):
        raise BadImage(f"qcow2 version {version} is not known")
    if not 9 <= cluster_bits <= 21:
        raise BadImage(f"qcow2 cluster size 2^{cluster_bits} is out of range")
    incompatible, header_len = 0, _FIXED.size
    if version == 3:
        if len(head) < _FIXED.size + _V3.size:
            raise BadImage("the qcow2 header is cut off")
        incompatible, _, _, _, header_len = _V3.unpack_from(head, _FIXED.size)
        if header_len < _FIXED.size + _V3.size:
            raise BadImage(f"qcow2 header length {header_len} is shorter than its fields")
    backing = _backing_name(head, backing_at, backing_len)
    extensions = _extensions(head, header_len)
    flags = tuple(name for bit, name in _INCOMPATIBLE if incompatible >> bit & 1)
    return ImageHeader(
        format="qcow2",
        virtual_bytes=size,
        cluster_bytes=1 << cluster_bits,
        backing_path=backing,
        backing_format=extensions.get(_EXT_BACKING_FORMAT, b"").decode("utf-8", "replace"),
        data_file="data_file" in flags,
        encrypted=crypt != 0,
        dirty="dirty" in flags or "corrupt" in flags,
        snapshots=snapshots,
        bitmaps=_bitmap_count(extensions.get(_EXT_BITMAPS, b"")),
        compat="1.1" if version == 3 else "0.10",
        features=flags,
    )


def _other_format(head: bytes) -> str:
    return next((name for magic, name in _OTHER_FORMATS if head.startswith(magic)), "raw")


def _backing_name(head: bytes, at: int, length: int) -> str:
    if at == 0:
        return ""
    if length > 1023 or at + length > len(head):
        raise BadImage("the qcow2 header's backing file name lies outside the header")
    return head[at : at + length].decode("utf-8", "surrogateescape")


def _extensions(head: bytes, at: int) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    while at + 8 <= len(head):
        kind, length = struct.unpack_from(">II", head, at)
        if kind == _EXT_END:
            break
        if at + 8 + length > len(head):
            raise BadImage("a qcow2 header extension lies outside the header")
        found[kind] = head[at + 8 : at + 8 + length]
        at += 8 + (length + 7) // 8 * 8
    return found


def _bitmap_count(extension: bytes) -> int:
    return int(struct.unpack_from(">I", extension)[0]) if len(extension) >= 4 else 0
