"""What a guest finds when it boots: OEM strings of its SMBIOS, and a drive with a seed image."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count

from lxml import etree

from twinship.domxml.document import parse, serialize
from twinship.model.errors import UsageError

MOST_OEM_BYTES = 48 * 1024
"""All OEM strings together: SMBIOS tables of the 32-bit entry point end at 64 KiB (SMBIOS 2.1)."""

_SMBIOS_ARCHES = ("x86_64", "i686", "aarch64")
_ALPHABET = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class _Bus:
    """A bus that takes CD-ROM drives, and how many fit on its first controller."""

    name: str
    prefix: str
    places: int


_IDE = _Bus("ide", "hd", 4)
_SATA = _Bus("sata", "sd", 6)
_SCSI = _Bus("scsi", "sd", 7)


def with_oem_strings(text: str, entries: Sequence[str]) -> str:
    """The definition with these SMBIOS OEM strings (type 11) beside those it has.

    One of the same key, which is what stands before the first ``=``, is replaced: systemd takes the
    first of two credentials of one name, and a clone of a clone has its parent's. libvirt has OEM
    strings since 4.1.0.

    Raises :class:`UsageError` (``OEM_STRINGS_REFUSED``) where the guest's machine has no SMBIOS,
    shows its host's, has been told not to show what ``<sysinfo>`` says, or when it is too much.
    """
    if not entries:
        return text
    root = parse(text)
    for entry in entries:
        if not entry or any(unicodedata.category(char) in ("Cc", "Cs") for char in entry):
            raise _refused("one is empty or has a control character")
    _show_sysinfo(root)
    holder = _child(_smbios(root), "oemStrings")
    keys = {_key(entry) for entry in entries}
    for old in holder.findall("entry"):
        if _key(old.text or "") in keys:
            holder.remove(old)
    for entry in entries:
        etree.SubElement(holder, "entry").text = entry
    length = sum(len((entry.text or "").encode()) + 1 for entry in holder)
    if length > MOST_OEM_BYTES:
        raise _refused(
            f"they have {length} bytes, there is room for {MOST_OEM_BYTES}",
            hint="large files fit on a cloud-init image",
        )
    return serialize(root)


def with_seed(text: str, path: str) -> tuple[str, str]:
    """The definition with a read-only drive holding the image at ``path``, and the drive's target.

    A CD-ROM where the machine has a place for one: SATA of q35, IDE of i440fx, else virtio-scsi
    where there is a controller. A virtio disk where there is none: cloud-init goes by the label.
    """
    root = parse(text)
    devices = _child(root, "devices")
    names = {target.get("dev", "") for target in root.iterfind("devices/disk/target")}
    for bus in _buses(root):
        controller = min(_controllers(root, bus), default=0)
        place = next(iter(set(range(bus.places)) - _used(root, bus, controller)), None)
        if place is None:
            continue
        target = next(name for name in _names(bus.prefix) if name not in names)
        disk = _drive(devices, path, "cdrom", target, bus.name)
        across, unit = divmod(place, 2) if bus is _IDE else (0, place)
        where = {"type": "drive", "controller": str(controller), "bus": str(across), "target": "0"}
        etree.SubElement(disk, "address", attrib={**where, "unit": str(unit)})
        return serialize(root), target
    target = next(name for name in _names("vd") if name not in names)
    _drive(devices, path, "disk", target, "virtio")
    return serialize(root), target


def _show_sysinfo(root: etree._Element) -> None:
    kind, os = root.find("os/type"), root.find("os")
    arch = kind.get("arch", "x86_64") if kind is not None else ""
    if os is None or arch not in _SMBIOS_ARCHES:
        raise _refused(f"a guest of {arch or 'its kind'} has no SMBIOS")
    mode = os.find("smbios")
    if mode is None:
        mode = etree.SubElement(os, "smbios")
    elif mode.get("mode") == "host":
        raise _refused("its SMBIOS is its host's")
    elif mode.get("mode") == "emulate" and root.find("sysinfo[@type='smbios']") is not None:
        raise _refused("it has a <sysinfo> that it does not show (smbios mode emulate)")
    mode.set("mode", "sysinfo")


def _smbios(root: etree._Element) -> etree._Element:
    found = root.find("sysinfo[@type='smbios']")
    if found is not None:
        return found
    made = etree.Element("sysinfo", type="smbios")
    os = root.find("os")
    root.insert(0 if os is None else root.index(os), made)
    return made


def _key(entry: str) -> str:
    """What two entries that say the same thing have in common."""
    name, equals, _ = entry.partition("=")
    if not equals:
        return entry
    return name.replace("io.systemd.credential.binary:", "io.systemd.credential:", 1)


def _buses(root: etree._Element) -> Iterator[_Bus]:
    kind = root.find("os/type")
    machine = kind.get("machine", "") if kind is not None else ""
    if "q35" in machine or _controllers(root, _SATA):
        yield _SATA
    if machine == "pc" or "i440fx" in machine:
        yield _IDE
    if _controllers(root, _SCSI):
        yield _SCSI


def _controllers(root: etree._Element, bus: _Bus) -> list[int]:
    """The numbers of the bus's controllers; of SCSI those that number their disks by unit."""
    return [
        int(controller.get("index", "0"))
        for controller in root.findall(f"devices/controller[@type='{bus.name}']")
        if bus is not _SCSI or controller.get("model", "").startswith("virtio")
    ]


def _used(root: etree._Element, bus: _Bus, controller: int) -> set[int]:
    """The places of a controller that are taken; by name where libvirt has not yet given one."""
    used = set()
    for disk in root.findall("devices/disk"):
        target, address = disk.find("target"), disk.find("address[@type='drive']")
        if target is None or target.get("bus") != bus.name:
            continue
        if address is None:
            used.add(_number(target.get("dev", "")[len(bus.prefix) :]) - controller * bus.places)
        elif address.get("controller", "0") == str(controller):
            width = 2 if bus is _IDE else 0
            used.add(int(address.get("bus", "0")) * width + int(address.get("unit", "0")))
    return used


def _drive(
    devices: etree._Element, path: str, device: str, target: str, bus: str
) -> etree._Element:
    disk = etree.SubElement(devices, "disk", type="file", device=device)
    etree.SubElement(disk, "driver", name="qemu", type="raw")
    etree.SubElement(disk, "source", file=path)
    etree.SubElement(disk, "target", dev=target, bus=bus)
    etree.SubElement(disk, "readonly")
    return disk


def _names(prefix: str) -> Iterator[str]:
    """``sda``, ..., ``sdz``, ``sdaa``, ..."""
    for number in count(1):
        letters = ""
        while number:
            number, rest = divmod(number - 1, 26)
            letters = _ALPHABET[rest] + letters
        yield prefix + letters


def _number(letters: str) -> int:
    """The place of a name in that order, from 0; -1 for what is no such name."""
    number = 0
    for letter in letters:
        if letter not in _ALPHABET:
            return -1
        number = number * 26 + _ALPHABET.index(letter) + 1
    return number - 1


def _child(parent: etree._Element, tag: str) -> etree._Element:
    found = parent.find(tag)
    return found if found is not None else etree.SubElement(parent, tag)


def _refused(why: str, hint: str = "") -> UsageError:
    return UsageError(
        f"cannot give the guest OEM strings: {why}", code="OEM_STRINGS_REFUSED", hint=hint
    )
