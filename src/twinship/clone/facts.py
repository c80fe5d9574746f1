"""What the planner of a clone has to know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from twinship.domxml.read import DomainSummary
from twinship.model.host import HostFacts
from twinship.model.vm import VmFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class CloneFacts:
    """The source, its host, and what is taken there.

    ``names`` and ``uuids`` are those of all VMs on the host, ``macs`` all their addresses;
    ``files`` the names in each pool the clone may write to.
    """

    host: HostFacts
    source: VmFacts
    summary: DomainSummary
    names: frozenset[str]
    uuids: frozenset[str]
    macs: frozenset[str]
    files: Mapping[str, frozenset[str]]
