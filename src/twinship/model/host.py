"""A host: as the user added it, and as it shows itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class HostRecord:
    """A host as the user added it.

    ``address`` is where other hosts reach it for migration data; empty means the name in its URI.
    """

    name: str
    uri: str
    address: str = ""
    site: str = ""
    labels: dict[str, str] = field(default_factory=dict)


def data_address(record: HostRecord, hostname: str) -> str:
    """Where other hosts' QEMU reaches a host; empty when nothing usable is known.

    The address it was added with, else the name in its URI, else the name it gives itself; never
    one that means the asking host itself.
    """
    if record.address:
        return record.address
    named = record.uri.partition("://")[2].partition("/")[0].rpartition("@")[2]
    # An IPv6 address stands in brackets, with or without a port after them.
    bracketed = named.startswith("[")
    named = named[1:].partition("]")[0] if bracketed else named.partition(":")[0]
    for candidate in (named, hostname):
        if candidate and candidate != "::1" and not candidate.startswith(("localhost", "127.")):
            return candidate
    return ""


def migration_uri(address: str) -> str:
    """The URI QEMU is told to send to; empty for no address."""
    if not address:
        return ""
    return f"tcp://[{address}]" if ":" in address else f"tcp://{address}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """A storage pool. ``path`` is empty for pools that are no directory."""

    name: str
    type: str
    path: str
    active: bool
    capacity_bytes: int = 0
    available_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A virtual network of a host. ``forward`` is its mode, ``isolated`` for none."""

    name: str
    active: bool
    bridge: str = ""
    forward: str = ""
    portgroups: tuple[str, ...] = ()
    mtu: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class NumaCell:
    """A NUMA node of a host: its memory and the numbers of its CPUs."""

    number: int
    memory_bytes: int
    cpus: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFacts:
    """What a host shows through its connection. Versions are (major, minor, release)."""

    name: str
    uuid: str
    hostname: str
    libvirt_version: tuple[int, int, int]
    qemu_version: tuple[int, int, int]
    arch: str
    cpu_vendor: str
    cpu_model: str
    cpus: int
    memory_bytes: int
    memory_free_bytes: int
    security_models: tuple[str, ...]
    domain_types: tuple[str, ...]
    pools: tuple[Pool, ...]
    networks: tuple[Network, ...]
    interfaces: tuple[str, ...]
    privileged: bool
    cpu_microcode: str = ""
    tsc_hz: int = 0
    tsc_scaling: bool = False
    cells: tuple[NumaCell, ...] = ()

    def pool_at(self, directory: str) -> Pool | None:
        """The pool whose directory this is, active or not."""
        wanted = directory.rstrip("/") or "/"
        return next((pool for pool in self.pools if pool.path.rstrip("/") == wanted), None)

    def network(self, name: str) -> Network | None:
        """The virtual network of that name."""
        return next((net for net in self.networks if net.name == name), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class HostTraits:
    """What is asked of a host only where a VM needs it; None: the host cannot tell.

    ``bios`` is vendor, version and date of its firmware. ``links`` is network device to MTU (0: not
    told). ``devices`` are PCI addresses, ``vendor:product`` of USB devices and UUIDs of mediated
    devices. ``free_pages`` is free bytes by page size. ``machines`` are the machine types of one
    architecture.
    """

    bios: str | None = None
    links: Mapping[str, int] | None = None
    devices: frozenset[str] | None = None
    filters: frozenset[str] | None = None
    free_pages: Mapping[int, int] | None = None
    machines: frozenset[str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HostStatus:
    """One row of ``host list``: the record and whether it answers."""

    record: HostRecord
    reachable: bool
    facts: HostFacts | None = None
    vms_running: int = 0
    vms_total: int = 0
    error: str = ""
    hint: str = ""
    seconds: float = 0.0
