"""What a VM needs of its host besides disks: processors, memory, devices, files; pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from lxml import etree

from twinship.domxml.document import parse, text_of
from twinship.domxml.identity_edits import CHARDEVS
from twinship.domxml.read import bytes_of

_FORCED = ("require", "force", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class HostDevice:
    """A device of the host that the guest has.

    ``kind`` is libvirt's (``pci``, ``usb``, ``mdev``, ``scsi``), ``sriov`` for an interface that is
    a virtual function. ``place`` is a PCI address, ``vendor:product`` of a USB device, or a UUID.
    ``standby``: the guest has a second interface that takes over (``<teaming>``, libvirt 7.1), so
    that QEMU unplugs this one before a move.
    """

    kind: str
    words: str
    place: str = ""
    standby: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Screen:
    """A remote screen: where it listens. ``port`` 0: libvirt picks one."""

    kind: str
    address: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What is asked of the target. Sets of numbers are the host's own CPUs and NUMA nodes.

    ``huge_pages`` is page size and bytes of memory in such pages, size 0 for the host's default.
    ``files``: what libvirt opens on the host that is no disk (logs, pipes, sockets, memory files).
    ``binds``: addresses of the host at which something but a screen listens.
    ``firmware`` is what libvirt picks by itself (``efi``), ``loader`` a file that is named.
    """

    features: frozenset[str] = frozenset()
    tsc_hz: int = 0
    cpu_mode: str = ""
    pinned_cpus: frozenset[int] = frozenset()
    numa_nodes: frozenset[int] = frozenset()
    vcpus: int = 1
    huge_pages: tuple[tuple[int, int], ...] = ()
    devices: tuple[HostDevice, ...] = ()
    screens: tuple[Screen, ...] = ()
    binds: tuple[str, ...] = ()
    models: tuple[tuple[str, str], ...] = ()
    files: tuple[str, ...] = ()
    filters: tuple[str, ...] = ()
    loader: str = ""
    firmware: str = ""
    protected: str = ""


def needs(text: str) -> Needs:
    """Reads a whole ``<domain>``; missing parts are empty, never an error."""
    root = parse(text)
    cpu, os = root.find("cpu"), root.find("os")
    security = root.find("launchSecurity")
    return Needs(
        features=frozenset(
            feature.get("name", "")
            for feature in root.iterfind("cpu/feature")
            if feature.get("policy", "") in _FORCED
        ),
        tsc_hz=_number(_attribute(root, "clock/timer[@name='tsc']", "frequency")),
        cpu_mode=cpu.get("mode", "custom") if cpu is not None else "",
        pinned_cpus=frozenset().union(*(cpus(text) for text in _pins(root))),
        numa_nodes=frozenset().union(
            *(cpus(node.get("nodeset", "")) for node in root.iterfind("numatune/*"))
        ),
        vcpus=_number(text_of(root, "vcpu")) or 1,
        huge_pages=tuple(_huge_pages(root)),
        devices=tuple(_devices(root)),
        screens=tuple(_screens(root)),
        binds=tuple(dict.fromkeys(_binds(root))),
        models=tuple(dict.fromkeys(_models(root))),
        files=tuple(dict.fromkeys(_files(root))),
        filters=tuple(
            dict.fromkeys(
                item.get("filter", "") for item in root.iterfind("devices/interface/filterref")
            )
        ),
        loader=text_of(root, "os/loader"),
        firmware=os.get("firmware", "") if os is not None else "",
        protected=security.get("type", "") if security is not None else "",
    )


def cpus(text: str) -> frozenset[int]:
    """A set of CPUs or nodes as libvirt writes it (``1-4,^3,8``); what is no number is left out."""
    chosen: set[int] = set()
    for part in filter(None, (part.strip() for part in text.split(","))):
        first, dash, last = part.lstrip("^").partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            continue
        # libvirt itself takes no more than 16384 CPUs (VIR_DOMAIN_CPUMASK_LEN).
        several = range(int(first), min(int(last or first), int(first) + 16384) + 1)
        chosen = chosen - set(several) if part.startswith("^") else chosen | set(several)
    return frozenset(chosen)


def _pins(root: etree._Element) -> Iterator[str]:
    for path in ("vcpu", "cputune/vcpupin", "cputune/emulatorpin", "cputune/iothreadpin"):
        for element in root.iterfind(path):
            yield element.get("cpuset", "")


