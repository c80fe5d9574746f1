"""The micro guest: a kernel and one program, up in about three seconds under emulation."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path

from twinship_lab.guests.initramfs import archive
from twinship_lab.guests.kernel import find_kernel
from twinship_lab.programs import run

SOURCE = Path(__file__).with_name("micro.c")
COMPILE = ("-static", "-O2", "-pthread")
QUIET = (
    "console=ttyS0 quiet mitigations=off random.trust_cpu=on tsc=reliable no_timer_check panic=1"
)


@dataclass(frozen=True, slots=True)
class MicroGuest:
    """Where its two files are; the same path on every lab host."""

    kernel: Path
    initrd: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What the guest does. Rates are bytes/s; ``hot_bytes`` is the memory it writes over."""

    dirty_bytes_s: int = 0
    hot_bytes: int = 16 * 2**20
    disk_bytes_s: int = 0
    tick_ms: int = 5

    def command_line(self) -> str:
        """The kernel's command line."""
        return (
            f"{QUIET} twinship.tick_ms={self.tick_ms} twinship.dirty={self.dirty_bytes_s} "
            f"twinship.hot={self.hot_bytes} twinship.disk={self.disk_bytes_s}"
        )


def build(cache: Path) -> MicroGuest:
    """Makes the guest below ``cache``, where it stays until its source or kernel changes.

    Raises :class:`twinship_lab.NotReady` without a kernel or a C compiler.
    """
    kernel = find_kernel(cache / "kernel")
    key = hashlib.sha256(SOURCE.read_bytes() + " ".join(COMPILE).encode())
    for module in kernel.modules:
        key.update(module.read_bytes())
    initrd = cache / f"micro-{key.hexdigest()[:16]}.cpio.gz"
    if not initrd.exists():
        modules = {f"modules/{path.name}": path.read_bytes() for path in kernel.modules}
        order = "\n".join(path.name for path in kernel.modules) + "\n"
        content = {"init": _compiled(cache), "modules/order": order.encode(), **modules}
        fresh = initrd.with_suffix(".new")
        fresh.write_bytes(archive(content))
        fresh.rename(initrd)
    return MicroGuest(kernel.image, initrd)


def _compiled(cache: Path) -> bytes:
    with tempfile.TemporaryDirectory(dir=cache) as directory:
        program = Path(directory) / "init"
        run(["cc", *COMPILE, "-o", str(program), str(SOURCE)])
        run(["strip", str(program)])
        return program.read_bytes()
