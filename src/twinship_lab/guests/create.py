"""Making a guest on a lab host: its disks, then its definition."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from twinship_lab.errors import LabError
from twinship_lab.guests.accel import acceleration
from twinship_lab.guests.debian import build_debian
from twinship_lab.guests.micro import Load, build
from twinship_lab.guests.rom import RomLoad, build_rom
from twinship_lab.guests.xml import (
    Disk,
    FileDisk,
    Firmware,
    debian_domain,
    micro_domain,
    rom_domain,
)
from twinship_lab.host import LabHost
from twinship_lab.programs import run
from twinship_lab.storage import SharedDisk

IMAGES = "/var/lib/libvirt/images"
OVMF = Path("/usr/share/OVMF")
DEBIAN_MIB = 384
"""The least memory that the Debian guest is given."""
NVRAM = "/var/lib/libvirt/qemu/nvram"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewDisk:
    """A disk to be made: its size for the guest, and how much of its first half holds data."""

    size_bytes: int
    format: str = "qcow2"
    data_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestSpec:
    """What to make. ``shared`` disks are already served to all hosts.

    With ``rom`` it is the ROM guest, which does not look at ``load``, ``uefi`` or its disks. With
    ``debian`` it is the Debian guest, its system on the first disk, before those in ``disks``;
    ``network`` is the libvirt network it has a card in.
    """

    disks: tuple[NewDisk, ...] = ()
    shared: tuple[SharedDisk, ...] = ()
    memory_mib: int = 256
    load: Load = field(default_factory=Load)
    rom: RomLoad | None = None
    debian: bool = False
    network: str = ""
    uefi: bool = False
    start: bool = False


def create_guest(host: LabHost, cache: Path, name: str, spec: GuestSpec) -> None:
    """Makes the disks ``NAME.qcow2``, ``NAME-vdb.raw``, ... and defines the VM.

    Raises :class:`twinship_lab.LabError` with what the host's tools said.
    """
    disks: list[Disk] = list(spec.shared)
    if spec.debian:
        disks.insert(0, _installed(host, cache, name))
    for disk in spec.disks:
        disks.append(_made(host, name, disk, len(disks)))
    if spec.disks or spec.debian:
        host.run(["virsh", "-q", "pool-refresh", "default"])
    xml = _domain(cache, name, spec, tuple(disks))
    host.run(["virsh", "-q", "define", "--validate", "/dev/stdin"], input=xml.encode())
    if spec.start:
        host.run(["virsh", "-q", "start", "--domain", name])


def _domain(cache: Path, name: str, spec: GuestSpec, disks: tuple[Disk, ...]) -> str:
    if spec.rom is not None:
        rom = build_rom(cache, spec.rom, spec.memory_mib * 2**20)
        return rom_domain(name, rom, memory_mib=spec.memory_mib, disks=disks)
    guest = build(cache)
    if spec.debian:
        return debian_domain(
            name,
            build_debian(cache),
            accel=acceleration(cache, guest),
            memory_mib=max(spec.memory_mib, DEBIAN_MIB),
            disks=disks,
            network=spec.network,
        )
    firmware = None
    if spec.uefi:
        firmware = Firmware(
            code=OVMF / "OVMF_CODE_4M.fd",
            template=OVMF / "OVMF_VARS_4M.fd",
            nvram=f"{NVRAM}/{name}_VARS.fd",
        )
    return micro_domain(
        name,
        guest,
        accel=acceleration(cache, guest),
        memory_mib=spec.memory_mib,
        disks=disks,
        load=spec.load,
        firmware=firmware,
    )


def _installed(host: LabHost, cache: Path, name: str) -> FileDisk:
    """A copy of the installed system."""
    path = f"{IMAGES}/{name}.qcow2"
    outside = host.outside(path)
    if outside.exists():
        raise LabError(f"{path} is there already on {host.name}")
    run(["cp", "--sparse=always", str(build_debian(cache).image), str(outside)], timeout_s=600)
    return FileDisk(path=path)


def _made(host: LabHost, name: str, disk: NewDisk, number: int) -> FileDisk:
    target = f"vd{chr(ord('a') + number)}"
    file = f"{name}{'' if number == 0 else f'-{target}'}.{disk.format}"
    path = f"{IMAGES}/{file}"
    if disk.data_bytes:
        _filled(host, path, disk)
    else:
        host.run(["qemu-img", "create", "-q", "-f", disk.format, path, str(disk.size_bytes)])
    return FileDisk(path=path, format=disk.format)


def _filled(host: LabHost, path: str, disk: NewDisk) -> None:
    """A disk with random data, which nothing on the way can squeeze, in its first half."""
    data = host.outside(f"{path}.data")
    try:
        with data.open("wb") as file:
            left = min(disk.data_bytes, disk.size_bytes // 2)
            while left > 0:
                left -= file.write(os.urandom(min(left, 2**24)))
            file.truncate(disk.size_bytes)
        convert = ["qemu-img", "convert", "-q", "-f", "raw", "-O", disk.format]
        host.run([*convert, f"{path}.data", path], timeout_s=600)
    finally:
        data.unlink(missing_ok=True)
