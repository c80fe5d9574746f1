"""The ROM guest: a firmware that is the whole guest, and checks its own memory (see ``rom.S``)."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path

from twinship_lab.errors import LabError
from twinship_lab.programs import run

SOURCE = Path(__file__).with_name("rom.S")
PAGE_BYTES = 4096
BASE_BYTES = 2 * 2**20
SLOTS_PER_S = 100
BASE_ADDRESS = 0xFFFF0000


@dataclass(frozen=True, slots=True, kw_only=True)
class RomLoad:
    """What the guest does: pages it writes over, in bytes, and how fast, in bytes/s."""

    hot_bytes: int = 16 * 2**20
    dirty_bytes_s: int = 0

    @property
    def hot_pages(self) -> int:
        """At least one."""
        return max(1, self.hot_bytes // PAGE_BYTES)

    @property
    def slot_pages(self) -> int:
        """Pages in each slot of 10 ms; the rate is rounded up to a page."""
        return -(-self.dirty_bytes_s // (PAGE_BYTES * SLOTS_PER_S))


def build_rom(cache: Path, load: RomLoad, memory_bytes: int) -> Path:
    """The firmware for this load, made once below ``cache``.

    Raises :class:`twinship_lab.LabError` when the pages do not fit the memory, or without an
    assembler.
    """
    if BASE_BYTES + load.hot_bytes > memory_bytes:
        raise LabError(
            f"{load.hot_bytes} bytes of hot memory do not fit {memory_bytes} bytes of memory",
            hint=f"the first {BASE_BYTES} bytes are not written over",
        )
    symbols = [f"HOT_PAGES={load.hot_pages}", f"SLOT_PAGES={load.slot_pages}"]
    key = hashlib.sha256(SOURCE.read_bytes() + " ".join(symbols).encode()).hexdigest()[:16]
    rom = cache / f"rom-{key}.bin"
    if not rom.exists():
        with tempfile.TemporaryDirectory(dir=cache) as directory:
            unlinked, fresh = Path(directory) / "rom.o", Path(directory) / "rom.bin"
            defined = [f"-Wa,--defsym,{symbol}" for symbol in symbols]
            run(["cc", "-m32", "-c", *defined, "-o", str(unlinked), str(SOURCE)])
            link = ["ld", "-m", "elf_i386", f"-Ttext={BASE_ADDRESS:#x}", "--oformat", "binary"]
            run([*link, "-o", str(fresh), str(unlinked)])
            fresh.chmod(0o644)
            fresh.rename(rom)
    return rom
