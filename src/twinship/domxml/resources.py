"""What a definition holds that nobody else can hold: host resources, and identities; pure.

A table: each row finds one kind. What holds ``ANYWHERE`` must be one VM's on all hosts; what holds
``ON_HOST`` only keeps two VMs of one host from running at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from lxml import etree

from twinship.domxml.document import parse, text_of


class Reach(StrEnum):
    """Where a thing can be held once."""

    ANYWHERE = "anywhere"
    ON_HOST = "on a host"


@dataclass(frozen=True, slots=True)
class Held:
    """One thing a VM holds: ``MAC address 52:54:00:…``."""

    kind: str
    value: str
    reach: Reach

    def __str__(self) -> str:
        return f"{self.kind} {self.value}"


Finder = Callable[[etree._Element], Iterator[str]]
_ROWS: list[tuple[str, Reach, Finder]] = []


def _row(kind: str, reach: Reach) -> Callable[[Finder], Finder]:
    def add(find: Finder) -> Finder:
        _ROWS.append((kind, reach, find))
        return find

    return add


def resources(text: str) -> frozenset[Held]:
    """Everything a definition holds. UUIDs and names are libvirt's own business on one host."""
    root = parse(text)
    return frozenset(
        Held(kind, value, reach) for kind, reach, find in _ROWS for value in find(root) if value
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """A VM and what it holds."""

    host: str
    name: str
    uuid: str
    holds: frozenset[Held]


@dataclass(frozen=True, slots=True, kw_only=True)
class Collision:
    """Two VMs that hold the same."""

    held: Held
    one: Owner
    other: Owner


def collisions(owners: Iterable[Owner]) -> tuple[Collision, ...]:
    """Every thing that two VMs hold, each with the first VM that has it.

    Copies of one VM (one UUID on several hosts) are no collision: that is another matter.
    """
    first: dict[tuple[Held, str], Owner] = {}
    found = []
    for owner in owners:
        for held in sorted(owner.holds, key=str):
            place = owner.host if held.reach is Reach.ON_HOST else ""
            known = first.setdefault((held, place), owner)
            if known.uuid != owner.uuid:
                found.append(Collision(held=held, one=known, other=owner))
    return tuple(found)


@_row("MAC address", Reach.ANYWHERE)
def _macs(root: etree._Element) -> Iterator[str]:
    for mac in root.iterfind("devices/interface/mac"):
        yield mac.get("address", "").lower()


@_row("generation id", Reach.ANYWHERE)
def _genid(root: etree._Element) -> Iterator[str]:
    yield text_of(root, "genid").lower()


@_row("Open vSwitch interface id", Reach.ANYWHERE)
def _interface_ids(root: etree._Element) -> Iterator[str]:
    for parameters in root.iterfind("devices/interface/virtualport/parameters"):
        yield parameters.get("interfaceid", "").lower()


@_row("tap device", Reach.ON_HOST)
def _taps(root: etree._Element) -> Iterator[str]:
    """Names beginning with ``vnet`` are libvirt's own, new at each start."""
    for target in root.iterfind("devices/interface/target"):
        name = target.get("dev", "")
        yield "" if name.startswith(("vnet", "macvtap")) else name


@_row("vsock context id", Reach.ON_HOST)
def _vsock(root: etree._Element) -> Iterator[str]:
    for cid in root.iterfind("devices/vsock/cid"):
        yield "" if cid.get("auto") == "yes" else cid.get("address", "")


@_row("TCP port", Reach.ON_HOST)
def _ports(root: etree._Element) -> Iterator[str]:
    for graphics in root.iterfind("devices/graphics"):
        names = ("tlsPort", "websocket") if graphics.get("autoport") == "yes" else _PORTS
        for name in names:
            port = graphics.get(name, "")
            yield port if port.isdigit() and int(port) > 0 else ""
    for source in root.iterfind("devices/*[@type='tcp']/source[@mode='bind']"):
        yield source.get("service", "")


_PORTS = ("port", "tlsPort", "websocket")


@_row("UDP port", Reach.ON_HOST)
def _udp(root: etree._Element) -> Iterator[str]:
    for source in root.iterfind("devices/*[@type='udp']/source[@mode='bind']"):
        yield source.get("service", "")


@_row("socket", Reach.ON_HOST)
def _sockets(root: etree._Element) -> Iterator[str]:
    for source in root.iterfind("devices/*[@type='unix']/source"):
        yield source.get("path", "") if source.get("mode", "bind") == "bind" else ""
    for holder in (*root.iterfind("devices/graphics"), *root.iterfind("devices/graphics/listen")):
        yield holder.get("socket", "")
    for source in root.iterfind("devices/filesystem/source[@socket]"):
        yield source.get("socket", "")


@_row("file", Reach.ON_HOST)
def _files(root: etree._Element) -> Iterator[str]:
    """Files that are written: of two writers one destroys what the other wrote."""
    for disk in root.iterfind("devices/disk[@type='file']"):
        source = disk.find("source")
        shared = disk.find("readonly") is not None or disk.find("shareable") is not None
        if source is not None and not shared and disk.get("device", "disk") != "cdrom":
            yield source.get("file", "")
    for device in root.iterfind("devices/*[@type='file']/source"):
        yield device.get("path", "")
    for log in root.iterfind("devices/*/log"):
        yield log.get("file", "")
    nvram = root.find("os/nvram")
    if nvram is not None:
        source = nvram.find("source")
        yield source.get("file", "") if source is not None else (nvram.text or "").strip()
    for path in root.iterfind("devices/memory/source/path"):
        yield (path.text or "").strip()


@_row("host device", Reach.ON_HOST)
def _hostdevs(root: etree._Element) -> Iterator[str]:
    devices = (
        *root.iterfind("devices/hostdev"),
        *root.iterfind("devices/interface[@type='hostdev']"),
    )
    for device in devices:
        address = device.find("source/address")
        if address is not None:
            yield " ".join(f"{key!s}={value!s}" for key, value in sorted(address.items()))


@_row("shared memory", Reach.ON_HOST)
def _shmem(root: etree._Element) -> Iterator[str]:
    """Of a server: peers share it on purpose."""
    for shmem in root.iterfind("devices/shmem"):
        yield shmem.get("name", "") if shmem.get("role", "master") == "master" else ""
