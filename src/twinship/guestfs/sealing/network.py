"""Rows for the network: what binds a configuration to one machine's hardware, lease or address."""

from __future__ import annotations

import re
from collections.abc import Iterator

from twinship.guestfs.files import GuestFiles, content_of, literal, shown
from twinship.guestfs.inspect import Guest
from twinship.guestfs.sealing.edits import (
    Edit,
    without_ini_keys,
    without_ini_sections,
    without_lines,
    without_shell_keys,
    without_yaml_match,
)
from twinship.guestfs.sealing.operation import (
    Act,
    EditFiles,
    Operation,
    Remove,
    Say,
    removing,
)
from twinship.guestfs.sealing.profiles import dhcp_ifcfg, dhcp_keyfile

_KEYFILES = ("/etc/NetworkManager/system-connections/*",)
_IFCFG = (
    "/etc/sysconfig/network-scripts/ifcfg-*",
    "/etc/sysconfig/networking/devices/ifcfg-*",
    "/etc/sysconfig/networking/profiles/default/ifcfg-*",
)
_SUSE_IFCFG = ("/etc/sysconfig/network/ifcfg-*",)
_NETPLAN = ("/etc/netplan/*.yaml", "/etc/netplan/*.yml")
_NETWORKD = ("/etc/systemd/network/*.network",)
_LINKS = ("/etc/systemd/network/*.link",)
_BY_ADDRESS = re.compile(rb"^\s*(?:Permanent)?MACAddress\s*=", re.MULTILINE)
_INTERFACES = ("/etc/network/interfaces", "/etc/network/interfaces.d/*")
_MAC_KEYS = frozenset(
    (section, key)
    for section in ("ethernet", "802-3-ethernet", "wifi", "802-11-wireless", "infiniband")
    for key in ("mac-address", "cloned-mac-address")
)
_UUID_KEYS = frozenset((("connection", "uuid"), ("connection", "timestamp")))
_CLOUD_STATE = ("/var/lib/cloud/*", "/var/log/cloud-init*.log", "/run/cloud-init")
_CLOUD_CONFIGS = (
    "/etc/netplan/50-cloud-init.yaml",
    "/etc/network/interfaces.d/50-cloud-init*",
    "/etc/systemd/network/10-cloud-init-*.network",
    "/etc/NetworkManager/system-connections/cloud-init-*.nmconnection",
    "/etc/udev/rules.d/85-persistent-net-cloud-init.rules",
)
_CLOUD_DISABLED = re.compile(rb"^\s*(network:\s*)?\{?\s*config:\s*disabled", re.MULTILINE)
_STATIC = (
    (_NETPLAN, re.compile(rb"^\s*addresses\s*:", re.MULTILINE)),
    (_NETWORKD, re.compile(rb"^\s*Address\s*=", re.MULTILINE)),
    (_INTERFACES, re.compile(rb"^\s*iface\s+\S+\s+inet6?\s+static", re.MULTILINE)),
    (_SUSE_IFCFG, re.compile(rb"^\s*IPADDR\w*\s*=\s*['\"]?[0-9a-fA-F]", re.MULTILINE)),
)


def _cloud_init(files: GuestFiles, guest: Guest) -> Iterator[Act]:
    """Its state, and what it made of it; that only where it will make it again."""
    yield Remove(_CLOUD_STATE, keep=("seed",))
    if not guest.cloud_init or files.lstat("/etc/cloud/cloud-init.disabled") is not None:
        return
    settings = ("/etc/cloud/cloud.cfg", *files.glob("/etc/cloud/cloud.cfg.d/*.cfg"))
    if any(_CLOUD_DISABLED.search(_content(files, path)) for path in settings):
        return
    yield Remove(_CLOUD_CONFIGS)


def _static_addresses(files: GuestFiles, guest: Guest) -> Iterator[Act]:
    """NetworkManager's and the old scripts' profiles ask for an address; others are named."""
    asking: tuple[tuple[tuple[str, ...], Edit], ...]
    asking = ((_KEYFILES, dhcp_keyfile), (_IFCFG, dhcp_ifcfg))
    for patterns, edit in asking:
        for path in _matching(files, patterns):
            before = _content(files, path)
            if edit(before) != before:
                yield Say(f"{shown(path)} had a static address: it asks by DHCP now")
        yield EditFiles(patterns, edit)
    for places, static in _STATIC:
        for path in _matching(files, places):
            if static.search(_content(files, path)):
                yield Say(
                    f"{shown(path)} has a static address, which every clone would use: edit it"
                )


