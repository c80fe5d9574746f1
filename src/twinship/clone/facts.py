"""What the planner of a clone has to know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from twinship.domxml.read import DomainSummary
from twinship.domxml.resources import Owner
from twinship.model.host import HostFacts
from twinship.model.vm import SnapshotFacts, VmFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class CloneFacts:
    """The source, its host, and what is taken there.

    ``host`` is where the clone will be: the source's own unless ``across``, when ``address`` is
    where the source's QEMU reaches it. ``names`` and ``uuids`` are those of all VMs there, ``macs``
    all their addresses; ``files`` the names in each pool the clone may write to; ``there`` the
    files, by path, that the request names and that are there. Of the source's files ``seen_here``
    are those this process sees itself, and ``no_reflink`` says why one cannot be reflinked. With a
    ``snapshot``, ``source`` has the definition and the disks of that moment; ``chains``
    are the files of its disks as they are now, by target. ``held`` is what
    the VMs of the clone's host hold, read when the source holds more than a clone renews.
    ``network`` is the libvirt network of
    the clone's first interface (empty for none), ``addresses`` those reserved there or its own.
    ``template_changes`` says what is no longer as it was of a template's disks.
    """

    host: HostFacts
    source: VmFacts
    summary: DomainSummary
    names: frozenset[str]
    uuids: frozenset[str]
    macs: frozenset[str]
    files: Mapping[str, frozenset[str]]
    there: frozenset[str] = frozenset()
    seen_here: frozenset[str] = frozenset()
    no_reflink: Mapping[str, str] = field(default_factory=dict)
    snapshot: SnapshotFacts | None = None
    chains: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    across: bool = False
    address: str = ""
    held: tuple[Owner, ...] = ()
    network: str = ""
    addresses: frozenset[str] = frozenset()
    template_changes: tuple[str, ...] = ()

    @property
    def in_use(self) -> bool:
        """Whether the files to copy are written while they are copied.

        Those an external snapshot left behind are not: they are what an overlay is based on.
        """
        kinds = set(self.snapshot.disks.values()) if self.snapshot is not None else {"internal"}
        return self.source.vm.state.active and "internal" in kinds
