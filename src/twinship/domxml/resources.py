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
from twinship.domxml.identity_edits import CHARDEVS


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


def secrets_named(text: str) -> frozenset[str]:
    """The secrets of libvirt that a definition names: UUIDs, and what they are for."""
    found = parse(text).iter("secret")
    return frozenset(
        value.lower() if name == "uuid" else value
        for secret in found
        for name in ("uuid", "usage")
        if (value := secret.get(name, ""))
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
    for port in root.iterfind("devices/interface/virtualport"):
        if port.get("type") != "midonet":
            yield _attribute(port, "parameters", "interfaceid").lower()


@_row("MidoNet port", Reach.ANYWHERE)
def _midonet_ports(root: etree._Element) -> Iterator[str]:
    for port in root.iterfind("devices/interface/virtualport[@type='midonet']"):
        yield _attribute(port, "parameters", "interfaceid").lower()


@_row("802.1Qbg instance id", Reach.ANYWHERE)
def _instance_ids(root: etree._Element) -> Iterator[str]:
    for parameters in root.iterfind("devices/interface/virtualport/parameters"):
        yield parameters.get("instanceid", "").lower()


@_row("filtered address", Reach.ON_HOST)
def _addresses(root: etree._Element) -> Iterator[str]:
    for parameter in root.iterfind("devices/interface/filterref/parameter[@name='IP']"):
        yield parameter.get("value", "").lower()


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
    for source in _ends(root, "tcp"):
        yield source.get("service", "") if source.get("mode") == "bind" else ""
    for source in root.iterfind("devices/interface[@type='server']/source"):
        yield source.get("port", "")
    yield from _forwarded(root, "tcp")


_PORTS = ("port", "tlsPort", "websocket")


@_row("UDP port", Reach.ON_HOST)
def _udp(root: etree._Element) -> Iterator[str]:
    for source in _ends(root, "udp"):
        yield source.get("service", "") if source.get("mode") == "bind" else ""
    for local in root.iterfind("devices/interface[@type='udp']/source/local"):
        yield local.get("port", "")
    yield from _forwarded(root, "udp")


@_row("socket", Reach.ON_HOST)
def _sockets(root: etree._Element) -> Iterator[str]:
    """Those a VM listens on, and those whose other end serves one VM."""
    for source in _ends(root, "unix"):
        yield source.get("path", "") if source.get("mode") == "bind" else ""
    for holder in (*root.iterfind("devices/graphics"), *root.iterfind("devices/graphics/listen")):
        yield holder.get("socket", "")
    for shared in root.iterfind("devices/filesystem/source[@socket]"):
        yield shared.get("socket", "")
    for tag in ("interface", "disk"):
        for switch in root.iterfind(f"devices/{tag}[@type='vhostuser']/source"):
            yield switch.get("path", "")
    yield _attribute(root, "devices/tpm/backend[@type='external']/source", "path")


@_row("file", Reach.ON_HOST)
def _files(root: etree._Element) -> Iterator[str]:
    """Files that are written: of two writers one destroys what the other wrote."""
    for disk in _written(root, "file"):
        yield _attribute(disk, "source", "file") if disk.get("device", "disk") != "cdrom" else ""
    for source in _ends(root, "file"):
        yield source.get("path", "")
    for path in ("*", *CHARDEVS):
        for log in root.iterfind(f"devices/{path}/log"):
            yield log.get("file", "")
    for backend in root.iterfind("devices/interface/backend"):
        yield backend.get("logFile", "")
    for audio in root.iterfind("devices/audio[@type='file']"):
        yield audio.get("path", "")
    nvram = root.find("os/nvram")
    if nvram is not None and nvram.get("type", "file") == "file":
        yield _attribute(nvram, "source", "file") or (nvram.text or "").strip()
    for memory in root.iterfind("devices/memory"):
        yield text_of(memory, "source/path") if memory.find("target/readonly") is None else ""


@_row("block device", Reach.ON_HOST)
def _block_devices(root: etree._Element) -> Iterator[str]:
    for disk in _written(root, "block"):
        yield _attribute(disk, "source", "dev")


@_row("volume", Reach.ON_HOST)
def _volumes(root: etree._Element) -> Iterator[str]:
    for disk in _written(root, "volume"):
        pool, volume = (_attribute(disk, "source", name) for name in ("pool", "volume"))
        yield f"{pool}/{volume}" if volume else ""


@_row("network disk", Reach.ANYWHERE)
def _network_disks(root: etree._Element) -> Iterator[str]:
    for disk in _written(root, "network"):
        yield _remote(disk)


@_row("firmware variables", Reach.ON_HOST)
def _firmware_variables(root: etree._Element) -> Iterator[str]:
    """Those that are in no file."""
    nvram = root.find("os/nvram")
    if nvram is not None and nvram.get("type", "file") != "file":
        yield _attribute(nvram, "source", "dev") or _remote(nvram)


@_row("TPM state", Reach.ON_HOST)
def _tpm_state(root: etree._Element) -> Iterator[str]:
    yield _attribute(root, "devices/tpm/backend[@type='emulator']/source", "path")


@_row("device file", Reach.ON_HOST)
def _device_files(root: etree._Element) -> Iterator[str]:
    for kind in ("dev", "pipe"):
        for source in _ends(root, kind):
            yield source.get("path", "")
    for source in root.iterfind("devices/input/source"):
        yield source.get("dev", "") or source.get("evdev", "")
    for source in root.iterfind("devices/interface[@type='vdpa']/source"):
        yield source.get("dev", "")
    yield _attribute(root, "devices/tpm/backend[@type='passthrough']/device", "path")


@_row("network device", Reach.ON_HOST)
def _network_devices(root: etree._Element) -> Iterator[str]:
    for source in root.iterfind("devices/interface[@type='direct']/source[@mode='passthrough']"):
        yield source.get("dev", "")


@_row("host device", Reach.ON_HOST)
def _hostdevs(root: etree._Element) -> Iterator[str]:
    paths = ("hostdev", "interface[@type='hostdev']", "disk[@type='nvme']")
    for device in (found for path in paths for found in root.iterfind(f"devices/{path}")):
        source = device.find("source")
        if source is None or device.find("shareable") is not None:
            continue
        words = [_product(source), _remote(device) if source.get("protocol") else ""]
        words += [source.get("wwpn", ""), _attribute(source, "adapter", "name")]
        words += [_location(address) for address in source.iterfind("address")]
        yield " ".join(filter(None, words))


@_row("lease", Reach.ON_HOST)
def _leases(root: etree._Element) -> Iterator[str]:
    for lease in root.iterfind("devices/lease"):
        yield f"{text_of(lease, 'lockspace')}/{text_of(lease, 'key')}"


@_row("shared memory", Reach.ON_HOST)
def _shmem(root: etree._Element) -> Iterator[str]:
    """Of a server: peers share it on purpose."""
    for shmem in root.iterfind("devices/shmem"):
        yield shmem.get("name", "") if shmem.get("role", "master") == "master" else ""


def _ends(root: etree._Element, kind: str) -> Iterator[etree._Element]:
    """The host's ends of the character devices of a type."""
    for path in CHARDEVS:
        for device in root.iterfind(f"devices/{path}"):
            if device.get("type") == kind:
                yield from device.iterfind("source")


def _written(root: etree._Element, kind: str) -> Iterator[etree._Element]:
    """The disks of a type that one VM writes to."""
    for disk in root.iterfind("devices/disk"):
        shared = disk.find("readonly") is not None or disk.find("shareable") is not None
        if disk.get("type", "file") == kind and not shared:
            yield disk


def _remote(holder: etree._Element) -> str:
    """What a source names over the network."""
    name = _attribute(holder, "source", "name")
    hosts = [
        host.get("name", "") or host.get("socket", "") for host in holder.iterfind("source/host")
    ]
    return f"{_attribute(holder, 'source', 'protocol')}:{','.join(hosts)}/{name}" if name else ""


def _forwarded(root: etree._Element, protocol: str) -> Iterator[str]:
    for forward in root.iterfind("devices/interface/portForward"):
        for span in forward.iterfind("range") if forward.get("proto") == protocol else ():
            yield span.get("start", "") if span.get("exclude") != "yes" else ""


def _product(source: etree._Element) -> str:
    """A USB device by what it is."""
    vendor = _attribute(source, "vendor", "id").removeprefix("0x")
    return (
        f"usb {vendor}:{_attribute(source, 'product', 'id').removeprefix('0x')}" if vendor else ""
    )


_NOT_PCI = {"device", "uuid", "unit", "target"}


def _location(address: etree._Element) -> str:
    """An address of the host, in one form whichever way it was written."""
    kind = address.get("type", "" if _NOT_PCI & set(map(str, address.attrib)) else "pci")
    if kind == "pci":
        domain, bus, slot, function = (
            _number(address.get(key, "0")) for key in ("domain", "bus", "slot", "function")
        )
        return f"{domain:04x}:{bus:02x}:{slot:02x}.{function:x}"
    keys = sorted({str(key) for key in address.attrib} - {"type", "multifunction"})
    return " ".join(f"{key}={address.get(key, '').lower()}" for key in keys)


def _number(text: str) -> int:
    digits = text.lower().removeprefix("0x")
    try:
        return int(digits, 16 if digits != text.lower() else 10)
    except ValueError:
        return -1


def _attribute(root: etree._Element, path: str, name: str) -> str:
    found = root.find(path)
    return found.get(name, "") if found is not None else ""
