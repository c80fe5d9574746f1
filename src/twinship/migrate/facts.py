"""What the planner of a move has to know of both hosts."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from twinship.domxml.abilities import Abilities
from twinship.domxml.needs import Needs
from twinship.domxml.read import DomainSummary
from twinship.migrate.bases import BaseThere
from twinship.migrate.places import Places
from twinship.model.host import HostFacts, HostRecord, HostTraits, Pool, data_address
from twinship.model.load import GuestLoad
from twinship.model.vm import Layer, VmFacts, VmState


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetFile:
    """What the target has at its place for a file of the VM.

    ``same``: it is the very same file (shared storage): size and the change times to the
    nanosecond agree, which no copy can imitate.
    """

    exists: bool
    same: bool = False


class SecretThere(StrEnum):
    """What a host has of a secret. ``PRIVATE``: it has one and tells nobody its value."""

    MISSING = "missing"
    EMPTY = "empty"
    PRIVATE = "private"
    READABLE = "readable"


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretFacts:
    """A secret that the VM needs, on both hosts. ``differs``: both were read and are not equal."""

    what: str
    spoken: str
    uuid: str = ""
    kind: str = ""
    usage: str = ""
    here: SecretThere = SecretThere.MISSING
    there: SecretThere = SecretThere.MISSING
    differs: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordFacts:
    """libvirt's records of snapshots and checkpoints: names, each after the one it stands on.

    ``files``: what snapshots speak of and no disk of the VM stands on, by chain: disks of another
    branch, saved memories.
    """

    snapshots: tuple[str, ...] = ()
    checkpoints: tuple[str, ...] = ()
    files: tuple[Layer, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageFacts:
    """What the disks and belongings of a VM need on the target, or have there.

    ``bases``: for every backing file of which the target has one of that name, whether it is the
    same. ``readers``: by file, the other VMs of the source that have it open. ``devices``: for
    every block device of the VM, whether the target shows one of that path. ``tpm_source``: where
    the state of the TPM lies, if not where libvirt puts it.
    """

    bases: Mapping[str, BaseThere] = field(default_factory=dict)
    readers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    devices: Mapping[str, bool] = field(default_factory=dict)
    secrets: tuple[SecretFacts, ...] = ()
    records: RecordFacts = RecordFacts()
    tpm_source: str = ""


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

    ``places`` is where its files lie on the target: that is where they were looked for. ``files``
    has an entry for every file of the VM's disks, by its path here. ``emulator_problem``,
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
    storage: StorageFacts = StorageFacts()
    places: Places = field(default_factory=Places)

    def there(self, path: str) -> str:
        """The path on the target of a file of the source."""
        return self.places.there(path)

    def pool_for(self, path: str) -> Pool | None:
        """The target's pool in which a file of the source will lie, active or not."""
        return self.target.pool_at(posixpath.dirname(self.there(path)))

    @property
    def address(self) -> str:
        """Where the source's QEMU reaches the target; empty when nothing usable is known."""
        return data_address(self.target_record, self.target.hostname)
