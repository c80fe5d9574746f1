"""Whether KVM really runs a guest here: some machines offer a /dev/kvm on which no Linux boots."""

from __future__ import annotations

import select
import subprocess
import time
from pathlib import Path

from twinship_lab.guests.micro import Load, MicroGuest

BOOT_S = 8.0
SIGN = b"twinship guest is up"


def acceleration(cache: Path, guest: MicroGuest) -> str:
    """``kvm`` if the micro guest has booted under it on this machine, else ``qemu`` (emulation).

    Tried once for each boot of the machine and kept in ``cache``.
    """
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    verdict = cache / "acceleration"
    known = verdict.read_text().split() if verdict.exists() else []
    if len(known) == 2 and known[0] == boot:
        return known[1]
    found = "kvm" if Path("/dev/kvm").exists() and _boots(guest) else "qemu"
    verdict.write_text(f"{boot} {found}\n")
    return found


def _boots(guest: MicroGuest) -> bool:
    command = ["qemu-system-x86_64", "-accel", "kvm", "-m", "128", "-nodefaults", "-no-user-config"]
    command += ["-display", "none", "-serial", "stdio", "-no-reboot"]
    command += ["-kernel", str(guest.kernel), "-initrd", str(guest.initrd)]
    command += ["-append", Load().command_line()]
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    seen, deadline = b"", time.monotonic() + BOOT_S
    try:
        while SIGN not in seen and process.stdout is not None:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([process.stdout], [], [], left)[0]:
                return False
            data = process.stdout.read1(4096)  # type: ignore[attr-defined]
            if not data:
                return False
            seen += data
        return True
    finally:
        process.kill()
        process.wait()
