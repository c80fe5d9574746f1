"""The addresses of clones: MACs and IPs from ranges, one after the other; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from twinship.clone.facts import CloneFacts
from twinship.model.request import CloneRequest
from twinship.planning.addresses import ip_addresses, mac_addresses


def addressed(facts: CloneFacts, requests: Sequence[CloneRequest]) -> tuple[CloneRequest, ...]:
    """The requests with the addresses that their ranges give them, none used already.

    MACs go to the interfaces of the first clone, then to those of the next. Raises
    :class:`UsageError` for a range that is none, or has too few free ones.
    """
    first, each = requests[0], len(facts.summary.nics)
    found = list(requests)
    if first.mac_range and each:
        macs = mac_addresses(first.mac_range, each * len(found), facts.macs)
        found = [
            replace(request, macs=macs[at * each : (at + 1) * each])
            for at, request in enumerate(found)
        ]
    if first.address_range:
        addresses = ip_addresses(first.address_range, len(found), facts.addresses)
        found = [
            replace(request, address=address)
            for request, address in zip(found, addresses, strict=True)
        ]
    return tuple(found)
