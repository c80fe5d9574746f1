"""The guests' kernel: Debian's cloud kernel, unpacked by ``script/fetch-kernel``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from twinship_lab.errors import NotReady

WANTED = ("virtio_pci", "virtio_blk", "virtio_console")
"""The drivers the micro guest needs, where they are not built in."""

_DEPENDS = re.compile(rb"\0depends=([^\0]*)\0")


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel image and the modules the guest loads, in order."""

    image: Path
    modules: tuple[Path, ...]


def find_kernel(directory: Path, wanted: Sequence[str] = WANTED) -> Kernel:
    """The newest kernel below ``directory``. Raises :class:`NotReady` when there is none."""
    images = sorted(directory.glob("boot/vmlinuz-*"), key=_version)
    if not images:
        raise NotReady(
            "the lab has no kernel for its guests",
            cause=f"no vmlinuz below {directory}",
            hint="script/bootstrap fetches it (or: script/fetch-kernel DIRECTORY)",
        )
    image = images[-1]
    version = image.name.removeprefix("vmlinuz-")
    files = {
        path.name.partition(".")[0].replace("-", "_"): path
        for path in (directory / "lib/modules" / version).rglob("*.ko")
    }
    return Kernel(image, _in_order(files, wanted))


def _in_order(files: dict[str, Path], wanted: Sequence[str]) -> tuple[Path, ...]:
    """The wanted modules, each behind those it says it depends on."""
    ordered: dict[str, Path] = {}

    def add(name: str) -> None:
        if name in ordered or name not in files:
            return
        found = _DEPENDS.search(files[name].read_bytes())
        for other in found.group(1).decode().split(",") if found else ():
            add(other.replace("-", "_"))
        ordered[name] = files[name]

    for name in wanted:
        add(name)
    return tuple(ordered.values())


def _version(path: Path) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", path.name)]
