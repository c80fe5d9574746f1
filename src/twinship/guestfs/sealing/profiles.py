"""Network profiles with a static address become ones that ask for theirs. Pure, idempotent."""

from __future__ import annotations

import re

from twinship.guestfs.sealing.edits import lines_of, without_shell_keys

_SECTION = re.compile(rb"\s*\[([^\]]*)\]\s*$")
_ADDRESS_KEY = re.compile(rb"\s*(?:address(?:es)?\d*|gateway|method)\s*=", re.IGNORECASE)
_MANUAL = re.compile(rb"\s*method\s*=\s*manual\s*$", re.IGNORECASE)
_STATIC_IFCFG = re.compile(rb"^[ \t]*(?:IPADDR|IPV6ADDR)\w*[ \t]*=[ \t]*\S", re.MULTILINE)
_PROTO = re.compile(rb"^[ \t]*BOOTPROTO[ \t]*=.*$", re.MULTILINE)
_DEVICE_IS_LOOPBACK = re.compile(rb"^[ \t]*DEVICE[ \t]*=[ \t]*[\"']?lo[\"']?[ \t]*$", re.MULTILINE)
_ADDRESS_WORDS = ("IPADDR", "PREFIX", "NETMASK", "GATEWAY", "NETWORK", "BROADCAST")
_NUMBERS = ("", *map(str, range(10)))


def dhcp_keyfile(data: bytes) -> bytes:
    """A NetworkManager profile: each family that is ``manual`` becomes ``auto``, without addresses.

    DNS servers, routes and all else stay.
    """
    lines = lines_of(data)
    sections: list[bytes] = []
    current = b""
    for line in lines:
        if found := _SECTION.match(line):
            current = found[1].strip().lower()
        sections.append(current)
    manual = {
        section
        for line, section in zip(lines, sections, strict=True)
        if section in (b"ipv4", b"ipv6") and _MANUAL.match(line)
    }
    if not manual:
        return data
    kept = []
    for line, section in zip(lines, sections, strict=True):
        if section in manual and _MANUAL.match(line):
            kept.append(b"method=auto" + line[len(line.rstrip(b"\r\n")) :])
        elif not (section in manual and _ADDRESS_KEY.match(line)):
            kept.append(line)
    return b"".join(kept)


def dhcp_ifcfg(data: bytes) -> bytes:
    """An ifcfg file with an address: without it, and with ``BOOTPROTO=dhcp``; never the loopback's.

    Source: RHEL 7, Virtualization Deployment and Administration Guide, cloning virtual machines.
    """
    if not _STATIC_IFCFG.search(data) or _DEVICE_IS_LOOPBACK.search(data):
        return data
    drop = [word + number for word in _ADDRESS_WORDS for number in _NUMBERS]
    left = without_shell_keys(*drop, "IPV6ADDR", "IPV6ADDR_SECONDARIES", "IPV6_DEFAULTGW")(data)
    if _PROTO.search(left):
        return _PROTO.sub(b"BOOTPROTO=dhcp", left)
    return left + (b"" if left.endswith(b"\n") or not left else b"\n") + b"BOOTPROTO=dhcp\n"
