"""A NoCloud image: an ISO 9660 file system labelled CIDATA with a few small files, as bytes.

Written here and not by a library, so that the same documents always give the same bytes: the
writers there are stamp the current time into an image, and a copy that a resumed operation makes
anew would differ. It takes little: ECMA-119 (ISO 9660) has one descriptor, one directory and the
files, one after the other; Joliet says it all again with names as they are.

::

    sector 16 primary descriptor   17 Joliet descriptor   18 end of descriptors
           19-22 path tables       23, 24 root directories   25... files
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

from twinship.model.errors import UsageError

LABEL = "CIDATA"
"""The label cloud-init looks for, in capitals or not (its NoCloud data source)."""

MOST_BYTES = 16 * 1024 * 1024
SECTOR_BYTES = 2048

_FIRST_FILE = 25
_MOST_FILES = 16
_TIME_OF_RECORD = bytes((100, 1, 1, 0, 0, 0, 0))  # 2000-01-01 in the years since 1900
_TIME = b"2000010100000000\0"
_NO_TIME = b"0" * 16 + b"\0"


@dataclass(frozen=True, slots=True)
class _Tree:
    """One of the two descriptions of the same files: where it lies, and how it writes names."""

    kind: int
    escapes: bytes
    path_tables: int
    directory: int
    wide: bool

    def name(self, text: str) -> bytes:
        return text.encode("utf-16-be") if self.wide else f"{text.upper()}.;1".encode()

    def text(self, text: str, length: int) -> bytes:
        if not self.wide:
            return text.ljust(length).encode()
        return text.ljust(length // 2).encode("utf-16-be").ljust(length, b"\0")


_PRIMARY = _Tree(1, b"", 19, 23, wide=False)
_JOLIET = _Tree(2, b"%/E", 21, 24, wide=True)


def seed_image(documents: Mapping[str, bytes]) -> bytes:
    """The image with these files (``meta-data``, ``user-data``, ...); equal for equal documents.

    Raises :class:`UsageError` (``SEED_TOO_LARGE``) past 16 MiB. Names are small letters, digits and
    dashes, as NoCloud's are.
    """
    names = sorted(documents)
    if len(names) > _MOST_FILES or any(not _plain(name) for name in names):
        raise ValueError(f"not the names of a NoCloud image: {names}")
    files, sector = [], _FIRST_FILE
    for name in names:
        files.append((name, sector, len(documents[name])))
        sector += _sectors(len(documents[name]))
    if sector * SECTOR_BYTES > MOST_BYTES:
        raise UsageError(
            f"the files for the guest's first boot need {sector * SECTOR_BYTES} bytes",
            code="SEED_TOO_LARGE",
            hint=f"there is room for {MOST_BYTES // 2**20} MiB",
        )
    parts = [bytes(16 * SECTOR_BYTES)]
    parts += [_descriptor(tree, sector) for tree in (_PRIMARY, _JOLIET)]
    parts.append(_padded(b"\xffCD001\x01"))
    for tree in (_PRIMARY, _JOLIET):
        parts += [_padded(_path_table(tree, order)) for order in "<>"]
    parts += [_padded(_directory(tree, files)) for tree in (_PRIMARY, _JOLIET)]
    parts += [_padded(documents[name]) for name in names]
    return b"".join(parts)


def _plain(name: str) -> bool:
    return name.replace("-", "").isalnum() and name.isascii() and name.islower() and len(name) < 28


def _descriptor(tree: _Tree, sectors: int) -> bytes:
    """A volume descriptor (ECMA-119 §8.4, §8.5; Joliet's escape sequence in a supplementary)."""
    table = len(_path_table(tree, "<"))
    fields = (
        struct.pack("B5sBB", tree.kind, b"CD001", 1, 0),
        tree.text("", 32),
        tree.text(LABEL, 32),
        bytes(8),
        _both(sectors, "I"),
        tree.escapes.ljust(32, b"\0"),
        _both(1, "H") + _both(1, "H") + _both(SECTOR_BYTES, "H"),
        _both(table, "I"),
        struct.pack("<II", tree.path_tables, 0) + struct.pack(">II", tree.path_tables + 1, 0),
        _record(b"\0", tree.directory, SECTOR_BYTES, directory=True),
        tree.text("", 128) * 4,
        tree.text("", 37) * 3,
        _TIME * 2 + _NO_TIME * 2,
        b"\x01",
    )
    return _padded(b"".join(fields))


def _path_table(tree: _Tree, order: str) -> bytes:
    """The only directory, the root (ECMA-119 §9.4)."""
    return struct.pack(f"{order}BBIHBx", 1, 0, tree.directory, 1, 0)


def _directory(tree: _Tree, files: list[tuple[str, int, int]]) -> bytes:
    own = (_record(name, tree.directory, SECTOR_BYTES, directory=True) for name in (b"\0", b"\1"))
    return b"".join((*own, *(_record(tree.name(name), *where) for name, *where in files)))


def _record(name: bytes, sector: int, length_bytes: int, *, directory: bool = False) -> bytes:
    """A directory record (ECMA-119 §9.1), of even length."""
    body = (
        b"\0"
        + _both(sector, "I")
        + _both(length_bytes, "I")
        + _TIME_OF_RECORD
        + bytes((2 if directory else 0, 0, 0))
        + _both(1, "H")
        + bytes((len(name),))
        + name
        + bytes(1 - len(name) % 2)
    )
    return bytes((len(body) + 1,)) + body


def _both(number: int, size: str) -> bytes:
    """A number in both byte orders (ECMA-119 §7.2.3, §7.3.3)."""
    return struct.pack(f"<{size}", number) + struct.pack(f">{size}", number)


def _sectors(length_bytes: int) -> int:
    return -(-length_bytes // SECTOR_BYTES)


def _padded(data: bytes) -> bytes:
    return data.ljust(_sectors(len(data)) * SECTOR_BYTES, b"\0")
