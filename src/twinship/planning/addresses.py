"""Addresses for many clones: MACs and IPs out of what somebody typed, without those taken.

MACs are a start that is counted up (``52:54:00:aa:00:00+``) or a list with commas. IPs are a range
(``192.168.122.10-192.168.122.60``), a network (``192.168.122.0/24``: its hosts, so neither its own
nor the broadcast address; of IPv6 not the routers' anycast address, RFC 4291 §2.6.1), or a list.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Iterable, Iterator
from itertools import islice

from twinship.model.errors import UsageError

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_MAC = re.compile(r"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}")
_LAST_OF_PREFIX = 0xFFFFFF
_MAC_HINT = "for example 52:54:00:aa:00:00+, or a list: 52:54:00:00:00:01,52:54:00:00:00:02"
_IP_HINT = "for example 192.168.122.10-192.168.122.60, 192.168.122.0/24 or fd00:1::100-fd00:1::1ff"


def mac_addresses(text: str, count: int, taken: Collection[str]) -> tuple[str, ...]:
    """``count`` MACs from ``text``, in lower case, none of them in ``taken``.

    A start is counted up within its first three bytes, the maker's; taken ones are passed over. A
    list is used as it stands, so a taken one in it is an error. Raises :class:`UsageError`
    (``MAC_RANGE``), also when there are too few.
    """
    said = text.strip().lower()
    gone = {mac.lower() for mac in taken}
    if said.endswith("+"):
        first = _mac(said[:-1])
        last = first | _LAST_OF_PREFIX
        free = (mac for mac in map(_mac_text, range(first, last + 1)) if mac not in gone)
        return _first(free, count, text, "MAC_RANGE")
    listed = tuple(_mac_text(_mac(part.strip())) for part in said.split(","))
    _no_twice(listed, gone, "MAC_RANGE")
    return _first(listed, count, text, "MAC_RANGE")


def ip_addresses(text: str, count: int, taken: Collection[str]) -> tuple[str, ...]:
    """``count`` IP addresses from ``text`` in their shortest form, none of them in ``taken``.

    Taken ones of a range or network are passed over; in a list they are an error. Whoever calls
    puts the gateway into ``taken``. Raises :class:`UsageError` (``IP_RANGE``), also when there are
    too few.
    """
    said = text.strip()
    gone = {str(_ip(address)) for address in taken}
    if "," in said:
        listed = tuple(str(_ip(part.strip())) for part in said.split(","))
        _no_twice(listed, gone, "IP_RANGE")
        return _first(listed, count, text, "IP_RANGE")
    free = (address for address in map(str, _range(said)) if address not in gone)
    return _first(free, count, text, "IP_RANGE")


def _range(text: str) -> Iterator[IpAddress]:
    if "/" in text:
        return (_for_a_host(address) for address in _network(text).hosts())
    first, dash, last = (part.strip() for part in text.partition("-"))
    start, end = _ip(first), _ip(last) if dash else _ip(first)
    if start.version != end.version:
        raise _bad_ip(f"{text!r} begins as IPv{start.version} and ends as IPv{end.version}")
    if int(start) > int(end):
        raise _bad_ip(f"{text!r} ends before it begins")
    numbers = range(int(start), int(end) + 1)
    return (_for_a_host(type(start)(number)) for number in numbers)


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise _bad_ip(f"{text!r} is no network", str(error)) from None


def _for_a_host(address: IpAddress) -> IpAddress:
    if address.is_multicast or address.is_loopback or address.is_unspecified:
        raise _bad_ip(f"{address} can be no VM's address")
    return address


def _ip(text: str) -> IpAddress:
    try:
        address = ipaddress.ip_address(text)
    except ValueError as error:
        raise _bad_ip(f"{text[:60]!r} is no IP address", str(error)) from None
    if isinstance(address, ipaddress.IPv6Address) and address.scope_id is not None:
        raise _bad_ip(f"{text[:60]!r} names a network card of this machine")
    return address


def _mac(text: str) -> int:
    if not _MAC.fullmatch(text) or int(text[:2], 16) & 1 or text == "00:00:00:00:00:00":
        raise UsageError(
            f"{text[:60]!r} is no MAC address of a single interface",
            code="MAC_RANGE",
            hint=_MAC_HINT,
        )
    return int(text.replace(":", ""), 16)


def _mac_text(number: int) -> str:
    return ":".join(f"{byte:02x}" for byte in number.to_bytes(6))


def _no_twice(listed: tuple[str, ...], taken: Collection[str], code: str) -> None:
    if len(set(listed)) != len(listed):
        raise UsageError("an address is given twice", code=code)
    if used := [address for address in listed if address in taken]:
        raise UsageError(f"{', '.join(used[:5])} is taken already", code=code)


def _first(free: Iterable[str], count: int, text: str, code: str) -> tuple[str, ...]:
    found = tuple(islice(free, count))
    if len(found) < count:
        raise UsageError(
            f"{text[:80]!r} has {len(found)} free addresses, {count} are needed", code=code
        )
    return found


def _bad_ip(message: str, cause: str = "") -> UsageError:
    return UsageError(message, code="IP_RANGE", cause=cause, hint=_IP_HINT)
