"""An initramfs archive in the kernel's own format, the same bytes for the same content.

Source: the kernel's Documentation/driver-api/early-userspace/buffer-format.rst (newc).
"""

from __future__ import annotations

import gzip
import stat
from collections.abc import Mapping

_MAGIC = b"070701"
_CONSOLE = (5, 1)


def archive(files: Mapping[str, bytes]) -> bytes:
    """A gzipped archive of executables by path, their directories, and ``/dev/console``."""
    parts = []
    made: set[str] = set()
    number = 1
    for directory in ("dev", "proc", "sys"):
        parts.append(_entry(directory, stat.S_IFDIR | 0o755, number))
        made.add(directory)
        number += 1
    parts.append(_entry("dev/console", stat.S_IFCHR | 0o600, number, device=_CONSOLE))
    for path in sorted(files):
        above = path.rpartition("/")[0]
        if above and above not in made:
            number += 1
            parts.append(_entry(above, stat.S_IFDIR | 0o755, number))
            made.add(above)
        number += 1
        parts.append(_entry(path, stat.S_IFREG | 0o755, number, files[path]))
    parts.append(_entry("TRAILER!!!", 0, 0))
    return gzip.compress(b"".join(parts), compresslevel=6, mtime=0)


def _entry(
    name: str, mode: int, number: int, data: bytes = b"", device: tuple[int, int] = (0, 0)
) -> bytes:
    encoded = name.encode() + b"\0"
    links = 2 if stat.S_ISDIR(mode) else 1
    fields = (number, mode, 0, 0, links, 0, len(data), 0, 0, *device, len(encoded), 0)
    head = _MAGIC + b"".join(b"%08X" % field for field in fields) + encoded
    return _padded(head) + _padded(data)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)
