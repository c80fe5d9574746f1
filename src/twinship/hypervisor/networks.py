"""DHCP reservations in a libvirt network: which address its DHCP server gives to which MAC.

A network has two definitions, the one that runs and the one that is stored; a reservation is put
into both, each being looked at first. libvirt's server is told without a restart of the network.
Source: virNetworkUpdate, section ip-dhcp-host (libvirt since 0.10.2); its man page on what a MAC,
a name and an address have to be unique in.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import libvirt
from lxml import etree

from twinship.domxml.document import parse
from twinship.hypervisor.connection import Connection
from twinship.hypervisor.translate import doing
from twinship.model.errors import Conflict, UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """An IPv4 address for a MAC; ``name`` is the hostname the guest is told, empty for none."""

    mac: str
    address: str
    name: str = ""

    @property
    def key(self) -> tuple[str, str, str]:
        """Equal for reservations that say the same, however a MAC is written."""
        return self.mac.lower(), self.address, self.name


class Side(StrEnum):
    """Which definition of a network: the one that runs or the one that is stored."""

    LIVE = "live"
    CONFIG = "config"


BOTH = (Side.LIVE, Side.CONFIG)
_FLAGS = {
    Side.LIVE: libvirt.VIR_NETWORK_UPDATE_AFFECT_LIVE,
    Side.CONFIG: libvirt.VIR_NETWORK_UPDATE_AFFECT_CONFIG,
}


def reservations(connection: Connection, network: str) -> tuple[Reservation, ...]:
    """All reservations of a network, running or stored. Raises :class:`Gone` without it."""
    found: dict[tuple[str, str, str], Reservation] = {}
    for _, root in _definitions(connection, network):
        found.update({host.key: host for _, host in _hosts(root)})
    return tuple(found.values())


def taken(connection: Connection, network: str) -> frozenset[str]:
    """The addresses nobody else can have: those reserved, and the network's own."""
    found = {reservation.address for reservation in reservations(connection, network)}
    for _, root in _definitions(connection, network):
        found |= {ip.get("address", "") for ip in root.findall("ip")}
    return frozenset(found - {""})


def reserve(connection: Connection, network: str, wanted: Reservation) -> tuple[Side, ...]:
    """Makes a reservation where it is missing, and returns where that was: none, nothing was done.

    Raises :class:`Conflict` (``DHCP_RESERVED``) when the MAC, the address or the name is somebody
    else's, :class:`UsageError` (``DHCP_ADDRESS``) for an address the network does not serve by
    DHCP. libvirt's reservations of IPv6 go by the client's DUID, not by MAC: they are refused so.
    """
    missing = []
    for side, root in _definitions(connection, network):
        if any(host.key == wanted.key for _, host in _hosts(root)):
            continue
        for _, host in _hosts(root):
            if clash := _clash(host, wanted):
                raise Conflict(
                    f"network {network} on {connection.name} has {clash} reserved already",
                    code="DHCP_RESERVED",
                    cause=f"{host.mac} {host.address} {host.name}".strip(),
                    hint="choose another, or remove it (virsh net-update NETWORK delete ...)",
                )
        missing.append((side, _serving(connection, network, root, wanted.address)))
    for side, parent in missing:
        command = libvirt.VIR_NETWORK_UPDATE_COMMAND_ADD_LAST
        _update(connection, network, command, parent, wanted, side)
    return tuple(side for side, _ in missing)


def release(
    connection: Connection, network: str, made: Reservation, sides: Collection[Side] = BOTH
) -> bool:
    """Removes a reservation that is just this one from these sides; False when there was none.

    What somebody has changed since is theirs, and stays.
    """
    removed = False
    for side, root in _definitions(connection, network):
        parent = next((index for index, host in _hosts(root) if host.key == made.key), None)
        if side in sides and parent is not None:
            command = libvirt.VIR_NETWORK_UPDATE_COMMAND_DELETE
            _update(connection, network, command, parent, made, side)
            removed = True
    return removed


def _definitions(connection: Connection, name: str) -> Iterator[tuple[Side, etree._Element]]:
    """What the network is now and what it is stored as, as far as it is either."""
    with doing(f"read network {name} on {connection.name}"):
        network = _network(connection, name)
        active, persistent = bool(network.isActive()), bool(network.isPersistent())
        live = network.XMLDesc(0) if active else ""
        stored = network.XMLDesc(libvirt.VIR_NETWORK_XML_INACTIVE) if persistent else ""
    if live:
        yield Side.LIVE, parse(live)
    if stored:
        yield Side.CONFIG, parse(stored)


def _network(connection: Connection, name: str) -> Any:
    return connection.raw.networkLookupByName(name)


def _hosts(root: etree._Element) -> Iterator[tuple[int, Reservation]]:
    """The reservations, each with the place of its ``<ip>``."""
    for index, ip in enumerate(root.findall("ip")):
        for host in ip.iterfind("dhcp/host"):
            yield (
                index,
                Reservation(
                    mac=host.get("mac", ""), address=host.get("ip", ""), name=host.get("name", "")
                ),
            )


def _clash(host: Reservation, wanted: Reservation) -> str:
    if host.mac and host.mac.lower() == wanted.mac.lower():
        return f"an address for {wanted.mac}"
    if host.address == wanted.address:
        return f"the address {wanted.address}"
    if wanted.name and host.name == wanted.name:
        return f"the name {wanted.name}"
    return ""


def _serving(connection: Connection, network: str, root: etree._Element, address: str) -> int:
    """The place of the ``<ip>`` that serves the address; libvirt alone would take the first."""
    wanted = ipaddress.ip_address(address)
    for index, ip in enumerate(root.findall("ip")):
        own = ip.get("address", "")
        prefix = ip.get("prefix") or ip.get("netmask") or ""
        if ip.find("dhcp") is None or not own or wanted.version != 4 or ":" in own:
            continue
        # Without a prefix libvirt takes that of the address's old class.
        if not prefix or wanted in ipaddress.ip_network(f"{own}/{prefix}", strict=False):
            if address == own:
                break
            return index
    raise UsageError(
        f"network {network} on {connection.name} does not give {address} by DHCP",
        code="DHCP_ADDRESS",
        hint=f"see virsh net-dumpxml {network}; a range there need not hold it, its subnet must",
    )


def _update(
    connection: Connection, network: str, command: int, parent: int, what: Reservation, side: Side
) -> None:
    host = etree.Element("host", mac=what.mac, ip=what.address)
    if what.name:
        host.set("name", what.name)
    with doing(f"change the DHCP reservations of network {network} on {connection.name}"):
        _network(connection, network).update(
            command,
            libvirt.VIR_NETWORK_SECTION_IP_DHCP_HOST,
            parent,
            etree.tostring(host, encoding="unicode"),
            _FLAGS[side],
        )
