"""What is seen of a guest from outside: its console, and the addresses it has."""

from __future__ import annotations

from typing import Any

import libvirt

from twinship.hypervisor.connection import Connection
from twinship.hypervisor.translate import doing
from twinship.hypervisor.vms import need


def open_console(connection: Connection, uuid: str) -> Any:
    """A libvirt stream on the VM's first console."""
    with doing(f"open the console of VM {uuid} on {connection.name}"):
        stream = connection.raw.newStream(0)
        need(connection, uuid).openConsole(None, stream, 0)
        return stream


def read(stream: Any) -> bytes:
    """Waits for the next bytes of a console; empty once it is closed."""
    try:
        data = stream.recv(4096)
    except libvirt.libvirtError:
        return b""
    return data if isinstance(data, bytes) else b""


def write(stream: Any, data: bytes) -> None:
    """Types into a console."""
    with doing("type into the console"):
        stream.send(data)


def close(stream: Any) -> None:
    """Gives a console back; harmless when it is closed."""
    try:
        stream.abort()
    except libvirt.libvirtError:
        return  # closed by the other side


def addresses(connection: Connection, uuid: str) -> tuple[str, ...]:
    """The guest's addresses as DHCP leases of the host or the guest agent tell them."""
    domain = need(connection, uuid)
    found: list[str] = []
    sources = (
        libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_LEASE,
        libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT,
    )
    for source in sources:
        try:
            answer = domain.interfaceAddresses(source, 0)
        except libvirt.libvirtError:
            continue  # this source has nothing to tell; the other may
        for interface in answer.values():
            found += [entry["addr"] for entry in interface.get("addrs") or []]
    return tuple(a for a in dict.fromkeys(found) if not a.startswith(("127.", "fe80:", "::1")))