def _huge_pages(root: etree._Element) -> Iterator[tuple[int, int]]:
    holder = root.find("memoryBacking/hugepages")
    if holder is None:
        return
    memory, cells = bytes_of(root.find("memory")), root.findall("cpu/numa/cell")
    pages = holder.findall("page")
    if not pages:
        yield 0, memory
    for page in pages:
        size = bytes_of(page, "size")
        nodes = cpus(page.get("nodeset", ""))
        mine = [cell for number, cell in enumerate(cells) if number in nodes]
        yield size, sum(bytes_of(cell, "memory") for cell in mine) if nodes else memory


_DEVICE_WORDS = {
    "pci": "PCI device",
    "usb": "USB device",
    "mdev": "mediated device",
    "scsi": "SCSI device",
    "sriov": "SR-IOV interface",
}


def _devices(root: etree._Element) -> Iterator[HostDevice]:
    for element in root.iterfind("devices/hostdev"):
        yield _device(element, element.get("type", ""))
    for element in root.iterfind("devices/interface[@type='hostdev']"):
        yield _device(element, "sriov")


def _device(element: etree._Element, kind: str) -> HostDevice:
    teaming = element.find("teaming")
    return HostDevice(
        kind=kind,
        words=_DEVICE_WORDS.get(kind, f"{kind or 'host'} device"),
        place=_place(element),
        standby=teaming is not None and teaming.get("type") == "transient",
    )


def _place(element: etree._Element) -> str:
    vendor = _attribute(element, "source/vendor", "id")
    if vendor:
        product = _attribute(element, "source/product", "id")
        return f"{vendor}:{product}".lower().replace("0x", "")
    address = element.find("source/address")
    if address is None:
        return ""
    if address.get("uuid"):
        return str(address.get("uuid"))
    if address.get("slot") is None:
        return ""
    parts = [int(address.get(key, "0"), 0) for key in ("domain", "bus", "slot", "function")]
    return "{:04x}:{:02x}:{:02x}.{:x}".format(*parts)


def _screens(root: etree._Element) -> Iterator[Screen]:
    for graphics in root.iterfind("devices/graphics"):
        port = _number(graphics.get("port", "")) if graphics.get("autoport") != "yes" else 0
        listen = graphics.find("listen")
        address = graphics.get("listen", "")
        if listen is not None:
            address = listen.get("address", "") if listen.get("type") == "address" else ""
        yield Screen(kind=graphics.get("type", ""), address=address, port=port)


# What domain capabilities list the models of: enum there, path here, attribute.
_MODELS = (
    ("video", "devices/video/model", "type"),
    ("graphics", "devices/graphics", "type"),
    ("rng", "devices/rng/backend", "model"),
    ("tpm", "devices/tpm", "model"),
    ("tpm backend", "devices/tpm/backend", "type"),
    ("disk bus", "devices/disk/target", "bus"),
    ("filesystem", "devices/filesystem/driver", "type"),
    ("memory source", "memoryBacking/source", "type"),
)


def _models(root: etree._Element) -> Iterator[tuple[str, str]]:
    for kind, path, attribute in _MODELS:
        for element in root.iterfind(path):
            if element.get(attribute):
                yield kind, str(element.get(attribute))


def _binds(root: etree._Element) -> Iterator[str]:
    for chardev in CHARDEVS:
        for source in root.iterfind(f"devices/{chardev}/source[@mode='bind']"):
            yield source.get("host", "")
    for nic in root.iterfind("devices/interface[@type='server']/source"):
        yield nic.get("address", "")


_LIBVIRTS_OWN = (
    "/var/lib/libvirt/qemu/",
    "/var/log/libvirt/",
    "/run/libvirt/",
    "/var/run/libvirt/",
)
"""Directories that every host with libvirt has, and where it makes the sockets of channels."""


def _files(root: etree._Element) -> Iterator[str]:
    for chardev in CHARDEVS:
        for element in root.iterfind(f"devices/{chardev}"):
            if element.get("type") in ("file", "pipe", "dev", "unix"):
                yield from _foreign(source.get("path") for source in element.iter("source"))
            yield from _foreign(log.get("file") for log in element.iterfind("log"))
    for path in ("devices/memory/source/path", "devices/input/source"):
        for element in root.iterfind(path):
            found = (element.text or "").strip() or element.get("evdev") or element.get("dev")
            if found:
                yield str(found)
    for element in root.iterfind("devices/rng/backend[@model='random']"):
        if (element.text or "").strip() not in ("", "/dev/urandom", "/dev/random"):
            yield (element.text or "").strip()


def _foreign(paths: Iterable[str | None]) -> Iterator[str]:
    return (path for path in paths if path and not path.startswith(_LIBVIRTS_OWN))


def _attribute(root: etree._Element, path: str, name: str) -> str:
    found = root.find(path)
    return found.get(name, "") if found is not None else ""


def _number(text: str) -> int:
    return int(text) if text.strip().isdigit() else 0
