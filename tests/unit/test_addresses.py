"""MACs and IPs for many clones, out of what somebody typed."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinship.model.errors import UsageError
from twinship.planning.addresses import ip_addresses, mac_addresses

START = "52:54:00:aa:00:00+"


@pytest.mark.parametrize(
    ("text", "taken", "made"),
    [
        (START, (), ("52:54:00:aa:00:00", "52:54:00:aa:00:01")),
        ("52:54:00:AA:00:FF+", (), ("52:54:00:aa:00:ff", "52:54:00:aa:01:00")),
        (START, ("52:54:00:AA:00:00",), ("52:54:00:aa:00:01", "52:54:00:aa:00:02")),
        ("52:54:00:00:00:02, 52:54:00:00:00:01", (), ("52:54:00:00:00:02", "52:54:00:00:00:01")),
    ],
)
def test_macs_are_counted_up_or_listed(
    text: str, taken: tuple[str, ...], made: tuple[str, ...]
) -> None:
    assert mac_addresses(text, 2, taken) == made


@pytest.mark.parametrize(
    "text",
    [
        *("", "+", "52:54:00", "52:54:00:aa:00:0g+", "53:54:00:aa:00:00+", "52-54-00-aa-00-00+"),
        *("00:00:00:00:00:00+", "52:54:00:ff:ff:ff+", "52:54:00:00:00:01", START + "+"),
        *("52:54:00:00:00:01,52:54:00:00:00:01", "52:54:00:00:00:01,", "52:54:00:00:00:01\n,x"),
    ],
)
def test_what_gives_no_two_macs_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        mac_addresses(text, 2, ())
    assert refused.value.code == "MAC_RANGE"


def test_a_listed_address_that_is_taken_is_named() -> None:
    with pytest.raises(UsageError, match="52:54:00:00:00:01 is taken"):
        mac_addresses("52:54:00:00:00:01", 1, ("52:54:00:00:00:01",))
    with pytest.raises(UsageError, match=r"192\.0\.2\.7 is taken"):
        ip_addresses("192.0.2.6,192.0.2.7", 1, ("192.0.2.7",))


@given(
    st.integers(0, 0xFFFFFF - 60), st.integers(1, 20), st.sets(st.integers(0, 0xFFFFFF), max_size=9)
)
def test_counted_macs_are_free_different_and_of_one_maker(
    start: int, count: int, used: set[int]
) -> None:
    def mac(number: int) -> str:
        return "52:54:00:" + ":".join(f"{byte:02x}" for byte in number.to_bytes(3))

    taken = {mac(number) for number in used} | {mac(start)}

    made = mac_addresses(f"{mac(start)}+", count, taken)

    assert len(set(made)) == count
    assert not set(made) & taken
    assert all(address.startswith("52:54:00:") for address in made)
    assert list(made) == sorted(made)


@pytest.mark.parametrize(
    ("text", "count", "made"),
    [
        ("192.168.122.10-192.168.122.11", 2, ("192.168.122.10", "192.168.122.11")),
        ("192.168.122.254 - 192.168.123.1", 3, ("192.168.122.254", "192.168.122.255",
                                                 "192.168.123.0")),
        ("192.168.122.0/30", 2, ("192.168.122.1", "192.168.122.2")),
        ("192.0.2.4/31", 2, ("192.0.2.4", "192.0.2.5")),
        ("192.0.2.4/32", 1, ("192.0.2.4",)),
        ("192.0.2.4", 1, ("192.0.2.4",)),
        ("192.0.2.9,192.0.2.4", 2, ("192.0.2.9", "192.0.2.4")),
        ("fd00:1::/64", 2, ("fd00:1::1", "fd00:1::2")),
        ("fd00:1::00ff-fd00:1::0100", 2, ("fd00:1::ff", "fd00:1::100")),
    ],
)  # fmt: skip
def test_ips_of_ranges_networks_and_lists(text: str, count: int, made: tuple[str, ...]) -> None:
    assert ip_addresses(text, count, ()) == made


@pytest.mark.parametrize(
    "text",
    [
        *("", "x", "-", "192.0.2.9-192.0.2.1", "192.0.2.1-fd00::1", "192.0.2.1-", "192.0.2.0/24/8"),
        *("192.0.2.1/24", "192.0.2.0/33", "192.0.2.256", "192.0.2.1-192.0.2.1", "192.0.2.0/32"),
        *("fe80::1%eth0-fe80::9", "127.0.0.1-127.0.0.9", "224.0.0.0/24", "::-::5"),
        *("0.0.0.0-1.1.1.1", "192.0.2.1,192.0.2.1", "192.0.2.1,", "192.0.02.1-192.0.2.9", "1-9"),
    ],
)
def test_what_gives_no_two_ips_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        ip_addresses(text, 2, ())
    assert refused.value.code == "IP_RANGE"


def test_a_huge_network_is_not_listed_to_find_the_first_few() -> None:
    assert ip_addresses("fd00::/8", 1, ("fd00:0:0:0::1",)) == ("fd00::2",)


@given(
    st.one_of(
        st.tuples(st.just(ipaddress.IPv4Address), st.integers(0x0A000000, 0x0A0000FF)),
        st.tuples(st.just(ipaddress.IPv6Address), st.integers(0xFD << 120, (0xFD << 120) + 255)),
    ),
    st.integers(0, 40),
    st.integers(1, 30),
    st.sets(st.integers(0, 60), max_size=20),
)
def test_addresses_of_a_range_are_its_first_free_ones_or_too_few(
    start: tuple[type[ipaddress.IPv4Address] | type[ipaddress.IPv6Address], int],
    length: int,
    count: int,
    used: set[int],
) -> None:
    kind, first = start
    taken = {str(kind(first + offset)) for offset in used}
    free = [
        address
        for address in (str(kind(first + offset)) for offset in range(length + 1))
        if address not in taken
    ]
    text = f"{kind(first)}-{kind(first + length)}"

    if len(free) < count:
        with pytest.raises(UsageError, match=f"has {len(free)} free"):
            ip_addresses(text, count, taken)
    else:
        assert list(ip_addresses(text, count, taken)) == free[:count]


@given(st.text(alphabet="0123456789abcdef.:/-,+% ", max_size=40), st.integers(1, 5))
def test_whatever_is_typed_gives_that_many_or_an_error(text: str, count: int) -> None:
    for of in (ip_addresses, mac_addresses):
        try:
            made = of(text, count, ())
        except UsageError:
            continue
        assert len(set(made)) == count
