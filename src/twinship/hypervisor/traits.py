"""What a host tells of itself only when it is asked: firmware, devices, pages, filters.

Each answer is None where the host's libvirt has no driver for the question, so that what cannot be
seen is never taken for a pass.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from typing import Any

import libvirt
from lxml import etree

from twinship.domxml.document import parse, text_of
from twinship.hypervisor.connection import Connection
from twinship.hypervisor.translate import translated

_NOT_TOLD = (
    libvirt.VIR_ERR_NO_SUPPORT,
    libvirt.VIR_ERR_CONFIG_UNSUPPORTED,
    libvirt.VIR_ERR_OPERATION_UNSUPPORTED,
    libvirt.VIR_ERR_INTERNAL_ERROR,
    libvirt.VIR_ERR_OPERATION_DENIED,
)


def bios(connection: Connection) -> str | None:
    """Vendor, version and date of the host's own firmware (its SMBIOS table 0)."""
    text = _asked(connection, lambda raw: raw.getSysinfo(0))
    if text is None:
        return None
    entries = {entry.get("name"): entry.text or "" for entry in parse(text).iterfind("bios/entry")}
    return " ".join(filter(None, (entries.get(key) for key in ("vendor", "version", "date"))))


def links(connection: Connection) -> dict[str, int] | None:
    """The host's network devices, each with its MTU (0 where it is not told)."""
    flags = libvirt.VIR_CONNECT_LIST_NODE_DEVICES_CAP_NET
    devices = _asked(connection, lambda raw: raw.listAllDevices(flags))
    if devices is None:
        return None
    found = {text_of(_described(device), "capability/interface"): 0 for device in devices}
    for interface in _asked(connection, lambda raw: raw.listAllInterfaces(0)) or ():
        mtu = _described(interface).find("mtu")
        found[interface.name()] = int(mtu.get("size", "0")) if mtu is not None else 0
    found.pop("", None)
    return found


def bridges(connection: Connection) -> frozenset[str] | None:
    """The host's bridges, those of libvirt's own networks among them."""
    known = _asked(connection, lambda raw: raw.listAllInterfaces(0))
    if known is None:
        return None
    return frozenset(one.name() for one in known if _described(one).get("type") == "bridge")


def secrets(connection: Connection) -> frozenset[str] | None:
    """The secrets the host keeps, as UUID and what they are for; never a value."""
    known = _asked(connection, lambda raw: raw.listAllSecrets(0))
    if known is None:
        return None
    return frozenset(f"{one.UUIDString()} {one.usageID()}".strip() for one in known)


def filters(connection: Connection) -> frozenset[str] | None:
    """The network filters the host has."""
    known = _asked(connection, lambda raw: raw.listAllNWFilters(0))
    return None if known is None else frozenset(item.name() for item in known)


def devices(connection: Connection) -> frozenset[str] | None:
    """PCI addresses, USB ``vendor:product`` and UUIDs of mediated devices."""
    flags = (
        libvirt.VIR_CONNECT_LIST_NODE_DEVICES_CAP_PCI_DEV
        | libvirt.VIR_CONNECT_LIST_NODE_DEVICES_CAP_USB_DEV
        | libvirt.VIR_CONNECT_LIST_NODE_DEVICES_CAP_MDEV
    )
    known = _asked(connection, lambda raw: raw.listAllDevices(flags))
    if known is None:
        return None
    places = set()
    for device in known:
        capability = _described(device).find("capability")
        if capability is not None:
            places.add(_place(capability))
    return frozenset(places - {""})


def free_pages(connection: Connection, sizes: Collection[int]) -> dict[int, int] | None:
    """Free bytes in pages of these sizes (bytes), all NUMA nodes together."""
    kib = [size // 1024 for size in sizes]
    free = dict.fromkeys(sizes, 0)
    cells = _asked(connection, lambda raw: raw.getFreePages(kib, 0, _cells(raw), 0))
    if cells is None:
        return None
    for counts in cells.values():
        for size, count in counts.items():
            free[size * 1024] = free.get(size * 1024, 0) + size * 1024 * count
    return free


def page_sizes(connection: Connection) -> tuple[int, ...]:
    """The page sizes of the host's CPU in bytes, smallest first."""
    text = _asked(connection, lambda raw: raw.getCapabilities()) or "<capabilities/>"
    sizes = (int(page.get("size", "0")) for page in parse(text).iterfind("host/cpu/pages"))
    return tuple(sorted(size * 1024 for size in sizes))


def machines(connection: Connection, arch: str) -> frozenset[str] | None:
    """The machine types the host's QEMU has for an architecture, with their aliases."""
    text = _asked(connection, lambda raw: raw.getCapabilities())
    if text is None:
        return None
    found = set()
    for guest_arch in parse(text).iterfind("guest/arch"):
        if guest_arch.get("name") == arch:
            found |= {(machine.text or "").strip() for machine in guest_arch.iter("machine")}
    return frozenset(found)


def _cells(raw: Any) -> int:
    return len(parse(raw.getCapabilities()).findall("host/topology/cells/cell")) or 1


def _place(capability: etree._Element) -> str:
    match capability.get("type"):
        case "pci":
            parts = ("domain", "bus", "slot", "function")
            numbers = [int(text_of(capability, part) or "0") for part in parts]
            return "{:04x}:{:02x}:{:02x}.{:x}".format(*numbers)
        case "usb_device":
            ids = (capability.find(tag) for tag in ("vendor", "product"))
            found = ":".join(one.get("id", "") if one is not None else "" for one in ids)
            return found.lower().replace("0x", "")
        case "mdev":
            return text_of(capability, "uuid")
    return ""


def _described(thing: Any) -> etree._Element:
    """The XML of a device or interface; an empty one when it went since it was listed."""
    with suppress(libvirt.libvirtError):
        return parse(thing.XMLDesc(0))
    return etree.Element("gone")


def _asked(connection: Connection, question: Any) -> Any | None:
    try:
        return question(connection.raw)
    except libvirt.libvirtError as error:
        if error.get_error_code() in _NOT_TOLD:
            return None
        raise translated(error, f"ask host {connection.name} what it has") from error