def _names_by_address(files: GuestFiles, guest: Guest) -> Iterator[Act]:
    for path in _matching(files, _LINKS):
        if _BY_ADDRESS.search(_content(files, path).partition(b"[Link]")[0]):
            yield Remove((literal(path),))


def _matching(files: GuestFiles, patterns: tuple[str, ...]) -> list[str]:
    return [path for pattern in patterns for path in files.glob(pattern)]


def _content(files: GuestFiles, path: str) -> bytes:
    return content_of(files, path)


def _networkd(data: bytes) -> bytes:
    macs = frozenset((("match", "macaddress"), ("match", "permanentmacaddress"),
                      ("link", "macaddress")))  # fmt: skip
    return without_ini_sections(macs, ("match",))(data)


_INTERFACE_MACS: Edit = without_lines(rb"\s*hwaddress\s")

ROWS = (
    Operation(
        name="cloud-init",
        title="cloud-init's state",
        why="cloud-init takes a clone for a machine it has set up already and does nothing",
        source="cloud-init clean (its documentation); a seed in the image stays",
        decide=_cloud_init,
        looks_at=(*_CLOUD_STATE, *_CLOUD_CONFIGS),
    ),
    Operation(
        name="net-hwaddr",
        title="hardware addresses and ids in network profiles",
        why="a clone's cards have other addresses, and a profile bound to one is not used; the "
        "rest of a profile stays",
        source="RHEL 7 to 9 on cloning virtual machines; nm-settings-keyfile(5); systemd.link(5)",
        acts=(
            EditFiles(_KEYFILES, without_ini_keys(_MAC_KEYS | _UUID_KEYS)),
            EditFiles(_IFCFG, without_shell_keys("HWADDR", "MACADDR", "UUID")),
            EditFiles(_SUSE_IFCFG, without_shell_keys("LLADDR", "HWADDR", "UUID")),
            EditFiles(_NETPLAN, without_yaml_match),
            EditFiles(_NETWORKD, _networkd),
            EditFiles(_INTERFACES, _INTERFACE_MACS),
        ),
    ),
    Operation(
        name="net-hostname",
        title="host names in network profiles",
        why="they would be told to the DHCP server by every clone",
        source="initscripts' sysconfig.txt; nm-settings-keyfile(5)",
        acts=(
            EditFiles(_IFCFG, without_shell_keys("HOSTNAME", "DHCP_HOSTNAME", "DHCP_CLIENT_ID")),
            EditFiles(
                _KEYFILES,
                without_ini_keys(
                    {
                        (section, key)
                        for section in ("ipv4", "ipv6")
                        for key in (
                            "dhcp-hostname",
                            "dhcp-client-id",
                            "dhcp-fqdn",
                            "dhcp-duid",
                            "dhcp-iaid",
                        )
                    }
                ),
            ),
        ),
    ),
    Operation(
        name="net-addresses",
        title="static addresses in network profiles",
        why="two machines with one address disturb each other; no profile is deleted, and each "
        "that had an address is named",
        source="RHEL 9 on cloning virtual machines, creating a template manually",
        decide=_static_addresses,
        looks_at=(*_KEYFILES, *_IFCFG),
    ),
    Operation(
        name="net-state",
        title="what network services remember",
        why="secret keys, leases and DHCP identities of one machine",
        source="NetworkManager(8), dhclient(8), wicked(8), dhcpcd(8)",
        acts=(
            Remove(("/var/lib/NetworkManager/*",), keep=("*.conf", "conf.d")),
            Remove(
                (
                    "/var/lib/dhclient/*",
                    "/var/lib/dhcp/*.leases*",
                    "/var/lib/dhcpcd/*",
                    "/etc/dhcpcd.duid",
                    "/etc/dhcpcd.secret",
                    "/var/lib/wicked/*",
                    "/var/lib/systemd/network/*",
                ),
                files_only=True,
            ),
        ),
    ),
    Operation(
        name="udev-persistent-net",
        title="udev's fixed names of network cards",
        why="a clone's first card would come up under a new name",
        source="RHEL 7 and 9 on cloning virtual machines; systemd.link(5)",
        decide=_names_by_address,
        looks_at=_LINKS,
        acts=removing(
            "/etc/udev/rules.d/70-persistent-net.rules",
            "/etc/udev/rules.d/75-persistent-net-generator.rules",
        ),
    ),
    Operation(
        name="dhcp-server-state",
        title="leases a DHCP server gave out",
        why="they are one server's",
        source="dhcpd(8), dnsmasq(8)",
        acts=removing(
            "/var/lib/dhcpd/*", "/var/lib/dhcp/dhcpd*.leases*", "/var/lib/misc/dnsmasq.leases"
        ),
    ),
)
