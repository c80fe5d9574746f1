"""How the lab is, read from the kernel and not from what was intended."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from twinship_lab import network
from twinship_lab.control import control_is_up
from twinship_lab.daemon import DaemonState
from twinship_lab.host import LabHost
from twinship_lab.state import HostRecord
from twinship_lab.storage import SharedDisk


@dataclass(frozen=True, slots=True)
class HostStatus:
    """One host. ``guests`` counts QEMU processes, so it is right when libvirtd is silent."""

    name: str
    address: str
    uri: str
    up: bool
    daemon: DaemonState
    data_up: bool
    control_up: bool
    rate_bytes_s: int | None
    guests: int


@dataclass(frozen=True, slots=True)
class LabStatus:
    """The whole lab; without hosts there is none in ``root``."""

    root: Path
    network: str | None
    hosts: tuple[HostStatus, ...]
    shares: tuple[SharedDisk, ...]


def host_status(host: LabHost, record: HostRecord) -> HostStatus:
    """The host as it is now."""
    return HostStatus(
        name=host.name,
        address=host.address,
        uri=host.uri,
        up=host.init() is not None,
        daemon=host.daemon_state(),
        data_up=network.cable_is_up(host.fabric, host.name),
        control_up=control_is_up(host.fabric, host.socket),
        rate_bytes_s=record.rate_bytes_s,
        guests=sum(p.name.startswith("qemu-system") for p in host.processes()),
    )
