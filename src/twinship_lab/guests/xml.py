"""The domain XML of the lab's guests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as Tree

from twinship_lab.guests.debian import COMMAND_LINE, DebianGuest
from twinship_lab.guests.micro import Load, MicroGuest
from twinship_lab.storage import SharedDisk

LOG_DIRECTORY = "/var/log/libvirt"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileDisk:
    """A disk in a file of the host."""

    path: str
    format: str = "qcow2"


Disk = FileDisk | SharedDisk


@dataclass(frozen=True, slots=True, kw_only=True)
class Firmware:
    """UEFI: the code, and the variables' file on the host with the template it is made from."""

    code: Path
    template: Path
    nvram: str


def micro_domain(
    name: str,
    guest: MicroGuest,
    *,
    accel: str = "qemu",
    memory_mib: int = 256,
    disks: tuple[Disk, ...] = (),
    load: Load | None = None,
    firmware: Firmware | None = None,
) -> str:
    """A VM that boots the micro guest: virtio disks from vda on, a serial console, an agent."""
    root, os = _head(name, accel, memory_mib)
    if firmware is not None:
        _text(os, "loader", str(firmware.code), readonly="yes", type="pflash")
        _text(os, "nvram", firmware.nvram, template=str(firmware.template))
    _text(os, "kernel", str(guest.kernel))
    _text(os, "initrd", str(guest.initrd))
    _text(os, "cmdline", (load or Load()).command_line())
    Tree.SubElement(Tree.SubElement(root, "features"), "acpi")
    Tree.SubElement(root, "clock", offset="utc")
    _text(root, "on_crash", "destroy")
    devices = _devices(root, name, disks)
    channel = Tree.SubElement(devices, "channel", type="unix")
    Tree.SubElement(channel, "target", type="virtio", name="org.qemu.guest_agent.0")
    return Tree.tostring(root, encoding="unicode")


def debian_domain(
    name: str,
    guest: DebianGuest,
    *,
    accel: str,
    memory_mib: int,
    disks: tuple[Disk, ...],
    network: str = "",
) -> str:
    """A VM that boots the Debian guest from its first disk, with an agent and perhaps a NIC."""
    root, os = _head(name, accel, memory_mib)
    _text(os, "kernel", str(guest.kernel))
    _text(os, "initrd", str(guest.initrd))
    _text(os, "cmdline", COMMAND_LINE)
    Tree.SubElement(Tree.SubElement(root, "features"), "acpi")
    Tree.SubElement(root, "cpu", mode="maximum")
    Tree.SubElement(root, "clock", offset="utc")
    devices = _devices(root, name, disks)
    channel = Tree.SubElement(devices, "channel", type="unix")
    Tree.SubElement(channel, "target", type="virtio", name="org.qemu.guest_agent.0")
    _text(
        Tree.SubElement(devices, "rng", model="virtio"), "backend", "/dev/urandom", model="random"
    )
    if network:
        nic = Tree.SubElement(devices, "interface", type="network")
        Tree.SubElement(nic, "source", network=network)
        Tree.SubElement(nic, "model", type="virtio")
    return Tree.tostring(root, encoding="unicode")


def rom_domain(name: str, rom: Path, *, memory_mib: int, disks: tuple[Disk, ...] = ()) -> str:
    """A VM whose firmware is the ROM guest. Emulated, so that its timer tells the same anywhere."""
    root, os = _head(name, "qemu", memory_mib)
    _text(os, "loader", str(rom), readonly="yes", type="rom")
    _text(root, "on_crash", "destroy")
    _devices(root, name, disks)
    return Tree.tostring(root, encoding="unicode")


def _head(name: str, accel: str, memory_mib: int) -> tuple[Tree.Element, Tree.Element]:
    """The domain, and its ``<os>``."""
    root = Tree.Element("domain", type=accel)
    _text(root, "name", name)
    _text(root, "memory", str(memory_mib), unit="MiB")
    _text(root, "vcpu", "1")
    os = Tree.SubElement(root, "os")
    _text(os, "type", "hvm", arch="x86_64", machine="q35")
    return root, os


def _devices(root: Tree.Element, name: str, disks: tuple[Disk, ...]) -> Tree.Element:
    """The disks, and a serial console that is logged."""
    devices = Tree.SubElement(root, "devices")
    Tree.SubElement(devices, "controller", type="usb", model="none")
    for number, disk in enumerate(disks):
        devices.append(_disk(disk, f"vd{chr(ord('a') + number)}"))
    serial = Tree.SubElement(devices, "serial", type="pty")
    Tree.SubElement(serial, "log", file=f"{LOG_DIRECTORY}/{_file_name(name)}.console", append="on")
    Tree.SubElement(serial, "target", type="isa-serial", port="0")
    Tree.SubElement(devices, "memballoon", model="none")
    return devices


def _disk(disk: Disk, target: str) -> Tree.Element:
    if isinstance(disk, FileDisk):
        element = Tree.Element("disk", type="file", device="disk")
        Tree.SubElement(element, "driver", name="qemu", type=disk.format)
        Tree.SubElement(element, "source", file=disk.path)
    else:
        element = Tree.Element("disk", type="network", device="disk")
        Tree.SubElement(element, "driver", name="qemu", type="raw", cache="none")
        source = Tree.SubElement(element, "source", protocol="nbd", name=disk.export)
        Tree.SubElement(source, "host", name=disk.host, port=str(disk.port))
    Tree.SubElement(element, "target", dev=target, bus="virtio")
    return element


def _file_name(name: str) -> str:
    return "".join(char if char.isalnum() or char in "-_." else "_" for char in name)[:80]


def _text(parent: Tree.Element, tag: str, text: str, **attributes: str) -> None:
    Tree.SubElement(parent, tag, attributes).text = text
