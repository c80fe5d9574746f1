"""The guard over a base: its disks are read-only in its definition, against virsh as well.

The mark names the disks that were made read-only for it, so that they can be what they were::

    <twinship:guard disks="vda vdb"/>

libvirt takes read-only disks on virtio, SCSI and USB; it refuses them on IDE and SATA (libvirt 9.0,
qemuValidateDomainDeviceDefDiskFrontend), where a base stays as it is.
"""

from __future__ import annotations

from collections.abc import Collection

from lxml import etree

from twinship.domxml.document import parse, serialize
from twinship.domxml.rewrite import mark_of, with_mark, without_mark

KIND = "guard"
_BUSES = ("virtio", "scsi", "usb")


def guarded(text: str, targets: Collection[str]) -> str:
    """The definition with these disks read-only, as far as their bus allows, and the mark."""
    root = parse(unguarded(text))
    made = []
    for disk in root.iterfind("devices/disk"):
        target = disk.find("target")
        name = target.get("dev", "") if target is not None else ""
        if name not in targets or target is None or disk.find("readonly") is not None:
            continue
        if target.get("bus", "") in _BUSES:
            etree.SubElement(disk, "readonly")
            made.append(name)
    return with_mark(serialize(root), KIND, {"disks": " ".join(made)}) if made else text


def unguarded(text: str) -> str:
    """The definition as it was before, whatever has been changed in it since."""
    mark = mark_of(text, KIND) if KIND in text else None
    if mark is None:
        return text
    names = frozenset(mark.get("disks", "").split())
    root = parse(text)
    for disk in root.iterfind("devices/disk"):
        target, readonly = disk.find("target"), disk.find("readonly")
        if target is not None and readonly is not None and target.get("dev", "") in names:
            disk.remove(readonly)
    return without_mark(serialize(root), KIND)
