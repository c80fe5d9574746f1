"""What the planner of a move has to know of both hosts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from twinship.domxml.abilities import Abilities
from twinship.domxml.needs import Needs
from twinship.domxml.read import DomainSummary
from twinship.model.host import HostFacts, HostRecord, HostTraits, data_address
from twinship.model.load import GuestLoad
from twinship.model.vm import VmFacts, VmState


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetFile:
    """What the target has at the path of a file of the VM.

    ``same``: it is the very same file (shared storage): size and the change times to the
    nanosecond agree, which no copy can imitate.
    """

    exists: bool
    same: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Clash:
    """Something of the target that the VM would hold, and another VM there names too."""

    what: str
    name: str
    running: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """Moves between the same two hosts: bytes/s of the link, predicted and real seconds.

    The newest first; ``link`` 0: none was large enough to tell.
    """

    link: float = 0.0
    seconds: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrateFacts:
    """The VM, both hosts, and how they fit.

    ``files`` has an entry for every file of the VM's disks, by path. ``emulator_problem``,
    ``machine_problem`` and ``cpu_problem`` are the target's own words, empty when it can;
    ``cpu_problem`` is "?" when it cannot say. ``abilities`` is what its QEMU offers such a machine,
    by the emulator it has. ``cpu_baseline`` is a ``<cpu>`` that both hosts can give, if asked for.
    ``block_jobs`` are the disks with a job of QEMU's under way. ``load`` None: the guest was not
    looked at.
    """

    source: HostFacts
    target: HostFacts
    source_record: HostRecord
    target_record: HostRecord
    vm: VmFacts
    summary: DomainSummary
    inactive: DomainSummary | None
    uuid_on_target: VmState | None
    name_on_target: str
    machine_problem: str
    cpu_problem: str
    files: Mapping[str, TargetFile]
    media: Mapping[str, bool]
    children: tuple[str, ...] = ()
    needs: Needs = field(default_factory=Needs)
    abilities: Abilities = field(default_factory=Abilities)
    emulator_problem: str = ""
    cpu_baseline: str = ""
    source_traits: HostTraits = field(default_factory=HostTraits)
    target_traits: HostTraits = field(default_factory=HostTraits)
    clashes: tuple[Clash, ...] = ()
    block_jobs: tuple[str, ...] = ()
    load: GuestLoad | None = None
    past: Past = field(default_factory=Past)

    @property
    def address(self) -> str:
        """Where the source's QEMU reaches the target; empty when nothing usable is known."""
        return data_address(self.target_record, self.target.hostname)
